"""Dense search: exact inner products in FAISS, in memory, followed from the store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, select

from carrel.embeddings.base import Vectors
from carrel.retrieval.indexes.base import DerivedIndex, Hits
from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope

if TYPE_CHECKING:
    from faiss import IndexFlatIP

_DEAD_SHARE = 0.25
_VECTORS = (
    select(schema.vectors.c.chunk_id, schema.vectors.c.vector)
    .join(schema.chunks, schema.chunks.c.id == schema.vectors.c.chunk_id)
    .where(
        schema.chunks.c.collection_id == bindparam("collection"),
        schema.vectors.c.encoder_id == bindparam("encoder"),
        schema.vectors.c.chunk_id >= bindparam("first"),
        schema.vectors.c.chunk_id < bindparam("end"),
    )
    .order_by(schema.vectors.c.chunk_id, schema.vectors.c.ordinal)
)


class DenseIndex(DerivedIndex):
    """Every vector of one collection under one encoder, searched exactly.

    Rows are in the order of their chunk ids. Removed rows are masked at once and dropped for good when
    a quarter of the rows are dead. A chunk with several vectors scores as its best one.

    Reference: Douze et al., "The Faiss library", arXiv 2401.08281.
    """

    name: ClassVar[str] = "dense"
    citation: ClassVar[str] = "Douze et al., The Faiss library, arXiv 2401.08281"

    def __init__(self, scope: Scope, encoder_id: int, dimension: int) -> None:
        super().__init__(scope)
        self.encoder_id, self.dimension = encoder_id, dimension
        self._lock = threading.RLock()
        self._watermark = 0
        self._reset(np.empty(0, np.int64), np.empty((0, dimension), np.float32))

    def _reset(self, ids: NDArray[np.int64], rows: Vectors) -> None:
        import faiss

        self._index: IndexFlatIP = faiss.IndexFlatIP(self.dimension)
        if len(rows):
            self._index.add(rows)
        self._ids, self._alive = ids, np.ones(len(ids), bool)
        self._repeated = len(np.unique(ids)) < len(ids)

    def watermark(self, connection: Connection) -> int:
        return self._watermark

    def set_watermark(self, connection: Connection, change_id: int) -> None:
        self._watermark = change_id

    def clear(self, connection: Connection) -> None:
        with self._lock:
            self._reset(np.empty(0, np.int64), np.empty((0, self.dimension), np.float32))

    def catch_up(self, connection: Connection) -> None:
        with self._lock:
            try:
                super().catch_up(connection)
            except BaseException:  # stopped halfway: what was applied would be applied again
                self.clear(connection)
                self._watermark = 0
                raise
            dead = len(self._ids) - int(self._alive.sum())
            if dead and dead >= _DEAD_SHARE * len(self._ids):
                self._reset(self._ids[self._alive], self._rows()[self._alive])

    def add(self, connection: Connection, first_chunk: int, end_chunk: int) -> None:
        bounds = {"collection": self.scope.id, "encoder": self.encoder_id, "first": first_chunk, "end": end_chunk}
        found = connection.execute(_VECTORS, bounds).all()
        if not found:
            return
        rows = np.frombuffer(b"".join(row[1] for row in found), "<f4").reshape(len(found), self.dimension)
        ids = np.fromiter((row[0] for row in found), np.int64, len(found))
        self._index.add(np.ascontiguousarray(rows, np.float32))
        self._ids = np.concatenate([self._ids, ids])
        self._alive = np.concatenate([self._alive, np.ones(len(ids), bool)])
        self._repeated = self._repeated or len(np.unique(ids)) < len(ids)

    def remove(self, connection: Connection, first_chunk: int, end_chunk: int) -> None:
        low, high = np.searchsorted(self._ids, (first_chunk, end_chunk))
        self._alive[low:high] = False

    def __len__(self) -> int:
        return int(self._alive.sum())

    def _rows(self) -> Vectors:
        """All rows as an array that shares FAISS's memory: valid until the next addition."""
        import faiss

        size = self._index.ntotal * self.dimension
        flat = faiss.rev_swig_ptr(self._index.get_xb(), size) if size else np.empty(0, np.float32)
        rows: Vectors = flat.reshape(-1, self.dimension)
        return rows

    def search(self, query: Vectors, limit: int, allowed: NDArray[np.int64] | None = None) -> Hits:
        """The best chunks by inner product, among ``allowed`` chunk ids if given (ascending).

        Parameters
        ----------
        query : (dimension,), unit length.
        """
        import faiss

        with self._lock:
            mask = self._alive if allowed is None else self._alive & np.isin(self._ids, allowed, assume_unique=False)
            count = int(mask.sum())
            if not count or limit <= 0:
                return Hits(np.empty(0, np.int64), np.empty(0))
            parameters = None
            if count < len(mask):
                selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
                parameters = faiss.SearchParameters(sel=selector)
            wanted = limit * 4 if self._repeated else limit + 1
            while True:
                wanted = min(count, wanted)
                scores, rows = self._index.search(query[None, :], wanted, params=parameters)
                hits = _best(self._ids[rows[0]], scores[0], limit)
                # rows as good as the last one found may be missing, and so may chunks
                if wanted == count or (len(hits.ids) == limit and hits.scores[-1] > scores[0, -1]):
                    return hits
                wanted *= 4

    def scores(self, query: Vectors, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Inner products with the given chunks; -1 for one that is not indexed."""
        with self._lock:
            rows, out = self._rows(), np.full(len(ids), -1.0)
            low, high = np.searchsorted(self._ids, ids, "left"), np.searchsorted(self._ids, ids, "right")
            live = high > low
            live[live] = self._alive[low[live]]
            out[live] = _products(rows[low[live]], query)
            if self._repeated:
                for position in np.nonzero(live)[0]:
                    out[position] = float(_products(rows[low[position] : high[position]], query).max())
            return out


def _products(rows: Vectors, query: Vectors) -> Vectors:
    """Inner products, each the same to the last bit wherever its row stands (which a BLAS does not promise)."""
    products: Vectors = np.einsum("ij,j->i", rows, query)
    return products


def _best(ids: NDArray[np.int64], scores: NDArray[np.float32], limit: int) -> Hits:
    """Best first, ties by id, one entry a chunk."""
    order = np.lexsort((ids, -scores))
    ids, scores = ids[order], scores[order]
    _, first = np.unique(ids, return_index=True)
    keep = np.sort(first)[:limit]
    return Hits(ids[keep], scores[keep].astype(np.float64))
