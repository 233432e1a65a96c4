"""Every turn of one user, in memory, to be searched: a byte a component of the vectors, and the words."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from carrel.embeddings.base import Vectors
from carrel.memory import turns as stored
from carrel.memory.bm25 import Postings, best_rows, index_terms
from carrel.memory.turns import Owner
from carrel.retrieval.indexes.quantised import best_by_codes, int8_codes
from carrel.retrieval.indexes.vector import products

_DEAD_SHARE = 0.25
_ROWS_A_BATCH = 2048  # vectors read from the store at a time
_LEAST_GROWTH = 256  # rows
_OVERSAMPLING = 4  # vectors read from the store for each nearest turn that is asked for
_WIDENING = 4  # times as many, where these were not enough
_MOST_READ = 4096  # and no more than this, however close together they lie
_MARGIN = 1.25  # of the largest component that has a code over the largest that was seen
_ID, _SAID, _ALIVE, _CODED, _CODES = range(5)


@dataclass(frozen=True, slots=True)
class Found:
    """Turn ids, ascending, with cosine (NaN: not embedded) and BM25 (0: no word in common) of each."""

    ids: NDArray[np.int64]
    dense: NDArray[np.float64]
    lexical: NDArray[np.float64]


class TurnIndex:
    """Follows one user's turns and holds nothing that the store does not; a row each, in the order of their ids.

    Vectors are kept as a byte a component, of a step that follows the largest component; those that may be among the
    nearest are scored again from the store, so that every cosine is exact. None is missed: how far a code can be from
    its vector is known, and candidates are read until no other can be nearer. (But for ``_MOST_READ``: where more
    turns than that say nearly the same.)

    What is forgotten is out of every search from the next ``refresh`` on, in whichever process it was forgotten.
    """

    def __init__(self, owner: Owner, fingerprint: str, dimension: int) -> None:
        self.owner, self.fingerprint, self.dimension = owner, fingerprint, dimension
        self._lock = threading.RLock()
        self._empty()

    def _empty(self) -> None:
        self._revision = self._forgotten = self._last = self._count = 0
        self._encoder: int | None = None
        self._error = 0.0  # the largest distance of a vector from its code
        self._largest = 4 / math.sqrt(self.dimension)  # component that has a code
        self._words = Postings()
        kinds = (np.int64, np.float64, np.bool_, np.bool_)
        self._rows: list[NDArray[Any]] = [np.empty(0, kind) for kind in kinds]
        self._rows.append(np.empty((0, self.dimension), np.uint8))

    # -- following the store ------------------------------------------------------------------

    def refresh(self, connection: Connection) -> None:
        """Bring the index up to the state that a transaction sees; one look where nothing has changed."""
        with self._lock:
            revision, forgotten = stored.state(connection, self.owner)
            if not revision:  # the user is gone
                self._empty()
            if revision <= self._revision:
                return
            if forgotten != self._forgotten:
                self._drop(connection)
            self._add_turns(connection)
            self._add_vectors(connection)
            self._revision, self._forgotten = revision, forgotten

    def _add_turns(self, connection: Connection) -> None:
        for id, said_at, text in stored.after(connection, self.owner, self._last):  # noqa: A001
            if self._count == len(self._rows[_ID]):
                self._grow()
            row, self._count = self._count, self._count + 1
            self._rows[_ID][row], self._rows[_SAID][row] = id, said_at
            self._rows[_ALIVE][row], self._rows[_CODED][row] = True, False
            self._words.append(text)
            self._last = id

    def _add_vectors(self, connection: Connection) -> None:
        if self._encoder is None:
            self._encoder = stored.encoder_id(connection, self.fingerprint)
        if self._encoder is None or not self._count:
            return
        rows = stored.vectors_since(connection, self.owner, self._encoder, self._revision)
        for batch in rows.partitions(_ROWS_A_BATCH):
            of = np.fromiter((row[0] for row in batch), np.int64, len(batch))
            vectors = np.frombuffer(b"".join(row[1] for row in batch), "<f4").reshape(len(batch), self.dimension)
            largest = float(np.abs(vectors).max())
            if largest > self._largest:  # all get new codes
                self._largest, self._error, self._revision = _MARGIN * largest, 0.0, 0
                rows.close()
                return self._add_vectors(connection)
            codes = int8_codes(vectors, self._step)
            meant = (codes.astype(np.float32) - 128) * np.float32(self._step)
            self._error = max(self._error, float(np.linalg.norm(vectors - meant, axis=1).max()))
            places = np.searchsorted(self._rows[_ID][: self._count], of)
            known = places < self._count
            known[known] = self._rows[_ID][places[known]] == of[known]
            self._rows[_CODES][places[known]] = codes[known]
            self._rows[_CODED][places[known]] = True

    @property
    def _step(self) -> float:
        return self._largest / 127

    def _drop(self, connection: Connection) -> None:
        """Mask the rows whose turns are gone; begin anew when many are."""
        left = np.array(stored.ids(connection, self.owner), np.int64)
        alive = np.isin(self._rows[_ID][: self._count], left)
        if self._count - int(alive.sum()) > _DEAD_SHARE * self._count:
            self._empty()
        else:
            self._rows[_ALIVE][: self._count] = alive

    def _grow(self) -> None:
        capacity = self._count + max(_LEAST_GROWTH, self._count // 4)
        for array in self._rows:
            array.resize((capacity, *array.shape[1:]), refcheck=False)  # in place, where realloc can

    # -- searching ----------------------------------------------------------------------------

    def search(
        self,
        connection: Connection,
        query: str,
        vectors: Vectors,
        limit: int,
        *,
        since: float | None = None,
        before: float | None = None,
    ) -> Found:
        """The nearest turns and the best by BM25, ``limit`` of each, joined.

        Parameters
        ----------
        connection : of the transaction that the index was brought up to.
        vectors : (vectors of the query, dimension), unit length; a turn counts with the nearest of them.
        """
        vectors = np.ascontiguousarray(np.atleast_2d(vectors), np.float32)
        with self._lock:
            ids, said, alive, coded, codes = (array[: self._count] for array in self._rows)
            allowed = alive.copy()
            if since is not None:
                allowed &= said >= since
            if before is not None:
                allowed &= said < before
            lexical = self._words.scores(index_terms(query), alive)
            best = best_rows(lexical, allowed, limit)
            known: dict[int, float] = {}
            for vector in vectors:
                for row, cosine in self._nearest(connection, vector, limit, allowed & coded, codes):
                    known[row] = max(cosine, known.get(row, -2.0))
            rows = np.unique(np.concatenate([best, np.fromiter(known, np.int64, len(known))]))
            dense = np.array([known.get(row, math.nan) for row in rows.tolist()])
            unread = np.isnan(dense) if len(vectors) == 1 else np.ones(len(rows), bool)
            dense[unread] = self._cosines(connection, vectors, ids[rows[unread]])
            if len(vectors) > 1:  # each vector has brought its own nearest
                order = np.lexsort((rows, -np.nan_to_num(dense, nan=-2.0)))[:limit]
                kept = np.isin(rows, best)
                kept[order] = True
                rows, dense = rows[kept], dense[kept]
            return Found(ids[rows].copy(), dense, lexical[rows])

    def _nearest(
        self, connection: Connection, vector: Vectors, limit: int, mask: NDArray[np.bool_], codes: NDArray[np.uint8]
    ) -> list[tuple[int, float]]:
        """The rows of the mask that are nearest, with their cosines."""
        count = int(np.count_nonzero(mask))
        wanted = _OVERSAMPLING * limit
        while limit > 0 and count:
            if wanted >= count:
                rows, elsewhere = np.flatnonzero(mask), -math.inf
            else:
                scores, rows = best_by_codes(codes, vector, wanted, mask)
                elsewhere = float(scores.min()) * self._step + self._error
                # by as much as that each of the best may be less near, and each of the others nearer
                least = np.partition(scores, wanted - limit)[wanted - limit] - 2 * self._error / self._step
                rows = np.sort(rows[scores >= least])
            exact = np.nan_to_num(self._cosines(connection, vector[None, :], self._rows[_ID][rows]), nan=-2.0)
            order = np.argsort(-exact, kind="stable")[:limit]
            if exact[order[-1]] > elsewhere or wanted >= min(count, _MOST_READ):
                return [(int(rows[place]), float(exact[place])) for place in order if exact[place] > -2.0]
            wanted *= _WIDENING
        return []

    def _cosines(self, connection: Connection, queries: Vectors, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Exact cosines of turns, ids ascending, with the nearest of the queries; NaN for one without a vector."""
        out = np.full(len(ids), np.nan)
        if self._encoder is not None and len(ids):
            of, vectors = stored.vectors_of(connection, self.owner, self._encoder, ids, self.dimension)
            if of:
                found = np.max([products(vectors, query) for query in queries], axis=0)
                out[np.searchsorted(ids, of)] = found
        return out

    def vectors(self, connection: Connection, ids: list[int]) -> NDArray[np.float32]:
        """(ids, dimension); NaN for a turn that has none."""
        out = np.full((len(ids), self.dimension), np.nan, np.float32)
        with self._lock:
            encoder = self._encoder
        if encoder is not None and ids:
            of, vectors = stored.vectors_of(connection, self.owner, encoder, ids, self.dimension)
            places = dict(zip(of, range(len(of)), strict=True))
            for row, id in enumerate(ids):  # noqa: A001
                if id in places:
                    out[row] = vectors[places[id]]
        return out

    @property
    def size_bytes(self) -> int:
        """Of memory, about."""
        return sum(array.nbytes for array in self._rows) + self._words.size_bytes
