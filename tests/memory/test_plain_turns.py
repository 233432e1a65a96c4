"""The plain source of turns, which others are compared with."""

from __future__ import annotations

import math

import numpy as np
import pytest

from carrel.memory.base import Note, StoredTurn
from carrel.testing.encoders import HashEncoder
from carrel.testing.memory import PlainTurns

TEXTS = ["red boat", "green boat harbour", "violin", "red red harbour", ""]


def source() -> PlainTurns:
    turns = [StoredTurn(10 * i, "ab"[i % 2], "Ann", text, 100.0 * i) for i, text in enumerate(TEXTS, start=1)]
    notes = [Note(1, "a", "fact", "boats", (10, 20), 200.0), Note(2, "b", "summary", "red", (40,), 400.0)]
    return PlainTurns(turns, HashEncoder(), notes=notes)


def test_bm25_by_hand() -> None:
    found = {c.turn.id: c.lexical for c in source().search("red harbour", HashEncoder().encode_queries(["x"]), 9)}
    idf = math.log(1 + (5 - 2 + 0.5) / (2 + 0.5))  # of both words
    mean = (2 + 3 + 1 + 3 + 0) / 5
    weight = lambda often, length: often * 2.2 / (often + 1.2 * (0.25 + 0.75 * length / mean))  # noqa: E731
    assert found[10] == pytest.approx(idf * weight(1, 2))
    assert found[40] == pytest.approx(idf * (weight(2, 3) + weight(1, 3)))
    assert found[30] == 0.0


def test_both_scores_on_every_candidate_and_both_limits() -> None:
    encoder = HashEncoder()
    vector = encoder.encode_queries(["violin"])
    found = source().search("red", vector, 1)
    assert [c.turn.id for c in found] == [30, 40]
    cosine = dict(zip((10, 20, 30, 40, 50), encoder.encode_texts(TEXTS) @ vector[0], strict=True))
    assert [c.dense for c in found] == pytest.approx([cosine[30], cosine[40]])


def test_times_are_half_open() -> None:
    vector = HashEncoder().encode_queries(["boat"])
    assert {c.turn.id for c in source().search("boat", vector, 9, since=200.0, before=400.0)} == {20, 30}


def test_neighbours_last_turns_and_vectors() -> None:
    plain = source()
    assert [turn.id for turn in plain.around(30, 1)] == [10, 30, 50]
    assert plain.around(99, 1) == []
    assert [turn.id for turn in plain.last(2)] == [40, 50]
    assert [turn.id for turn in plain.last(9, session="a")] == [20, 40]
    assert plain.last(0) == []
    assert [turn.id for turn in plain.turns([40, 99, 10])] == [40, 10]
    assert np.isnan(plain.vectors([99])).all() and np.isfinite(plain.vectors([10, 50])).all()
    assert (plain.count(), plain.span()) == (5, (100.0, 500.0))


def test_what_is_forgotten_is_gone_with_its_notes() -> None:
    left = source().without([20])
    assert [turn.id for turn in left.turns([10, 20, 30])] == [10, 30]
    assert (left.facts(), [note.id for note in left.summaries([10, 30, 40, 50])]) == ([], [2])
    assert [note.id for note in source().facts()] == [1]
