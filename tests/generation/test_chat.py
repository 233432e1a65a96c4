"""What generators of chats have from their base."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import ContextOverflowError, InputError
from carrel.generation.chat import ChatGenerator
from carrel.generation.messages import INSTRUCTIONS, Message, render_messages
from carrel.testing import GeneratorConformance, WordTokenizer
from carrel.types import Completion, Passage, Prompt, Turn

PASSAGE = Passage("pier", 0, 27, "The pier was built in 1894.")


class Parrot(ChatGenerator):
    """Says the last message again, as far as its window goes."""

    name = "parrot"

    def __init__(self, window: int = 500, *, max_tokens: int = 100, placement="last", instructions=INSTRUCTIONS):
        super().__init__(max_tokens=max_tokens, placement=placement, instructions=instructions)
        self.context_window, self.closed = window, 0

    @property
    def tokenizer(self) -> WordTokenizer:
        return WordTokenizer()

    def chat_tokens(self, messages: Sequence[Message]) -> int:
        return sum(self.tokenizer.count(message.content) + 1 for message in messages)

    def complete(self, prompt: Prompt) -> Completion:
        messages = self.messages(prompt)
        room = self.room(prompt, self.chat_tokens(messages), self.context_window, "the parrot")
        return Completion(self.tokenizer.truncate(messages[-1].content, room))

    def close(self) -> None:
        self.closed += 1


class TestParrot(GeneratorConformance):
    def make(self) -> Parrot:
        return Parrot()


def test_prompts_are_messages_with_its_placement_and_instructions() -> None:
    prompt = Prompt("When?", (PASSAGE,), history=(Turn("user", "Hello?", (PASSAGE,)), Turn("assistant", "Yes?")))
    for placement in ("last", "append"):
        told = Parrot(placement=placement, instructions="Be brief.").messages(prompt)
        assert told == render_messages(prompt, placement, "Be brief.")
    assert Parrot().messages(prompt)[0] == Message("system", INSTRUCTIONS)
    assert [message.role for message in Parrot(instructions="").messages(prompt)] == ["user", "assistant", "user"]


def test_what_the_window_must_hold_besides_passages() -> None:
    parrot, prompt = Parrot(), Prompt("When was it built?", (PASSAGE,), task="Explain.")
    assert parrot.fixed_tokens(prompt) == parrot.chat_tokens(parrot.messages(Prompt(prompt.question, task="Explain.")))
    assert parrot.fixed_tokens(prompt) < parrot.chat_tokens(parrot.messages(prompt))


@given(st.integers(1, 200), st.none() | st.integers(1, 200), st.integers(1, 400), st.integers(0, 500))
def test_a_reply_never_outgrows_the_window(own: int, asked: int | None, window: int, used: int) -> None:
    parrot, prompt = Parrot(window, max_tokens=own), Prompt("When?", max_tokens=asked)
    most = min(own, own if asked is None else asked)
    assert parrot.most_tokens(prompt) == most
    try:
        room = parrot.room(prompt, used, window, "the parrot")
    except ContextOverflowError:
        assert window - used < min(16, most)
        return
    assert min(16, most) <= room <= most and used + room <= window
    assert room == most or used + room == window


def test_a_prompt_that_does_not_fit() -> None:
    message = (
        r"^the prompt has 1,012 tokens, and the parrot reads 1,024, prompt and reply together\. Use a smaller budget,"
        r" fewer turns of history, or a model with a larger window\.$"
    )
    with pytest.raises(ContextOverflowError, match=message):
        Parrot().room(Prompt("When?"), 1012, 1024, "the parrot")
    assert Parrot(max_tokens=12).room(Prompt("When?"), 1012, 1024, "the parrot") == 12  # no more was asked for
    assert Parrot().room(Prompt("When?", max_tokens=12), 1012, 1024, "the parrot") == 12


@pytest.mark.parametrize("most", [0, -1, True, False, 2.0, "9"])
def test_a_prompt_whose_limit_is_of_no_use(most: object) -> None:
    with pytest.raises(InputError, match=rf"^max_tokens of a prompt must be above 0, not {most!r}$"):
        Parrot().complete(Prompt("When?", max_tokens=most))  # type: ignore[arg-type]


def test_it_closes_itself() -> None:
    with Parrot() as parrot:
        assert parrot.closed == 0
    assert parrot.closed == 1
    with pytest.raises(KeyError), parrot:
        raise KeyError("mine")
    assert parrot.closed == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be above 0, not 0"),
        ({"max_tokens": True}, "max_tokens must be above 0, not True"),
        ({"max_tokens": "9"}, "max_tokens must be above 0, not '9'"),
        ({"placement": "first"}, "passages are placed 'append' or 'last', not 'first'"),
    ],
)
def test_options_of_no_use(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Parrot(**options)  # type: ignore[arg-type]
