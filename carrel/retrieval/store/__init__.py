"""The store: SQL is the truth, everything else is derived from it."""

from carrel.retrieval.store.store import Scope, Store

__all__ = ["Scope", "Store"]
