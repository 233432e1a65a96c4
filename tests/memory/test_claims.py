"""Claims of things that change."""

from __future__ import annotations

import pytest

from carrel.memory.base import StoredTurn
from carrel.memory.claims import claims, concerns, superseded


def turn(number: int, text: str, speaker: str = "user") -> StoredTurn:
    return StoredTurn(number, "s", speaker, text, 1000.0 * number)


@pytest.mark.parametrize(
    ("text", "subject", "attribute", "value"),
    [
        ("I live in Oslo, by the sea.", "user", "home", "oslo"),
        ("Guess what! I just moved to New York last week.", "user", "home", "new york"),
        ("I'm working as a nurse now", "user", "job", "a nurse"),
        ("My sister lives in Lisbon.", "user my sister", "home", "lisbon"),
        ("We moved to Leeds last week, Bruno hates it.", "user", "home", "leeds"),
        ("We've just moved from Hull to York.", "user", "home", "york"),
        ("Clara moved to Porto.", "clara", "home", "porto"),
        ("My favourite colour is green.", "user", "favourite colour", "green"),
        ("The team meeting is moved to Friday.", "user", "team meeting", "friday"),
        ("I turned 34 today!", "user", "age", "34"),
        ("I've become vegan.", "user", "diet", "vegan"),
    ],
)
def test_forms(text: str, subject: str, attribute: str, value: str) -> None:
    found = claims(turn(1, text))
    assert [(each.subject, each.attribute, each.value) for each in found] == [(subject, attribute, value)]


@pytest.mark.parametrize(
    "text",
    [
        "Do you think I live in Oslo?", "I love Oslo.", "Where should I move to?", "It works.", "Monday works for me.",
        "If I live in Rome, I will need a car.", "Maybe I'm moving to Rome.",
        "We want to move to Rome.", "Clara never moved to Porto.",
    ],
)  # fmt: skip
def test_no_claim(text: str) -> None:
    assert claims(turn(1, text)) == []


def test_the_latest_counts_and_the_history_is_kept_latest_first() -> None:
    said = [turn(1, "I live in Oslo."), turn(2, "I moved to Bergen."), turn(3, "I live in Lima."), turn(4, "Nice!")]
    assert [(old.turn.id, old.by.turn.id, old.by.attribute) for old in superseded(said)] == [
        (2, 3, "home"),
        (1, 3, "home"),
    ]


def test_saying_the_same_again_supersedes_nothing() -> None:
    assert superseded([turn(1, "I live in Oslo."), turn(2, "As I said, I live in Oslo.")]) == []


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("I work as a nurse.", "I work at the Inselspital."), ("The meeting is on Friday.", "The meeting is at 10am."),
        ("The meeting is on Friday.", "The meeting is at the office."), ("I live in Bern.", "I live in Bern Bümpliz."),
        ("The meeting is on Monday.", "The meeting is Monday."), ("I live in New York.", "I live in New York City."),
    ],
)  # fmt: skip
def test_what_may_both_be_so(one: str, two: str) -> None:
    assert superseded([turn(1, one), turn(2, two)]) == []


def test_what_happened_before_changes_nothing_that_is_said_later() -> None:
    day = 86400.0
    bern = StoredTurn(1, "s", "user", "I live in Bern.", 19_000 * day)
    oslo = StoredTurn(2, "s", "user", "I moved to Oslo in 2010.", 19_100 * day)
    rome = StoredTurn(3, "s", "user", "We moved to Rome last week.", 19_200 * day)
    assert [(old.turn.id, old.by.turn.id, old.by.is_change) for old in superseded([bern, oslo])] == [(2, 1, False)]
    found = superseded([bern, oslo, rome])
    assert {(old.turn.id, old.by.turn.id, old.by.is_change) for old in found} == {(1, 3, True), (2, 3, True)}
    assert all(19_180 * day < old.by.since < 19_200 * day for old in found)


def test_different_people_do_not_contradict_each_other() -> None:
    assert superseded([turn(1, "I live in Oslo.", "Ann"), turn(2, "I live in Lima.", "Bob")]) == []


def test_the_order_given_does_not_matter() -> None:
    said = [turn(2, "I moved to Bergen."), turn(1, "I live in Oslo.")]
    assert [(old.turn.id, old.by.turn.id) for old in superseded(said)] == [(1, 2)]


@pytest.mark.parametrize(
    ("query", "attribute", "expected"),
    [
        ("Where do I live?", "home", True),
        ("What am I allergic to?", "job", False),
        ("What is my favourite colour?", "favourite colour", True),
        ("When is the team meeting?", "team meeting", True),
        ("When is the party?", "team meeting", False),
    ],
)
def test_what_a_question_is_about(query: str, attribute: str, expected: bool) -> None:
    assert concerns(query, attribute) is expected
