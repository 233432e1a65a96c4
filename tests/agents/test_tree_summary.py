"""Tree summaries: levels up to one root, evidence carried to it, what was not summarised named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import run
from carrel.agents.fitting import reply_room
from carrel.agents.tasks import SUMMARY
from carrel.agents.tree_summary import WHOLE, tree_summary
from carrel.errors import ContextOverflowError, InputError, RefusalError
from carrel.testing import FakeGenerator, FlowConformance
from carrel.types import Completion, Document, Passage, Prompt

BOOK = Document(
    "\n\n".join(f"Chapter {n} tells of harbour number {n}. " + "The sea was calm that day. " * 20 for n in range(12)),
    id="book",
)


def first_sentences(prompt: Prompt) -> str:
    """The first sentence of each of the first three passages."""
    lines = [
        f"{passage.text.strip().partition('. ')[0].rstrip('.')} [{number}]."
        for number, passage in enumerate(prompt.passages[:3], start=1)
    ]
    return " ".join(lines)


class TestTreeSummary(FlowConformance):
    window = 400

    def make(self) -> Any:
        return tree_summary(BOOK, tokens=48)

    def reply(self, prompt: Prompt) -> str:
        return first_sentences(prompt)

    def documents(self) -> list[Document]:
        return [BOOK]


def test_levels_lead_to_one_root_with_evidence_from_the_text() -> None:
    generator = FakeGenerator(first_sentences, context_window=400)
    result = run(tree_summary(BOOK, tokens=48), generator=generator, mode="fast").result
    counts = [len(level) for level in result.levels]
    assert result.pieces == counts[0] > 2 and counts[-1] == 1 and counts == sorted(set(counts), reverse=True)
    assert result.summary.text == result.levels[-1][0].text and result.summary.citations
    for citation in result.summary.citations:
        assert BOOK.text[citation.start : citation.end] == citation.quote
    assert generator.prompts[0].task == WHOLE and {prompt.kind for prompt in generator.prompts} == {"summary"}


def test_a_text_of_one_piece_is_its_own_root() -> None:
    generator = FakeGenerator("All is calm.")
    result = run(tree_summary(BOOK), generator=generator).result
    assert (result.summary.text, result.pieces, len(result.levels)) == ("All is calm.", 1, 1)


def test_two_pieces_have_one_root_of_both() -> None:
    said = ("The first text speaks of the old harbour.", "The second speaks of the new railway.")
    texts = [Passage(str(number), 0, len(text), text) for number, text in enumerate(said)]
    generator = FakeGenerator(lambda prompt: "A root." if prompt.notes else "A leaf.")
    result = run(tree_summary(texts, piece_tokens=16), generator=generator).result
    assert [[note.text for note in level] for level in result.levels][-1] == ["A root."]
    assert result.summary.text == "A root." and len(generator.prompts[-1].notes) == result.pieces >= 2


def test_a_question_is_what_the_summary_is_for() -> None:
    generator = FakeGenerator(first_sentences, context_window=400)
    run(tree_summary(BOOK, question="Which harbours?", tokens=48), generator=generator, mode="fast")
    tasks = [prompt.task for prompt in generator.prompts]
    assert tasks[0] == SUMMARY and "for the question" in tasks[-1]
    assert {prompt.question for prompt in generator.prompts} == {"Which harbours?"}


def test_a_text_that_says_nothing_has_no_summary() -> None:
    result = run(tree_summary(BOOK, question="Who?"), generator=FakeGenerator("NOTHING", context_window=400)).result
    assert result.summary.abstained and result.levels == ()


def test_a_refused_piece_and_a_refused_merge_are_named() -> None:
    def reply(prompt: Prompt) -> str | Completion:
        if prompt.notes or any("number 0." in passage.text for passage in prompt.passages):
            return Completion("I will not.", finish_reason="refused")
        return "A harbour."

    result = run(tree_summary(BOOK, tokens=48), generator=FakeGenerator(reply, context_window=400)).result
    assert result.skipped[0].startswith("Chapter 0") and len(result.skipped) > 1
    assert set(result.summary.text.splitlines()) == {"A harbour."}
    assert len(result.summary.text.splitlines()) == result.pieces - 1


def test_where_every_piece_is_refused_that_is_the_error() -> None:
    with pytest.raises(RefusalError):
        run(tree_summary(BOOK), generator=FakeGenerator(RefusalError("no"), context_window=400))


def test_what_cannot_be_asked() -> None:
    with pytest.raises(InputError, match="question"):
        run(tree_summary(BOOK, question=None), generator=FakeGenerator())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="tokens"):
        run(tree_summary(BOOK, tokens=1), generator=FakeGenerator())
    generator = FakeGenerator("x", context_window=200)
    with pytest.raises(ContextOverflowError):
        run(tree_summary(BOOK, question="why " * 300), generator=generator)
    assert not generator.prompts


@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    reply=st.sampled_from(["NOTHING", "a [1].", "so it is [1][2]. " * 60, "[1] [2] " * 60, "w" * 4000, ""]),
    window=st.integers(300, 600),
)
def test_no_prompt_goes_beyond_the_window(lengths: list[int], reply: str, window: int) -> None:
    texts = [
        Passage(str(number), 0, 15 * length, "A quay is long. "[:15] * length) for number, length in enumerate(lengths)
    ]
    generator = FakeGenerator(reply, context_window=window)
    try:
        run(tree_summary(texts), generator=generator, mode="fast")
    except ContextOverflowError:
        assert not generator.prompts
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, window) <= window
