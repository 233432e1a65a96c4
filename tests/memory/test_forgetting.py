"""What is forgotten: which turns, and what goes with them."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrel.memory import Forgotten, Note
from carrel.memory import notes as noted
from carrel.memory import turns as stored

fixtures = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def write_notes(memory, *notes: Note) -> None:
    with memory.stream.store.write() as connection:
        noted.insert(connection, stored.find_owner(connection, memory.tenant, memory.user), notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("red car", "The RED, car!"),
        ("red car", "red\ncar"),
        ("Ann", "That is Ann’s boat"),
        ("cafe", "We met in the Café."),
        ("CAFÉ", "cafe"),
        ("東京", "私は東京に住んでいます"),
        ("+44 1234", "call +44 (1234)"),
    ],
)
def test_what_matches(make, text: str, said: str) -> None:
    with make() as memory:
        memory.observe(said)
        memory.observe("something else")
        assert memory.forget(matching=text).turns == (1,)


@pytest.mark.parametrize(
    ("text", "said"), [("red car", "red cars"), ("red car", "car red"), ("red car", "red old car"), ("art", "cart")]
)
def test_what_does_not(make, text: str, said: str) -> None:
    with make() as memory:
        memory.observe(said)
        assert memory.forget(matching=text) == Forgotten()
        assert len(memory.turns()) == 1


@fixtures
@given(
    said=st.lists(st.text(alphabet="ab AB.,'\n", min_size=1).filter(str.strip), min_size=1, max_size=6),
    text=st.text(alphabet="ab AB.,", min_size=1, max_size=4),
)
def test_matching_agrees_with_plain_words(make, said: list[str], text: str) -> None:
    def words(of: str) -> list[str]:
        return re.findall("[ab]+", of.lower())

    wanted = words(text)
    if not wanted:
        return
    with make() as memory:
        memory.observe_many(said)
        expected = tuple(
            number
            for number, each in enumerate(said, start=1)
            if any(words(each)[at : at + len(wanted)] == wanted for at in range(len(words(each))))
        )
        assert memory.forget(matching=text, dry_run=True) == Forgotten(expected, planned=True)
        assert len(memory.turns()) == len(said)
        assert memory.forget(matching=text) == Forgotten(expected)
        assert [turn.id for turn in memory.turns()] == [n for n in range(1, len(said) + 1) if n not in expected]


def test_a_session_a_turn_and_all(make) -> None:
    with make(session="a") as memory:
        memory.observe_many(["one", "two"])
        memory.in_session("b").observe("three")
        memory.in_session("c").observe("four")
        assert memory.forget(session="a") == Forgotten((1, 2))
        assert memory.forget(session="a") == Forgotten()
        assert memory.forget(turn=3) == Forgotten((3,))
        assert memory.forget(user=True, dry_run=True) == Forgotten((4,), planned=True)
        assert memory.forget(user=True) == Forgotten((4,))
        assert (memory.turns(), memory.sessions(), memory.forget(user=True)) == ([], [], Forgotten())
        assert memory.observe("five").id == 5, "an id is never used again"


def test_notes_go_with_any_of_their_turns(make) -> None:
    with make() as memory:
        memory.observe_many(["I moved to Rome.", "I moved to Bern.", "I like figs."])
        write_notes(
            memory,
            Note(0, "", "fact", "lives in Rome", (1,), 1.0, "home"),
            Note(0, "", "fact", "lives in Bern", (2,), 2.0, "Home "),
            Note(0, "default", "summary", "moves", (1, 2), 2.0),
            Note(0, "", "fact", "likes figs", (3,), 3.0, "food"),
            Note(0, "", "fact", "of no turn", (9,), 3.0, "food"),
        )
        assert [note.text for note in memory.notes()] == ["lives in Bern", "moves", "likes figs"]
        assert [note.text for note in memory.notes("fact", history=True)] == [
            "lives in Rome", "lives in Bern", "likes figs",
        ]  # fmt: skip
        assert [note.text for note in memory._source.summaries([2])] == ["moves"]
        assert memory._source.summaries([3]) == []
        assert memory.forget(turn=2, dry_run=True).notes == (1, 2, 3)
        assert memory.forget(turn=2).notes == (1, 2, 3)
        assert [note.text for note in memory.notes()] == ["likes figs"]


def test_the_older_fact_holds_again(make) -> None:
    with make() as memory:
        memory.observe_many(["I moved to Rome.", "I moved to Bern."])
        write_notes(
            memory,
            Note(0, "", "fact", "lives in Rome", (1,), 1.0, "home"),
            Note(0, "", "fact", "lives in Bern", (2,), 2.0, "Home "),
        )
        assert memory.forget(turn=2).notes == (2,)
        assert [note.text for note in memory.notes()] == ["lives in Rome"]


def test_of_a_user_who_is_forgotten_nothing_stays_in_memory(make, tmp_path) -> None:
    with make(tmp_path) as memory, make(tmp_path) as other:
        memory.observe("I like figs.")
        for each in (memory, other):
            assert each.flush(10) and each.in_session("new").recall("What do I like?").text
            assert len(each.stream._indexes) == 1
        memory.forget(user=True)
        assert not memory.stream._indexes
        assert other.recall("What do I like?").text == "" and not other.stream._indexes


def test_several_turns_of_which_some_are_gone(make) -> None:
    with make() as memory:
        memory.observe_many(["one", "two", "three"])
        memory.forget(turn=1)
        assert memory.forget(turn=[1, 2]).turns == (2,)
