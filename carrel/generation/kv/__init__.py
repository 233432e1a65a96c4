"""Sparse attention over a KV cache: which keys a query reads. Needs ``carrel[torch]``.

Every method exists twice: as a plain function in ``oracles`` that says what is meant, and as a class that is fast and
tested against it. ``carrel.generation.kv.application`` puts a class into a model of the transformers library.
"""

from __future__ import annotations

from carrel.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingDependencyError("torch", "torch", "Sparse attention") from error

from carrel.generation.kv.base import Choice, SparseAttention
from carrel.generation.kv.clustered import ClusteredAttention
from carrel.generation.kv.paged import PagedAttention
from carrel.generation.kv.profiles import measure_local_mass, streaming_heads
from carrel.generation.kv.sinks import LambdaAttention

__all__ = [
    "Choice",
    "ClusteredAttention",
    "LambdaAttention",
    "PagedAttention",
    "SparseAttention",
    "measure_local_mass",
    "streaming_heads",
]
