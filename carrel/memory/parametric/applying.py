"""An adapter in a model for a while: hooks that add what it adds, and that are taken out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from carrel.errors import AdapterError
from carrel.memory.parametric.merging import Tensors, modules_of, scale

_PREFIX = "base_model.model."  # of peft's names, before the model's own


@dataclass(frozen=True, slots=True)
class Layers:
    """Of each layer by the model's own name, A (r, in) and B (out, r), scaled, where the model is."""

    matrices: dict[str, tuple[Tensor, Tensor]]
    rank: int
    size_bytes: int

    @classmethod
    def of(cls, tensors: Tensors, config: Mapping[str, Any], device: torch.device) -> Layers:
        """An adapter as it comes from a file or a merge."""
        matrices = {}
        for module in modules_of(tensors):
            down = torch.from_numpy(tensors[module + ".lora_A.weight"]).to(device)
            up = torch.from_numpy(tensors[module + ".lora_B.weight"]).to(device) * scale(config)
            matrices[module.removeprefix(_PREFIX)] = (down, up)
        size = sum((down.numel() + up.numel()) * down.element_size() for down, up in matrices.values())
        return cls(matrices, int(config["r"]), size)


@contextmanager
def applied(model: nn.Module, layers: Layers | None) -> Iterator[None]:
    """The model with an adapter in it, None for none. Whoever computes meanwhile computes with it.

    Raises
    ------
    AdapterError : the model has no layer of a name, or one of another size.
    """
    hooks = []
    try:
        for name, (down, up) in (layers.matrices if layers is not None else {}).items():
            layer = _layer(model, name)
            shape = tuple(getattr(layer, name, None) for name in ("out_features", "in_features"))
            if layer is None or (None not in shape and shape != (len(up), down.shape[1])):
                raise AdapterError(f"the adapter is for another model: {name} is not there, or has another size")
            hooks.append(layer.register_forward_hook(_adds(down, up)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _layer(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def _adds(down: Tensor, up: Tensor) -> Callable[..., Tensor]:
    """Adds B (A x) to what a layer gives, in the adapter's own precision, as peft does."""

    def add(_: object, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        added = (inputs[0].to(down.dtype) @ down.T) @ up.T
        return (output + added).to(output.dtype)

    return add
