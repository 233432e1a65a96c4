"""Sparse attention in plain functions: slow, short, and what every fast path is tested against.

All take a query (B, H, Q, D) and keys and values (B, Hkv, S, D), H a multiple of Hkv: query head h reads KV head
h // (H / Hkv). The Q queries are the last Q of the S positions. All return (B, H, Q, D) in the query's type; inside
everything is float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, scaling: float | None = None) -> Tensor:
    """Attention over the allowed keys. ``allowed`` is boolean and broadcasts to (B, H, Q, S); every row has one."""
    scores = similarities(query, key, scaling)  # (B, H, Q, S)
    return _weighted(scores.masked_fill(~allowed, -math.inf), value).to(query.dtype)


def similarities(query: Tensor, key: Tensor, scaling: float | None = None) -> Tensor:
    """Scaled dot products of every query with every key, (B, H, Q, S), float32."""
    group = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return scale * query.float() @ key.float().repeat_interleave(group, dim=1).transpose(2, 3)


def _weighted(scores: Tensor, value: Tensor) -> Tensor:
    group = scores.shape[1] // value.shape[1]
    return scores.softmax(dim=-1) @ value.float().repeat_interleave(group, dim=1)  # (B, H, Q, D)


def causal(queries: int, keys: int, device: torch.device | None = None) -> Tensor:
    """Which keys (columns) each of the last ``queries`` positions (rows) may read, (Q, S), bool."""
    last = torch.arange(keys - queries, keys, device=device)
    return torch.arange(keys, device=device)[None, :] <= last[:, None]


def dense(query: Tensor, key: Tensor, value: Tensor, *, scaling: float | None = None) -> Tensor:
    """Causal attention over all keys."""
    return attend(query, key, value, causal(query.shape[2], key.shape[2], key.device), scaling)


def rotate(states: Tensor, angles: Tensor) -> Tensor:
    """Turn states (..., D) by rotary angles (..., D / 2 or fewer): dimension d is paired with d + len(angles).

    Dimensions beyond twice the number of angles stay as they are (partial rotary embedding).
    """
    half = angles.shape[-1]
    first, second, rest = states[..., :half], states[..., half : 2 * half], states[..., 2 * half :]
    cos, sin = angles.cos(), angles.sin()
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return torch.cat([turned, rest.expand(*turned.shape[:-1], rest.shape[-1])], dim=-1)


def lambda_(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    sinks: int,
    window: int,
    cap: int | None = None,
    inverse_frequencies: Tensor | None = None,
    scaling: float | None = None,
) -> Tensor:
    """The first ``sinks`` tokens and the last ``window`` ones, the query's own among them.

    With ``cap`` no sink is farther from the query than that: the query is turned back by what the distance has too
    much. The keys are taken as already turned by ``inverse_frequencies`` (D / 2 or fewer) times their position.
    LM-Infinite, arXiv 2308.16137; StreamingLLM, arXiv 2309.17453.
    """
    queries, keys = query.shape[2], key.shape[2]
    position = torch.arange(keys - queries, keys, device=key.device)[:, None]  # (Q, 1)
    at = torch.arange(keys, device=key.device)[None, :]  # (1, S)
    allowed = (at <= position) & ((at < sinks) | (at > position - window))  # (Q, S)
    scores = similarities(query, key, scaling)
    if cap is not None and inverse_frequencies is not None:
        excess = (position - at - cap).clamp(min=0)  # (Q, S)
        for sink in range(min(sinks, keys)):
            turned = rotate(query.float(), -excess[:, sink, None] * inverse_frequencies)  # (B, H, Q, D)
            scores[..., sink] = similarities(turned, key[:, :, sink : sink + 1], scaling)[..., 0]
    return _weighted(scores.masked_fill(~allowed, -math.inf), value).to(query.dtype)


def page_bounds(key: Tensor, page: int) -> tuple[Tensor, Tensor]:
    """The elementwise smallest and largest key of each page of ``page`` tokens; the last may be shorter.

    (B, Hkv, S, D) -> two of (B, Hkv, P, D), P = ceil(S / page).
    """
    pages = [key[:, :, start : start + page] for start in range(0, key.shape[2], page)]
    return torch.stack([p.amin(2) for p in pages], 2), torch.stack([p.amax(2) for p in pages], 2)


def page_count(keys: int, page: int, budget: int) -> int:
    """How many pages fit a budget of keys when the last page, which may be short, is one of them."""
    pages = math.ceil(keys / page)
    tail = keys - (pages - 1) * page
    return min(pages, 1 + (budget - tail) // page)


def paged_mask(query: Tensor, key: Tensor, *, page: int, budget: int, per_query_head: bool = False) -> Tensor:
    """Which keys one query (Q = 1) reads under ``paged``, (B, H, S), bool."""
    batch, heads, _, _ = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    low, high = page_bounds(key.float(), page)
    low, high = (bound.repeat_interleave(heads // kv_heads, dim=1) for bound in (low, high))  # (B, H, P, D)
    states = query.float()  # (B, H, 1, D)
    upper = torch.maximum(states * low, states * high).sum(-1)  # (B, H, P)
    if not per_query_head:
        upper = upper.view(batch, kv_heads, -1, upper.shape[-1]).amax(2).repeat_interleave(heads // kv_heads, dim=1)
    upper[..., 0] = upper[..., -1] = math.inf
    chosen = upper.argsort(dim=-1, descending=True, stable=True)[..., : page_count(keys, page, budget)]
    taken = torch.zeros_like(upper, dtype=torch.bool).scatter(-1, chosen, True)  # (B, H, P)
    return taken.repeat_interleave(page, dim=-1)[..., :keys]


def paged(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    page: int,
    budget: int,
    per_query_head: bool = False,
    streaming: Tensor | None = None,
    sinks: int = 4,
    window: int = 64,
    scaling: float | None = None,
) -> Tensor:
    """Exact attention in the pages whose best key could score highest, at most ``budget`` keys a head.

    A page's score is the largest that q.k could be for a key within the page's bounds. First and last page are always
    read. The query heads of a KV head share their pages, chosen by their largest bound, unless ``per_query_head``.
    KV heads marked in ``streaming`` (Hkv, bool) read sinks and window instead. Each query chooses anew.
    Quest, arXiv 2406.10774; LServe, arXiv 2502.14866.
    """
    group, queries, keys = query.shape[1] // key.shape[1], query.shape[2], key.shape[2]
    streams = torch.zeros(key.shape[1], dtype=torch.bool, device=key.device) if streaming is None else streaming
    outputs = []
    for step in range(queries):
        seen = keys - queries + step + 1
        one, past = query[:, :, step : step + 1], key[:, :, :seen]
        allowed = paged_mask(one, past, page=page, budget=budget, per_query_head=per_query_head)
        at = torch.arange(seen, device=key.device)
        local = (at < sinks) | (at >= seen - window)
        allowed = torch.where(streams.repeat_interleave(group)[None, :, None], local, allowed)  # (B, H, seen)
        outputs.append(attend(one, past, value[:, :, :seen], allowed[:, :, None], scaling))
    return torch.cat(outputs, dim=2)
