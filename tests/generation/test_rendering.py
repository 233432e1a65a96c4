"""A prompt as text: stable parts first, each part on its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from carrel.generation.messages import render_messages
from carrel.generation.rendering import render_document, render_parts, render_prompt
from carrel.types import Document, Passage, Prompt, Turn

ORDER = ["system", "task", "standing", "history", "passages", "notes", "question"]
words = st.text("abc [1]\n:", max_size=12)
prompts = st.builds(
    Prompt,
    question=words.map(lambda text: f"q{text}"),
    system=words,
    task=words,
    standing=st.lists(st.builds(Document, text=words, title=words), max_size=2).map(tuple),
    history=st.lists(st.builds(Turn, role=st.sampled_from(["user", "assistant"]), text=words), max_size=3).map(tuple),
    passages=st.lists(words.map(lambda text: Passage("d", 0, len(text) + 1, f"x{text}")), max_size=3).map(tuple),
    notes=st.lists(words, max_size=2).map(tuple),
)


def test_every_part_stands_in_its_place() -> None:
    prompt = Prompt(
        "When?",
        (Passage("pier", 0, 5, "Piers", title="The pier"),),
        "Answer briefly.",
        "You are a clerk.",
        (Document("No dogs.", title="Rules"),),
        (Turn("user", "Hello"), Turn("assistant", "Good day\nsir")),
        ("Checked.",),
    )
    assert [name for name, _ in render_parts(prompt)] == ORDER
    assert render_prompt(prompt) == (
        "You are a clerk.\n\nAnswer briefly.\n\nRules\nNo dogs.\n\nuser: Hello\nassistant: Good day\n  sir\n\n"
        "[1] The pier\nPiers\n\nChecked.\n\nWhen?"
    )


def test_a_document_begins_with_its_title() -> None:
    assert render_document(Document("No dogs.\n", title="Rules")) == "Rules\nNo dogs."
    assert render_document(Document("No dogs.")) == "No dogs."


@given(prompts, words)
def test_the_next_question_leaves_all_before_it_as_it_was(prompt: Prompt, question: str) -> None:
    first, second = render_prompt(prompt), render_prompt(replace(prompt, question=f"r{question}"))
    stable = first[: len(first) - len(prompt.question)]
    assert second.startswith(stable)


@given(prompts, st.none() | st.integers(1, 99), words, st.sampled_from(["last", "append"]))
def test_how_long_a_reply_and_of_what_kind_is_never_rendered(
    prompt: Prompt, most: int | None, kind: str, placement: Literal["last", "append"]
) -> None:
    other = replace(prompt, max_tokens=most, kind=kind)
    assert render_prompt(other) == render_prompt(prompt)
    assert render_messages(other, placement) == render_messages(prompt, placement)


@given(prompts, prompts)
def test_what_two_prompts_share_at_the_start_they_share_byte_for_byte(first: Prompt, second: Prompt) -> None:
    second = replace(second, system=first.system, task=first.task, standing=first.standing, history=first.history)
    stable = [text for name, text in render_parts(first) if name in ORDER[:4]]
    assert [text for name, text in render_parts(second) if name in ORDER[:4]] == stable


@given(st.text("ab\n: user", max_size=30))
def test_a_turn_cannot_pass_for_two(text: str) -> None:
    rendered = render_parts(Prompt("q", history=(Turn("user", text),)))[0][1]
    assert all(line.startswith("  ") for line in rendered.splitlines()[1:])
