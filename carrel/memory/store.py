"""The memory stream of a library: what all memories of its users share in a process, and one user's part of it."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from carrel.embeddings.base import ChunkEncoder, Vectors
from carrel.memory import notes as noted
from carrel.memory import tables
from carrel.memory import turns as stored
from carrel.memory.base import Candidate, Note, StoredTurn
from carrel.memory.embedding import Embedder
from carrel.memory.index import TurnIndex
from carrel.memory.turns import Owner
from carrel.retrieval.store.store import Store

if TYPE_CHECKING:
    from carrel.generation.base import Generator
    from carrel.memory.writing import NoteWriter

MOST_INDEX_BYTES = 512_000_000
"""Of the indexes of all users of a library together: beyond it those that were not asked for longest are dropped."""

_USERS_FACTS = 64  # whose facts are kept in memory

R = TypeVar("R")


class MemoryStream:
    """The turns of a library under one encoder: the embedder, and the indexes of the users who are asked for.

    Reference: Park et al., "Generative Agents", arXiv 2304.03442 (the memory stream).
    """

    def __init__(self, store: Store, encoder: ChunkEncoder, most_index_bytes: int = MOST_INDEX_BYTES) -> None:
        self.store, self.encoder, self.most_index_bytes = store, encoder, most_index_bytes
        self.embedder = Embedder(store, encoder)
        self.has_tables = False
        self.zones: dict[tuple[str, str], tzinfo] = {}  # of the users who are asked for
        self._lock = threading.Lock()
        self._writers: weakref.WeakValueDictionary[int, NoteWriter] = weakref.WeakValueDictionary()
        store.before_closing.append(self._stop_writers)
        self._reading: weakref.WeakValueDictionary[Owner, threading.Lock] = weakref.WeakValueDictionary()
        self._facts: OrderedDict[Owner, tuple[tuple[int, int], Sequence[Note]]] = OrderedDict()
        self._indexes: OrderedDict[int, TurnIndex] = OrderedDict()

    def index(self, connection: Connection, owner: Owner) -> TurnIndex:
        """The user's index, as it is in a transaction."""
        with self._lock:
            found = self._indexes.get(owner.id)
            if found is None:
                found = self._indexes[owner.id] = TurnIndex(owner, self.embedder.fingerprint, self.encoder.dimension)
            self._indexes.move_to_end(owner.id)
        found.refresh(connection)
        with self._lock:
            while len(self._indexes) > 1 and self.index_bytes > self.most_index_bytes:
                self._indexes.popitem(last=False)
        return found

    def facts(self, connection: Connection, owner: Owner) -> Sequence[Note]:
        """The facts that hold of a user, by time; from memory, where they have not changed."""
        key = noted.facts_key(connection, owner)
        with self._lock:
            known = self._facts.get(owner)
            if known is not None and known[0] == key:
                self._facts.move_to_end(owner)
                return known[1]
        found = tuple(noted.select(connection, owner, "fact")) if key[1] else ()
        with self._lock:
            self._facts[owner] = key, found
            while len(self._facts) > _USERS_FACTS:
                self._facts.popitem(last=False)
        return found

    def writer(self, generator: Generator) -> NoteWriter:
        """What has this generator write notes, as long as a memory has it; the store stops it when it closes."""
        from carrel.memory.writing import NoteWriter

        with self._lock:
            found = self._writers.get(id(generator))  # which it holds, so that no other can have its number
            if found is None:
                found = self._writers[id(generator)] = NoteWriter(self, generator)
            return found

    def _stop_writers(self) -> None:
        for writer in list(self._writers.values()):
            writer.stop()

    def forget_index(self, tenant: str, user: str) -> None:
        """Drop the index of a user who is unknown by now."""
        with self._lock:
            for id, index in list(self._indexes.items()):  # noqa: A001
                if (index.owner.tenant, index.owner.user) == (tenant, user):
                    self._facts.pop(index.owner, None)
                    del self._indexes[id]

    @contextmanager
    def reading(self, owner: Owner) -> Iterator[None]:
        """While the block runs, no other generator reads what this user said."""
        with self._lock:
            lock = self._reading.get(owner)
            if lock is None:
                lock = self._reading[owner] = threading.Lock()
        with lock:
            yield

    @property
    def index_bytes(self) -> int:
        """Of memory that the indexes take, about."""
        return sum(index.size_bytes for index in self._indexes.values())


