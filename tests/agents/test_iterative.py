"""Iterative retrieval: follow-ups, sub-questions, when it ends, what it answers from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import carrel
from carrel.agents import iterative, run
from carrel.agents.iterative import QUERIES
from carrel.errors import InputError, RefusalError, ReplyFormatError
from carrel.testing import FakeGenerator, FlowConformance
from carrel.types import Completion, Document, Prompt

QUESTION = "Where was the founder of the Norwood Pier Company born?"
DOCUMENTS = [
    Document("Norwood Pier was built in 1894 by the Norwood Pier Company, founded by Hester Quill.", "pier", "Norwood"),
    Document("Hester Quill was an engineer. She was born in Saltburn and died in York.", "quill", "Hester Quill"),
    *(Document(f"The town of Number {n} has a pier and a company of its own.", f"town{n}") for n in range(40)),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with carrel.open(tmp_path_factory.mktemp("iterative")) as opened:
        opened.add(DOCUMENTS)
        yield opened


def scripted(queries: Any) -> FakeGenerator:
    def reply(prompt: Prompt) -> Any:
        if prompt.kind == "queries":
            return queries(prompt) if callable(queries) else queries
        number = next((n for n, p in enumerate(prompt.passages, 1) if "Saltburn" in p.text), 1)
        return f"Hester Quill was an engineer [{number}]."

    return FakeGenerator(reply)


class TestIterative(FlowConformance):
    window = 700

    def make(self) -> Any:
        return iterative(QUESTION, budget=200, steps=2)

    def reply(self, prompt: Prompt) -> str:
        if prompt.kind == "queries":
            return "SEARCH: Who is Hester Quill?\nSEARCH: Hester Quill"
        return "Hester Quill was an engineer [1]."

    def documents(self) -> list[Document]:
        return DOCUMENTS


def test_it_follows_a_name_offline(library: carrel.Library) -> None:
    result = run(iterative(QUESTION, budget=150), library=library).result
    assert {"pier", "quill"} <= {passage.document_id for passage in result.answer.passages}
    assert "Hester Quill" in result.queries[0]


def test_names_and_sub_questions(library: carrel.Library) -> None:
    generator = scripted("1. SEARCH: Hester Quill\n- SEARCH: Who founded the Norwood Pier Company?\nand so on")
    result = run(iterative(QUESTION), generator=generator, library=library, mode="fast").result
    assert result.queries == (("Hester Quill", "Who founded the Norwood Pier Company?"),)
    (note,) = result.notes
    assert note.text.startswith("Who founded the Norwood Pier Company? Hester Quill was") and note.evidence
    last = generator.prompts[-1]
    assert last.notes == (note.text,) and last.passages[: len(note.evidence)] == note.evidence
    assert result.answer.citations[0].document_id == "quill"


def test_enough_ends_it(library: carrel.Library) -> None:
    result = run(iterative(QUESTION, steps=3), generator=scripted("ENOUGH"), library=library, mode="fast").result
    assert result.sufficient and result.queries == () and result.answer.text


def test_the_same_search_is_not_made_twice(library: carrel.Library) -> None:
    generator = scripted("SEARCH: Hester Quill")
    result = run(iterative(QUESTION, steps=4), generator=generator, library=library, mode="fast").result
    assert result.queries == (("Hester Quill",),) and result.sufficient


def test_searches_are_bounded(library: carrel.Library) -> None:
    many = "\n".join(f"SEARCH: Number {n}" for n in range(30))
    result = run(iterative(QUESTION, searches=3), generator=scripted(many), library=library, mode="fast").result
    assert len(result.queries[0]) == 3


def test_a_wrong_form_is_repaired_once_and_then_reported(library: carrel.Library) -> None:
    said = iter(["I do not know.", "SEARCH: Hester Quill"])
    result = run(iterative(QUESTION), generator=scripted(lambda p: next(said)), library=library, mode="fast").result
    assert result.queries == (("Hester Quill",),)
    with pytest.raises(ReplyFormatError, match="no line that begins with SEARCH:"):
        run(iterative(QUESTION), generator=scripted("I do not know."), library=library, mode="fast")


def test_a_refusal(library: carrel.Library) -> None:
    refused = Completion("No.", finish_reason="refused")
    with pytest.raises(RefusalError):
        run(iterative(QUESTION), generator=FakeGenerator(refused), library=library, mode="fast")


def test_no_steps_is_one_pass(library: carrel.Library) -> None:
    generator = scripted("never asked")
    result = run(iterative(QUESTION, steps=0), generator=generator, library=library, mode="fast").result
    assert all(prompt.task != QUERIES for prompt in generator.prompts) and not result.sufficient


def test_an_empty_library(tmp_path: Path) -> None:
    with carrel.open(tmp_path) as empty:
        result = run(iterative(QUESTION), library=empty).result
    assert result.answer.abstained and result.passages == ()


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"searches": 0}, {"budget": 0}])
def test_parameters_are_checked(wrong: dict[str, int], library: carrel.Library) -> None:
    with pytest.raises(InputError):
        run(iterative(QUESTION, **wrong), library=library)
