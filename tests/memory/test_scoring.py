"""Signals and scores."""

from __future__ import annotations

import numpy as np
import pytest

from carrel.memory.base import StoredTurn
from carrel.memory.scoring import FEATURES, SIGNALS, Scored, described, fitted, question_of, reasons, scored
from carrel.testing.encoders import HashEncoder
from carrel.testing.memory import PlainTurns

DAY = 86400.0
MAY = 1_683_500_000.0  # 7 May 2023
SAID = [
    ("a", "Ann", "What did you do on Sunday?", 0.0),
    ("a", "Bob", "I sailed to the island with my brother.", 1.0),
    ("a", "Ann", "Nice, Bob! I stayed at home.", 2.0),
    ("b", "Bob", "The boat needs paint, 3 litres of it, because it is old.", 40 * DAY),
    ("b", "Ann", "I painted my boat yesterday.", 40 * DAY + 1),
]


def features(query: str, *, embedded: bool = True) -> Scored:
    turns = [StoredTurn(i, s, who, text, MAY + at, 0.5) for i, (s, who, text, at) in enumerate(SAID, start=1)]
    encoder = HashEncoder()
    vectors = encoder.encode_texts([turn.text for turn in turns]) if embedded else np.full((5, 64), np.nan)
    source = PlainTurns(turns, vectors=np.asarray(vectors, np.float32))
    question = question_of(query, ["Ann", "Bob"], encoder, MAY + 50 * DAY)
    return described(question, source.search(query, question.vector, 50), source)


def column(query: str, name: str) -> list[float]:
    return [round(float(value), 6) for value in features(query).column(name)]


def test_every_signal_has_a_weight_and_every_weight_a_signal() -> None:
    assert set(fitted()) == set(FEATURES)
    assert len(FEATURES) == len(set(FEATURES))


@pytest.mark.parametrize(
    ("query", "name", "expected"),
    [
        ("What did Bob sail?", "speaker", [0, 1, 0, 1, 0]),
        ("What did Bob say to Ann?", "other_speaker", [1, 0, 1, 0, 1]),
        ("What did Bob do?", "names_owner", [0, 0, 1, 0, 0]),
        ("What did Bob do?", "replies", [0, 1, 0, 0, 0]),
        ("What did Bob do?", "only_asks", [1, 0, 0, 0, 0]),
        ("How many litres does the boat need?", "figure", [0, 0, 0, 1, 0]),
        ("Why does the boat need paint?", "reason", [0, 0, 0, 1, 0]),
        ("What does the boat need?", "figure", [0, 0, 0, 0, 0]),
        ("When did Ann paint the boat?", "tells_time", [1, 0, 0, 0, 1]),
        ("What happened in June 2023?", "period", [0.5, 0.5, 0.5, 1, 1]),
        ("What did Ann do on 15 June 2023?", "told_time_fits", [0, 0, 0, 0, 1]),
    ],
)
def test_a_signal(query: str, name: str, expected: list[float]) -> None:
    found = column(query, name)
    if name == "period":  # exactly how near is a matter of days
        assert found[3:] == [1, 1] and 0 < found[0] < 1
        return
    assert found == expected


def test_words_are_weighed_by_rarity_and_lie_between_none_and_all() -> None:
    covered = column("Who painted the old boat?", "covered")
    assert max(covered) <= 1 and covered[0] == 0
    assert covered[3] == max(covered)


def test_a_memory_that_is_not_embedded_yet_is_ranked_by_words() -> None:
    found = scored(features("Who painted the boat?", embedded=False))
    assert np.isfinite(found.scores).all()
    assert found.turns[int(np.argmax(found.scores))].id in (4, 5)


def test_scores_are_the_weighed_signals() -> None:
    found = features("What did Bob sail?")
    only = scored(found, {"speaker": 2.0, "covered": 1.0})
    assert only.scores == pytest.approx(2 * found.column("speaker") + found.column("covered"))


def test_the_reasons_are_signals() -> None:
    found = scored(features("What did Bob sail to?"))
    told = reasons(found, int(np.argmax(found.scores)))
    assert told and set(told.split(", ")) <= set(SIGNALS)


def test_nothing_found_is_nothing_scored() -> None:
    encoder = HashEncoder()
    source = PlainTurns([], vectors=np.empty((0, 64), np.float32))
    question = question_of("What?", [], encoder, 0.0)
    assert scored(described(question, [], source)).scores.shape == (0,)


def test_sessions_side_by_side_keep_their_neighbours() -> None:
    said = [
        ("a", "Ann", "What did you buy?"),
        ("b", "Cid", "Rain again."),
        ("a", "Bob", "A red canoe."),
        ("b", "Dee", "Yes."),
    ]
    turns = [StoredTurn(i, s, who, text, MAY + i) for i, (s, who, text) in enumerate(said, start=1)]
    encoder = HashEncoder()
    source = PlainTurns(turns, encoder)
    question = question_of("Which canoe did Bob buy?", ["Ann", "Bob"], encoder, MAY + DAY)
    found = described(question, source.search(question.text, question.vector, 1), source)
    replies = {turn.id: value for turn, value in zip(found.turns, found.column("replies"), strict=True)}
    assert replies[3] == 1.0
    assert found.adjoin(turns[0], turns[2]) and not found.adjoin(turns[1], turns[2])
