"""What indexes of vectors have in common: rows in memory, in the order of their chunks, followed from the store."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, select

from carrel.embeddings.base import Vectors
from carrel.retrieval.indexes.base import DerivedIndex, Hits
from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope

_DEAD_SHARE = 0.25
_ROWS_A_BATCH = 2048  # read from the store, or moved, at a time
_CACHE = -2048  # KiB, as SQLite writes it
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
Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
Rows = NDArray[Any]  # (rows, width) of any type: vectors, or codes of them


class VectorIndex(DerivedIndex):
    """Every vector of one collection under one encoder, one row each; a subclass says what a row is and searches.

    Rows are in the order of their chunk ids. Removed rows are masked at once and dropped for good when
    a quarter of the rows are dead. A chunk with several vectors scores as its best one.

    The arrays grow in place, a batch of rows at a time (``realloc``), so building them needs little more than
    what stays.
    """

    def __init__(self, scope: Scope, encoder_id: int, dimension: int) -> None:
        super().__init__(scope)
        self.encoder_id, self.dimension = encoder_id, dimension
        self._lock = threading.RLock()
        self._watermark = 0
        self._empty()

    @abstractmethod
    def _rows_of(self, vectors: Vectors) -> tuple[Rows, ...]:
        """(vectors, D) -> what is kept of them: arrays (vectors, width), as many for any number of vectors."""

    @abstractmethod
    def search(self, connection: Connection, query: Vectors, limit: int, allowed: Ids | None = None) -> Hits:
        """The best chunks by inner product, among ``allowed`` chunk ids if given (ascending).

        Parameters
        ----------
        connection : of the transaction that the index was brought up to.
        query : (dimension,), unit length.
        """

    @abstractmethod
    def scores(self, connection: Connection, query: Vectors, ids: Ids) -> NDArray[np.float64]:
        """Inner products with the given chunks (each its best vector); -1 for one that is not indexed."""

    def search_each(self, connection: Connection, queries: Vectors, limit: int, allowed: Ids | None = None) -> Hits:
        """The best chunks for a question of several vectors, by late interaction: the mean of its vectors' best.

        Candidates are the best chunks of each vector, so a chunk that is among none of them is missed.

        Reference: Khattab and Zaharia, "ColBERT", arXiv 2004.12832.

        Parameters
        ----------
        queries : (vectors, dimension), unit length; of one, this is ``search``.
        """
        found = [self.search(connection, query, limit, allowed) for query in queries]
        if len(found) == 1:
            return found[0]
        ids: Ids = np.unique(np.concatenate([hits.ids for hits in found]))
        return best(ids, self.scores_each(connection, queries, ids), limit)

    def scores_each(self, connection: Connection, queries: Vectors, ids: Ids) -> NDArray[np.float64]:
        """``scores`` of a question of several vectors: their mean."""
        found: NDArray[np.float64] = np.mean([self.scores(connection, query, ids) for query in queries], axis=0)
        return found

    def _empty(self) -> None:
        self._rows = tuple(array.copy() for array in self._rows_of(np.empty((0, self.dimension), np.float32)))
        self._ids, self._alive = np.empty(0, np.int64), np.empty(0, bool)
        self._repeated = False

    def watermark(self, connection: Connection) -> int:
        return self._watermark

    def set_watermark(self, connection: Connection, change_id: int) -> None:
        self._watermark = change_id

    def clear(self, connection: Connection) -> None:
        with self._lock:
            self._empty()

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
                self._drop_dead()

    def _build(self, connection: Connection) -> None:
        with passing_through(connection):
            super()._build(connection)

    def add(self, connection: Connection, first_chunk: int, end_chunk: int) -> None:
        bounds = {"collection": self.scope.id, "encoder": self.encoder_id, "first": first_chunk, "end": end_chunk}
        ids = [self._ids]
        for batch in connection.execute(_VECTORS, bounds).partitions(_ROWS_A_BATCH):
            for kept, new in zip(self._rows, self._rows_of(stacked(batch, self.dimension)), strict=True):
                count = len(kept)
                kept.resize((count + len(new), new.shape[1]), refcheck=False)  # no view outlives the lock
                kept[count:] = new
            ids.append(np.fromiter((row[0] for row in batch), np.int64, len(batch)))
        added = sum(map(len, ids[1:]))
        self._ids = np.concatenate(ids)
        self._alive = np.concatenate([self._alive, np.ones(added, bool)])
        self._repeated = self._repeated or bool((np.diff(self._ids[len(self._ids) - added :]) == 0).any())

    def remove(self, connection: Connection, first_chunk: int, end_chunk: int) -> None:
        low, high = np.searchsorted(self._ids, (first_chunk, end_chunk))
        self._alive[low:high] = False

    def __len__(self) -> int:
        return int(self._alive.sum())

    @property
    def size_bytes(self) -> int:
        """What the rows, their chunk ids and the mask take in memory."""
        return sum(array.nbytes for array in (*self._rows, self._ids, self._alive))

    def _drop_dead(self) -> None:
        """Move the living rows together, in place."""
        kept = np.flatnonzero(self._alive)
        for rows in self._rows:
            for start in range(0, len(kept), _ROWS_A_BATCH):
                batch = kept[start : start + _ROWS_A_BATCH]
                rows[start : start + len(batch)] = rows[batch]
            rows.resize((len(kept), rows.shape[1]), refcheck=False)
        self._ids, self._alive = self._ids[kept], np.ones(len(kept), bool)
        self._repeated = bool((np.diff(self._ids) == 0).any())

    def _mask(self, allowed: Ids | None) -> tuple[Mask, int]:
        """The living rows, of ``allowed`` chunks alone if given, and how many they are."""
        mask = self._alive if allowed is None else self._alive & np.isin(self._ids, allowed)
        return mask, int(mask.sum())

    def _places(self, ids: Ids) -> tuple[Ids, Ids, Mask]:
        """For each chunk the first of its rows, the end of them, and whether it is indexed."""
        low, high = np.searchsorted(self._ids, ids, "left"), np.searchsorted(self._ids, ids, "right")
        live = high > low
        live[live] = self._alive[low[live]]
        return low, high, live


def stacked(rows: Any, dimension: int) -> Vectors:
    """(rows, D): the vectors of rows (chunk id, bytes) of the store."""
    return np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(len(rows), dimension)


NOTHING = Hits(np.empty(0, np.int64), np.empty(0))


def products(rows: Vectors, query: Vectors) -> Vectors:
    """Inner products, each the same to the last bit wherever its row stands (which a BLAS does not promise)."""
    found: Vectors = np.einsum("ij,j->i", rows, query)
    return found


def best(ids: Ids, scores: NDArray[np.floating[Any]], limit: int) -> Hits:
    """Best first, ties by id, one entry a chunk."""
    order = np.lexsort((ids, -scores))
    ids, scores = ids[order], scores[order]
    _, first = np.unique(ids, return_index=True)
    keep = np.sort(first)[:limit]
    return Hits(ids[keep], scores[keep].astype(np.float64))


def nearest(rows: Vectors, query: Vectors, count: int, mask: Mask) -> tuple[NDArray[np.float32], Ids]:
    """(count,) inner products, best first, and their rows, among those of the mask: what IndexFlatIP does.

    With a mask, though it be full, FAISS goes through the rows on one thread: no slower for one query, and
    no waiting for threads where cores are busy.
    """
    import faiss

    query = np.ascontiguousarray(query, np.float32)
    scores, found = np.empty(count, np.float32), np.empty(count, np.int64)
    selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
    pointers = [faiss.swig_ptr(array) for array in (query, rows, scores, found)]
    sizes = (rows.shape[1], 1, len(rows), count)
    faiss.knn_inner_product(pointers[0], pointers[1], *sizes, pointers[2], pointers[3], selector)
    return scores, found


@contextmanager
def passing_through(connection: Connection) -> Iterator[None]:
    """Read without keeping: pages of the database that are read once stay neither mapped nor in the cache."""
    settings = {"mmap_size": 0, "cache_size": _CACHE}
    usual = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0 for name in settings}
    _set(connection, settings)
    try:
        yield
    finally:
        _set(connection, usual)


def _set(connection: Connection, settings: Mapping[str, int]) -> None:
    for name, value in settings.items():
        connection.exec_driver_sql(f"PRAGMA {name}={value}").close()
