"""Pairs: questions that their source answers, and none that are silly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import GenerationError, InputError
from carrel.generation.answerer import Answerer, FoundAnswer
from carrel.memory.parametric.pairs import GeneratedPairs, Pair, ReaderPairs, alike, cloze, sources
from carrel.testing import FakeGenerator
from carrel.types import Completion, Document, Passage

TEXT = (
    "The old pier of Selby was built in 1894 by the Harbour Trust. It is ninety metres long. "
    "The fire of 3 March 1921 destroyed its hall, and 12 boats were lost. "
    "Selby Pier is a landing stage for ferries, and belongs to the town. "
    "The restoration was led by Margaret Holloway, who had worked in Antwerp."
)

FIRST = "The old pier of Selby was built in 1894 by the Harbour Trust."


def asked(text: str = TEXT) -> dict[str, str]:
    return {pair.question: pair.answer for pair in cloze(text)}


def test_dates_numbers_names_and_definitions_are_asked_for() -> None:
    found = asked()
    assert found["The old pier of Selby was built in what year by the Harbour Trust?"] == "1894"
    assert found["The fire of what date destroyed its hall, and 12 boats were lost?"] == "3 March 1921"
    assert found["The fire of 3 March 1921 destroyed its hall, and how many boats were lost?"] == "12"
    assert found["What is Selby Pier?"] == "a landing stage for ferries"
    assert found["The restoration was led by who or what, who had worked in Antwerp?"] == "Margaret Holloway"


@pytest.mark.parametrize(
    "text",
    [
        "It was built in 1894 by the town and its people.",  # nobody knows what it is
        "Project Manager: {vocalsound} so we have 25 minutes left for the Industrial Designer .",
        "Was it built in 1894 by the town and its people?",
        "Built in 1894.",
        "The third United States human flight was a success for all.",  # a name that is part of another
        "The graves dating to 1338–39 near the lake have inscriptions.",
        "",
    ],
)
def test_what_gives_no_question(text: str) -> None:
    assert asked(text) == {}


@given(st.text(max_size=400))
def test_any_text_is_taken(text: str) -> None:
    for pair in cloze(text):
        assert pair.answer in " ".join(text.split()) and pair.question.endswith("?") and pair.source == text
    assert "".join("".join(sources(text, 50)).split()) == "".join(text.split())


def test_each_is_checked_by_the_reader() -> None:
    makes = ReaderPairs()
    found = makes(Document(TEXT))
    assert {"1894", "Margaret Holloway"} <= {pair.answer for pair in found}
    assert all(makes.holds(pair) for pair in found)
    assert not makes.holds(Pair("What is the capital of France?", "Margaret Holloway", TEXT))
    assert not makes.holds(Pair("The old pier of Selby was built in what year?", "1921", TEXT))


class Never(Answerer):
    name = "never"

    def find(self, question: str, passages: Sequence[Passage]) -> list[FoundAnswer]:
        return []


def test_without_an_answer_there_is_no_pair() -> None:
    assert ReaderPairs(Never())(Document(TEXT)) == []


def test_no_more_than_asked_for_and_from_all_parts() -> None:
    text = "\n\n".join(f"The town of Place{n} was founded in {1500 + n} by monks." for n in range(40))
    found = ReaderPairs(most=5)(Document(text))
    assert len(found) == 5 and found[0].answer < "1510" < "1525" < found[-1].answer


def test_a_generator_writes_them() -> None:
    written = [
        {"question": "When was the old pier of Selby built?", "answer": "1894"},
        {"question": "Who is the king of Spain?", "answer": "Philip"},
    ]
    generator = FakeGenerator([Completion(f"Here they are: {json.dumps({'pairs': written})}")])
    found = GeneratedPairs(generator)(Document(TEXT))
    assert [(pair.question, pair.answer) for pair in found] == [("When was the old pier of Selby built?", "1894")]


def test_a_passage_that_it_makes_nothing_of_is_left_out() -> None:
    written = json.dumps({"pairs": [{"question": "When was the old pier of Selby built?", "answer": "1894"}]})
    generator = FakeGenerator([Completion("I am sorry."), Completion(written)])
    found = GeneratedPairs(generator, passage_characters=len(TEXT), concurrency=4)(Document(f"{TEXT}\n\n{TEXT}"))
    assert [pair.answer for pair in found] == ["1894"] and len(generator.prompts) == 2


def test_what_is_said_in_other_words_is_checked_too() -> None:
    written = json.dumps({"pairs": [{"question": "When was the old pier of Selby built?", "answer": "1894"}]})
    said = f"{FIRST} The King of Spain opened it in 1999."
    generator = FakeGenerator([Completion(written), Completion(said), Completion("It is 77 miles long.")])
    found = GeneratedPairs(generator, passage_characters=10**6, rewrites=2)(Document(TEXT))
    assert [(pair.question, pair.answer) for pair in found if not pair.question] == [("", FIRST)]
    assert "other words" in generator.prompts[1].task and generator.prompts[1].question != generator.prompts[2].question
    for wrong in ({"rewrites": -1}, {"rewrites": True}, {"concurrency": 0}, {"concurrency": 1.5}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            GeneratedPairs(generator, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("reply", ["", "no", "{}", '{"pairs": 3}', '{"pairs": [{"question": "x"}]}', "{" * 50])
def test_a_reply_that_is_none(reply: str) -> None:
    with pytest.raises(GenerationError, match="no pairs"):
        GeneratedPairs(FakeGenerator([Completion(reply or " ")]))(Document(TEXT))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("1894", "in 1894", False), ("the Harbour Trust", "Harbour Trust", True), ("12", "13", False), ("", "", False),
        ("12 boats", "12", False), ("Margaret Holloway", "margaret holloway.", True),
    ],
)  # fmt: skip
def test_alike(first: str, second: str, same: Any) -> None:
    assert alike(first, second) == alike(second, first) == same
