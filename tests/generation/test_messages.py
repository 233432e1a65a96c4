"""Prompts as messages: what is stable stays the same, byte for byte."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.generation.messages import INSTRUCTIONS, Message, Placement, render_messages
from carrel.types import Document, Passage, Prompt, Turn

WORDS = "harbour pier ferry lamp rope keeper tide winter ledger stone bridge water north clock letter".split()


def words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(count))


def passage(text: str, number: int = 0) -> Passage:
    return Passage(f"document {number}", 0, len(text), text, title=f"Page {number}")


def conversation(turns: int, seed: int = 0) -> list[Prompt]:
    """Prompts of one conversation: 300 tokens of system, 1,000 of passages and 150 a turn."""
    chance, history, out = random.Random(seed), [], []
    for turn in range(turns):
        passages = tuple(passage(words(chance, 194), 10 * turn + index) for index in range(5))
        question = words(chance, 50)
        out.append(Prompt(question, passages, system=words(chance, 300) if not out else out[0].system,
                          history=tuple(history)))  # fmt: skip
        history += [Turn("user", question, passages), Turn("assistant", words(chance, 100))]
    return out


def rendered(prompt: Prompt, placement: Placement) -> str:
    return "".join(f"<{m.role}>{m.content}</>" for m in render_messages(prompt, placement, instructions=""))


def test_appended_passages_leave_each_prompt_the_beginning_of_the_next() -> None:
    prompts = [rendered(prompt, "append") for prompt in conversation(20)]
    for before, after in pairwise(prompts):
        assert after.startswith(before)


def test_passages_last_leave_all_before_them() -> None:
    prompts = conversation(20)
    for before, after in pairwise(prompts):
        first, second = rendered(before, "last"), rendered(after, "last")
        assert first[: first.index("[1] ")] == second[: first.index("[1] ")]
    lengths = [len(rendered(prompt, "last")) for prompt in prompts]
    assert lengths[-1] < 0.25 * len(rendered(prompts[-1], "append"))


turn = st.builds(
    lambda role, text, shown: Turn(role, text, tuple(passage(t) for t in shown)),
    st.sampled_from(["user", "assistant"]), st.text(min_size=1, max_size=20), st.lists(st.text(max_size=9), max_size=2),
)  # fmt: skip


@given(st.lists(turn, max_size=6), st.sampled_from(["append", "last"]))
def test_a_chat_is_never_twice_the_same_role(history: list[Turn], placement: Placement) -> None:
    messages = render_messages(Prompt("And now?", (passage("It rains."),), history=tuple(history)), placement)
    roles = [message.role for message in messages]
    assert roles[0] == "system" and roles[-1] == "user"
    assert all(first != second for first, second in pairwise(roles))
    whole = "".join(message.content for message in messages)
    assert all(turn.text in whole for turn in history) and "It rains." in whole


def test_every_part_has_its_place() -> None:
    prompt = Prompt(
        "Why?", (passage("It rains.", 1),), task="Explain.", system="You are brief.",
        standing=(Document("House rules.", "rules", "Rules"),), notes=("A note.",),
    )  # fmt: skip
    assert render_messages(prompt) == [
        Message("system", f"You are brief.\n\nExplain.\n\n{INSTRUCTIONS}\n\nRules\nHouse rules."),
        Message("user", "[1] Page 1\nIt rains.\n\nA note.\n\nWhy?"),
    ]
    assert render_messages(Prompt("Why?"), instructions="") == [Message("user", "Why?")]


def test_a_placement_that_is_none() -> None:
    with pytest.raises(InputError, match="'append' or 'last', not 'first'"):
        render_messages(Prompt("Why?"), "first")  # type: ignore[arg-type]
