"""A structured prompt as text: what changes least comes first, so that a server's prefix cache can keep it."""

from __future__ import annotations

from typing import Literal

from carrel.retrieval.packing import SEPARATOR, render
from carrel.types import Document, Prompt, Turn

Part = Literal["system", "task", "standing", "history", "passages", "notes", "question"]


def render_parts(prompt: Prompt) -> list[tuple[Part, str]]:
    """The parts that a prompt has, each as text, from the most stable to the question.

    The text of a part depends on nothing but that part. Two prompts that agree up to some part are
    therefore equal, byte for byte, up to its end. Inside a turn, further lines are indented, so that no
    text can pass for a turn of its own.
    """
    parts: list[tuple[Part, str]] = [
        ("system", prompt.system),
        ("task", prompt.task),
        ("standing", SEPARATOR.join(map(render_document, prompt.standing))),
        ("history", "\n".join(map(_turn, prompt.history))),
        ("passages", render(prompt.passages)),
        ("notes", "\n".join(prompt.notes)),
        ("question", prompt.question),
    ]
    return [(name, text) for name, text in parts if text]


def render_prompt(prompt: Prompt) -> str:
    """All parts as one text, a blank line between."""
    return SEPARATOR.join(text for _, text in render_parts(prompt))


def render_document(document: Document) -> str:
    """A standing document: its title, and its text from the next line on."""
    return f"{document.title}\n{document.text}".strip()


def _turn(turn: Turn) -> str:
    return f"{turn.role}: " + "\n  ".join(turn.text.splitlines())
