"""Several documents' adapters as one: their matrices beside one another, which adds up what they add, exactly.

Low-rank updates add by concatenation (``combination_type="cat"`` of peft; Parametric RAG, arXiv 2501.15915):
``[B1 B2] [A1; A2] = B1 A1 + B2 A2``. A request to vLLM carries one adapter, of a rank that it reserves room for, so
the result is filled with zeros up to such a rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carrel.errors import InputError, ModelError

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes (``--max-lora-rank``)."""
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class Weights:
    """An adapter's matrices by the names that peft's files have, and what its updates are multiplied with.

    ``lora_A`` is (rank, in), ``lora_B`` is (out, rank).
    """

    tensors: Mapping[str, Tensor]
    rank: int
    alpha: float

    @property
    def scaling(self) -> float:
        return self.alpha / self.rank

    @property
    def size_bytes(self) -> int:
        return sum(value.numel() * value.element_size() for value in self.tensors.values())

    def modules(self) -> set[str]:
        """Names of the projections that have an update."""
        return {name.removesuffix(_DOWN) for name in self.tensors if name.endswith(_DOWN)}


def rank_for(rank: int) -> int:
    """The smallest rank of ``RANKS`` that holds one.

    Raises
    ------
    InputError : none does.
    """
    for allowed in RANKS:
        if rank <= allowed:
            return allowed
    raise InputError(f"adapters of rank {rank} together are more than vLLM takes ({RANKS[-1]}): merge fewer of them")


def merge(adapters: Sequence[Weights], *, pad: bool = True) -> Weights:
    """One adapter that adds to every projection the sum of what each of them adds.

    Parameters
    ----------
    pad : fill up with zeros to a rank that vLLM takes.

    Raises
    ------
    InputError : there are none, or they are together of too high a rank. ModelError : their shapes differ.
    """
    if not adapters:
        raise InputError("there are no adapters to merge")
    together = sum(adapter.rank for adapter in adapters)
    rank = rank_for(together) if pad else together
    merged: dict[str, Tensor] = {}
    for module in sorted(set().union(*(adapter.modules() for adapter in adapters))):
        downs, ups = _stacked(module, adapters)
        down, up = torch.cat(downs, 0), torch.cat(ups, 1)  # (R, in), (out, R)
        merged[module + _DOWN] = _filled(down, rank, 0)
        merged[module + _UP] = _filled(up, rank, 1)
    return Weights(merged, rank, float(rank))  # scaling is 1: each adapter's own is in its B


def _stacked(module: str, adapters: Sequence[Weights]) -> tuple[list[Tensor], list[Tensor]]:
    downs: list[Tensor] = []
    ups: list[Tensor] = []
    for adapter in adapters:
        if module + _DOWN not in adapter.tensors:
            continue
        down, up = adapter.tensors[module + _DOWN], adapter.tensors[module + _UP]
        if downs and (down.shape[1] != downs[0].shape[1] or up.shape[0] != ups[0].shape[0]):
            raise ModelError(f"adapters of different base models cannot be merged: {module} has other shapes in them")
        downs.append(down)
        ups.append((up.float() * adapter.scaling).to(up.dtype))
    return downs, ups


def _filled(matrix: Tensor, rank: int, axis: int) -> Tensor:
    missing = rank - matrix.shape[axis]
    if missing == 0:
        return matrix.contiguous()
    shape = list(matrix.shape)
    shape[axis] = missing
    return torch.cat([matrix, matrix.new_zeros(shape)], axis)
