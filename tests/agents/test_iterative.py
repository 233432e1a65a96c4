"""Iterative retrieval: follow-ups, sub-questions, when it ends, what it answers from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import carrel
from carrel.agents import iterative, run
from carrel.agents.fitting import reply_room
from carrel.agents.searches import QUERIES
from carrel.errors import ContextOverflowError, InputError, RefusalError
from carrel.retrieval.packing import render
from carrel.testing import FakeGenerator, FlowConformance
from carrel.types import Citation, Completion, Document, Passage, Prompt

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
    assert result.queries == (("Hester Quill",),) and result.skipped == ()
    generator = scripted("I do not know.")
    result = run(iterative(QUESTION), generator=generator, library=library, mode="fast").result
    assert [prompt.kind for prompt in generator.prompts] == ["queries", "queries", "answer"]
    (why,) = result.skipped
    assert "nothing more was searched for" in why and "no line that begins with SEARCH:" in why
    assert result.answer.text and result.queries == () and not result.sufficient


REFUSED = Completion("No.", finish_reason="refused")


def test_a_refusal(library: carrel.Library) -> None:
    with pytest.raises(RefusalError):
        run(iterative(QUESTION), generator=FakeGenerator(REFUSED), library=library, mode="fast")


@pytest.mark.parametrize("failure", [REFUSED, RefusalError("declined"), ContextOverflowError("declined: too long")])
def test_who_does_not_say_what_to_search_for_answers_from_what_there_is(failure: Any, library: carrel.Library) -> None:
    def queries(prompt: Prompt) -> Any:
        if isinstance(failure, Exception):
            raise failure
        return failure

    result = run(iterative(QUESTION, steps=3), generator=scripted(queries), library=library, mode="fast").result
    assert result.answer.text and result.passages and not result.sufficient
    assert len(result.skipped) == 1 and "declined" in result.skipped[0]


@pytest.mark.parametrize("failure", [REFUSED, RefusalError("declined"), ContextOverflowError("declined: too long")])
def test_one_sub_question_that_is_not_answered_is_named(failure: Any, library: carrel.Library) -> None:
    def reply(prompt: Prompt) -> Any:
        if prompt.kind == "queries":
            return "SEARCH: Who was Hester Quill?\nSEARCH: Who founded the company?"
        if prompt.question == "Who founded the company?":
            if isinstance(failure, Exception):
                raise failure
            return failure
        number = next((n for n, p in enumerate(prompt.passages, 1) if "Saltburn" in p.text), 1)
        return f"Hester Quill was an engineer [{number}]."

    result = run(iterative(QUESTION), generator=FakeGenerator(reply), library=library, mode="fast").result
    (why,) = result.skipped
    assert why.startswith("Who founded the company?: ") and "declined" in why
    assert [note.text[:20] for note in result.notes] == ["Who was Hester Quill"] and result.answer.citations


def test_what_a_sub_question_quotes_is_within_the_budget(library: carrel.Library) -> None:
    generator = scripted("SEARCH: Who was Hester Quill?")
    result = run(iterative(QUESTION, budget=60), generator=generator, library=library, mode="fast").result
    last = generator.prompts[-1]
    assert last.notes and last.passages and generator.count_tokens(render(last.passages)) <= 60
    assert result.answer.passages == last.passages


def test_notes_are_shown_without_the_marks_of_what_is_not_shown(library: carrel.Library) -> None:
    said = iter(["SEARCH: Who was Hester Quill?", "ENOUGH"])
    generator = scripted(lambda prompt: next(said))
    result = run(iterative(QUESTION, steps=2), generator=generator, library=library, mode="fast").result
    second = [prompt for prompt in generator.prompts if prompt.task == QUERIES][1]
    assert "[1]" in result.notes[0].text and result.notes[0].evidence
    assert second.notes == ("Who was Hester Quill? Hester Quill was an engineer.",)


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


# -- any lengths -----------------------------------------------------------------------------------

_words = st.sampled_from(["pier ", "Hester Quill ", "港は静かだ。", "🚢 ", "x" * 90 + " ", "\n\n", "Who? ", "[1] so. "])


class Hostile(FakeGenerator):
    """Says what it is given, as long as the reply may be, and cites whole passages; every prompt must fit."""

    def __init__(self, window: int, filling: str, cites: int) -> None:
        super().__init__(self.play, context_window=window)
        self.window, self.filling, self.cited = window, filling, cites

    def play(self, prompt: Prompt) -> Completion:
        room = reply_room(prompt, self.window)
        assert self.prompt_tokens(prompt) + room <= self.window, prompt.kind
        if prompt.kind == "queries":
            text = f"SEARCH: Who is {self.filling[:40]}?\nSEARCH: {self.filling}?\nSEARCH: {self.filling}\n" * 9
            return Completion(self.tokenizer.truncate(text, room))
        chosen = list(enumerate(prompt.passages, start=1))[: self.cited]
        text = "".join(f"So it says [{number}]. " for number, _ in chosen) + self.filling * 40
        citations = tuple(Citation(n, p.document_id, p.start, p.end, p.text) for n, p in chosen)
        return Completion(self.tokenizer.truncate(text, room), citations=citations)


@given(
    st.lists(_words, min_size=1, max_size=30).map("".join).filter(lambda text: any(map(str.isalnum, text))),
    st.lists(_words, min_size=1, max_size=60).map("".join), st.integers(40, 900), st.integers(40, 500),
    st.integers(0, 3), st.integers(0, 20),
)  # fmt: skip
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_the_lengths_every_prompt_fits_and_every_citation_is_a_quotation(
    library: carrel.Library, question: str, filling: str, window: int, budget: int, steps: int, cites: int
) -> None:
    generator = Hostile(window, filling, cites)
    texts = {document.id: document.text for document in DOCUMENTS}
    made = iterative(question, budget=budget, steps=steps, searches=6)
    try:
        result = run(made, generator=generator, library=library, mode="fast").result
    except ContextOverflowError:  # not even the question and a sentence fit: nothing was answered, and nothing asked
        bare = Prompt(question, (Passage("d", 0, 90, DOCUMENTS[0].text[:90]),))
        assert generator.prompt_tokens(bare) + reply_room(bare, window) > window - 20, "there was room"
        return
    for citation in result.answer.citations:
        assert texts[citation.document_id][citation.start : citation.end] == citation.quote
