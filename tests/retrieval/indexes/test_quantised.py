"""Codes in memory: exact when every candidate is read, and close to it when few are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import carrel
from carrel.errors import InputError
from carrel.retrieval.indexes import quantised
from carrel.retrieval.indexes.choice import VectorSearch
from carrel.retrieval.indexes.dense import DenseIndex
from carrel.retrieval.indexes.quantised import BinaryIndex, FunnelIndex, Int8Index, RescoredIndex
from carrel.retrieval.store import Scope
from carrel.testing import HashEncoder
from carrel.testing.indexes import check_hits
from tests.retrieval.indexes.vector_cases import (
    DIMENSION,
    Collection,
    Make,
    VectorIndexConformance,
    check_exact,
    live_through,
    naive,
    unit,
)

LARGE = 64  # dimensions: enough for signs to say something


def funnel(scope: Scope, encoder_id: int, dimension: int, oversampling: float = 4.0) -> FunnelIndex:
    stages = (dimension // 4, dimension // 2, dimension)
    return FunnelIndex(scope, encoder_id, dimension, stages, oversampling)


MAKES: dict[str, Make] = {"int8": Int8Index, "binary": BinaryIndex, "funnel": funnel}


class TestInt8(VectorIndexConformance):
    def make(self, scope: Scope, encoder_id: int, dimension: int) -> Int8Index:
        return Int8Index(scope, encoder_id, dimension, math.inf)


class TestBinary(VectorIndexConformance):
    def make(self, scope: Scope, encoder_id: int, dimension: int) -> BinaryIndex:
        return BinaryIndex(scope, encoder_id, dimension, math.inf)


class TestFunnel(VectorIndexConformance):
    def make(self, scope: Scope, encoder_id: int, dimension: int) -> FunnelIndex:
        return funnel(scope, encoder_id, dimension, math.inf)


@pytest.fixture(params=MAKES)
def large(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Collection]:
    """A collection of 64 dimensions, where an index with its default oversampling reads a part of the vectors."""
    made = Collection(tmp_path, MAKES[request.param], LARGE)
    yield made
    made.store.close()


@pytest.mark.parametrize("name", MAKES)
@settings(max_examples=20)
@given(data=st.data(), several=st.booleans())
def test_with_every_candidate_any_history_answers_as_a_plain_search(
    tmp_path_factory, data, name: str, several: bool
) -> None:
    make = partial(MAKES[name], oversampling=math.inf)  # type: ignore[call-arg]
    collection = Collection(tmp_path_factory.mktemp(name), make)
    try:
        check_exact(collection, live_through(collection, data, several))
    finally:
        collection.store.close()


@pytest.mark.parametrize("name", MAKES)
@settings(max_examples=20)
@given(data=st.data(), several=st.booleans(), oversampling=st.floats(1, 4))
def test_with_few_candidates_every_score_is_exact_and_none_is_missing(
    tmp_path_factory, data, name: str, several: bool, oversampling: float
) -> None:
    make = partial(MAKES[name], oversampling=oversampling)  # type: ignore[call-arg]
    collection = Collection(tmp_path_factory.mktemp(name), make)
    try:
        with mock.patch.object(quantised, "_REFINED", 3):
            source = live_through(collection, data, several)
            query, limit = unit(source), data.draw(st.integers(1, 9))
            expected = naive(collection.rows, query)
            ids = np.array(sorted(expected), np.int64)
            allowed = ids[source.random(len(ids)) < 0.7]
            for chosen in (None, allowed):
                hits = collection.search(query, limit, chosen)
                known = set(expected if chosen is None else chosen.tolist())
                assert len(hits.ids) == len(set(hits.ids.tolist())) == min(limit, len(known))
                assert set(hits.ids.tolist()) <= known
                check_hits(hits, {key: expected[key] for key in hits.ids.tolist()}, limit, 1e-5)
            here = collection.search(query, 3)  # whatever its history, it finds what one built anew finds
            collection.index = make(collection.scope, collection.encoder_id, DIMENSION)
            anew = collection.search(query, 3)
            assert (here.ids.tolist(), here.scores.tolist()) == (anew.ids.tolist(), anew.scores.tolist())
            again = collection.scores(query, np.append(ids, 10_000))
            assert np.allclose(again, [*(expected[int(i)] for i in ids), -1.0], atol=1e-5)
    finally:
        collection.store.close()


def fill(collection: Collection, count: int = 600) -> np.random.Generator:
    source = np.random.default_rng(5)
    for number in range(3):
        collection.put(f"d{number}", list(unit(source, count // 3, 1, dimension=LARGE)))
    return source


def test_the_best_are_found_and_few_vectors_are_read(large: Collection) -> None:
    source = fill(large)
    index = large.follow()
    assert isinstance(index, RescoredIndex)
    found, read = 0, []
    scored = index._products

    def counted(connection, query, chunks):
        read.append(len(chunks))
        return scored(connection, query, chunks)

    with mock.patch.object(index, "_products", counted):
        for target in range(1, 600, 20):  # questions near a chunk, as questions are
            query = large.rows[target][0] + 0.5 * unit(source, dimension=LARGE)
            query /= np.linalg.norm(query)
            expected = naive(large.rows, query)
            found += max(expected, key=expected.__getitem__) in large.search(query, 2).ids.tolist()
    assert read == [2 * index.oversampling] * 30
    assert found == 30


def test_more_oversampling_finds_no_less(tmp_path: Path) -> None:
    for name, make in MAKES.items():
        recalls = []
        for oversampling in (1, 4, 16, math.inf):
            chosen = partial(make, oversampling=oversampling)  # type: ignore[call-arg]
            collection = Collection(tmp_path / f"{name}{oversampling}", chosen, LARGE)
            source, hit = fill(collection), 0
            for _ in range(20):
                query = unit(source, dimension=LARGE)
                expected = naive(collection.rows, query)
                best = sorted(expected, key=expected.__getitem__)[-5:]
                hit += len(set(best) & set(collection.search(query, 5).ids.tolist()))
            recalls.append(hit)
            collection.store.close()
        assert recalls == sorted(recalls) and recalls[-1] == 100, (name, recalls)
        assert recalls[0] < 100 or name == "int8", "or the test says nothing"


@pytest.mark.parametrize(("weights", "least", "most"), [(0.8 ** np.arange(LARGE), 40, 40), (np.ones(LARGE), 0, 30)])
def test_a_funnel_finds_what_the_first_dimensions_say(tmp_path: Path, weights, least: int, most: int) -> None:
    """All, where they say most, as in a model trained for it; some, where every dimension says as much."""
    collection = Collection(tmp_path, partial(funnel, oversampling=2), LARGE)
    source = np.random.default_rng(4)

    def drawn(*shape: int) -> np.ndarray:
        rows = unit(source, *shape, dimension=LARGE) * weights.astype(np.float32)
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    try:
        collection.put("all", list(drawn(400, 1)))
        hit = 0
        for query in drawn(40):
            expected = naive(collection.rows, query)
            hit += collection.search(query, 1).ids.tolist() == [max(expected, key=expected.__getitem__)]
        assert least <= hit <= most
    finally:
        collection.store.close()


def test_each_stage_of_a_funnel_compares_cut_vectors_of_unit_length() -> None:
    source = np.random.default_rng(8)
    vectors, query = unit(source, 300, dimension=LARGE), unit(source, dimension=LARGE)
    index = FunnelIndex(Scope(1, "t", "c"), 1, LARGE, (8, 24, LARGE))
    index._rows, mask = index._rows_of(vectors), np.arange(300) % 3 > 0
    kept = np.flatnonzero(mask)
    for dimensions, count in ((8, 40), (24, 10)):
        cut = vectors[kept, :dimensions] / np.linalg.norm(vectors[kept, :dimensions], axis=1, keepdims=True)
        kept = kept[np.argsort(-(cut @ query[:dimensions]))][:count]
    assert sorted(index._candidates(query, 10, mask, int(mask.sum())).tolist()) == sorted(kept.tolist())


@pytest.mark.parametrize(
    ("make", "size_bytes"), [(Int8Index, 100), (BinaryIndex, 16), (partial(FunnelIndex, dimensions=(10, 40, 100)), 160)]
)
def test_what_a_vector_takes_in_memory(tmp_path: Path, make: Make, size_bytes: int) -> None:
    collection = Collection(tmp_path, make, 100)
    try:
        collection.put("one", list(unit(np.random.default_rng(1), 50, 2, dimension=100)))
        assert collection.follow().size_bytes == 100 * (size_bytes + 9)
    finally:
        collection.store.close()


@pytest.mark.parametrize("dimension", [1, 7, 8, 9, 100])
def test_products_with_signs_are_those_of_a_plain_loop(dimension: int) -> None:
    source = np.random.default_rng(dimension)
    vectors, query = unit(source, 40, dimension=dimension), unit(source, dimension=dimension)
    index = BinaryIndex(Scope(1, "t", "c"), 1, dimension)
    index._rows = index._rows_of(vectors)
    signs = np.where(vectors > 0, 1, -1)
    rows = np.array([3, 0, 39, 17])
    with mock.patch.object(quantised, "_REFINED_AT_ONCE", 3):
        assert np.allclose(index._signed_products(query, rows), signs[rows] @ query, atol=1e-5)
    with mock.patch.object(quantised, "_SCANNED_AT_ONCE", 16):
        assert index._distances(query).tolist() == (signs != np.where(query > 0, 1, -1)).sum(1).tolist()


def test_bytes_are_cut_off_beyond_four_times_the_typical_size(tmp_path: Path) -> None:
    index = Int8Index(Scope(1, "t", "c"), 1, 4)  # components up to 2 are inside
    codes = index._rows_of(np.array([[0, 1, -1, 0.5], [9, -9, 2, -2]], np.float32))[0].astype(int) - 128
    assert codes.tolist() == [[0, 64, -64, 32], [127, -127, 127, -127]]


def test_a_chunk_with_very_many_vectors_does_not_crowd_out_the_others(large: Collection) -> None:
    source = np.random.default_rng(0)
    query = unit(source, dimension=LARGE)
    crowd = query + 0.05 * unit(source, 200, dimension=LARGE)
    large.put("crowd", [crowd / np.linalg.norm(crowd, axis=1, keepdims=True)])
    large.put("others", list(unit(source, 8, 1, dimension=LARGE)))
    check_hits(large.search(query, 5), naive(large.rows, query), 5, 1e-5)


def test_a_chunk_that_has_gone_from_the_store_is_left_out(large: Collection) -> None:
    """A transaction may be older, or newer, than the state that another thread has brought the index to."""
    source = fill(large, 30)
    large.follow()
    large.remove("d1")
    query = unit(source, dimension=LARGE)
    with large.store.read() as connection:
        hits = large.index.search(connection, query, 30)
        scores = large.index.scores(connection, query, np.arange(1, 31))
    assert sorted(hits.ids.tolist()) == sorted(large.rows)
    assert [int(i) for i in np.flatnonzero(scores == -1)] == [i - 1 for i in range(1, 31) if i not in large.rows]


def test_an_interrupted_catch_up_leaves_no_half_state(large: Collection) -> None:
    source = fill(large, 30)
    with mock.patch.object(large.index, "_rows_of", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        large.follow()
    query = unit(source, dimension=LARGE)
    check_hits(large.search(query, 3), naive(large.rows, query), 3, 1e-5)


# -- opening a library with it ----------------------------------------------------------------

TEXTS = {"lamp": "The lamp was lit at dusk.", "rope": "A rope of hemp is strong.", "gull": "The gull took the fish."}
CHOICES = (
    "int8", "binary", VectorSearch("binary", oversampling=2), VectorSearch(funnel=(16, 32, 64)),
    VectorSearch(funnel=(16, 64), oversampling=4),
)  # fmt: skip


@pytest.mark.parametrize("vectors", CHOICES)
def test_a_library_answers_the_same_with_less_memory(tmp_path: Path, vectors: str | VectorSearch) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder(64)) as library:
        for key, text in TEXTS.items():
            library.add_text(text, id=key)
        expected = [(p.document_id, p.scores.dense) for p in library.search("a lamp at dusk", mode="fast")]
        size_bytes = library._pipeline.searcher.dense.size_bytes
    with carrel.open(tmp_path, encoder=HashEncoder(64), vectors=vectors) as library:
        found = library.search("a lamp at dusk", mode="fast")
        assert [p.document_id for p in found] == [key for key, _ in expected]
        assert [p.scores.dense for p in found] == pytest.approx([score for _, score in expected], abs=1e-6)
        index = library._pipeline.searcher.dense
        assert isinstance(index, RescoredIndex) and index.size_bytes < size_bytes
        library.remove("lamp")
        assert "lamp" not in [p.document_id for p in library.search("a lamp at dusk", mode="fast")]


def test_tenants_see_their_own(tmp_path: Path) -> None:
    with (
        carrel.open(tmp_path, encoder=HashEncoder(64), vectors="binary") as ours,
        carrel.open(tmp_path, encoder=HashEncoder(64), vectors="int8", tenant="b") as theirs,
    ):
        for number in range(6):
            ours.add_text(f"Our lamp {number}.", id=f"our{number}")
            theirs.add_text(f"Their lamp {number}.", id=f"their{number}")
        for library, name in ((ours, "our"), (theirs, "their")):
            found = [p.document_id for p in library.search("lamp", retriever="dense", limit=50)]
            assert sorted(found) == [f"{name}{number}" for number in range(6)]


def test_the_default_is_exact() -> None:
    assert isinstance(VectorSearch().index(Scope(1, "t", "c"), 1, 8), DenseIndex)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ("float16", "vectors are held as one of float32, int8, binary, not 'float16'"),
        (3, "vectors is one of float32, int8, binary, or a VectorSearch, not 3"),
        (lambda: VectorSearch("int8", funnel=(8, 64)), "it goes without 'int8'"),
        (lambda: VectorSearch(oversampling=2), "there is nothing to oversample"),
        (lambda: VectorSearch("binary", oversampling=0.5), "a number of 1 or more, not 0.5"),
        (lambda: VectorSearch("binary", oversampling=math.nan), "a number of 1 or more, not nan"),
        (lambda: VectorSearch(funnel=(64,)), "a funnel is two rising numbers of dimensions or more, the last 64"),
        (lambda: VectorSearch(funnel=(8, 32)), "the last 64"),
        (lambda: VectorSearch(funnel=(32, 8, 64)), "two rising numbers"),
        (lambda: VectorSearch(funnel=(0, 64)), "two rising numbers"),
        (lambda: VectorSearch(funnel=("8", 64)), "two rising numbers"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, vectors, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        carrel.open(tmp_path, encoder=HashEncoder(64), vectors=vectors() if callable(vectors) else vectors)
