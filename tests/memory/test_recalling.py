"""Recall over a small hand-made conversation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import EmptyQuestionError, InputError
from carrel.memory.base import Recollection, StoredTurn
from carrel.memory.recalling import recollect
from carrel.testing.encoders import HashEncoder
from carrel.testing.memory import PlainTurns
from carrel.testing.tokenizers import WordTokenizer
from carrel.tokens import shipped_tokenizer

DAY = 86400.0
START = 1_683_500_000.0  # 7 May 2023
SAID = [
    ("one", "Ann", "Hi Bob! How are you?"),
    ("one", "Bob", "Fine. What are you up to these days?"),
    ("one", "Ann", "I joined the harbour choir yesterday, we sing sea shanties."),
    ("one", "Bob", "Lovely! I am repairing my old wooden boat."),
    ("two", "Ann", "My sister Clara moved to Lisbon last month."),
    ("two", "Bob", "Did she find a flat?"),
    ("two", "Ann", "Yes, a small one near the river, for 700 euros."),
    ("two", "Bob", "My dog Rex ate the sails of the boat."),
]


def turns() -> list[StoredTurn]:
    return [
        StoredTurn(number, session, speaker, text, START + (30 * DAY if session == "two" else 0) + number)
        for number, (session, speaker, text) in enumerate(SAID, start=1)
    ]


def recall(query: str, **options: object) -> Recollection:
    encoder = HashEncoder()
    given: dict[str, object] = {"encoder": encoder, "tokenizer": WordTokenizer(), "now": START + 40 * DAY, **options}
    return recollect(PlainTurns(turns(), encoder), query, **given)  # type: ignore[arg-type]


def test_the_turn_that_answers_comes_first() -> None:
    best = recall("When did Ann join the choir?").recalled[0]
    assert 3 in [turn.id for turn in best.turns]


def test_turns_are_rendered_in_the_order_of_time_with_dates_and_speakers() -> None:
    text = recall("Where did Ann's sister move, and who sings in the choir?").text
    lines = text.splitlines()
    assert lines[0] == "[7 May 2023]"
    assert "[6 June 2023]" in lines
    assert any(line.startswith("Ann") and "Lisbon" in line for line in lines)


def test_what_yesterday_meant_is_told_to_who_asks_when() -> None:
    assert "Ann [yesterday = 6 May 2023]: I joined the harbour choir" in recall("When did Ann join the choir?").text


def test_neighbours_are_joined() -> None:
    everything = recall("What did Ann and Bob say?").recalled
    assert sorted(len(each.turns) for each in everything) == [4, 4]


@given(budget=st.integers(0, 120), query=st.sampled_from(["choir?", "When did Rex eat the sails?", "Ann's sister"]))
def test_a_budget_is_never_exceeded(budget: int, query: str) -> None:
    for tokenizer in (WordTokenizer(), shipped_tokenizer()):
        found = recall(query, budget=budget, tokenizer=tokenizer, session="two")
        assert found.tokens <= budget
        assert tokenizer.count(found.text) <= budget


def test_bad_input_is_refused() -> None:
    with pytest.raises(EmptyQuestionError, match="empty"):
        recall("  ")
    with pytest.raises(InputError, match="budget"):
        recall("choir", budget=-1)


def test_an_empty_memory_recalls_nothing() -> None:
    encoder = HashEncoder()
    empty = PlainTurns([], encoder, vectors=encoder.encode_texts([]))
    found = recollect(empty, "What did Ann say?", encoder=encoder, tokenizer=WordTokenizer(), now=START)
    assert (found.recalled, found.text, found.tokens, found.answerable) == ((), "", 0, 0.0)
