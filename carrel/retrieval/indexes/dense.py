"""Dense search: exact inner products in FAISS, in memory, followed from the store."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from carrel.embeddings.base import Vectors
from carrel.retrieval.indexes.base import Hits
from carrel.retrieval.indexes.vector import NOTHING, Ids, Rows, VectorIndex, best, nearest, products


class DenseIndex(VectorIndex):
    """Every vector of one collection under one encoder, searched exactly.

    Rows are in the order of their chunk ids. Removed rows are masked at once and dropped for good when
    a quarter of the rows are dead. A chunk with several vectors scores as its best one.

    The vectors stand once in memory, in one array that FAISS searches where it is.

    Reference: Douze et al., "The Faiss library", arXiv 2401.08281.
    """

    name: ClassVar[str] = "dense"
    citation: ClassVar[str] = "Douze et al., The Faiss library, arXiv 2401.08281"

    def _rows_of(self, vectors: Vectors) -> tuple[Rows, ...]:
        return (vectors,)

    def search(self, connection: Connection, query: Vectors, limit: int, allowed: Ids | None = None) -> Hits:
        with self._lock:
            mask, count = self._mask(allowed)
            if not count or limit <= 0:
                return NOTHING
            wanted = limit * 4 if self._repeated else limit + 1
            while True:
                wanted = min(count, wanted)
                scores, rows = nearest(self._rows[0], query, wanted, mask)
                hits = best(self._ids[rows], scores, limit)
                # rows as good as the last one found may be missing, and so may chunks
                if wanted == count or (len(hits.ids) == limit and hits.scores[-1] > scores[-1]):
                    return hits
                wanted *= 4

    def scores(self, connection: Connection, query: Vectors, ids: Ids) -> NDArray[np.float64]:
        with self._lock:
            rows, out = self._rows[0], np.full(len(ids), -1.0)
            low, high, live = self._places(ids)
            out[live] = products(rows[low[live]], query)
            if self._repeated:
                for position in np.nonzero(live)[0]:
                    out[position] = float(products(rows[low[position] : high[position]], query).max())
            return out
