"""ThinkSum: every passage on its own, probabilities from tokens, statements or generators, sums by code."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import run
from carrel.agents.fitting import reply_room
from carrel.agents.think_sum import Summed, think_sum
from carrel.agents.thinking import Thought, named, read_thought
from carrel.errors import ContextOverflowError, InputError, RefusalError, ReplyFormatError
from carrel.generation.extractive import ABSTENTION
from carrel.testing import FakeGenerator, FlowConformance
from carrel.types import Citation, Completion, Document, Passage, Prompt, ShortAnswer

QUESTION = "In which year was the pier built?"
SAID = {
    "guide": "The pier was built in 1894 by the harbour company.",
    "letter": "I remember that the pier was built in 1894, the year of the storm.",
    "blog": "They say the pier was built in 1912.",
    "menu": "We serve fish and chips from noon.",
}
PASSAGES = [Passage(name, 0, len(text), text) for name, text in SAID.items()]


def thinking(prompt: Prompt) -> str:
    text = prompt.passages[0].text
    year = next((year for year in ("1894", "1912") if year in text), "")
    said = f"{1 + ('1912', '1894').index(year)}" if prompt.notes and year else year
    return f"ANSWER: {said}\nCONFIDENCE: {60 if 'say' in text else 80}" if year else "NOTHING"


def ask(generator: FakeGenerator, texts: Any = PASSAGES, **settings: Any) -> Summed:
    return run(think_sum(QUESTION, texts, **settings), generator=generator, mode="fast").result


class TestThinkSum(FlowConformance):
    window = 300

    def make(self) -> Any:
        return think_sum(QUESTION, self.documents())

    def reply(self, prompt: Prompt) -> str:
        return thinking(prompt)

    def documents(self) -> list[Document]:
        return [Document(text, id=name) for name, text in SAID.items()]


def test_each_passage_is_asked_on_its_own_and_code_sums() -> None:
    generator = FakeGenerator(thinking)
    result = ask(generator)
    assert [len(prompt.passages) for prompt in generator.prompts] == [1] * 4
    assert [thought.answers for thought in result.thoughts] == [{"1894": 0.8}, {"1894": 0.8}, {"1912": 0.6}, {}]
    assert list(result.distribution) == ["1894", "1912"]
    assert result.distribution["1894"] == pytest.approx((0.8 + 0.8) / 3)
    assert result.answer.text.startswith("1894") and result.answer.confidence == result.distribution["1894"]
    for citation in result.answer.citations:
        assert SAID[citation.document_id][citation.start : citation.end] == citation.quote
    assert result.answer.text.startswith("1894 [1]")
    assert {each.document_id for each in result.answer.passages} <= {"guide", "letter"} and result.answer.citations


@pytest.mark.parametrize("rule", ["mixture", "product", "vote"])
def test_choices_share_what_there_is(rule: Any) -> None:
    generator = FakeGenerator(thinking)
    result = ask(generator, choices=["1912", "1894"], rule=rule)
    assert list(result.distribution) == ["1894", "1912"] and sum(result.distribution.values()) == pytest.approx(1)
    assert generator.prompts[0].notes == ("1. 1912", "2. 1894")


def test_passages_count_by_their_relevance_where_that_is_asked_for() -> None:
    result = ask(FakeGenerator(thinking), weighted=True)
    weights = [thought.weight for thought in result.thoughts]
    assert weights != [1.0] * 4 and all(0 <= weight <= 1 for weight in weights)
    assert weights[3] < min(weights[:2])


def test_what_tells_nothing_does_not_count_and_nothing_at_all_is_an_abstention() -> None:
    for reply in ("NOTHING", ABSTENTION, "ANSWER: nothing\nCONFIDENCE: 90", Completion("-", finish_reason="abstained")):
        result = ask(FakeGenerator(reply))
        assert result.answer.abstained and result.distribution == {} and len(result.thoughts) == 4


def test_a_wrong_form_is_repaired_once_then_reported() -> None:
    generator = FakeGenerator(["1894, I think.", "ANSWER: 1894\nCONFIDENCE: 70"])
    assert ask(generator, PASSAGES[:1]).distribution == {"1894": 0.7}
    assert "it is not two lines" in generator.prompts[1].notes[-1] and generator.prompts[0].notes == ()

    def reply(prompt: Prompt) -> str:
        return "Who knows?" if prompt.passages[0].document_id == "blog" else thinking(prompt)

    result = ask(FakeGenerator(reply))
    assert len(result.thoughts) == 3 and result.skipped[0].startswith("They say") and "Who knows?" in result.skipped[0]
    with pytest.raises(ReplyFormatError):
        ask(FakeGenerator("Who knows?"))


@pytest.mark.parametrize(
    "failure",
    [
        Completion("I will not.", finish_reason="refused"),
        RefusalError("I will not."),
        ContextOverflowError("I will not."),
    ],
)
def test_a_passage_that_could_not_be_asked_is_named(failure: Any) -> None:
    def reply(prompt: Prompt) -> str | Completion:
        if prompt.passages[0].document_id != "blog":
            return thinking(prompt)
        if isinstance(failure, Exception):
            raise failure
        said: Completion = failure
        return said

    result = ask(FakeGenerator(reply))
    assert list(result.distribution) == ["1894"] and len(result.skipped) == 1 and "I will not." in result.skipped[0]


def test_the_tokens_of_the_answer_tell_how_sure_it_is() -> None:
    tokens = (("ANSWER", -0.5), (": ", -0.5), ("18", -0.1), ("94", -0.2), ("\nCONFIDENCE: ", -0.9), ("99", -3.0))
    reply = Completion("ANSWER: 1894\nCONFIDENCE: 99", logprobs=tokens)
    assert read_thought(reply) == ({"1894": pytest.approx(math.exp(-0.3))}, "logprobs")
    numbered = Completion("ANSWER: 2. 1894", logprobs=(("ANSWER: ", -1.0), ("2", -0.25), (". 1894", -2.0)))
    assert read_thought(numbered, ("1912", "1894")) == ({"1894": pytest.approx(math.exp(-0.25))}, "logprobs")
    strange = Completion("ANSWER: 1894\nCONFIDENCE: 40", logprobs=(("\u2581", -1.0),))
    assert read_thought(strange) == ({"1894": 0.4}, "stated")


def test_a_generator_with_confidences_of_its_own_is_believed() -> None:
    assert read_thought(Completion("ANSWER: 1894", confidence=0.3)) == ({"1894": 0.3}, "generator")
    quote = Citation(1, "guide", 0, 10, "The pier was"[:10])
    found = tuple(
        ShortAnswer(text, 0, 4, sure, quote) for text, sure in (("1894", 0.7), ("in 1912", 0.5), ("1999", 0.2))
    )
    reply = Completion("The pier was built in 1894.", answers=found)
    assert read_thought(reply) == ({"1894": 0.7, "in 1912": pytest.approx(0.3), "1999": 0.0}, "generator")
    assert read_thought(reply, ("1912", "2000")) == ({"1912": 0.5}, "generator")


def test_what_cannot_be_read() -> None:
    for wrong in ("", "1894", "ANSWER: 1894", "ANSWER: ?\nCONFIDENCE: 9", "ANSWER: x\nCONFIDENCE: 900", "\n" * 9000):
        with pytest.raises(ValueError, match="two lines"):
            read_thought(Completion(wrong))
    for wrong in ("ANSWER: 3\nCONFIDENCE: 9", "ANSWER: 1894\nCONFIDENCE: 9", "ANSWER: a\nCONFIDENCE: 9"):
        with pytest.raises(ValueError, match="no number from 1 to 2"):
            read_thought(Completion(wrong), ("a", "b"))
    assert read_thought(Completion("**Answer:** Rome.\n**Confidence:** 85%")) == ({"Rome": 0.85}, "stated")


def test_answers_that_differ_in_case_alone_are_one() -> None:
    thoughts = named([Thought(PASSAGES[0], {"The Pier": 0.5}), Thought(PASSAGES[1], {"the  pier": 0.4, "-5": 0.2})])
    assert [each.answers for each in thoughts] == [{"The Pier": 0.5}, {"The Pier": 0.4, "-5": 0.2}]


def test_what_cannot_be_asked() -> None:
    for wrong in ([], ["a"], ["a", "a "], ["a", " "], "ab", [1, 2], 3):
        with pytest.raises(InputError, match="choice"):
            ask(FakeGenerator("x"), choices=wrong)
    with pytest.raises(InputError, match="mixture"):
        ask(FakeGenerator("x"), rule="mean")
    with pytest.raises(InputError, match="no text"):
        ask(FakeGenerator("x"), [])
    generator = FakeGenerator("x", context_window=200)
    with pytest.raises(ContextOverflowError):
        run(think_sum("why " * 300, PASSAGES), generator=generator)
    assert not generator.prompts


@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=4),
    reply=st.sampled_from(
        ["no", "ANSWER: 1\nCONFIDENCE: 50", "NOTHING", "ANSWER: " + "1 so " * 900 + "\nCONFIDENCE: 1"]
    ),
    window=st.integers(190, 500),
    question=st.integers(1, 60),
    choices=st.none() | st.integers(2, 12),
)
def test_no_prompt_goes_beyond_the_window(
    lengths: list[int], reply: str, window: int, question: int, choices: int | None
) -> None:
    texts = [Document("A quay is long. " * length, id=str(place)) for place, length in enumerate(lengths)]
    known = None if choices is None else [f"choice {number}" for number in range(choices)]
    generator = FakeGenerator(reply, context_window=window)
    try:
        run(think_sum("why " * question, texts, choices=known), generator=generator, mode="fast")
    except ReplyFormatError:
        assert reply == "no"
    except ContextOverflowError:
        assert not generator.prompts
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, window) <= window
