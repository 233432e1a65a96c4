"""Attention over chosen keys: one gather for all heads, then one batched attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def gather_rows(states: Tensor, heads: Tensor | None, index: Tensor) -> Tensor:
    """Rows of keys or values: states (B, Hkv, S, D) at index (B, h, g, N) of the KV heads given -> (B, h, g, N, D)."""
    batch, kv_heads, length, dim = states.shape
    at = torch.arange(kv_heads, device=states.device) if heads is None else heads
    row = torch.arange(batch, device=states.device)[:, None, None, None]
    head = at[None, :, None, None]
    if not states.is_contiguous():
        return states[row, head, index]
    flat = ((row * kv_heads + head) * length + index).flatten()
    return states.view(-1, dim).index_select(0, flat).view(*index.shape, dim)


def attend_chosen(
    query: Tensor, key: Tensor, value: Tensor, choices: Sequence[tuple[Tensor | None, Tensor]], scaling: float
) -> Tensor:
    """Exact attention of one query (B, H, 1, D) over the chosen keys; ``choices`` pairs KV heads with positions.

    See ``Choice`` for the shapes. -> (B, H, 1, D).
    """
    batch, heads, _, dim = query.shape
    group = heads // key.shape[1]
    grouped = query.view(batch, key.shape[1], group, dim)
    output = torch.empty(*grouped.shape[:3], value.shape[-1], dtype=query.dtype, device=query.device)
    for chosen, index in choices:
        rows, each = index.shape[1], index.shape[2]
        states = grouped if chosen is None else grouped[:, chosen]  # (B, h, G, D)
        keys, values = (
            gather_rows(source, chosen, index).view(batch, rows * each, index.shape[3], -1) for source in (key, value)
        )  # (B, h * g, N, D)
        asked = states.reshape(batch, rows * each, group // each, dim)
        found = scaled_dot_product_attention(asked, keys, values, scale=scaling).view(batch, rows, group, -1)
        if chosen is None:
            output = found
        else:
            output[:, chosen] = found
    return output.reshape(batch, heads, 1, -1)
