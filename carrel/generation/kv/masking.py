"""Keys that questions do not see: a mask for each KV head, inside a model of the transformers library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from carrel.errors import GenerationError, InputError

_TAKE_MASKS = ("sdpa", "eager")


def attention_modules(model: Any) -> list[Any]:
    """The attention of each layer, in order.

    Raises
    ------
    InputError : the model is not built of layers with a ``self_attn``.
    """
    inner = getattr(model, "model", model)
    layers = getattr(getattr(inner, "language_model", inner), "layers", None)
    if layers is None or not all(hasattr(layer, "self_attn") for layer in layers):
        raise InputError(f"{type(model).__name__} has no layers with attention of the kind that can be masked.")
    return [layer.self_attn for layer in layers]


@contextmanager
def hide_keys(model: Any, hidden: Mapping[int, Tensor]) -> Iterator[None]:
    """While in force, no query sees the keys marked in ``hidden``: of a layer, (Hkv, S), bool, the first S keys.

    The mask of the model is completed on its way into the attention; keys and values stay as they are. (kvpress hides
    a key by writing another one over it, in the tensor that the cache hands out. A cache that hands out its own memory
    would lose the context that way, and for a question of many tokens there may be no such key.)

    Raises
    ------
    InputError : the model's attention takes no such mask. GenerationError, from the model's calls: the cache holds
        fewer keys than are marked.
    """
    implementation = model.config._attn_implementation
    if hidden and implementation not in _TAKE_MASKS:
        raise InputError(
            f"Keys are hidden by a mask, which {implementation!r} attention does not take. Use a KV policy that frees"
            f" what it drops, or load the model with attn_implementation={_TAKE_MASKS[0]!r}."
        )
    modules = attention_modules(model)
    with ExitStack() as stack:
        for layer, marks in hidden.items():
            heads = marks.repeat_interleave(int(modules[layer].num_key_value_groups), dim=0)  # (H, S)
            hook = partial(_complete_mask, heads)
            stack.callback(modules[layer].register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def _complete_mask(hidden: Tensor, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Before a layer's attention: its mask, (1, 1, Q, K), becomes one that also leaves out ``hidden``, (H, S)."""
    states: Tensor = kwargs["hidden_states"]
    queries = states.shape[1]
    keys = int(kwargs["past_key_values"].get_seq_length(module.layer_idx)) + queries
    if keys - queries < hidden.shape[1]:
        raise GenerationError(
            f"The cache holds {keys - queries} keys, and {hidden.shape[1]} were there when some of them were hidden."
            " A policy that hides keys goes with none that drops them."
        )
    marks = pad(hidden.to(states.device), (0, keys - hidden.shape[1]))[None, :, None]  # (1, H, 1, K)
    mask = kwargs.get("attention_mask")
    if mask is None:  # one query, or what the kernel would have masked by itself
        later = torch.ones(queries, keys, dtype=torch.bool, device=states.device).triu(keys - queries + 1)
        mask = states.new_zeros(1, 1, queries, keys).masked_fill(later, torch.finfo(states.dtype).min)
    mask = mask & ~marks if mask.dtype == torch.bool else mask.masked_fill(marks, torch.finfo(mask.dtype).min)
    return args, {**kwargs, "attention_mask": mask}
