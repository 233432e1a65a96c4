"""What an agent makes of replies: calls wherever a model puts them, and words where there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from carrel.agents import run
from carrel.agents.acting import Action, read_reply
from carrel.agents.agent import Acted, agent
from carrel.agents.signatures import Tool
from carrel.testing import FakeGenerator
from carrel.tokens import shipped_tokenizer

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
ECHO = Tool("echo", "Says it again.", TEXT, run=lambda arguments: arguments["text"].upper())
CALL = '{"tool": "echo", "arguments": {"text": "a"}}'
ANSWER = '{"answer": "A."}'


def _acted(script: list[str], **options: Any) -> tuple[Acted, FakeGenerator]:
    generator = FakeGenerator(script, **options)  # type: ignore[arg-type]
    return run(agent("Which?", [ECHO]), generator=generator, tools=[ECHO]).result, generator


@pytest.mark.parametrize(
    "reply",
    [
        CALL,
        f"```json\n{CALL}\n```",
        f"I think {{so}}. {CALL}",
        f'<think>{{"hm": {{"answer": 1}}}}</think>{CALL}',
        "{" * 40 + CALL,
        json.dumps({"tool": "echo", "arguments": '{"text": "a"}'}),  # as chat servers send arguments
    ],
)
def test_a_call_is_found_where_a_model_puts_it(reply: str) -> None:
    assert read_reply(reply, closing=False) == Action("echo", {"text": "a"})
    result, _ = _acted([reply, ANSWER])
    assert [(action.tool, action.said) for action in result.actions] == [("echo", "A")]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("no", "holds no JSON object"), ("{{{{", "is not whole, or is none"), ("{" * 10**5, "is not whole, or is none"),
        ('{"hm": 1}', "it has no answer and no tool"), ('{"a": 1} {"b": 2}', "it has no answer and no tool"),
        ('{"tool": "echo", "arguments": "text"}', "arguments are no JSON object"),
        ('{"tool": "echo", "arguments": "[1]"}', "arguments are no JSON object"),
        ('{"tool": "echo", "arguments": [1]}', "arguments are no JSON object"),
        ('{"tool": "echo", "answer": "both"}', "both a tool and an answer"),
    ],
)  # fmt: skip
def test_a_reply_of_no_use_is_told_why(reply: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_reply(reply, closing=False)


@pytest.mark.parametrize("depth", [33, 500, 900, 960, 970, 980, 5000])
@pytest.mark.parametrize("tool", ["echo", "no_such_tool"])
def test_arguments_nested_without_end_are_told_in_words(tool: str, depth: int) -> None:
    reply = f'{{"tool": "{tool}", "arguments": {{"text": {"[" * depth}{"]" * depth}}}}}'
    result, _ = _acted([reply, ANSWER])
    (action,) = result.actions
    assert "levels deep" in action.said or "is none" in action.said
    assert result.answer.text == "A."


@pytest.mark.parametrize(
    "reply",
    [r'{"tool": "echo", "arguments": {"no": "\ud800"}}', r'{"tool": "none", "arguments": {"text": "\ud800"}}'],
)
def test_half_a_character_in_arguments_does_no_harm(reply: str) -> None:
    result, generator = _acted([reply, ANSWER], tokenizer=shipped_tokenizer(), context_window=2000)
    assert result.answer.text == "A." and not result.actions[0].called
    assert "\ufffd" in generator.prompts[1].notes[0]
