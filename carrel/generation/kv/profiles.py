"""Which KV heads only look nearby, measured on given tokens."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from carrel.errors import InputError
from carrel.generation.kv.base import Choice, SparseAttention

_BLOCK = 128  # queries whose weights are held at once


def local_mass(query: Tensor, key: Tensor, *, sinks: int, window: int, scaling: float | None = None) -> Tensor:
    """The share of the attention that falls on the sinks and the window, a KV head: mean over the queries, then the
    least of its query heads. (B, H, Q, D), (B, Hkv, S, D) -> (B, Hkv), float32.

    Queries that see no more than sinks and window are left out: for them every head is local.
    """
    batch, heads, queries, dim = query.shape
    kv_heads, length = key.shape[1], key.shape[2]
    scale = dim**-0.5 if scaling is None else scaling
    states = query.reshape(batch, kv_heads, heads // kv_heads, queries, dim).float()  # (B, Hkv, G, Q, D)
    keys = key.float().transpose(2, 3)
    first = max(length - queries, sinks + window)
    total = torch.zeros(batch, kv_heads, heads // kv_heads, device=key.device)
    at = torch.arange(length, device=key.device)
    for start in range(first, length, _BLOCK):
        position = torch.arange(start, min(start + _BLOCK, length), device=key.device)[:, None]  # (q, 1)
        block = states[..., start - length + queries : start - length + queries + len(position), :]
        scores = (scale * block.flatten(2, 3) @ keys).view(*block.shape[:4], length)  # (B, Hkv, G, q, S)
        weights = scores.masked_fill(at > position, -math.inf).softmax(dim=-1)  # (B, Hkv, G, q, S)
        near = (at < sinks) | (at > position - window)
        total += (weights * near).sum(dim=(-1, -2))
    if first >= length:
        raise InputError(f"{length} tokens are too few to tell heads apart by {sinks} sinks and a window of {window}.")
    return (total / (length - first)).amin(dim=2)


def streaming_heads(mass: Tensor, *, share: float = 0.5) -> Tensor:
    """Mark the ``share`` of all KV heads whose attention is the most local; of equals the first.

    (layers, Hkv), as ``measure_local_mass`` gives it -> (layers, Hkv), bool. LServe, arXiv 2502.14866, takes half.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share is a share of all heads, from 0 to 1, not {share}.")
    order = mass.flatten().argsort(descending=True, stable=True)
    marked = torch.zeros(mass.numel(), dtype=torch.bool, device=mass.device)
    marked[order[: round(share * mass.numel())]] = True
    return marked.view(mass.shape)


class _Measuring(SparseAttention):
    """Dense attention that writes down how local each KV head is."""

    name: ClassVar[str] = "measuring"
    citation: ClassVar[str] = "LServe, arXiv 2502.14866"

    def __init__(self, sinks: int, window: int) -> None:
        super().__init__()
        self.sinks, self.window = sinks, window
        self.masses: dict[int, Tensor] = {}

    def choose(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> list[Choice]:
        every = torch.arange(key.shape[2], device=key.device)
        return [Choice(every.expand(key.shape[0], key.shape[1], 1, -1))]

    def prefill(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        mass = local_mass(query, key, sinks=self.sinks, window=self.window, scaling=scaling)
        self.masses[layer] = mass.mean(dim=0)
        return super().prefill(layer, query, key, value, scaling)


def measure_local_mass(model: Any, token_ids: Tensor, *, sinks: int = 4, window: int = 256) -> Tensor:
    """How much of each KV head's attention falls on sinks and window, on given token ids (B, N).

    Parameters
    ----------
    model : a decoder of the transformers library that ``apply`` takes.
    token_ids : (B, N) without padding, N larger than sinks and window; text like that to come, with questions whose
        answers lie far back, or else every head looks local.

    Returns
    -------
    (layers, Hkv), float32, from 0 to 1: mean over tokens and sequences, least over the query heads of a KV head.
    """
    from carrel.generation.kv.application import apply

    measuring = _Measuring(sinks, window)
    with apply(model, measuring), torch.inference_mode():
        model(input_ids=token_ids, use_cache=False)
    return torch.stack([measuring.masses[layer] for layer in sorted(measuring.masses)])
