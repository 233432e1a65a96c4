"""A short text that tells one model from another: stored keys and values are good for the model that made them only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from carrel.errors import InputError

_SAMPLES = 48  # of each tensor, about
_NO_MATTER = {  # settings that change no key or value, or that the tensors tell better
    "_attn_implementation",
    "_attn_implementation_internal",
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "dtype",
    "name_or_path",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
_ADAPTER_SETTINGS = ("active_adapters", "disable_adapters", "merged_adapters", "scaling")  # of a layer of peft
_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def model_fingerprint(model: nn.Module) -> str:
    """A hash of a model's class, settings, adapters and weights, the same wherever it is loaded from or to.

    Of every parameter and buffer it takes name, shape, type and some 48 evenly spaced numbers: milliseconds for
    billions of weights. Another training moves nearly every weight and is noticed; a change of a few single ones may
    not be. Take it before the first question: some rotary embeddings change their buffers with the length of a text.

    Raises
    ------
    InputError : a weight is not in memory (device "meta"), so that nothing is known of it.
    """
    tensors = sorted([*model.named_parameters(), *model.named_buffers()], key=lambda named: named[0])
    for name, tensor in tensors:
        if tensor.is_meta:
            raise InputError(f"The weight {name!r} is not in memory: load the whole model, without offloading to disk.")
    config: Any = getattr(model, "config", None)
    settings = config.to_dict() if hasattr(config, "to_dict") else config
    about = {
        "class": type(model).__qualname__,
        "config": _relevant(settings),
        "adapters": _adapters(model),
        "tensors": [[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors],
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    digest.update(_samples([tensor.detach() for _, tensor in tensors]).numpy().tobytes())
    return digest.hexdigest()[:32]


def _relevant(settings: Any) -> Any:
    """The settings without those that do not matter, at any depth, with texts as keys."""
    if isinstance(settings, Mapping):
        return {str(name): _relevant(value) for name, value in settings.items() if name not in _NO_MATTER}
    if isinstance(settings, set | frozenset):
        return sorted(map(str, settings))
    if isinstance(settings, list | tuple):
        return [_relevant(value) for value in settings]
    return settings


def _adapters(model: nn.Module) -> list[list[Any]]:
    """Which adapters are in force in each layer, and how strongly; their weights are among the parameters."""
    found = []
    for name, module in model.named_modules():
        if "merged_adapters" in vars(module):
            found.append([name, *(_relevant(getattr(module, setting, None)) for setting in _ADAPTER_SETTINGS)])
    return found


def _samples(tensors: Sequence[Tensor]) -> Tensor:
    """Some numbers of each tensor as whole numbers of the same bits, (N,), int64, on the CPU.

    Each device is asked once.
    """
    picked = [_picked(tensor) for tensor in tensors]
    order: dict[torch.device, list[int]] = {}
    for number, tensor in enumerate(picked):
        order.setdefault(tensor.device, []).append(number)
    pieces: dict[int, Tensor] = {}
    for numbers in order.values():
        together = torch.cat([picked[number] for number in numbers]).cpu().to(torch.int64)
        sizes = [picked[number].numel() for number in numbers]
        pieces.update(zip(numbers, torch.split(together, sizes), strict=True))
    return _joined(pieces[number] for number in range(len(picked)))


def _picked(tensor: Tensor) -> Tensor:
    """Evenly spaced numbers of a tensor, by their bits. An odd step does not stay in one column of a matrix."""
    step = (tensor.numel() // _SAMPLES) | 1
    if tensor.is_contiguous():
        chosen = tensor.view(-1)[::step]
    else:  # flattening would copy all of it
        index = torch.arange(0, tensor.numel(), step, device=tensor.device)
        chosen = tensor[torch.unravel_index(index, tensor.shape)]
    return chosen.view(_WHOLE_NUMBERS[tensor.dtype.itemsize])


def _joined(pieces: Iterable[Tensor]) -> Tensor:
    return torch.cat([torch.empty(0, dtype=torch.int64), *pieces])
