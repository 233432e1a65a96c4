"""The cache that questions about a context are answered from: the context stays, what comes after it is taken off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import cache_utils

from carrel.generation.kv.quantisation import Packed

_Layer: Any = cache_utils.CacheLayerMixin
_Cache: Any = cache_utils.Cache
_ROOM = 256  # tokens; a buffer that is full grows by a quarter of what follows the context, at least by this


class GrowingLayer(_Layer):  # type: ignore[misc]
    """Keys and values in buffers with room to grow, so that a new token is written and nothing is copied.

    What it begins with is the context, which ``crop`` never cuts.
    """

    is_compileable = False
    is_sliding = False
    is_initialized = True

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Take over keys and values of a context, (1, Hkv, S, D) each; S may be 0."""
        self._keys, self._values = keys, values  # (1, Hkv, capacity, D)
        self._context = self._length = keys.shape[2]

    @property
    def keys(self) -> Tensor:
        """All keys so far, (1, Hkv, S, D)."""
        return self._keys[:, :, : self._length]

    @property
    def values(self) -> Tensor:
        """All values so far, (1, Hkv, S, D)."""
        return self._values[:, :, : self._length]

    @property
    def size_bytes(self) -> int:
        """Memory of the buffers, the room in them included."""
        return int(self._keys.nbytes + self._values.nbytes)

    def bytes_of(self, kept: int) -> int:
        """Memory of the first ``kept`` tokens alone."""
        return int(self._keys[:, :, :kept].nbytes + self._values[:, :, :kept].nbytes)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: a layer begins with what it is given."""

    def update(
        self, key_states: Tensor, value_states: Tensor, cache_kwargs: dict[str, Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        end = self._length + key_states.shape[2]
        if end > self._keys.shape[2]:
            capacity = end + max(_ROOM, (end - self._context) // 4)
            self._keys, self._values = _grown(self.keys, capacity), _grown(self.values, capacity)
        self._keys[:, :, self._length : end] = key_states
        self._values[:, :, self._length : end] = value_states
        self._length = end
        return self.keys, self.values

    def get_mask_sizes(self, cache_position: Tensor) -> tuple[int, int]:
        return self.get_seq_length() + int(cache_position.shape[0]), 0

    def get_seq_length(self) -> int:
        return int(self._length)

    def get_max_cache_shape(self) -> int:
        return -1

    def crop(self, max_length: int) -> None:
        if max_length < self._context:
            raise ValueError(f"a context of {self._context} tokens cannot be cut to {max_length}")
        self._length = min(self._length, max_length)


class QuantisedLayer(_Layer):  # type: ignore[misc]
    """A context in few bits, as the model has it only while its layer computes, and the rest in full."""

    is_compileable = False
    is_sliding = False
    is_initialized = True

    def __init__(self, keys: Packed, values: Packed) -> None:
        self.packed = (keys, values)
        self._context = keys.shape[2]
        nothing = [
            torch.empty((*p.shape[:2], 0, p.shape[3]), dtype=p.dtype, device=p.codes.device) for p in self.packed
        ]
        self.rest = GrowingLayer(nothing[0], nothing[1])

    @property
    def keys(self) -> Tensor:
        """All keys so far as the model has them, (1, Hkv, S, D)."""
        return torch.cat([self.packed[0].unpack(), self.rest.keys], dim=2)

    @property
    def values(self) -> Tensor:
        """All values so far as the model has them, (1, Hkv, S, D)."""
        return torch.cat([self.packed[1].unpack(), self.rest.values], dim=2)

    @property
    def size_bytes(self) -> int:
        """Memory of the packed context and of the buffers after it."""
        return self.bytes_of(self._context) + self.rest.size_bytes

    def bytes_of(self, kept: int) -> int:
        """Memory of the context, which is ``kept`` tokens long, alone."""
        return sum(packed.size_bytes for packed in self.packed)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: a layer begins with what it is given."""

    def update(
        self, key_states: Tensor, value_states: Tensor, cache_kwargs: dict[str, Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        self.rest.update(key_states, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, cache_position: Tensor) -> tuple[int, int]:
        return self.get_seq_length() + int(cache_position.shape[0]), 0

    def get_seq_length(self) -> int:
        return self._context + self.rest.get_seq_length()

    def get_max_cache_shape(self) -> int:
        return -1

    def crop(self, max_length: int) -> None:
        if max_length < self._context:
            raise ValueError(f"a context of {self._context} tokens cannot be cut to {max_length}")
        self.rest.crop(max_length - self._context)


class ContextCache(_Cache):  # type: ignore[misc]
    """The cache of one context, for any number of questions one after the other."""

    def __init__(self, layers: Sequence[GrowingLayer | QuantisedLayer]) -> None:
        super().__init__(layers=list(layers))

    @property
    def length(self) -> int:
        """Keys of a head so far."""
        return int(self.get_seq_length())

    @property
    def size_bytes(self) -> int:
        """Memory of all layers."""
        return sum(int(layer.size_bytes) for layer in self.layers)

    def bytes_of(self, kept: int) -> int:
        """Memory of a context of ``kept`` tokens alone."""
        return sum(int(layer.bytes_of(kept)) for layer in self.layers)


Tail = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer behind some length, (1, Hkv, T, D)."""


def tail_of(cache: Any, length: int) -> Tail:
    """A copy of what a cache holds behind its context of ``length`` keys."""
    taken = []
    for layer in cache.layers:
        full, first = (layer.rest, 0) if isinstance(layer, QuantisedLayer) else (layer, length)
        taken.append((full.keys[:, :, first:].clone(), full.values[:, :, first:].clone()))
    return taken


def put_tail(cache: Any, tail: Tail) -> None:
    """Add what ``tail_of`` took from this cache."""
    for number, (keys, values) in enumerate(tail):
        cache.update(keys, values, number)


def _grown(states: Tensor, capacity: int) -> Tensor:
    """The same (1, Hkv, S, D) at the beginning of a larger buffer."""
    batch, heads, length, dim = states.shape
    buffer = torch.empty(batch, heads, capacity, dim, dtype=states.dtype, device=states.device)
    buffer[:, :, :length] = states
    return buffer
