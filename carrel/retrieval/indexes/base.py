"""The contract of an index that is derived from the store: watermark, catch-up, rebuild."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, func, select

from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope

_CHANGES = (
    select(schema.changes.c.id, schema.changes.c.kind, schema.changes.c.first_chunk, schema.changes.c.end_chunk)
    .where(schema.changes.c.collection_id == bindparam("collection"), schema.changes.c.id > bindparam("after"))
    .order_by(schema.changes.c.id)
)


@dataclass(frozen=True, slots=True)
class Hits:
    """Chunk ids with scores, best first; equal scores in the order of their ids."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float64]


class DerivedIndex(ABC):
    """Follows the change log of one collection and holds nothing that the store does not.

    The watermark is the id of the last change that was applied. An index that lags catches up; one
    that is damaged or doubted is rebuilt. A subclass applies runs of chunk ids and searches.
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
        """Index the chunks of ``[first_chunk, end_chunk)`` that are (still) in the store."""

    @abstractmethod
    def remove(self, connection: Connection, first_chunk: int, end_chunk: int) -> None: ...

    @abstractmethod
    def clear(self, connection: Connection) -> None: ...

    def lag(self, connection: Connection) -> int:
        """How many changes behind the store the index is."""
        return latest_change(connection, self.scope) - self.watermark(connection)

    def catch_up(self, connection: Connection) -> None:
        """Apply every change after the watermark; neighbouring additions as one run."""
        since = {"collection": self.scope.id, "after": self.watermark(connection)}
        run: tuple[int, int] | None = None
        last = 0
        for change_id, kind, first, end in connection.execute(_CHANGES, since).all():
            last = change_id
            if kind == "add" and run and run[1] == first:
                run = (run[0], end)
                continue
            if run:
                self.add(connection, *run)
                run = None
            if kind == "add":
                run = (first, end)
            elif kind == "remove":
                self.remove(connection, first, end)
        if run:
            self.add(connection, *run)
        if last:
            self.set_watermark(connection, last)

    def rebuild(self, connection: Connection) -> None:
        self.clear(connection)
        self.set_watermark(connection, 0)
        self.catch_up(connection)


def latest_change(connection: Connection, scope: Scope) -> int:
    """Id of the collection's last change; 0 when there is none."""
    query = select(func.max(schema.changes.c.id)).where(schema.changes.c.collection_id == scope.id)
    return connection.execute(query).scalar() or 0
