"""Random keys and queries of any shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def states() -> Callable[..., Any]:
    """Make query (B, H, Q, D), key and value (B, Hkv, S, D): random normal, or small whole numbers, which tie."""
    import torch

    def make(
        *,
        batch: int = 1,
        heads: int = 4,
        kv_heads: int = 1,
        queries: int = 1,
        keys: int = 40,
        dim: int = 16,
        dtype: Any = torch.float32,
        seed: int = 0,
        whole: bool = False,
    ) -> tuple[Any, Any, Any]:
        torch.set_num_threads(1)
        generator = torch.Generator().manual_seed(seed)
        shapes = [(batch, heads, queries, dim), (batch, kv_heads, keys, dim), (batch, kv_heads, keys, dim)]
        if whole:
            return tuple(torch.randint(-2, 3, shape, generator=generator).to(dtype) for shape in shapes)
        return tuple(torch.randn(shape, generator=generator).to(dtype) for shape in shapes)

    return make
