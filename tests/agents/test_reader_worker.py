"""The embedded reader as worker: notes that quote and are carried on, summaries, choices, queries; offline."""

from __future__ import annotations

import pytest

from carrel.agents import Fit, Steps, Written, chain_of_agents, flow, run
from carrel.agents.pieces import units
from carrel.agents.reader_worker import ReaderWorker
from carrel.agents.replying import note_of, write
from carrel.agents.tasks import ENOUGH
from carrel.errors import GenerationError, InputError
from carrel.testing import GeneratorConformance
from carrel.types import Document, Passage, Prompt

FILLER = "The road along the quay was dry and the weather was mild for the season."
FACT = "Anselm Dray, the last keeper of Greyhorn Light, left the rock on 3 May 1988."
QUESTION = "When did the last keeper leave Greyhorn Light?"


def document(parts: int = 40, place: int = 30) -> Document:
    lines = [f"{FILLER} Day {number} was like the one before it." for number in range(parts)]
    lines[place] = FACT
    return Document("\n\n".join(lines), "log", "Log")


class TestReaderWorker(GeneratorConformance):
    def make(self) -> ReaderWorker:
        return ReaderWorker()


@pytest.fixture(scope="module")
def worker() -> ReaderWorker:
    return ReaderWorker(window=1200)


@pytest.mark.parametrize("piece_tokens", [None, 300])
@pytest.mark.parametrize("direction", ["forwards", "backwards", "both"])
def test_a_chain_finds_the_fact_wherever_the_pieces_end(worker: ReaderWorker, piece_tokens, direction) -> None:
    text = document()
    made = chain_of_agents(QUESTION, text, piece_tokens=piece_tokens, direction=direction, early_exit=False)
    result = run(made, generator=worker).result
    assert "3 May 1988" in result.answer.text and result.pieces >= (1 if piece_tokens is None else 3)
    for citation in result.answer.citations:
        assert text.text[citation.start : citation.end] == citation.quote
    assert any(FACT in passage.text for passage in result.answer.passages)


def test_notes_carry_quotations_and_what_was_read(worker: ReaderWorker) -> None:
    text = document(parts=200, place=3)
    pieces = units(text)
    first = worker.complete(Prompt(QUESTION, pieces[:4], kind="notes", max_tokens=200))
    assert "tokens read, level" in first.text and any(FACT in each.quote for each in first.citations)
    note = note_of(Written(first.text.removeprefix(f"{ENOUGH}\n"), first.citations, pieces[:4]))
    again = Prompt(QUESTION, (*note.evidence, *pieces[4:8]), notes=(note.text,), kind="notes", max_tokens=200)
    second = worker.complete(again)
    assert any(FACT in each.quote for each in second.citations)

    def read(said: str) -> int:
        return int(next(line for line in said.splitlines() if "tokens read" in line)[1:].split()[0])

    assert read(second.text) > read(first.text)


def test_notes_keep_to_their_tokens(worker: ReaderWorker) -> None:
    for most in (40, 100, 400):
        said = worker.complete(Prompt(QUESTION, units(document()), kind="notes", max_tokens=most))
        assert sum(worker.count_tokens(each.quote) for each in said.citations) <= most


def test_sure_notes_say_enough() -> None:
    prompt = Prompt(QUESTION, units(Document(f"{FILLER} {FACT}", "log")), kind="notes", max_tokens=100)
    assert ReaderWorker(enough=0.0).complete(prompt).text.startswith(ENOUGH)
    assert not ReaderWorker(enough=1.0).complete(prompt).text.startswith(ENOUGH)


def test_summaries_quote_in_order_and_fit(worker: ReaderWorker) -> None:
    said = worker.complete(Prompt("", units(document()), kind="summary", max_tokens=120))
    assert worker.count_tokens(said.text) <= 120 and said.citations
    assert [each.start for each in said.citations] == sorted(each.start for each in said.citations)


def test_a_choice_is_a_number(worker: ReaderWorker) -> None:
    passages = units(Document(FACT, "log"))
    notes = ("Answer 1: In 1921, they say.", f"Answer 2: {FACT}")
    assert worker.complete(Prompt(QUESTION, passages, notes=notes, kind="choice", max_tokens=16)).text == "2"
    assert worker.complete(Prompt("Who sings?", passages, notes=notes, kind="choice", max_tokens=16)).text == "1"


def test_queries_follow_names_and_passages(worker: ReaderWorker) -> None:
    said = worker.complete(Prompt("Where did the keeper go?", units(Document(FACT, "log")), kind="queries"))
    assert "SEARCH: Anselm Dray" in said.text and "SEARCH: Where did the keeper go?" in said.text
    assert worker.complete(Prompt("Where?", (), kind="queries")).text == ENOUGH


def test_nothing_to_note(worker: ReaderWorker) -> None:
    assert worker.complete(Prompt(QUESTION, (), kind="notes")).finish_reason == "abstained"
    assert worker.complete(Prompt(QUESTION, (), kind="summary")).finish_reason == "abstained"


def test_what_only_a_model_can_write_is_a_clear_error(worker: ReaderWorker) -> None:
    with pytest.raises(GenerationError, match=r"it does not write: this flow asks it for 'plan'\. Name a generator="):
        worker.complete(Prompt("Write.", kind="plan"))


@pytest.mark.parametrize("wrong", [{"window": 10}, {"window": True}, {"enough": 2.0}])
def test_parameters_are_checked(wrong) -> None:
    with pytest.raises(InputError):
        ReaderWorker(**wrong)


def test_it_answers_what_nobody_retrieved() -> None:
    @flow("a test")
    def asking() -> Steps[Written]:
        fitted = yield Fit(Prompt(QUESTION), units(document()))
        return (yield from write(Prompt(QUESTION, fitted.taken)))

    assert "1988" in run(asking(), generator=ReaderWorker()).result.text


@pytest.mark.parametrize("place", [1, 60, 118])
def test_a_long_quotation_is_answered_from_and_cited_by_its_number(worker: ReaderWorker, place: int) -> None:
    log = document(parts=120, place=place)
    short = Passage("diary", 40, 40 + len(FILLER), FILLER)
    long = Passage("log", 0, len(log.text), log.text)
    for passages, number in (((short, long), 2), ((long, short), 1)):
        said = worker.complete(Prompt(QUESTION, passages, notes=("It says so.",)))
        assert said.finish_reason == "stop" and "3 May 1988" in said.text and said.text.endswith(f"[{number}]")
        assert {each.number for each in said.citations} == {number}
        assert all(log.text[each.start : each.end] == each.quote for each in said.citations)
        assert said.answers[0].citation.number == number


def test_notes_that_do_not_answer_are_no_answer(worker: ReaderWorker) -> None:
    said = worker.complete(Prompt("Who painted the crane?", units(document()), notes=("It says so.",)))
    assert said.finish_reason == "abstained" and not said.citations
