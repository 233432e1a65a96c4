"""What is measured, as pure functions of texts, ids and ranges; every score lies between 0 and 1.

Text scores follow SQuAD (Rajpurkar et al., arXiv:1606.05250), ranking scores the usual definitions of
information retrieval with binary relevance, span scores "Evaluating Chunking Strategies for Retrieval"
(Smith and Troynikov, Chroma technical report, 2024).
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from carrel.errors import InputError

TokenRange = tuple[str, int, int]
"""Document id, first token, one past the last token."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower-case, without ASCII punctuation, English articles and repeated spaces.

    The normalisation of the SQuAD evaluation script (Rajpurkar et al., arXiv:1606.05250).
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def contains_answer(text: str, answers: Iterable[str]) -> bool:
    """Whether any answer stands in the text as whole words, both normalised as SQuAD does.

    Answer recall is the mean of this over questions. An answer without a word left after normalisation
    is never found.
    """
    padded = f" {normalize_answer(text)} "
    return any(f" {words} " in padded for answer in answers if (words := normalize_answer(answer)))


def contains_answer_in_gold(passages: Iterable[tuple[str, str]], answers: Sequence[str], gold: Collection[str]) -> bool:
    """Whether any answer stands in a passage of a gold document: no match by luck elsewhere.

    Parameters
    ----------
    passages
        Pairs of document id and text.
    answers
        Accepted answers.
    gold
        Ids of the gold documents.
    """
    return any(contains_answer(text, answers) for document, text in passages if document in gold)


def document_recall(retrieved: Iterable[str], gold: Collection[str]) -> float:
    """Share of the gold documents that were retrieved.

    Raises
    ------
    InputError
        There is no gold document.
    """
    wanted = _require_gold(gold)
    return len(wanted.intersection(retrieved)) / len(wanted)


def all_support(retrieved: Iterable[str], gold: Collection[str]) -> bool:
    """Whether every gold document was retrieved: what a multi-hop question needs.

    Raises
    ------
    InputError
        There is no gold document.
    """
    return _require_gold(gold).issubset(retrieved)


def recall_at_k(ranking: Sequence[str], gold: Collection[str], k: int) -> float:
    """Share of the gold documents among the first ``k`` of a ranking.

    Parameters
    ----------
    ranking
        Document ids, best first, each once (see `rank_documents`).
    gold
        Ids of the gold documents.
    k
        Depth, at least 1.

    Raises
    ------
    InputError
        There is no gold document, or ``k`` is below 1.
    """
    return document_recall(ranking[: _require_depth(k)], gold)


def ndcg_at_k(ranking: Sequence[str], gold: Collection[str], k: int) -> float:
    """Normalised discounted cumulative gain of the first ``k`` documents, gold documents gaining 1 each.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002, with the
    discount log2(rank + 1) that BEIR (arXiv:2104.08663) and trec_eval use. Parameters and errors as in
    `recall_at_k`.
    """
    wanted = _require_gold(gold)
    gain = sum(_discount(rank) for rank, doc in enumerate(ranking[: _require_depth(k)], start=1) if doc in wanted)
    return min(1.0, gain / sum(_discount(rank) for rank in range(1, min(k, len(wanted)) + 1)))


def reciprocal_rank(ranking: Sequence[str], gold: Collection[str]) -> float:
    """One over the rank of the first gold document, 0 when the ranking has none; its mean is MRR.

    Voorhees, "The TREC-8 Question Answering Track Report", 1999. Parameters and errors as in `recall_at_k`.
    """
    wanted = _require_gold(gold)
    return next((1.0 / rank for rank, document in enumerate(ranking, start=1) if document in wanted), 0.0)


def rank_documents(passages: Iterable[str]) -> list[str]:
    """Turn the document ids of ranked passages into a ranking of documents: each at its best passage."""
    return list(dict.fromkeys(passages))


@dataclass(frozen=True, slots=True)
class SpanScores:
    """Recall, precision and intersection over union of retrieved tokens, each 0 to 1."""

    recall: float
    precision: float
    iou: float


def score_spans(retrieved: Iterable[TokenRange], gold: Iterable[TokenRange]) -> SpanScores:
    """Compare retrieved token ranges with the gold ones, token by token.

    With the gold tokens as a set and the retrieved tokens, recall is the share of gold tokens retrieved,
    precision the share of retrieved tokens that are gold, and IoU the tokens in both over the tokens in
    either. A gold token retrieved twice is one hit, but every repetition counts as retrieved: overlap is
    paid for. (Smith and Troynikov, "Evaluating Chunking Strategies for Retrieval", Chroma, 2024.)

    Parameters
    ----------
    retrieved, gold
        Half-open token ranges; they may overlap and repeat. Nothing retrieved scores 0.

    Raises
    ------
    InputError
        The gold ranges hold no token.
    """
    found = list(retrieved)
    wanted, merged = _merge(gold), _merge(found)
    gold_tokens = sum(end - start for ranges in wanted.values() for start, end in ranges)
    if not gold_tokens:
        raise InputError("Span scores need at least one gold token.")
    found_tokens = sum(max(0, end - start) for _, start, end in found)
    hits = sum(_overlap(ranges, merged.get(document, [])) for document, ranges in wanted.items())
    return SpanScores(
        recall=hits / gold_tokens,
        precision=hits / found_tokens if found_tokens else 0.0,
        iou=hits / (gold_tokens + found_tokens - hits),
    )


def percentiles(values: ArrayLike, points: Sequence[float] = (50, 95, 99)) -> dict[float, float]:
    """Percentiles of, for example, latencies, interpolated linearly; NaN is left out.

    Parameters
    ----------
    values
        Numbers, shape (n,), in any unit.
    points
        Percentages, 0 to 100.

    Raises
    ------
    InputError
        No value, or a point outside 0 to 100.
    """
    numbers = np.asarray(values, dtype=np.float64).ravel()
    numbers = numbers[~np.isnan(numbers)]
    if not numbers.size:
        raise InputError("Percentiles need at least one value.")
    if any(not 0 <= point <= 100 for point in points):
        raise InputError(f"Percentiles lie between 0 and 100, not {list(points)}.")
    return {point: float(np.percentile(numbers, point)) for point in points}


def _require_gold(gold: Collection[str]) -> frozenset[str]:
    if not gold:
        raise InputError("This score needs at least one gold document.")
    return frozenset(gold)


def _require_depth(k: int) -> int:
    if k < 1:
        raise InputError(f"k is a number of documents and must be at least 1, not {k}.")
    return k


def _discount(rank: int) -> float:
    return 1.0 / math.log2(rank + 1)


def _merge(ranges: Iterable[TokenRange]) -> Mapping[str, list[tuple[int, int]]]:
    """Sort the ranges of each document and join those that touch; empty ones disappear."""
    merged: dict[str, list[tuple[int, int]]] = {}
    for document, start, end in sorted(ranges):
        if end <= start:
            continue
        joined = merged.setdefault(document, [])
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return merged


def _overlap(first: Sequence[tuple[int, int]], second: Sequence[tuple[int, int]]) -> int:
    """Count the tokens that two sorted lists of disjoint ranges share."""
    shared = left = right = 0
    while left < len(first) and right < len(second):
        start = max(first[left][0], second[right][0])
        end = min(first[left][1], second[right][1])
        shared += max(0, end - start)
        if first[left][1] <= second[right][1]:
            left += 1
        else:
            right += 1
    return shared
