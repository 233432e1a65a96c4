"""The tools of a memory, for whatever calls functions: recall what a user said, and remember what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from carrel.agents.signatures import DEFAULT_TOKENS, Tool
from carrel.errors import BudgetError

if TYPE_CHECKING:
    from carrel.memory.conversation import ConversationMemory

LEAST_TOKENS = 64
REMEMBERED_BY = "assistant"


def memory_tools(memory: ConversationMemory, *, budget: int = DEFAULT_TOKENS) -> tuple[Tool, Tool]:
    """``recall`` and ``remember``, on the memory of one user. What is remembered outlives the run.

    Parameters
    ----------
    budget : the most tokens of what ``recall`` says, counted by the memory's tokenizer.

    Raises
    ------
    BudgetError : fewer than 64 tokens.
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < LEAST_TOKENS:
        raise BudgetError(f"what a tool says has room of {LEAST_TOKENS} tokens or more, not {budget!r}")

    def shorten(text: str) -> str:
        return memory.tokenizer.truncate(text, budget)

    def recall(arguments: Mapping[str, Any]) -> str:
        question = arguments["question"]
        if not any(character.isalnum() for character in question):
            return "The question has no words to look for. Call recall again with some."
        found = memory.recall(question, budget=budget)
        recent = "\n".join(f"{turn.role}: {turn.text}" for turn in found.recent)
        return "\n\n".join(part for part in (found.stable, recent, found.text) if part) or "Nothing of this was said."

    def remember(arguments: Mapping[str, Any]) -> str:
        note = " ".join(arguments["note"].split())
        if not note:
            return "The note is empty. Call remember again with what is to be kept."
        memory.observe(note, speaker=REMEMBERED_BY)
        return "It is kept."

    question = {"type": "string", "minLength": 1, "description": "what to look for in what the user has said"}
    note = {"type": "string", "minLength": 1, "description": "one thing about the user, in a whole sentence"}
    return (
        Tool(
            "recall",
            "Recall what this user said before, in this conversation and earlier ones, with the dates.",
            _object("question", question),
            budget,
            True,
            recall,
            shorten,
        ),
        Tool(
            "remember",
            "Keep something about this user for later conversations.",
            _object("note", note),
            budget,
            False,
            remember,
            shorten,
        ),
    )


def _object(name: str, schema: Mapping[str, object]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: dict(schema)}, "required": [name], "additionalProperties": False}
