"""In which order the chosen passages stand in the context."""

from __future__ import annotations

from collections.abc import Sequence

from carrel.errors import InputError
from carrel.types import Order, Passage


def arrange(passages: Sequence[Passage], order: Order) -> list[Passage]:
    """Order passages that come best first.

    relevance: as they are. sides: the best at both ends, the weakest in the middle (Jin et al.,
    "Long-Context LLMs Meet RAG", arXiv 2410.05983). document: as they stand in their documents, the
    document with the best passage first (Yu et al., "In Defense of RAG in the Era of Long-Context
    Language Models", arXiv 2409.01666).
    """
    if order == "relevance":
        return list(passages)
    if order == "sides":
        return [*passages[::2], *reversed(passages[1::2])]
    if order == "document":
        first: dict[str, int] = {}
        for rank, passage in enumerate(passages):
            first.setdefault(passage.document_id, rank)
        return sorted(passages, key=lambda passage: (first[passage.document_id], passage.start))
    raise InputError(f"unknown order {order!r}. Use one of: relevance, sides, document")
