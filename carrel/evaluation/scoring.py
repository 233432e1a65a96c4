"""From one question's ranking and context to its row of scores. NaN means: this question does not ask for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carrel.errors import CarrelError
from carrel.evaluation import metrics
from carrel.evaluation.datasets import Question
from carrel.evaluation.metrics import TokenRange
from carrel.types import Document, Passage

CONTEXT_METRICS: Mapping[str, str] = MappingProxyType(
    {
        "answer": "Answer recall",
        "answer_in_gold": "Answer in a gold document",
        "gold_recall": "Gold document recall",
        "all_support": "All gold documents",
        "span_recall": "Gold span recall",
        "span_precision": "Gold span precision",
        "span_iou": "Gold span IoU",
        "tokens": "Tokens used",
        "seconds": "Context seconds",
    }
)
"""Metrics of a context at each budget, and their titles."""

NDCG_DEPTH = 10


class Tokenizer(Protocol):
    """The tokenizer that a library counts budgets with."""

    @property
    def name(self) -> str:
        """What token counts are labelled with."""

    def count(self, text: str) -> int:
        """Return the number of tokens of the text."""

    def offsets(self, text: str) -> Sequence[tuple[int, int]]:
        """Return the character range of each token."""


def ranking_metrics(k_values: Sequence[int]) -> dict[str, str]:
    """List the metrics of a ranking, and their titles."""
    recalls = {f"recall@{k}": f"R@{k}" for k in k_values}
    ndcg = {f"ndcg@{NDCG_DEPTH}": f"nDCG@{NDCG_DEPTH}"}
    return {**recalls, **ndcg, "mrr": "MRR", "search_seconds": "Search seconds"}


class TokenSpace:
    """Maps character ranges of documents to token ranges; a document is tokenized when first asked for."""

    def __init__(self, documents: Iterable[Document], tokenizer: Tokenizer) -> None:
        self._texts = {document.id: document.text for document in documents}
        self._tokenizer = tokenizer
        self._bounds: dict[str, tuple[NDArray[np.int32], NDArray[np.int32]]] = {}

    def locate(self, document_id: str, start: int, end: int) -> TokenRange:
        """Return the tokens that share a character with ``start`` to ``end`` of the document.

        Raises
        ------
        CarrelError
            The document is not in the dataset.
        """
        if document_id not in self._bounds:
            if document_id not in self._texts:
                raise CarrelError(f"A passage came from {document_id!r}, which is not in the dataset.")
            offsets = self._tokenizer.offsets(self._texts[document_id])
            bounds = np.array(offsets, dtype=np.int32).reshape(-1, 2)  # (tokens, 2)
            self._bounds[document_id] = (bounds[:, 0].copy(), bounds[:, 1].copy())
        starts, ends = self._bounds[document_id]
        first = int(np.searchsorted(ends, start, side="right"))
        return document_id, first, max(first, int(np.searchsorted(starts, end, side="left")))


def score_context(
    question: Question, text: str, tokens: int, passages: Sequence[Passage], space: TokenSpace
) -> dict[str, float]:
    """Score a context.

    Parameters
    ----------
    question
        The question with its answers and gold evidence.
    text, tokens
        The context as rendered, in which answers are looked for, and its length in tokens.
    passages
        The passages in the context; only what a pruner kept of them counts as retrieved.
    space
        The documents' token ranges, for span scores.

    Returns
    -------
    dict
        The metrics of `CONTEXT_METRICS` except ``seconds``; NaN where the question has no such gold.
    """
    scores = dict.fromkeys(CONTEXT_METRICS, math.nan)
    del scores["seconds"]
    scores["tokens"] = float(tokens)
    gold = question.gold_documents
    if question.has_findable_answers:
        scores["answer"] = float(metrics.contains_answer(text, question.answers))
        if gold:
            pieces = ((passage.document_id, piece) for passage in passages for piece in passage.pieces)
            scores["answer_in_gold"] = float(metrics.contains_answer_in_gold(pieces, question.answers, gold))
    if gold:
        retrieved = {passage.document_id for passage in passages if passage.kept is None or passage.kept}
        scores["gold_recall"] = metrics.document_recall(retrieved, gold)
        scores["all_support"] = float(metrics.all_support(retrieved, gold))
    wanted = [
        space.locate(item.doc, item.start, item.end)
        for item in question.gold
        if item.start is not None and item.end is not None
    ]
    if any(end > start for _, start, end in wanted):
        spans = metrics.score_spans(_retrieved_ranges(passages, space), wanted)
        scores.update(span_recall=spans.recall, span_precision=spans.precision, span_iou=spans.iou)
    return scores


def score_ranking(question: Question, passages: Sequence[Passage], k_values: Sequence[int]) -> dict[str, float]:
    """Score ranked passages as a ranking of documents, each at its best passage.

    Returns
    -------
    dict
        The metrics of `ranking_metrics` except ``search_seconds``; NaN where the question has no gold.
    """
    scores = dict.fromkeys(ranking_metrics(k_values), math.nan)
    del scores["search_seconds"]
    gold = question.gold_documents
    if gold:
        ranking = metrics.rank_documents(passage.document_id for passage in passages)
        scores.update({f"recall@{k}": metrics.recall_at_k(ranking, gold, k) for k in k_values})
        scores[f"ndcg@{NDCG_DEPTH}"] = metrics.ndcg_at_k(ranking, gold, NDCG_DEPTH)
        scores["mrr"] = metrics.reciprocal_rank(ranking, gold)
    return scores


def _retrieved_ranges(passages: Iterable[Passage], space: TokenSpace) -> list[TokenRange]:
    ranges = []
    for passage in passages:
        if passage.kept is None:
            ranges.append(space.locate(passage.document_id, passage.start, passage.end))
        else:
            ranges.extend(space.locate(passage.document_id, span.start, span.end) for span in passage.kept)
    return ranges
