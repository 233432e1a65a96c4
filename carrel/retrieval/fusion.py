"""Making one ranking of several: by convex combination of scores, or by ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def convex(dense: Floats, lexical: Floats, dense_weight: float, lexical_bound: float = 0.0) -> Floats:
    """``w * cosine + (1 - w) * BM25 / best BM25``: scores that say how relevant, not only in which order.

    The cosine is used as it is, since its scale means the same for every question; BM25 has no such
    scale and is divided by the question's best. Both arrays are (candidates,). A candidate that the lexical
    index did not return has 0 there; it counts as ``lexical_bound``, the most that it can have: as 0, what
    is among the best by cosine sinks below many passages that merely have some of the question's words.

    Reference: Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", arXiv 2210.11934.
    """
    best = lexical.max(initial=0.0)
    normalised = np.maximum(lexical, lexical_bound) / best if best > 0 else np.zeros_like(lexical)
    return dense_weight * dense + (1 - dense_weight) * normalised


def reciprocal_rank(rankings: Sequence[NDArray[np.int64]], candidates: NDArray[np.int64], k: int = 60) -> Floats:
    """Reciprocal rank fusion, ``sum of 1 / (k + rank)``; ranks start at 1.

    The result tells the order and nothing about relevance: no cutoff may read it.

    Reference: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet" (SIGIR 2009).
    """
    position = {int(candidate): index for index, candidate in enumerate(candidates)}
    out = np.zeros(len(candidates))
    for ranking in rankings:
        for rank, candidate in enumerate(ranking, start=1):
            if int(candidate) in position:
                out[position[int(candidate)]] += 1 / (k + rank)
    return out


def recency_weight(age_days: float, half_life_days: float, floor: float = 0.5) -> float:
    """Factor for the age of a document: 1 when new, near ``floor`` when very old.

    At the half-life half of what age can take is gone: with a floor of 0.5 the factor is 0.75.
    """
    return floor + (1 - floor) * float(0.5 ** (max(0.0, age_days) / half_life_days))
