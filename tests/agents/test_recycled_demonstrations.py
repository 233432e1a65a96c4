"""Recycled demonstrations: made from the context, verified against it, shown as turns with the right numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import run
from carrel.agents.demonstrations import Demonstration, is_answered, read_lines
from carrel.agents.fitting import reply_room
from carrel.agents.recycled_demonstrations import ANSWER, Demonstrated, recycled_demonstrations
from carrel.errors import ContextOverflowError, InputError, RefusalError
from carrel.testing import FakeGenerator, FlowConformance
from carrel.types import Completion, Document, Passage, Prompt, Span

QUESTION = "Which town has the oldest pier?"
TOWNS = ("Ambleton", "Brixcombe", "Culverden", "Dunmoor", "Eastwick", "Farnleigh", "Gresham", "Holmfirth", "Ilford")


def passages(count: int = 9) -> list[Passage]:
    texts = [f"{town} built its wooden pier in {1880 + number}." for number, town in enumerate(TOWNS[:count])]
    return [Passage(town, 0, len(text), text) for town, text in zip(TOWNS, texts, strict=False)]


def demonstrating(prompt: Prompt) -> str:
    """A demonstration of the last passage of a piece; the real question is answered with a quotation."""
    if prompt.kind == "demonstration":
        last = prompt.passages[-1].text
        year, town = (re.findall(r"\d{4}", last) or ["1880"])[-1], last.split()[0]
        return f"QUESTION: When did {town} build its pier?\nPASSAGE: [{len(prompt.passages)}]\nANSWER: {year}"
    return f"Passages: [1]\n{prompt.passages[0].text.rstrip('.')} [1]."


def ask(generator: FakeGenerator, **settings: Any) -> Demonstrated:
    texts = settings.pop("texts", passages())
    return run(recycled_demonstrations(QUESTION, texts, **settings), generator=generator, mode="fast").result


class TestRecycledDemonstrations(FlowConformance):
    window = 600

    def make(self) -> Any:
        return recycled_demonstrations(QUESTION, self.documents())

    def reply(self, prompt: Prompt) -> str:
        return demonstrating(prompt)

    def documents(self) -> list[Document]:
        return [Document(each.text, id=each.document_id) for each in passages()]


def test_the_question_is_put_after_demonstrations_with_the_context_once() -> None:
    generator = FakeGenerator(demonstrating)
    result = ask(generator)
    assert len(generator.prompts) == 4 and len(result.demonstrations) == 3 and result.dropped == ()
    last = generator.prompts[-1]
    assert last.task == ANSWER and [each.text for each in last.passages] == [each.text for each in passages()]
    assert [turn.role for turn in last.history] == ["user", "assistant"] * 3
    for demonstration, turn in zip(result.demonstrations, last.history[1::2], strict=True):
        number = int(re.findall(r"\[(\d+)\]", turn.text)[0])
        assert demonstration.answer in last.passages[number - 1].text and demonstration.answer in turn.text
        assert turn.text.startswith("Passages: [")
    assert [citation.quote for citation in result.answer.citations] == [passages()[0].text]


def test_the_seed_decides_where_they_are_made() -> None:
    first, again, other = (ask(FakeGenerator(demonstrating), demonstrations=1, seed=seed) for seed in (0, 0, 2))
    assert first == again and first.demonstrations != other.demonstrations


def test_none_are_made_where_none_are_wanted() -> None:
    generator = FakeGenerator(demonstrating)
    assert ask(generator, demonstrations=0).demonstrations == () and len(generator.prompts) == 1


def test_a_short_context_has_as_many_as_it_has_places() -> None:
    generator = FakeGenerator(demonstrating)
    assert len(ask(generator, texts=passages(2)).demonstrations) == 1


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("QUESTION: When?\nPASSAGE: [1]\nANSWER: in 1066", "does not say 'in 1066'"),
        ("QUESTION: When?\nPASSAGE: [9]\nANSWER: 1880", "passage 9, which there is not"),
        (f"QUESTION: {QUESTION}\nPASSAGE: [1]\nANSWER: pier", "is asked already"),
        ("What about it?", "twice"),
        (Completion("I will not.", finish_reason="refused"), "I will not."),
        (ContextOverflowError("too long"), "too long"),
    ],
)
def test_what_is_not_verified_is_dropped_and_reported(reply: Any, why: str) -> None:
    def said(prompt: Prompt) -> str | Completion:
        if prompt.kind != "demonstration":
            return demonstrating(prompt)
        if isinstance(reply, Exception):
            raise reply
        out: str | Completion = reply
        return out

    generator = FakeGenerator(said)
    result = ask(generator, demonstrations=2)
    assert result.demonstrations == () and len(result.dropped) == 2
    assert all(why in dropped for dropped in result.dropped)
    assert generator.prompts[-1].history == () and result.answer.citations


def test_two_that_ask_the_same_are_one() -> None:
    def said(prompt: Prompt) -> str:
        same = "QUESTION: What was built?\nPASSAGE: [1]\nANSWER: its wooden pier"
        return same if prompt.kind == "demonstration" else demonstrating(prompt)

    result = ask(FakeGenerator(said))
    assert len(result.demonstrations) == 1 and len(result.dropped) == 2


def test_a_wrong_form_is_repaired_once() -> None:
    good = "QUESTION: When did it open?\nPASSAGE: [1]\nANSWER: 1880"
    generator = FakeGenerator(["What?", good, "Passages: [1]\nSo."])
    assert len(ask(generator, texts=passages(1)).demonstrations) == 1


def test_what_the_window_does_not_hold_is_counted_and_demonstrations_give_way() -> None:
    generator = FakeGenerator(demonstrating, context_window=260)
    result = ask(generator)
    shown = generator.prompts[-1].passages
    assert result.left_out > 0 and len(shown) + result.left_out in (9, 10)
    assert all(any(is_answered(each, passage) for passage in shown) for each in result.demonstrations)


def test_a_refused_answer_is_an_error() -> None:
    with pytest.raises(RefusalError):
        ask(FakeGenerator(RefusalError("no")))


def test_what_cannot_be_asked() -> None:
    for wrong in (-1, True, 1.5):
        with pytest.raises(InputError, match="demonstrations"):
            ask(FakeGenerator("x"), demonstrations=wrong)
    generator = FakeGenerator("x", context_window=200)
    with pytest.raises(ContextOverflowError):
        run(recycled_demonstrations("why " * 300, passages()), generator=generator)
    assert not generator.prompts


def test_lines_are_read_as_models_write_them() -> None:
    assert read_lines("**Question:** When?\n**Passage:** 2\n**Answer:** “in 1880” [2].") == ("When?", 2, "in 1880")
    assert read_lines("- question: a b?\n- PASSAGE: [3]\n- answer: C.") == ("a b?", 3, "C")
    for wrong in ("", "QUESTION: a?\nANSWER: b", "QUESTION: ?\nPASSAGE: [1]\nANSWER: b", "\n" * 5000):
        with pytest.raises(ValueError, match="three lines"):
            read_lines(wrong)
    with pytest.raises(ValueError, match="characters"):
        read_lines(f"QUESTION: a?\nPASSAGE: [1]\nANSWER: {'b' * 201}")


def test_an_answer_stands_in_its_passage_as_whole_words() -> None:
    text = "The Pier — built 1894, not later. 港は東京にある。"
    passage = Passage("a", 10, 10 + len(text), text)

    def stands(answer: str, within: Passage = passage) -> bool:
        return is_answered(Demonstration("q", answer, passage), within)

    assert stands("the pier, built") and stands("1894") and stands("東京")
    assert not stands("189") and not stands("late") and not stands("大阪")
    kept = Passage("a", 10, 10 + len(text), text, kept=(Span(10, 18),))
    assert stands("pier", kept) and not stands("1894", kept)
    assert not stands("1894", Passage("b", 10, 10 + len(text), text))
    assert not stands("1894", Passage("a", 100, 100 + len(text), text))


@given(
    count=st.integers(1, 9),
    demonstrations=st.integers(0, 4),
    window=st.integers(260, 600),
    question=st.integers(1, 80),
    words=st.integers(1, 90),
)
def test_no_prompt_goes_beyond_the_window(
    count: int, demonstrations: int, window: int, question: int, words: int
) -> None:
    def said(prompt: Prompt) -> str:
        asked, _, rest = demonstrating(prompt).partition("\n")
        return f"{asked} {'so ' * words}\n{rest}"

    generator = FakeGenerator(said, context_window=window)
    flow = recycled_demonstrations("why " * question, passages(count), demonstrations=demonstrations)
    try:
        run(flow, generator=generator, mode="fast")
    except ContextOverflowError:
        assert not generator.prompts
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, window) <= window
