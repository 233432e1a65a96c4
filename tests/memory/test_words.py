"""Words, names, and who is asked about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.memory.words import as_said, asked_people, asked_terms, embedded_text, naming, own_people, stem, terms

TWO = ("Caroline", "Melanie")
CHAT = ("assistant", "user")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("painted", "painting"),
        ("went", "going"),
        ("cities", "city"),
        ("kids'", "kid"),
        ("planned", "plan"),
        ("mom", "mother"),
    ],
)
def test_inflections_meet(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@given(st.text(max_size=60))
def test_terms_of_any_text(text: str) -> None:
    assert all(terms(text))
    assert terms(text.replace("’", "'")) == [term.replace("’", "'") for term in terms(text)]


def test_what_a_question_is_about_has_no_names_and_no_words_of_asking() -> None:
    assert asked_terms("What kind of books did Mel's daughter read?", ("Mel's",)) == [stem("books"), "daughter", "read"]


@pytest.mark.parametrize(
    ("query", "speakers", "people", "owner"),
    [
        ("When did Caroline move?", TWO, ("Caroline",), "Caroline"),
        ("What is Caroline's hobby?", TWO, ("Caroline",), "Caroline"),
        ("How long has Mel been married?", TWO, ("Melanie",), "Melanie"),
        ("What does Melanie think about Caroline's plan?", TWO, ("Melanie", "Caroline"), "Melanie"),
        ("What did Caroline's sister say to Melanie?", TWO, ("Caroline", "Melanie"), "Melanie"),
        ("What is the plan?", TWO, (), None),
        ("What is my dog called?", CHAT, ("user",), "user"),
        ("What did you recommend to me?", CHAT, ("assistant",), "assistant"),
        ("Can you remind me where I live?", CHAT, ("user",), "user"),
        ("What is the capital of France?", CHAT, (), None),
        ("Should Al come?", ("Albert", "Bo"), (), None),
    ],
)
def test_who_is_asked_about(query: str, speakers: tuple[str, ...], people: tuple[str, ...], owner: str | None) -> None:
    asked = asked_people(query, speakers)
    assert (asked.people, asked.owner) == (people, owner)


def test_both_own_what_they_have_together() -> None:
    both = asked_people("What do Caroline and Melanie like?", TWO)
    assert both.owns("Caroline") and both.owns("Melanie")
    one = asked_people("What did Caroline say to Melanie?", TWO)
    assert one.owns("Caroline") and not one.owns("Melanie")


def test_a_question_as_it_was_told() -> None:
    asked = asked_people("When did Caroline go to her sister's party?", TWO)
    assert as_said("When did Caroline go to her sister's party?", asked) == "I go to my sister's party"
    assert as_said("What is the plan?", asked_people("What is the plan?", TWO)) == "the plan"


def test_a_vector_knows_a_named_speaker() -> None:
    assert embedded_text("Ann", "Hello") == "Ann: Hello"
    assert embedded_text("user", "Hello") == embedded_text("assistant", "Hello") == "Hello"


@pytest.mark.parametrize(
    ("text", "finds"), [("Thanks, Mel!", True), ("Melanie's", True), ("Tell me", False), ("Melon", False)]
)
def test_names_in_a_text(text: str, finds: bool) -> None:
    assert bool(naming("Melanie").search(text)) is finds


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("My sister Marta is a vet, our old dog, Rex, is not.", ["Marta", "Rex"]),
        ("my best friend Zoë's boat", ["Zoë"]),
        ("Our cat is called Miu.", ["Miu"]),
        ("My sister moved. Your brother Piet did not. The dog Rex bit the boss Bob.", []),
        ("My sister Is fine", ["Is"]),  # a capital is all that tells a name
    ],
)
def test_whom_a_speaker_calls_theirs(text: str, names: list[str]) -> None:
    assert own_people(text) == names
