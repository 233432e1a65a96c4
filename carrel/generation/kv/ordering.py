"""The largest scores, the same ones every time."""

from __future__ import annotations

import torch
from torch import Tensor


def order_keys(scores: Tensor) -> Tensor:
    """Integers (int64) that sort like the scores along the last dimension, where the earlier of two equals is larger.

    The high half holds the float's bits in sortable form, the low half counts down the positions. No two are equal,
    so that any top-k gives the same result on any device.
    """
    bits = (scores.float() + 0.0).view(torch.int32)  # + 0.0 makes -0.0 the same as 0.0
    sortable = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    size = scores.shape[-1]
    return (sortable << 32) + torch.arange(size - 1, -1, -1, device=scores.device)


def top_indices(scores: Tensor, count: int) -> Tensor:
    """Positions of the ``count`` largest scores along the last dimension, in ascending order of position.

    Of equal scores the earlier position wins. (..., N) -> (..., count), int64.
    """
    return order_keys(scores).topk(count, dim=-1).indices.sort(dim=-1).values


def ranking(scores: Tensor) -> Tensor:
    """All positions from the largest score to the smallest; of equal ones the earlier comes first. (..., N), int64."""
    return (scores + 0.0).argsort(dim=-1, descending=True, stable=True)
