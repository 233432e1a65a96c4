"""Generators without a model."""

from __future__ import annotations

import pytest

from carrel.errors import GenerationError, RateLimitError
from carrel.generation import replies
from carrel.testing import EchoGenerator, FakeGenerator, GeneratorConformance
from carrel.types import Completion, Passage, Prompt, TextEvent


class TestFakeGenerator(GeneratorConformance):
    def make(self) -> FakeGenerator:
        return FakeGenerator("The pier was built in 1894.")


class TestEchoGenerator(GeneratorConformance):
    def make(self) -> EchoGenerator:
        return EchoGenerator()


def test_a_script_is_said_in_its_order_and_prompts_are_kept() -> None:
    whole = Completion("two", finish_reason="length")
    fake = FakeGenerator(["one", whole, RateLimitError("slow"), lambda prompt: prompt.question.upper()])
    assert replies.complete(fake, Prompt("a")).text == "one"
    assert replies.complete(fake, Prompt("b")).finish_reason == "length"
    with pytest.raises(RateLimitError, match="slow"):
        fake.complete(Prompt("c"))
    assert fake.complete(Prompt("d")).text == "D"
    with pytest.raises(GenerationError, match="the script of fake has 4 replies"):
        fake.complete(Prompt("e"))
    assert [prompt.question for prompt in fake.prompts] == ["a", "b", "c", "d", "e"]


def test_one_reply_is_given_to_every_call() -> None:
    fake = FakeGenerator("yes")
    assert {fake.complete(Prompt("a")).text for _ in range(3)} == {"yes"}


@pytest.mark.parametrize("text", ["", " two  words \n", "one"])
def test_a_stream_says_the_same_word_by_word(text: str) -> None:
    said = [event.text for event in FakeGenerator(text).stream(Prompt("a")) if isinstance(event, TextEvent)]
    assert "".join(said) == text


def test_an_echo_is_what_a_model_is_shown() -> None:
    passage = Passage("pier", 0, 9, "It rains.", title="Pier")
    assert EchoGenerator().complete(Prompt("Why?", (passage,))).text == "[1] Pier\nIt rains.\n\nWhy?"


async def test_every_generator_has_asynchronous_twins() -> None:
    assert (await FakeGenerator("yes").acomplete(Prompt("a"))).text == "yes"
    events = [event async for event in FakeGenerator("yes and no").astream(Prompt("a"))]
    assert len([event for event in events if isinstance(event, TextEvent)]) == 3
