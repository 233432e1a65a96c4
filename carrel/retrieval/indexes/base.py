"""The contract of an index that is derived from the store: watermark, catch-up, rebuild."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, delete, func, select

from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope

_CHANGES = (
    select(schema.changes.c.id, schema.changes.c.kind, schema.changes.c.first_chunk, schema.changes.c.end_chunk)
    .where(schema.changes.c.collection_id == bindparam("collection"), schema.changes.c.id >= bindparam("since"))
    .order_by(schema.changes.c.id)
)
_NEWEST = select(func.max(schema.changes.c.id)).where(schema.changes.c.collection_id == bindparam("collection"))
_DOCUMENTS = (
    select(schema.documents.c.first_chunk, schema.documents.c.chunks)
    .where(schema.documents.c.collection_id == bindparam("collection"))
    .order_by(schema.documents.c.first_chunk)
)
_SHORT_GAP = 64  # to read past some chunks of others costs less than to ask once more
_LOG_LENGTH = 10_000  # ids; an index further behind is built anew, which then costs less than to follow


@dataclass(frozen=True, slots=True)
class Hits:
    """Chunk ids with scores, best first; equal scores in the order of their ids."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float64]


class DerivedIndex(ABC):
    """Follows the change log of one collection and holds nothing that the store does not.

    The watermark is the id of the last change that was applied. An index that lags catches up; one that
    is new, doubted, or so far behind that the log no longer holds its last change is built from what the
    store holds now. A subclass applies runs of chunk ids and searches.
    """

    name: ClassVar[str]

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    @abstractmethod
    def watermark(self, connection: Connection) -> int:
        """Id of the last change applied; 0 when there is none."""

    @abstractmethod
    def set_watermark(self, connection: Connection, change_id: int) -> None: ...

    @abstractmethod
    def add(self, connection: Connection, first_chunk: int, end_chunk: int) -> None:
        """Index the chunks of ``[first_chunk, end_chunk)`` that are (still) in the collection."""

    @abstractmethod
    def remove(self, connection: Connection, first_chunk: int, end_chunk: int) -> None: ...

    @abstractmethod
    def clear(self, connection: Connection) -> None: ...

    def lag(self, connection: Connection) -> int:
        """How many changes behind the store the index is."""
        return latest_change(connection, self.scope) - self.watermark(connection)

    def catch_up(self, connection: Connection) -> None:
        """Apply every change after the watermark; neighbouring additions as one run."""
        watermark = self.watermark(connection)
        if not watermark:
            self._build(connection)
            return
        since = {"collection": self.scope.id, "since": watermark}
        log = connection.execute(_CHANGES, since).all()
        if not log or log[0].id != watermark:  # what came after it was dropped
            self.rebuild(connection)
            return
        run: tuple[int, int] | None = None
        for change in log[1:]:
            if change.kind == "add" and run and run[1] == change.first_chunk:
                run = (run[0], change.end_chunk)
                continue
            if run:
                self.add(connection, *run)
                run = None
            if change.kind == "add":
                run = (change.first_chunk, change.end_chunk)
            else:
                self.remove(connection, change.first_chunk, change.end_chunk)
        if run:
            self.add(connection, *run)
        if len(log) > 1:
            self.set_watermark(connection, log[-1].id)

    def rebuild(self, connection: Connection) -> None:
        self.clear(connection)
        self.set_watermark(connection, 0)
        self._build(connection)

    def _build(self, connection: Connection) -> None:
        """Fill an empty index with what the collection holds now."""
        newest = latest_change(connection, self.scope)
        if newest:
            for run in _runs(connection, self.scope):
                self.add(connection, *run)
            self.set_watermark(connection, newest)


def _runs(connection: Connection, scope: Scope) -> list[tuple[int, int]]:
    """The chunk ids of a collection as few runs; what lies in a short gap is not the collection's."""
    runs: list[tuple[int, int]] = []
    for first, count in connection.execute(_DOCUMENTS, {"collection": scope.id}):
        if runs and first - runs[-1][1] <= _SHORT_GAP:
            runs[-1] = (runs[-1][0], first + count)
        else:
            runs.append((first, first + count))
    return runs


def latest_change(connection: Connection, scope: Scope) -> int:
    """Id of the collection's last change; 0 when there is none."""
    return connection.execute(_NEWEST, {"collection": scope.id}).scalar() or 0


def shorten_log(connection: Connection, scope: Scope) -> None:
    """Drop the collection's old changes; an index that still needed them is built anew.

    The last one always stays: it is what an index compares itself with, and new ids go on from it.
    """
    table = schema.changes
    oldest = latest_change(connection, scope) - _LOG_LENGTH
    connection.execute(delete(table).where(table.c.collection_id == scope.id, table.c.id <= oldest))
