"""Refine: one piece after another, the draft kept where a piece changes nothing, evidence carried to the end."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import run
from carrel.agents.fitting import reply_room
from carrel.agents.refine import REFINE, START, refine
from carrel.errors import ContextOverflowError, InputError, RefusalError
from carrel.generation.extractive import ABSTENTION
from carrel.testing import FakeGenerator, FlowConformance
from carrel.types import Completion, Document, Passage, Prompt

QUESTION = "Who led the expedition?"
FIRST = "The expedition was led by Amundsen in 1911."
LATER = "A second part of the expedition was led by Prestrud."
FILLER = "Snow fell on the camp and the dogs slept. " * 30
DOCUMENT = Document("\n\n".join([FILLER, FIRST, FILLER, FILLER, LATER, FILLER]), id="log")


def quoting(prompt: Prompt) -> str:
    """Repeats each sentence about who led, with its mark; NOTHING where the piece has none that is new."""
    lines = [
        f"{sentence.strip(' .')} [{number}]."
        for number, passage in enumerate(prompt.passages, start=1)
        for sentence in re.findall(r"[^.\n]*\bled by\b[^.\n]*\.", passage.text)
    ]
    known = sum("led by" in line for note in prompt.notes for line in note.splitlines())
    return "\n".join(lines) if len(lines) > known else "NOTHING"


class TestRefine(FlowConformance):
    window = 400

    def make(self) -> Any:
        return refine(QUESTION, DOCUMENT, answer_tokens=64)

    def reply(self, prompt: Prompt) -> str:
        return quoting(prompt)

    def documents(self) -> list[Document]:
        return [DOCUMENT]


def test_the_answer_grows_and_its_evidence_is_carried() -> None:
    generator = FakeGenerator(quoting, context_window=400)
    result = run(refine(QUESTION, DOCUMENT), generator=generator, mode="fast").result
    assert len(result.drafts) == 2 and result.pieces == len(generator.prompts) > 4
    assert "Amundsen" in result.answer.text and "Prestrud" in result.answer.text
    assert [citation.quote for citation in result.answer.citations] == [FIRST, LATER]
    for citation in result.answer.citations:
        assert DOCUMENT.text[citation.start : citation.end] == citation.quote
    assert generator.prompts[0].task == START and generator.prompts[-1].task == REFINE
    assert generator.prompts[-1].passages[0].text == FIRST


def test_where_no_piece_tells_anything_there_is_no_answer() -> None:
    for reply in ("NOTHING", ABSTENTION, Completion("?", finish_reason="abstained")):
        result = run(refine(QUESTION, DOCUMENT), generator=FakeGenerator(reply, context_window=400)).result
        assert result.answer.abstained and result.answer.text == ABSTENTION and result.drafts == ()


def test_a_refused_piece_is_named_and_reading_goes_on() -> None:
    replies = iter(range(100))

    def reply(prompt: Prompt) -> str | Completion:
        if next(replies) == 1:
            return Completion("I will not.", finish_reason="refused")
        return quoting(prompt)

    result = run(refine(QUESTION, DOCUMENT), generator=FakeGenerator(reply, context_window=400), mode="fast").result
    assert len(result.skipped) == 1 and "I will not." in result.skipped[0]
    assert "Prestrud" in result.answer.text


def test_where_every_piece_is_refused_that_is_the_error() -> None:
    with pytest.raises(RefusalError):
        run(refine(QUESTION, DOCUMENT), generator=FakeGenerator(RefusalError("no"), context_window=400))


def test_a_piece_that_the_server_finds_too_long_is_read_in_halves_in_order() -> None:
    read: list[str] = []
    refused: list[str] = []

    def reply(prompt: Prompt) -> str:
        text = "".join(passage.text for passage in prompt.passages)
        if len(text) > 900:
            refused.append(text)
            raise ContextOverflowError("too long for the server")
        read.append(text)
        return "NOTHING"

    result = run(refine(QUESTION, DOCUMENT), generator=FakeGenerator(reply, context_window=900)).result
    assert refused and "".join(read) == DOCUMENT.text and not result.skipped


def test_one_sentence_that_the_server_finds_too_long_is_skipped() -> None:
    alone = "One sentence stands here all alone."
    texts = [Passage("a", 0, len(alone), alone), Passage("b", 0, len(FIRST), FIRST)]

    def reply(prompt: Prompt) -> str:
        if any(passage.text == alone for passage in prompt.passages):
            raise ContextOverflowError("too long")
        return "Amundsen."

    result = run(refine(QUESTION, texts), generator=FakeGenerator(reply)).result
    assert result.answer.text == "Amundsen." and result.skipped == (f"{alone}: too long",)


def test_a_draft_is_cut_where_a_model_says_more_than_it_may() -> None:
    generator = FakeGenerator("It was so and so. " * 200, context_window=400)
    result = run(refine(QUESTION, DOCUMENT, answer_tokens=32), generator=generator).result
    assert generator.count_tokens(result.answer.text) <= 40
    assert all(generator.count_tokens(note) <= 40 for prompt in generator.prompts for note in prompt.notes)


def test_what_cannot_be_asked() -> None:
    with pytest.raises(InputError, match="answer_tokens"):
        run(refine(QUESTION, DOCUMENT, answer_tokens=0), generator=FakeGenerator())
    generator = FakeGenerator("x", context_window=200)
    with pytest.raises(ContextOverflowError):
        run(refine("why " * 300, DOCUMENT), generator=generator)
    assert not generator.prompts


@given(
    question=st.integers(1, 100),
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=3),
    reply=st.sampled_from(["NOTHING", "a [1].", "so it is [1][2]. " * 60, "[1] [2] " * 60, "w" * 4000, ""]),
    window=st.integers(300, 600),
)
def test_no_prompt_goes_beyond_the_window(question: int, lengths: list[int], reply: str, window: int) -> None:
    texts = [Document("A sledge is long. " * length, id=str(number)) for number, length in enumerate(lengths)]
    generator = FakeGenerator(reply, context_window=window)
    try:
        run(refine("why " * question, texts), generator=generator, mode="fast")
    except ContextOverflowError:
        assert not generator.prompts
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, window) <= window


def test_a_draft_leaves_the_piece_as_much_room_as_it_has() -> None:
    """Else a text would be read a sentence at a time where the window is small."""
    generator = FakeGenerator("So it was and so it is to this very day. " * 30, context_window=400)
    result = run(refine(QUESTION, DOCUMENT), generator=generator, mode="fast").result
    assert result.pieces <= 40
    for prompt in generator.prompts[:-1]:
        assert sum(len(passage.text) for passage in prompt.passages) >= sum(map(len, prompt.notes))
