"""Keys that questions do not see: a mask for each KV head, inside a model of the transformers library."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from carrel.errors import GenerationError, InputError

_TAKE_MASKS = ("sdpa", "eager")
_ROOM = 256  # keys after those of the first question for which no new row is made
_EVEN = 16  # rows begin at multiples of it, or kernels on CUDA copy them first
_LAST: weakref.WeakKeyDictionary[Any, _Bias] = weakref.WeakKeyDictionary()  # of each layer's attention


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
    would lose the context that way, and for a question of many tokens there may be no such key.) Marks are kept as they
    are used until others come: they must not be changed.

    Raises
    ------
    InputError : the model's attention takes no such mask. GenerationError, from the model's calls: the cache holds
        fewer keys than are marked.
    """
    if hidden:
        check_takes_masks(model)
    modules = attention_modules(model)
    with ExitStack() as stack:
        for layer, marks in hidden.items():
            hook = partial(_complete_mask, _bias_of(modules[layer], marks))
            stack.callback(modules[layer].register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def check_takes_masks(model: Any) -> None:
    """Raise InputError where the model's attention takes no masks, as flash attention does not."""
    implementation = model.config._attn_implementation
    if implementation not in _TAKE_MASKS:
        raise InputError(
            f"Keys are hidden by a mask, which {implementation!r} attention does not take. Use a KV policy that frees"
            f" what it drops, or load the model with attn_implementation={_TAKE_MASKS[0]!r}."
        )


class _Bias:
    """The marks of one layer as the attention takes them, made once and not for each token."""

    def __init__(self, marks: Tensor, groups: int) -> None:
        self.marks = weakref.ref(marks)
        self.length = marks.shape[1]
        self._heads = marks.repeat_interleave(groups, dim=0)[None, :, None]  # (1, H, 1, S)
        self._row: Tensor | None = None  # (1, H, 1, K) and room for more keys, for one query

    def row(self, keys: int, like: Tensor) -> Tensor:
        """What one query adds to its scores, (1, H, 1, K): the least number for what it does not see."""
        known = self._row
        if known is None or known.shape[3] < keys or known.dtype != like.dtype or known.device != like.device:
            known = like.new_zeros(*self._heads.shape[:3], -(-(keys + _ROOM) // _EVEN) * _EVEN)
            known[..., : self.length].masked_fill_(self._on(like.device), torch.finfo(like.dtype).min)
            self._row = known
        return known[..., :keys]

    def over(self, mask: Tensor) -> Tensor:
        """A mask, (1, 1 or H, Q, K), that also leaves out what is hidden, (1, H, Q, K)."""
        mask = mask.expand(-1, self._heads.shape[1], -1, -1).clone()
        least = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        mask[..., : self.length].masked_fill_(self._on(mask.device), least)
        return mask

    def _on(self, device: torch.device) -> Tensor:
        self._heads = self._heads.to(device)
        return self._heads


def _bias_of(module: Any, marks: Tensor) -> _Bias:
    """That of the last question, where these are its marks: questions and tokens of one context share it."""
    known = _LAST.get(module)
    if known is None or known.marks() is not marks:
        known = _LAST[module] = _Bias(marks, int(module.num_key_value_groups))
    return known


def _complete_mask(bias: _Bias, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Before a layer's attention: its mask, (1, 1, Q, K), becomes one that also leaves out what is hidden."""
    states: Tensor = kwargs["hidden_states"]
    queries = states.shape[1]
    keys = int(kwargs["past_key_values"].get_seq_length(module.layer_idx)) + queries
    if keys - queries < bias.length:
        raise GenerationError(
            f"The cache holds {keys - queries} keys, and {bias.length} were there when some of them were hidden."
            " A policy that hides keys goes with none that drops them."
        )
    mask = kwargs.get("attention_mask")
    if mask is None and queries == 1:
        return args, {**kwargs, "attention_mask": bias.row(keys, states)}
    if mask is None:  # what the kernel would have masked by itself
        later = torch.ones(queries, keys, dtype=torch.bool, device=states.device).triu(keys - queries + 1)
        mask = states.new_zeros(1, 1, queries, keys).masked_fill(later, torch.finfo(states.dtype).min)
    return args, {**kwargs, "attention_mask": bias.over(mask)}
