"""Sparse attention by name."""

from __future__ import annotations

from carrel.errors import InputError
from carrel.generation.kv.base import SparseAttention
from carrel.generation.kv.clustered import ClusteredAttention
from carrel.generation.kv.paged import PagedAttention
from carrel.generation.kv.sinks import LambdaAttention

METHODS: dict[str, type[SparseAttention]] = {
    method.name: method for method in (PagedAttention, ClusteredAttention, LambdaAttention)
}
_QUESTION = 64  # tokens; a question up to this long reads its context sparsely, too
_PAGE = 16


def make_attention(spec: str | SparseAttention | None) -> SparseAttention | None:
    """The attention that a text names with the keys it reads: ``paged:1024``, ``clustered:1024``, ``lambda:1024``.

    None, or ``dense``, for all of them.

    Raises
    ------
    InputError : no such method, or no number of keys.
    """
    if spec is None or isinstance(spec, SparseAttention):
        return spec
    if not isinstance(spec, str):
        raise InputError(f"attention is a text such as 'paged:1024' or a SparseAttention, not {spec!r:.80}")
    name, _, knob = spec.partition(":")
    if name == "dense" and not knob:
        return None
    if name not in METHODS:
        raise InputError(f"There is no attention {name!r}. Known: dense, {', '.join(METHODS)}.")
    if not knob.isdecimal() or int(knob) < 1:
        raise InputError(f"{spec!r} names no number of keys: write {name}:1024.")
    budget = int(knob)
    if name == LambdaAttention.name:
        return LambdaAttention(window=budget)
    if name == ClusteredAttention.name:
        return ClusteredAttention(budget, sparse_queries=_QUESTION)
    return PagedAttention(budget, page=_PAGE, sparse_queries=_QUESTION)
