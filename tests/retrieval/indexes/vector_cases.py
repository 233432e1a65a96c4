"""What the tests of every index of vectors share: a collection of random vectors, and promises about any history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from carrel.retrieval.filters import Where
from carrel.retrieval.indexes.base import DerivedIndex, Hits
from carrel.retrieval.indexes.vector import VectorIndex
from carrel.retrieval.store import Scope, Store, schema
from carrel.retrieval.store import documents as stored
from carrel.testing import DerivedIndexConformance, HashEncoder
from carrel.testing.indexes import Shelf, check_hits
from carrel.types import Chunk, Document

DIMENSION = 8
Rows = dict[int, np.ndarray]  # chunk id -> (its vectors, dimension)
Make = Callable[[Scope, int, int], VectorIndex]


class VectorIndexConformance(DerivedIndexConformance):
    """The kit for what is searched by a vector; ``make`` is left to the index."""

    def search(self, index: DerivedIndex, shelf: Shelf, connection, limit: int, where: Where | None = None) -> Hits:
        assert isinstance(index, VectorIndex)
        allowed = np.array(stored.chunk_ids(connection, shelf.scope, where), np.int64) if where else None
        return index.search(connection, shelf.encoder.encode_queries([self.question])[0], limit, allowed)

    def oracle(self, shelf: Shelf, texts: Mapping[int, str]) -> dict[int, float]:
        query = shelf.encoder.encode_queries([self.question])[0]
        return {key: float(shelf.encoder.encode_queries([text])[0] @ query) for key, text in texts.items()}


class Collection:
    """Random vectors written straight to the store."""

    def __init__(self, folder: Path, make: Make, dimension: int = DIMENSION) -> None:
        self.store = Store(folder)
        scope = self.store.scope("local", "default", create=True)
        assert scope
        self.scope, self.encoder = scope, HashEncoder(dimension)
        with self.store.write() as connection:
            self.encoder_id = stored.adopt_encoder(connection, scope, self.encoder)
        self.index = make(scope, self.encoder_id, dimension)
        self.rows: Rows = {}

    def put(self, key: str, vectors: list[np.ndarray]) -> None:
        document = Document("x" * len(vectors), id=key, metadata={"key": key})
        chunks = [Chunk(n, n, n + 1, "x") for n in range(len(vectors))]
        item = stored.Prepared(document, "hash", chunks, [f"{key}{n}" for n in range(len(vectors))], vectors)
        with self.store.write() as connection:
            stored.insert_documents(connection, self.scope, self.encoder_id, [item])
            self._read(connection)

    def remove(self, *keys: str) -> None:
        with self.store.write() as connection:
            stored.remove_documents(connection, self.scope, keys)
            self._read(connection)

    def _read(self, connection) -> None:
        found: dict[int, list[np.ndarray]] = {}
        table = schema.vectors
        for row in connection.execute(table.select().order_by(table.c.chunk_id, table.c.ordinal)):
            found.setdefault(row.chunk_id, []).append(np.frombuffer(row.vector, "<f4"))
        self.rows = {key: np.stack(vectors) for key, vectors in found.items()}

    def follow(self) -> VectorIndex:
        with self.store.read() as connection:
            self.index.catch_up(connection)
        return self.index

    def search(self, query: np.ndarray, limit: int, allowed: np.ndarray | None = None) -> Hits:
        with self.store.read() as connection:
            self.index.catch_up(connection)
            return self.index.search(connection, query, limit, allowed)

    def scores(self, query: np.ndarray, ids: np.ndarray) -> np.ndarray:
        with self.store.read() as connection:
            self.index.catch_up(connection)
            return self.index.scores(connection, query, ids)


def unit(source: np.random.Generator, *shape: int, dimension: int = DIMENSION) -> np.ndarray:
    array = source.standard_normal((*shape, dimension)).astype(np.float32)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def naive(rows: Rows, query: np.ndarray) -> dict[int, float]:
    return {key: float((vectors @ query).max()) for key, vectors in rows.items()}


def live_through(collection: Collection, data: st.DataObject, several: bool) -> np.random.Generator:
    """Add, replace and remove at random, the index following now and then."""
    source = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    pool = unit(source, 6)  # few vectors, so that many are equal
    for _ in range(data.draw(st.integers(1, 12))):
        key = data.draw(st.sampled_from([f"d{n}" for n in range(6)]))
        if data.draw(st.booleans()) or not collection.rows:
            chunks = [
                np.concatenate([unit(source, source.integers(0, 3)), pool[source.integers(0, 6, 1)]])
                if several
                else pool[source.integers(0, 6, 1)]
                for _ in range(source.integers(1, 5))
            ]
            collection.put(key, chunks)
        else:
            collection.remove(key)
        if data.draw(st.booleans()):
            collection.follow()
    return source


def check_exact(collection: Collection, source: np.random.Generator) -> None:
    """Searches and scores are those of a plain search over what the store holds."""
    query = unit(source)
    expected = naive(collection.rows, query)
    assert len(collection.follow()) == sum(len(vectors) for vectors in collection.rows.values())
    for limit in (0, 1, 3, 500):
        check_hits(collection.search(query, limit), expected, limit, 1e-5)
    ids = np.array(sorted(collection.rows), np.int64)
    assert np.allclose(collection.scores(query, ids), [expected[int(i)] for i in ids], atol=1e-5)
    allowed = ids[source.random(len(ids)) < 0.5]
    narrowed = {key: score for key, score in expected.items() if key in allowed}
    check_hits(collection.search(query, 3, allowed), narrowed, 3, 1e-5)
