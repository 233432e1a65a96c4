"""Whether memory is needed, and whether the answer is in it."""

from __future__ import annotations

import pytest

from carrel.memory.base import StoredTurn
from carrel.memory.controller import SIGNS, answerable, fitted, needed, signs
from carrel.memory.recalling import rank
from carrel.memory.scoring import Scored
from carrel.testing.encoders import HashEncoder
from carrel.testing.memory import PlainTurns

TALK = [
    ("Ann", "I finally bought a red canoe in the harbour shop."),
    ("Bob", "Good for you! I am learning to play the violin with a strict teacher."),
    ("Ann", "The canoe is light and easy to carry."),
    ("Bob", "My violin teacher gave me a new song for the concert."),
]


def ranked(query: str, talk: list[tuple[str, str]] = TALK) -> Scored:
    turns = [StoredTurn(i, "s", who, text, 1.6e9 + i, 0.5) for i, (who, text) in enumerate(talk, start=1)]
    encoder = HashEncoder(256)
    return rank(PlainTurns(turns, encoder), query, encoder=encoder, now=1.61e9).found


@pytest.mark.parametrize(
    "query",
    ["thanks!", "Thank you so much!", "ok", "Hello there!", "What is 2+2?", "2 + 2 =", "what's 12 * (3 + 4)?", "bye",
     "What is seven plus five?", "Translate 'good day' into French", "Tell me a joke"],
)  # fmt: skip
def test_no_memory_is_needed(query: str) -> None:
    assert not needed(query)


@pytest.mark.parametrize(
    "query",
    ["What is my dog's name?", "When did Ann move?", "why?", "and in 2019?", "What did I say about 2+2?",
     "Thanks! And where does she live?", "Translate what I told you yesterday", "dog's name",
     "What happened on 3 May?"],
)  # fmt: skip
def test_memory_is_needed(query: str) -> None:
    assert needed(query)


def test_weights_and_signs_are_of_the_same_kind() -> None:
    assert set(fitted()["weights"]) == set(SIGNS)


def test_the_wrong_person_makes_an_answer_less_likely() -> None:
    right, wrong = ranked("What did Ann buy in the harbour shop?"), ranked("What did Bob buy in the harbour shop?")
    assert answerable(right) > 0.5 > answerable(wrong)
    assert signs(wrong)["mass_of_others"] > signs(right)["mass_of_others"]


def test_what_was_never_said_is_less_likely_than_what_was() -> None:
    said, never = ranked("Which song did Bob's teacher give him?"), ranked("Which telescope did Bob's uncle repair?")
    assert answerable(said) > answerable(never)


def test_a_user_and_an_assistant_are_not_held_against_each_other() -> None:
    talk = [("user", "I got a puppy!"), ("assistant", "Congratulations! Rex is a lovely name for your puppy.")]
    assert signs(ranked("What is the name of my puppy?", talk))["mass_of_others"] == 0.0


def test_an_empty_memory_holds_no_answer() -> None:
    assert answerable(ranked("What did Ann buy?", [])) == 0.0


def test_what_was_said_in_other_words_is_not_taken_for_never_said() -> None:
    talk = [("user", "I just moved to York."), ("assistant", "Lovely!"), ("user", "We got a puppy.")]
    assert answerable(ranked("Where do I live?", talk)) > 0.5 > answerable(ranked("Which car do I drive?", talk))
