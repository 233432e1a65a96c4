"""Map-reduce: pieces side by side, notes that say nothing dropped, a tree where they do not fit, citations kept."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import run
from carrel.agents.fitting import reply_room
from carrel.agents.map_reduce import MERGE, map_reduce
from carrel.agents.tasks import ANSWER_FROM_NOTES, ANSWER_PIECE
from carrel.errors import ContextOverflowError, EmptyQuestionError, InputError, RefusalError
from carrel.generation.extractive import ABSTENTION
from carrel.testing import FakeGenerator, FlowConformance
from carrel.types import Completion, Document, Passage, Prompt

QUESTION = "Which harbours have a pier?"
TOWNS = ("Ambleton", "Brixcombe", "Culverden", "Dunmoor", "Eastwick", "Farnleigh", "Gresham", "Holmfirth")


def document() -> Document:
    """A page of filler about each town, with one sentence that matters."""
    filler = "The weather was mild and the road was dry. " * 12
    text = "\n\n".join(
        f"{filler}{town} built a long wooden pier in {1880 + n}. {filler}" for n, town in enumerate(TOWNS)
    )
    return Document(text, id="towns")


def quoting(prompt: Prompt) -> str:
    """Repeats each sentence about a pier with the mark of its passage."""
    lines = [
        f"{sentence.strip(' .')} [{number}]."
        for number, passage in enumerate(prompt.passages, start=1)
        for sentence in re.findall(r"[^.\n]*\bpier\b[^.\n]*\.", passage.text)
    ]
    return "\n".join(lines) or "NOTHING"


class TestMapReduce(FlowConformance):
    window = 400

    def make(self) -> Any:
        return map_reduce(QUESTION, document(), note_tokens=64)

    def reply(self, prompt: Prompt) -> str:
        return quoting(prompt)

    def documents(self) -> list[Document]:
        return [document()]


def test_every_piece_is_asked_and_the_answer_cites_the_text() -> None:
    generator = FakeGenerator(quoting, context_window=700)
    result = run(map_reduce(QUESTION, document()), generator=generator, mode="fast").result
    assert result.pieces == sum(prompt.task == ANSWER_PIECE for prompt in generator.prompts) > 3
    text = "".join(each.text for prompt in generator.prompts[: result.pieces] for each in prompt.passages)
    assert text == document().text
    quotes = {citation.quote for citation in result.answer.citations}
    assert all(any(town in quote for quote in quotes) for town in TOWNS)
    for citation in result.answer.citations:
        assert document().text[citation.start : citation.end] == citation.quote


def test_pieces_that_say_nothing_drop_out() -> None:
    said = ("Brixcombe has no harbour at all.", "Ambleton built its own pier.", "Culverden lies inland, on a hill.")
    texts = [Passage(text[:3], 0, len(text), text) for text in said]
    generator = FakeGenerator(quoting)
    result = run(map_reduce(QUESTION, texts, piece_tokens=16), generator=generator, mode="fast").result
    assert result.pieces == 3 and len(result.levels[0]) == 1
    final = generator.prompts[-1]
    assert final.task == ANSWER_FROM_NOTES and len(final.notes) == len(final.passages) == 1


def test_all_of_nothing_is_an_abstention_and_no_answer_is_asked_for() -> None:
    generator = FakeGenerator("NOTHING", context_window=400)
    result = run(map_reduce(QUESTION, document()), generator=generator).result
    assert result.answer.abstained and result.answer.text == ABSTENTION and not result.answer.citations
    assert {prompt.task for prompt in generator.prompts} == {ANSWER_PIECE} and not result.skipped


def test_notes_that_do_not_fit_are_merged_in_rounds() -> None:
    generator = FakeGenerator(quoting, context_window=280)
    result = run(map_reduce(QUESTION, document(), note_tokens=40), generator=generator, mode="fast").result
    assert any(prompt.task == MERGE for prompt in generator.prompts)
    counts = [len(level) for level in result.levels]
    assert len(counts) > 1 and counts == sorted(counts, reverse=True) and counts[-1] < counts[0]
    assert result.answer.citations


def test_a_refused_piece_is_named_and_the_others_are_answered_from() -> None:
    def reply(prompt: Prompt) -> str | Completion:
        if prompt.task == ANSWER_PIECE and any("Culverden" in passage.text for passage in prompt.passages):
            return Completion("I will not.", finish_reason="refused")
        return quoting(prompt)

    result = run(
        map_reduce(QUESTION, document()), generator=FakeGenerator(reply, context_window=700), mode="fast"
    ).result
    assert len(result.skipped) == 1 and "I will not." in result.skipped[0]
    assert "Ambleton" in result.answer.text and "Culverden" not in result.answer.text


def test_where_every_piece_is_refused_that_is_the_error() -> None:
    with pytest.raises(RefusalError):
        run(map_reduce(QUESTION, document()), generator=FakeGenerator(RefusalError("no"), context_window=400))


def test_a_piece_that_the_server_finds_too_long_is_asked_in_halves() -> None:
    def reply(prompt: Prompt) -> str:
        if sum(len(passage.text) for passage in prompt.passages) > 1500:
            raise ContextOverflowError("too long for the server")
        return quoting(prompt)

    result = run(
        map_reduce(QUESTION, document()), generator=FakeGenerator(reply, context_window=900), mode="fast"
    ).result
    assert not result.skipped and all(town in result.answer.text for town in TOWNS)


def test_what_cannot_be_asked() -> None:
    with pytest.raises(EmptyQuestionError):
        run(map_reduce(" ", document()), generator=FakeGenerator())
    with pytest.raises(InputError, match="no text"):
        run(map_reduce(QUESTION, Document(" ")), generator=FakeGenerator())
    with pytest.raises(InputError, match="note_tokens"):
        run(map_reduce(QUESTION, document(), note_tokens=0), generator=FakeGenerator())
    generator = FakeGenerator("x", context_window=200)
    with pytest.raises(ContextOverflowError):
        run(map_reduce("why " * 300, document()), generator=generator)
    assert not generator.prompts


@given(
    question=st.integers(1, 120),
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=4),
    reply=st.sampled_from(["NOTHING", "a [1].", "so it is [1][2]. " * 60, "[1] [2] " * 60, "w" * 4000, ""]),
    window=st.integers(300, 600),
)
def test_no_prompt_goes_beyond_the_window(question: int, lengths: list[int], reply: str, window: int) -> None:
    texts = [Document("A pier is long. " * length, id=str(number)) for number, length in enumerate(lengths)]
    generator = FakeGenerator(reply, context_window=window)
    try:
        run(map_reduce("why " * question, texts), generator=generator, mode="fast")
    except ContextOverflowError:
        assert not generator.prompts
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, window) <= window
