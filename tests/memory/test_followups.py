"""Follow-up questions made whole."""

from __future__ import annotations

from typing import ClassVar

import pytest

from carrel.errors import GenerationError
from carrel.generation.base import Generator
from carrel.memory.base import StoredTurn
from carrel.memory.followups import depends, whole
from carrel.testing.tokenizers import WordTokenizer
from carrel.tokens import Tokenizer
from carrel.types import Completion, Prompt


def said(*texts: str) -> list[StoredTurn]:
    speakers = ("user", "assistant")
    return [StoredTurn(i, "s", speakers[i % 2], text, float(i)) for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("before", "query", "expected"),
    [
        (("How many ships came in 2018?", "Forty."), "and in 2019?", "How many ships came in 2019?"),
        (("Where does Ann live?", "In Oslo."), "What about Bob?", "Where does Bob live?"),
        (("Where does Ann live?", "In Oslo."), "what about her sister?", "Where does Ann's sister live?"),
        (("When did Ann join the choir?", "In May."), "why?", "Why did Ann join the choir?"),
        (("When did Ann join the choir?", "In May."), "Where does she sing?", "Where does Ann sing?"),
        (("My sister came to visit.", "How nice!"), "Where did I say she works?", "Where did I say my sister works?"),
        (("What is the capital of Peru?", "Lima."), "and of Chile?", "What is the capital of Chile?"),
        (("What does a berth cost?", "Nine euros."), "And in winter?", "What does a berth cost, in winter?"),
        (("When does the ferry to Ansund leave in summer?", "At 7."), "and in winter?",
         "When does the ferry to Ansund leave in winter?"),
        (("When does it leave in summer?", "At 7."), "what about winter?", "When does it leave in winter?"),
        (("When does the ferry to Ansund leave in summer?", "At 7."), "What about the ferry to Berg?",
         "When does the ferry to Berg leave in summer?"),
        (("Where does Marta live?", "In York.", "And Piet?", "In Ghent."), "why?", "Why does Piet live?"),
        (("Where does Piet live?", "In Ghent.", "Why?", "He likes it."), "when?", "When does Piet live?"),
        (("Does Piet sing?", "No.", "What does he play?", "The cello."), "And Marta?", "What does Marta play?"),
        (("Where does Piet live?", "In Ghent.", "Why?", "He likes it."), "What about his job?",
         "What about Piet's job?"),
        (("How old is Piet's dog?", "Three."), "and Marta's dog?", "How old is Marta's dog?"),
        (("How old is Piet's dog?", "Three."), "what about Marta's cat?", "How old is Marta's cat?"),
    ],
)  # fmt: skip
def test_rules(before: tuple[str, ...], query: str, expected: str) -> None:
    assert whole(query, said(*before)).lower() == expected.lower()


@pytest.mark.parametrize(
    "query", ["When did Ann join the choir?", "What did Ann say about her sister?", "What is my dog called?", "Thanks!"]
)
def test_a_whole_question_stays_as_it_is(query: str) -> None:
    assert not depends(query)
    assert whole(query, said("Where does Bob live?", "In Lima.")) == query


def test_nothing_before_nothing_changed() -> None:
    assert whole("and in 2019?", []) == "and in 2019?"


def test_the_query_itself_is_not_its_own_history() -> None:
    before = [*said("How many ships came in 2018?", "Forty."), StoredTurn(9, "s", "user", "and in 2019?", 9.0)]
    assert whole("and in 2019?", before) == "How many ships came in 2019?"


class Writer(Generator):
    """Says what it is told to say, or fails."""

    name: ClassVar[str] = "writer"

    def __init__(self, reply: str | None) -> None:
        self.reply = reply
        self.prompts: list[Prompt] = []

    @property
    def tokenizer(self) -> Tokenizer:
        return WordTokenizer()

    def complete(self, prompt: Prompt) -> Completion:
        self.prompts.append(prompt)
        if self.reply is None:
            raise GenerationError("down")
        return Completion(self.reply)


def test_a_generator_rewrites() -> None:
    writer = Writer('Question: "How many ships came in 2019?"')
    before = said("How many ships came in 2018?", "Forty.")
    assert whole("and in 2019?", before, writer) == "How many ships came in 2019?"
    assert [turn.text for turn in writer.prompts[0].history] == ["How many ships came in 2018?", "Forty."]


@pytest.mark.parametrize(
    "reply", [None, "", "   ", "Forty-one ships came.", "Sure!\nHere it is:\nwhat?", "x" * 999 + "?"]
)
def test_a_useless_reply_falls_back_on_the_rules(reply: str | None) -> None:
    before = said("How many ships came in 2018?", "Forty.")
    assert whole("and in 2019?", before, Writer(reply)) == "How many ships came in 2019?"


def test_a_whole_question_costs_no_call() -> None:
    writer = Writer("What?")
    whole("When did Ann join the choir?", said("Where does Bob live?", "In Lima."), writer)
    assert writer.prompts == []


CRANE = [
    StoredTurn(1, "", "user", "Anna Meier is the safety officer.", 0.0),
    StoredTurn(2, "", "user", "When does the crane stop lifting because of wind?", 1.0),
    StoredTurn(3, "", "assistant", "Above 12 m/s.", 2.0),
]


@pytest.mark.parametrize(
    "query",
    [
        "Is there a cafeteria?", "Are there any showers?", "How many are there?", "What is there to see?",
        "What must an operator do when he leaves the crane?", "Should a nurse wash her hands?", "Is it raining?",
        "What time is it?", "Is it legal to park here?", "How long does it take to get to Oslo?",
        "Do employees get their bonus?", "Does the firm sell its boats?",
    ],
)  # fmt: skip
def test_nothing_stands_for_what_was_said_before(query: str) -> None:
    assert whole(query, CRANE) == query


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("And tell me: what should I bring for a passport?", "tell me: what should I bring for a passport?"),
        ("And my dog died yesterday.", "my dog died yesterday."),
        ("And thank you!", "thank you!"),
        ("And in 2019?", "When does the crane stop lifting because of wind in 2019?"),
        ("When does she work?", "When does Anna Meier work?"),
        ("Who works there?", "Who works there (crane stop lifting because wind)?"),
        ("What is the colour of its roof?", "What is the colour of its roof (crane stop lifting because wind)?"),
    ],
)
def test_after_a_statement_of_something_else(query: str, expected: str) -> None:
    assert whole(query, CRANE) == expected
