"""BM25 over the turns of one user, in memory: its statistics are theirs alone, and no file holds a word twice."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from carrel.memory.words import terms
from carrel.retrieval.indexes.lexical import spaced

K1, B = 1.2, 0.75
_BYTES_A_TERM = 300  # of a word in the dictionary with its two arrays, about


class Postings:
    """For each word the rows that hold it, in the order they came, and how often.

    Reference: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009).
    """

    def __init__(self) -> None:
        self._postings: dict[str, tuple[array[int], array[int]]] = {}
        self._lengths = array("i")
        self._entries = 0

    def append(self, text: str) -> None:
        """Index the text of the next row."""
        counts = Counter(index_terms(text))
        row = len(self._lengths)
        for term, often in counts.items():
            found = self._postings.get(term)
            if found is None:
                found = self._postings[term] = (array("i"), array("H"))
            found[0].append(row)
            found[1].append(min(often, 65_535))
        self._lengths.append(counts.total())
        self._entries += len(counts)

    def scores(self, query: Iterable[str], alive: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(rows,): BM25 of every row with the words of a query; rows that are not alive count for nothing."""
        lengths = np.frombuffer(self._lengths, np.int32)
        out = np.zeros(len(lengths))
        count = int(np.count_nonzero(alive))
        if not count:
            return out
        everyone = count == len(alive)
        mean = float(lengths.sum() if everyone else lengths[alive].sum()) / count
        for term in dict.fromkeys(query):
            if term not in self._postings:
                continue
            rows, often = (np.frombuffer(part, part.typecode) for part in self._postings[term])
            if not everyone:
                live = alive[rows]
                rows, often = rows[live], often[live]
            holding = len(rows)
            idf = math.log(1 + (count - holding + 0.5) / (holding + 0.5))
            norms = K1 * (1 - B + B * lengths[rows] / mean)
            out[rows] += idf * often * (K1 + 1) / (often + norms)
        return out

    @property
    def size_bytes(self) -> int:
        """Of memory, about."""
        return 6 * self._entries + 4 * len(self._lengths) + _BYTES_A_TERM * len(self._postings)


def index_terms(text: str) -> list[str]:
    """The words of a turn or a query as they are matched; Chinese and Japanese characters one by one."""
    return terms(spaced(text))


def best_rows(scores: NDArray[np.float64], allowed: NDArray[np.bool_], limit: int) -> NDArray[np.int64]:
    """The allowed rows with the best scores above 0, best first; equal ones in their order."""
    rows = np.flatnonzero(allowed & (scores > 0))
    if len(rows) > limit > 0:
        least = np.partition(scores[rows], len(rows) - limit)[len(rows) - limit]
        rows = rows[scores[rows] >= least]
    order: Sequence[int] = np.argsort(-scores[rows], kind="stable")[: max(0, limit)].tolist()
    return rows[order]
