"""What every derived index must hold to: whatever its history, it answers as one built anew from the store."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from unittest import mock

from sqlalchemy import Connection, select

from carrel.retrieval.filters import Where
from carrel.retrieval.indexes import base
from carrel.retrieval.indexes.base import DerivedIndex, Hits, latest_change, shorten_log
from carrel.retrieval.store import Scope, Store, schema
from carrel.retrieval.store import documents as stored
from carrel.testing.encoders import HashEncoder
from carrel.types import Chunk, Document, Metadata

WORDS = "lamp rope port ship gull wind salt crab mast dock".split()


class Shelf:
    """A collection to index: one chunk a line, written straight to the store, no index told."""

    def __init__(self, store: Store, collection: str = "default", encoder: HashEncoder | None = None) -> None:
        self.store, self.encoder = store, encoder or HashEncoder(32)
        scope = store.scope("local", collection, create=True)
        assert scope is not None
        self.scope: Scope = scope
        with store.write() as connection:
            self.encoder_id = stored.adopt_encoder(connection, scope, self.encoder)

    def put(self, key: str, lines: Sequence[str], metadata: Metadata | None = None) -> None:
        document = Document("\n".join(lines), id=key, metadata=metadata or {})
        chunks, start = [], 0
        for ordinal, line in enumerate(lines):
            text = line if ordinal + 1 == len(lines) else f"{line}\n"
            chunks.append(Chunk(ordinal, start, start + len(text), text))
            start += len(text)
        hashes = [self.encoder.input_hash(document, chunk) for chunk in chunks]
        vectors = self.encoder.encode(document, chunks)
        item = stored.Prepared(document, stored.content_hash(document), chunks, hashes, vectors)
        with self.store.write() as connection:
            stored.insert_documents(connection, self.scope, self.encoder_id, [item])

    def remove(self, *keys: str) -> None:
        with self.store.write() as connection:
            stored.remove_documents(connection, self.scope, keys)

    def texts(self, connection: Connection) -> dict[int, str]:
        table = schema.chunks
        query = select(table.c.id, table.c.text).where(table.c.collection_id == self.scope.id).order_by(table.c.id)
        return {row.id: row.text for row in connection.execute(query)}


def check_hits(hits: Hits, expected: Mapping[int, float], limit: int, tolerance: float = 1e-4) -> None:
    """Hold hits to naive scores: the right chunks, the right scores, best first, ties in the order of ids."""
    ids, scores = hits.ids.tolist(), hits.scores.tolist()
    assert len(ids) == len(set(ids)) == min(limit, len(expected)), (ids, expected)
    for found, score in zip(ids, scores, strict=True):
        assert found in expected, (found, expected)
        assert abs(score - expected[found]) <= tolerance, (found, score, expected[found])
    for (first, score), (second, next_score) in pairwise(zip(ids, scores, strict=True)):
        assert score > next_score or (score == next_score and first < second), (first, second)
    if ids:
        missed = [(key, score) for key, score in expected.items() if key not in ids]
        assert all(score <= scores[-1] + tolerance for _, score in missed), missed


class DerivedIndexConformance(ABC):
    """Catching up equals building anew equals a naive search, and what was removed is gone at once."""

    question: str = "lamp rope"
    tolerance: float = 1e-4

    @abstractmethod
    def make(self, scope: Scope, encoder_id: int, dimension: int) -> DerivedIndex:
        """Return a new, empty index."""

    @abstractmethod
    def search(
        self, index: DerivedIndex, shelf: Shelf, connection: Connection, limit: int, where: Where | None = None
    ) -> Hits:
        """Search the index for ``question``."""

    @abstractmethod
    def oracle(self, shelf: Shelf, texts: Mapping[int, str]) -> dict[int, float]:
        """Return the score of every chunk that the index should find, computed the plain way."""

    # -- the tests ----------------------------------------------------------------------------

    def test_an_empty_index_finds_nothing(self, tmp_path: Path) -> None:
        with self._shelf(tmp_path) as (shelf, index), shelf.store.write() as connection:
            assert len(self.search(index, shelf, connection, 10).ids) == 0
            index.catch_up(connection)
            assert len(self.search(index, shelf, connection, 10).ids) == 0
            assert index.watermark(connection) == index.lag(connection) == 0

    def test_whatever_its_history_it_equals_one_built_anew(self, tmp_path: Path) -> None:
        source = random.Random(7)
        with self._shelf(tmp_path) as (shelf, index):
            for step in range(25):
                for _ in range(source.randrange(1, 4)):
                    self._change(shelf, source)
                if step % 3 != 1:
                    self._catch_up(shelf, index)
                    self._check(shelf, index)
            self._catch_up(shelf, index)
            fresh = self.make(shelf.scope, shelf.encoder_id, shelf.encoder.dimension)
            self._check(shelf, index, fresh)
            with shelf.store.write() as connection:
                index.rebuild(connection)
            self._check(shelf, index, fresh)

    def test_what_was_removed_is_gone_at_once(self, tmp_path: Path) -> None:
        with self._shelf(tmp_path) as (shelf, index):
            shelf.put("kept", ["lamp", "rope lamp"])
            shelf.put("gone", ["lamp rope", "rope"])
            self._catch_up(shelf, index)
            with shelf.store.read() as connection:
                gone = set(shelf.texts(connection))
            shelf.remove("gone")
            with shelf.store.read() as connection:
                gone -= set(shelf.texts(connection))
            self._catch_up(shelf, index)
            with shelf.store.write() as connection:
                assert gone.isdisjoint(self.search(index, shelf, connection, 10).ids.tolist())
            self._check(shelf, index)

    def test_what_was_replaced_is_found_as_it_is_now(self, tmp_path: Path) -> None:
        with self._shelf(tmp_path) as (shelf, index):
            for lines in (["lamp", "gull"], ["rope lamp"], ["gull", "salt", "lamp lamp"]):
                shelf.put("one", lines)
                self._catch_up(shelf, index)
                self._check(shelf, index)

    def test_the_watermark_only_rises(self, tmp_path: Path) -> None:
        source = random.Random(3)
        with self._shelf(tmp_path) as (shelf, index):
            last = 0
            for _ in range(8):
                shelf.put(f"new {source.random()}", ["lamp"])
                with shelf.store.write() as connection:
                    assert index.lag(connection) > 0
                    index.catch_up(connection)
                    assert index.watermark(connection) == latest_change(connection, shelf.scope) > last
                    assert index.lag(connection) == 0
                    last = index.watermark(connection)

    def test_catching_up_twice_changes_nothing(self, tmp_path: Path) -> None:
        with self._shelf(tmp_path) as (shelf, index):
            shelf.put("one", ["lamp rope", "lamp"])
            for _ in range(2):
                self._catch_up(shelf, index)
                self._check(shelf, index)

    def test_one_that_the_log_has_left_behind_is_built_anew(self, tmp_path: Path) -> None:
        source = random.Random(11)
        with self._shelf(tmp_path) as (shelf, index), mock.patch.object(base, "_LOG_LENGTH", 2):
            other = Shelf(shelf.store, "other")
            for number in range(12):
                shelf.put(f"d{number % 5}", _lines(source))
                other.put(f"d{number % 3}", _lines(source))
                if number % 4 == 0:
                    self._catch_up(shelf, index)
                if number % 3 == 0:
                    with shelf.store.write() as connection:
                        latest = latest_change(connection, shelf.scope)
                        shorten_log(connection, shelf.scope)
                        assert latest_change(connection, shelf.scope) == latest
                self._check(shelf, self.make(shelf.scope, shelf.encoder_id, shelf.encoder.dimension))
            self._check(shelf, index)

    def test_filters_narrow_and_change_no_score(self, tmp_path: Path) -> None:
        source = random.Random(5)
        with self._shelf(tmp_path) as (shelf, index):
            for number in range(12):
                shelf.put(f"d{number}", _lines(source), {"even": number % 2 == 0})
            self._catch_up(shelf, index)
            for where in ({"even": True}, {"even": False}, {"even": "no"}):
                with shelf.store.write() as connection:
                    allowed = set(stored.chunk_ids(connection, shelf.scope, where))
                    expected = self.oracle(shelf, shelf.texts(connection))
                    expected = {key: score for key, score in expected.items() if key in allowed}
                    for limit in (1, 3, 100):
                        hits = self.search(index, shelf, connection, limit, where)
                        check_hits(hits, expected, limit, self.tolerance)

    def test_equal_scores_come_in_the_order_of_ids(self, tmp_path: Path) -> None:
        with self._shelf(tmp_path) as (shelf, index):
            for number in range(30):
                shelf.put(f"d{number}", ["lamp rope" if number % 2 else "lamp gull"])
            for gone in ("d1", "d6", "d13"):
                shelf.remove(gone)
            self._catch_up(shelf, index)
            with shelf.store.write() as connection:
                everything = self.search(index, shelf, connection, 100)
                scores = self.oracle(shelf, shelf.texts(connection))
                best = sorted(scores, key=lambda key: (-round(scores[key], 6), key))
                assert everything.ids.tolist() == best
                for limit in range(1, 30):
                    assert self.search(index, shelf, connection, limit).ids.tolist() == best[:limit], limit

    def test_collections_are_apart(self, tmp_path: Path) -> None:
        with self._shelf(tmp_path) as (shelf, index):
            other = Shelf(shelf.store, "other")
            shelf.put("a", ["lamp rope", "gull"])
            self._catch_up(shelf, index)
            with shelf.store.write() as connection:
                before = self.search(index, shelf, connection, 10)
            for number in range(5):
                other.put("a", ["lamp rope"] * (number + 1))
            self._catch_up(shelf, index)
            with shelf.store.write() as connection:
                after = self.search(index, shelf, connection, 10)
            assert (before.ids.tolist(), before.scores.tolist()) == (after.ids.tolist(), after.scores.tolist())

    # -- what they share ----------------------------------------------------------------------

    @contextmanager
    def _shelf(self, folder: Path) -> Iterator[tuple[Shelf, DerivedIndex]]:
        store = Store(folder / "library")
        try:
            shelf = Shelf(store)
            yield shelf, self.make(shelf.scope, shelf.encoder_id, shelf.encoder.dimension)
        finally:
            store.close()

    def _catch_up(self, shelf: Shelf, index: DerivedIndex) -> None:
        with shelf.store.write() as connection:
            index.catch_up(connection)

    def _check(self, shelf: Shelf, *indexes: DerivedIndex) -> None:
        with shelf.store.write() as connection:
            expected = self.oracle(shelf, shelf.texts(connection))
            for index in indexes:
                index.catch_up(connection)
                for limit in (1, 4, 1000):
                    check_hits(self.search(index, shelf, connection, limit), expected, limit, self.tolerance)

    def _change(self, shelf: Shelf, source: random.Random) -> None:
        key = f"d{source.randrange(9)}"
        if source.random() < 0.35:
            shelf.remove(key)
        else:
            shelf.put(key, _lines(source))


def _lines(source: random.Random) -> list[str]:
    return [" ".join(source.choices(WORDS, k=source.randrange(1, 6))) for _ in range(source.randrange(1, 4))]