_making = threading.Lock()


def stream_of(store: Store, encoder: ChunkEncoder) -> MemoryStream:
    """The one stream of a store and an encoder in this process; the store has it, and stops it when it closes."""
    store.check_open()
    with _making:
        found = store.attached.get(f"memory {encoder.fingerprint}")
        if not isinstance(found, MemoryStream):
            found = store.attached[f"memory {encoder.fingerprint}"] = MemoryStream(store, encoder)
            store.before_closing.append(found.embedder.stop)
        return found


class UserTurns:
    """One user's turns, as the ranking reads them (carrel.memory.base.TurnSource).

    Each call is a transaction of its own and looks the user up by name, so that a user who was forgotten, and came
    again, is another.
    """

    def __init__(self, stream: MemoryStream, tenant: str, user: str) -> None:
        self.stream, self.tenant, self.user = stream, tenant, user

    def read(self, call: Callable[[Connection, Owner], R], nothing: R) -> R:
        """What a function reads of the user in one transaction; ``nothing`` where no one spoke yet."""
        with self.stream.store.read() as connection:
            self.stream.has_tables = self.stream.has_tables or tables.exist(connection)  # they never go
            if not self.stream.has_tables:
                return nothing
            owner = stored.find_owner(connection, self.tenant, self.user, made=True)
            if owner is None:
                self.stream.forget_index(self.tenant, self.user)
            return nothing if owner is None else call(connection, owner)

    def search(
        self, query: str, vector: Vectors, limit: int, *, since: float | None = None, before: float | None = None
    ) -> list[Candidate]:
        """The nearest turns and the best by BM25, ``limit`` of each, joined, by id."""

        def run(connection: Connection, owner: Owner) -> list[Candidate]:
            index = self.stream.index(connection, owner)
            found = index.search(connection, query, vector, limit, since=since, before=before)
            turns = stored.by_id(connection, owner, found.ids.tolist())
            rows = zip(found.ids.tolist(), found.dense.tolist(), found.lexical.tolist(), strict=True)
            return [Candidate(turns[id], dense, lexical) for id, dense, lexical in rows if id in turns]  # noqa: A001

        return self.read(run, [])

    def turns(self, ids: Sequence[int]) -> list[StoredTurn]:
        """Turns by id, in the order of the ids; those that are gone are left out."""

        def run(connection: Connection, owner: Owner) -> list[StoredTurn]:
            found = stored.by_id(connection, owner, ids)
            return [found[id] for id in ids if id in found]  # noqa: A001

        return self.read(run, [])

    def around(self, id: int, reach: int) -> list[StoredTurn]:  # noqa: A002
        """The turn and up to ``reach`` turns before and after it in its session, in order; [] where it is gone."""

        def run(connection: Connection, owner: Owner) -> list[StoredTurn]:
            turn = stored.by_id(connection, owner, [id]).get(id)
            return [] if turn is None else stored.around(connection, owner, turn, reach)

        return self.read(run, [])

    def last(self, count: int, *, session: str | None = None) -> list[StoredTurn]:
        """The last turns, of a session or of all, in order."""
        return self.read(lambda connection, owner: stored.select(connection, owner, session=session, last=count), [])

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """(ids, dimension); a row of NaN where a turn is not embedded yet."""
        nothing = np.full((len(ids), self.stream.encoder.dimension), np.nan, np.float32)
        wanted = list(ids)
        return self.read(
            lambda connection, owner: self.stream.index(connection, owner).vectors(connection, wanted), nothing
        )

    def facts(self) -> Sequence[Note]:
        """What was written of the user that holds, by time; of the facts of a subject only the latest."""
        return self.read(self.stream.facts, ())

    def summaries(self, ids: Sequence[int]) -> list[Note]:
        """The summaries that were written from any of these turns, by time."""
        return self.read(lambda connection, owner: noted.summaries(connection, owner, ids), [])

    def span(self) -> tuple[float, float] | None:
        """When the first and the last turn were said; None where there is none."""
        return self.read(stored.span, None)

    def count(self) -> int:
        """How many turns there are."""
        return self.read(stored.count, 0)
