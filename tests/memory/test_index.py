"""The index against plain lists: the same turns, the same scores, whatever was observed, embedded and forgotten."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrel.memory import Utterance
from carrel.memory import index as under_test
from carrel.memory.bm25 import index_terms
from carrel.memory.store import UserTurns, stream_of
from carrel.testing.memory import PlainTurns

fixtures = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
WORDS = ["lamp", "rope", "gull", "pier", "tide", "anchor", "painted", "paints", "the", "Ann's", "東京", "x1"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
steps = st.one_of(
    st.tuples(st.just("say"), st.lists(st.tuples(texts, st.integers(0, 50)), min_size=1, max_size=12)),
    st.tuples(st.just("forget"), st.lists(st.integers(0, 60), min_size=1, max_size=6)),
    st.tuples(st.just("flush"), st.none()),
    st.tuples(st.just("search"), st.none()),
)


def agrees(memory, source: UserTurns, query: str, limit: int, since: float | None, before: float | None) -> None:
    """The index finds what plain lists of the same turns find, with the same scores."""
    turns = memory.turns()
    encoder = memory.stream.encoder
    by_id = sorted(turns, key=lambda turn: turn.id)
    vectors = source.vectors([turn.id for turn in by_id])
    plain = PlainTurns(by_id, vectors=vectors, terms=index_terms)
    vector = encoder.encode_queries([query])
    expected = {each.turn.id: each for each in plain.search(query, vector, limit, since=since, before=before)}
    found = source.search(query, vector, limit, since=since, before=before)
    assert [each.turn.id for each in found] == sorted(each.turn.id for each in found)
    for each in found:
        assert each.turn == next(turn for turn in turns if turn.id == each.turn.id)
        if each.turn.id in expected:
            other = expected[each.turn.id]
            assert each.dense == pytest.approx(other.dense, abs=1e-5, nan_ok=True)
            assert each.lexical == pytest.approx(other.lexical, rel=1e-12)
    # where scores are equal but for rounding, another turn may stand for one
    for key in ("dense", "lexical"):
        ours, theirs = (
            sorted(-getattr(each, key) for each in of if not math.isnan(getattr(each, key)))[:limit]
            for of in (found, expected.values())
        )
        assert ours == pytest.approx(theirs, abs=1e-5)


@fixtures
@given(
    history=st.lists(steps, min_size=1, max_size=8),
    query=texts,
    limit=st.integers(1, 6),
    window=st.tuples(st.none() | st.integers(0, 50), st.none() | st.integers(0, 50)),
)
def test_it_finds_what_plain_lists_find(make, history, query, limit, window) -> None:
    with make() as memory:
        source = UserTurns(memory.stream, "local", "ann")
        said = 0
        for step, what in history:
            if step == "say":
                memory.observe_many([Utterance(text, said_at=float(at)) for text, at in what])
                said += len(what)
            elif step == "forget" and {turn.id for turn in memory.turns()} & set(what):
                memory.forget(turn=what)
            elif step == "flush":
                assert memory.flush(10)
            else:
                memory.stream.embedder.stop()  # so that both are asked about the same
                agrees(memory, source, query, limit, *window)
        assert memory.flush(10)
        agrees(memory, source, query, limit, *window)


def test_nothing_near_is_missed_among_many_that_are_alike(make, monkeypatch) -> None:
    """Candidates are read until no other can be nearer: also where the first codes do not tell."""
    source = np.random.default_rng(1)
    words = [f"w{number}" for number in range(40)]
    with make() as memory:
        memory.observe_many([" ".join(source.choice(words, 6)) for _ in range(3000)])
        assert memory.flush(30)
        turns = UserTurns(memory.stream, "local", "ann")
        read = []
        monkeypatch.setattr(under_test, "_OVERSAMPLING", 1)
        original = under_test.stored.vectors_of
        monkeypatch.setattr(
            under_test.stored, "vectors_of", lambda *given: read.append(len(given[3])) or original(*given)
        )
        for query in ("w1 w2 w3", "w7", "w8 w9 w30 w31"):
            agrees(memory, turns, query, 5, None, None)
        assert 5 in read and max(read) > 5, "the first candidates were enough: nothing was tested"


def test_a_user_with_nothing_said(make) -> None:
    with make() as memory:
        source = UserTurns(memory.stream, "local", "ann")
        vector = memory.stream.encoder.encode_query("lamp")
        assert source.search("lamp", vector, 5) == []
        assert (source.turns([1]), source.around(1, 2), source.last(3), list(source.facts())) == ([], [], [], [])
        assert (source.count(), source.span()) == (0, None)
        assert np.isnan(source.vectors([1, 2])).all()


def test_a_query_of_several_vectors_counts_with_the_nearest(make) -> None:
    with make() as memory:
        memory.observe_many(["lamp rope", "gull pier", "tide", "anchor"])
        assert memory.flush(10)
        source = UserTurns(memory.stream, "local", "ann")
        queries = memory.stream.encoder.encode_queries(["lamp rope", "tide"])
        assert [each.turn.id for each in source.search("x", queries, 2)] == [1, 3]
        assert [each.dense for each in source.search("x", queries, 2)] == pytest.approx([1, 1], abs=1e-5)


def test_old_rows_are_dropped_for_good_when_many_are_dead(make) -> None:
    with make() as memory:
        memory.observe_many([f"lamp {number}" for number in range(100)])
        assert memory.flush(10)
        memory.recall("lamp 5")
        stream = stream_of(memory.stream.store, memory.stream.encoder)
        assert stream is memory.stream
        before = stream.index_bytes
        memory.forget(turn=list(range(1, 90)))
        assert memory.flush(10)
        memory.recall("lamp 95")
        assert stream.index_bytes <= before
        (index,) = stream._indexes.values()
        assert index._count == 11
