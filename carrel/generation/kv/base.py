"""The contract of sparse attention: a method chooses keys, the base attends to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from carrel.errors import InputError
from carrel.generation.kv.gathering import attend_chosen
from carrel.generation.kv.oracles import causal

_PROBES = 16
_TOLERANCE = 0.25  # of the length of the keys; a cache in 4 bits stays below, other tokens do not


@dataclass(frozen=True, slots=True)
class Choice:
    """The keys that some KV heads read.

    Attributes
    ----------
    index : positions in ascending or any order without repeats, (B, h, g, N), int64. g is 1 where the query heads of
        a KV head read the same keys, else their number.
    heads : the KV heads, (h,), int64; None for all.
    """

    index: Tensor
    heads: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """A few keys of a fixed context, to recognise it by."""

    length: int
    positions: Tensor  # (N,)
    keys: Tensor  # (B, Hkv, N, D)


class SparseAttention(ABC):
    """Attention that reads a part of the keys while decoding. A method chooses which: ``choose``.

    A call with more than ``sparse_queries`` queries (prefill) is dense. State is kept by layer and grows with the keys.
    One object follows one batch of sequences at a time: a call whose past is not what the layer has seen, or
    ``restart``, begins a new one. ``reset`` also forgets the fixed context. A method that ``needs_context`` is dense
    without one.

    Parameters
    ----------
    sparse_queries : so many queries at once still choose their keys, each for itself, as if they came one by one.
    """

    name: ClassVar[str]
    citation: ClassVar[str]
    follows_keys: ClassVar[bool] = True  # False where nothing is remembered of the keys
    needs_context: ClassVar[bool] = False  # True where nothing can be chosen before ``fit``

    def __init__(self, *, sparse_queries: int = 1) -> None:
        if sparse_queries < 1:
            raise InputError(
                f"sparse_queries is the number of queries that choose keys, at least 1, not {sparse_queries}."
            )
        self.sparse_queries = sparse_queries
        self._seen: dict[int, int] = {}
        self._probes: dict[int, Probe] = {}

    @property
    def prefill_label(self) -> str:
        """How a context is read where that is not dense, with every knob that changes it; else empty.

        Contexts that were read otherwise have other keys and values: one must not serve for the other.
        """
        return ""

    @abstractmethod
    def choose(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> list[Choice]:
        """The keys one query reads: query (B, H, 1, D), key (B, Hkv, S, D). Every KV head is in one choice."""

    def forget(self, layer: int) -> None:  # noqa: B027 - a method without state has nothing to drop
        """Drop what is known of a layer's keys after the fixed context."""

    def fit(self, layer: int, key: Tensor) -> None:
        """Take the keys of the first C tokens, (B, Hkv, C, D), as the layer's fixed context until ``reset``.

        A context fitted with B = 1 serves any batch of sequences that begin with it.
        """
        length = key.shape[2]
        if length == 0:
            raise InputError("The fixed context is empty: fit takes the keys of at least one token.")
        positions = torch.linspace(0, length - 1, min(_PROBES, length), device=key.device).long()
        self._probes[layer] = Probe(length, positions, key[:, :, positions].clone())
        self._seen.pop(layer, None)

    def seen(self, layer: int) -> int:
        """How many keys the layer has seen in this sequence."""
        return self._seen.get(layer, 0)

    def restart(self) -> None:
        """Begin a new sequence; a fixed context stays."""
        for layer in list(self._seen):
            self.forget(layer)
        self._seen.clear()

    def reset(self) -> None:
        """Forget everything."""
        self._probes.clear()
        self.restart()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float | None = None) -> Tensor:
        """Causal attention of the last Q of S positions.

        Parameters
        ----------
        layer : whose state to use and to grow.
        query : (B, H, Q, D). key, value : (B, Hkv, S, D), all keys so far with those of the queries; H is a multiple
            of Hkv.
        scaling : of the dot products, 1 / sqrt(D) by default.

        Returns
        -------
        (B, H, Q, D) in the query's type.

        Raises
        ------
        InputError : shapes that do not fit, or keys that do not begin with the fixed context.
        """
        check_shapes(query, key, value)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        past = key.shape[2] - query.shape[2]
        if past != self._seen.pop(layer, None):  # put back at the end: after an error the layer begins anew
            self.forget(layer)
            self._recognise(layer, key)
        if query.shape[2] <= self.sparse_queries and self._is_ready(layer, past):
            output = self.decode(layer, query, key, value, scale)
        else:
            output = self.prefill(layer, query, key, value, scale)
        self._seen[layer] = key.shape[2]
        return output

    def prefill(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Dense causal attention."""
        return dense_attention(query, key, value, scaling)

    def decode(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Each query reads the keys chosen for it."""
        queries = query.shape[2]
        outputs = []
        for step in range(queries):
            one = query[:, :, step : step + 1]
            seen = key.shape[2] - queries + step + 1
            choices = self.choose(layer, one, key[:, :, :seen], scaling)
            outputs.append(attend_chosen(one, key, value, [(c.heads, c.index) for c in choices], scaling))
        return outputs[0] if queries == 1 else torch.cat(outputs, dim=2)

    def _is_ready(self, layer: int, past: int) -> bool:
        """Whether queries after so many keys can choose."""
        probe = self._probes.get(layer)
        return past >= probe.length if probe is not None else past > 0 and not self.needs_context

    def _recognise(self, layer: int, key: Tensor) -> None:
        probe = self._probes.get(layer)
        if probe is None:
            return
        if key.shape[2] >= probe.length and alike(probe.keys, key[:, :, probe.positions]):
            return
        raise InputError(
            f"Layer {layer} was fitted to a context of {probe.length} tokens, but these keys do not begin with it. "
            "Fit the new context, or call reset()."
        )


def alike(known: Tensor, found: Tensor) -> bool:
    """True if keys are those known, but for the rounding of a quantised cache. (B or 1, ...), (B, ...)."""
    if known.shape[1:] != found.shape[1:] or known.shape[0] not in (1, found.shape[0]):
        return False
    known, found = known.float(), found.float()
    rows = (found - known).flatten(1).norm(dim=1) <= _TOLERANCE * known.flatten(1).norm(dim=1)
    return bool(rows.all())


def dense_attention(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Causal attention over all keys through torch's own kernels; the queries are the last positions."""
    queries, keys = query.shape[2], key.shape[2]
    square = queries == keys and queries > 1
    mask = None if square or queries == 1 else causal(queries, keys, key.device)
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=square, scale=scaling, enable_gqa=grouped
    )


def check_shapes(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raise InputError unless query (B, H, Q, D), key and value (B, Hkv, S, D) belong together."""
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if not query.ndim == key.ndim == value.ndim == 4:
        raise InputError(f"Attention takes (batch, heads, tokens, dimension): {shapes}.")
    if key.shape[:3] != value.shape[:3] or query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise InputError(f"Batch, KV heads, tokens and dimension must agree: {shapes}.")
    if query.shape[1] % key.shape[1]:
        raise InputError(f"The query heads must be a multiple of the KV heads: {shapes}.")
    if not 0 < query.shape[2] <= key.shape[2]:
        raise InputError(f"The keys must hold those of the queries, at least one: {shapes}.")
