"""A model's KV cache: what is kept of a context, and which keys a query reads. Needs ``carrel[torch]``.

Every sparse attention exists twice: as a plain function in ``oracles`` that says what is meant, and as a class that is
fast and tested against it. ``carrel.generation.kv.application`` puts a class into a model of the transformers library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from carrel.errors import MissingDependencyError

if TYPE_CHECKING:
    from carrel.generation.kv.application import apply
    from carrel.generation.kv.base import Choice, SparseAttention
    from carrel.generation.kv.clustered import ClusteredAttention
    from carrel.generation.kv.entropies import SirLLM
    from carrel.generation.kv.paged import PagedAttention
    from carrel.generation.kv.policies import KVPolicy
    from carrel.generation.kv.profiles import measure_local_mass, streaming_heads
    from carrel.generation.kv.sinks import LambdaAttention
    from carrel.generation.kv.streaming import RetentiveStream

_HOMES = {
    "Choice": "base",
    "ClusteredAttention": "clustered",
    "KVPolicy": "policies",
    "LambdaAttention": "sinks",
    "PagedAttention": "paged",
    "RetentiveStream": "streaming",
    "SirLLM": "entropies",
    "SparseAttention": "base",
    "apply": "application",
    "measure_local_mass": "profiles",
    "streaming_heads": "profiles",
}

__all__ = [
    "Choice",
    "ClusteredAttention",
    "KVPolicy",
    "LambdaAttention",
    "PagedAttention",
    "RetentiveStream",
    "SirLLM",
    "SparseAttention",
    "apply",
    "measure_local_mass",
    "streaming_heads",
]


def __getattr__(name: str) -> object:
    """Import a method on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'carrel.generation.kv' has no attribute {name!r}")
    try:
        import torch as _torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError("torch", "torch", f"{name}, for a model in this process,") from error
    return getattr(import_module(f"carrel.generation.kv.{_HOMES[name]}"), name)
