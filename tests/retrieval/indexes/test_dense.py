"""The dense index against a plain NumPy search."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.library import Library
from carrel.retrieval.indexes import vector
from carrel.retrieval.indexes.dense import DenseIndex
from carrel.retrieval.store import Scope
from carrel.retrieval.store import documents as stored
from carrel.testing import HashEncoder
from carrel.testing.indexes import check_hits
from carrel.types import Chunk, Document
from tests.retrieval.indexes.vector_cases import (
    DIMENSION,
    Collection,
    VectorIndexConformance,
    check_exact,
    live_through,
    naive,
    unit,
)


class TestDenseIndex(VectorIndexConformance):
    def make(self, scope: Scope, encoder_id: int, dimension: int) -> DenseIndex:
        return DenseIndex(scope, encoder_id, dimension)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    made = Collection(tmp_path, DenseIndex)
    yield made
    made.store.close()


@given(data=st.data(), several=st.booleans())
def test_any_history_answers_as_a_plain_search(tmp_path_factory, data, several: bool) -> None:
    collection = Collection(tmp_path_factory.mktemp("dense"), DenseIndex)
    try:
        check_exact(collection, live_through(collection, data, several))
    finally:
        collection.store.close()


def test_a_chunk_with_very_many_vectors_does_not_crowd_out_the_others(collection: Collection) -> None:
    source = np.random.default_rng(0)
    query = unit(source)
    crowd = query + 0.05 * unit(source, 60)
    crowd /= np.linalg.norm(crowd, axis=1, keepdims=True)
    collection.put("crowd", [crowd])
    collection.put("others", [unit(source, 1) for _ in range(8)])
    hits = collection.search(query, 5)
    check_hits(hits, naive(collection.rows, query), 5, 1e-5)


@pytest.mark.parametrize("dimension", [3, 64, 384, 387])
def test_scores_of_equal_rows_are_equal_to_the_last_bit(dimension: int) -> None:
    source = np.random.default_rng(dimension)
    row = source.standard_normal(dimension).astype(np.float32)
    query = source.standard_normal(dimension).astype(np.float32)
    index = DenseIndex(Scope(1, "t", "c"), 1, dimension)
    rows = source.standard_normal((101, dimension)).astype(np.float32)
    rows[::2] = row
    index._rows, index._ids, index._alive = (rows,), np.arange(101, dtype=np.int64), np.ones(101, bool)
    connection = mock.Mock()  # it reads nothing
    for count in (101, 100, 64, 7, 3, 2, 1):
        scores = index.scores(connection, query, np.arange(count, dtype=np.int64))
        assert len(set(scores[::2].tolist())) == 1, count
        assert scores[0] == index.scores(connection, query, np.array([100]))[0]


def test_removed_rows_are_dropped_for_good_when_many(collection: Collection) -> None:
    source = np.random.default_rng(2)
    for number in range(8):
        collection.put(f"d{number}", [unit(source, 1)])
    index = collection.follow()
    collection.remove("d0")
    collection.follow()
    assert (len(index), len(index._rows[0])) == (7, 8)
    collection.remove("d1", "d5")
    collection.follow()
    assert (len(index), len(index._rows[0])) == (5, 5)
    query = unit(source)
    check_hits(collection.search(query, 5), naive(collection.rows, query), 5, 1e-5)
    collection.put("d9", [unit(source, 1)])
    check_hits(collection.search(query, 9), naive(collection.rows, query), 9, 1e-5)


def test_a_chunk_that_is_not_indexed_scores_lowest(collection: Collection) -> None:
    source = np.random.default_rng(3)
    assert collection.scores(unit(source), np.array([1, 2])).tolist() == [-1, -1]
    collection.put("a", [unit(source, 1)])
    collection.put("b", [unit(source, 1)])
    collection.remove("a")
    query = unit(source)
    scores = collection.scores(query, np.array([1, 2, 3]))
    assert (scores[0], scores[2]) == (-1, -1)
    assert scores[1] == pytest.approx(naive(collection.rows, query)[2], abs=1e-5)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_catch_up_leaves_no_half_state(collection: Collection, error: type[BaseException]) -> None:
    source = np.random.default_rng(4)
    collection.put("first", [unit(source, 1)])
    collection.follow()
    collection.remove("first")
    for key in ("a", "b", "c", "d"):
        collection.put(key, [unit(source, 1)])
    collection.remove("d")
    collection.put("e", [unit(source, 1)])
    index, add, calls = collection.index, collection.index.add, 0

    def stopped(*arguments) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise error("stopped")
        add(*arguments)

    with mock.patch.object(index, "add", stopped), pytest.raises(error):
        collection.follow()
    query = unit(source)
    check_hits(collection.search(query, 9), naive(collection.rows, query), 9, 1e-5)
    collection.remove("b")
    check_hits(collection.search(query, 9), naive(collection.rows, query), 9, 1e-5)
    assert len(index) == 3


def test_a_new_index_reads_what_is_there_not_how_it_came_to_be(collection: Collection) -> None:
    source = np.random.default_rng(9)
    collection.put("kept", [unit(source, 1)])
    for _ in range(12):
        collection.put("again", [unit(source, 1)])
    index = collection.index
    with mock.patch.object(index, "add", wraps=index.add) as add, mock.patch.object(index, "remove") as remove:
        collection.follow()
    assert (add.call_count, remove.call_count, len(index)) == (1, 0, 2)


@pytest.mark.parametrize("vectors_a_chunk", [1, 3])
def test_it_is_built_in_batches_and_holds_each_vector_once(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, vectors_a_chunk: int
) -> None:
    monkeypatch.setattr(vector, "_ROWS_A_BATCH", 64)
    source = np.random.default_rng(12)
    for number in range(10):
        collection.put(f"d{number}", [unit(source, vectors_a_chunk) for _ in range(100)])
    with mock.patch.object(np, "frombuffer", wraps=np.frombuffer) as read:
        index = collection.follow()
    count = 1000 * vectors_a_chunk
    assert len(read.call_args_list) == -(-count // 64)
    assert max(len(call.args[0]) for call in read.call_args_list) == 64 * DIMENSION * 4
    assert (index._rows[0].nbytes, index._ids.nbytes, len(index)) == (count * DIMENSION * 4, count * 8, count)
    assert index._rows[0].base is None
    assert index.size_bytes == count * (DIMENSION * 4 + 8 + 1)
    query = unit(source)
    check_hits(collection.search(query, 50), naive(collection.rows, query), 50, 1e-5)
    collection.remove("d0", "d4", "d9")  # enough to move the others together, in batches
    collection.put("new", [unit(source, 2)])
    assert collection.follow()._rows[0].nbytes == (700 * vectors_a_chunk + 2) * DIMENSION * 4
    check_hits(collection.search(query, 800), naive(collection.rows, query), 800, 1e-5)


def test_building_needs_little_more_memory_than_the_vectors(tmp_path: Path) -> None:
    dimension, chunks = 256, 8192
    encoder = HashEncoder(dimension)
    with Library(tmp_path, encoder=encoder) as library:
        scope = library._made()
        with library._store.write() as connection:
            encoder_id = stored.adopt_encoder(connection, scope, encoder)
        for number in range(8):
            text, size = "x" * (chunks // 8), chunks // 8
            vectors = [np.full((1, dimension), number / 8, np.float32)] * size
            parts = [Chunk(n, n, n + 1, "x") for n in range(size)]
            item = stored.Prepared(Document(text, id=str(number)), "h", parts, [f"{n}" for n in range(size)], vectors)
            with library._store.write() as connection:
                stored.insert_documents(connection, scope, encoder_id, [item])
        with library._store.read() as connection:
            settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("mmap_size", "cache_size")]
            tracemalloc.start()
            try:
                index = library._pipeline.searcher.follow(connection, encoder_id)
                now, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            after = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("mmap_size", "cache_size")]
    size_bytes = chunks * dimension * 4
    assert len(index) == chunks
    assert size_bytes < now < 1.2 * size_bytes
    # Where the array cannot grow in place, two of them stand side by side for a moment: that is not counted.
    assert peak < 2.5 * size_bytes
    assert after == settings


def test_chunks_of_others_between_its_own_are_not_read_as_its_own(tmp_path: Path) -> None:
    with (
        Library(tmp_path, encoder=HashEncoder(16)) as ours,
        Library(tmp_path, encoder=HashEncoder(16), tenant="b") as theirs,
    ):
        for number in range(6):
            ours.add_text(f"Our lamp {number}.", id=str(number))
            theirs.add_text(f"Their lamp {number}.", id=str(number))
        for library in (ours, theirs):
            index = library._pipeline.searcher
            with library._store.read() as connection:
                assert len(index.follow(connection, 1)) == 6
            assert len(library.search("lamp", retriever="dense", limit=50)) == 6
