"""Structures of texts: scope, aspects and descriptions as JSON, read from replies, and as lines for a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carrel.agents.replying import Note, gathered

STRUCTURE = (
    "Show how the passages are built{for_what}, in three levels: what they are about as a whole (scope), the aspects"
    " of it that they treat, and for each aspect what they say of it (descriptions: whole sentences). After each"
    " description, name the passages that it rests on, like this: [1] or [2][3]. Add nothing of your own. Reply with"
    ' JSON alone: {{"scope": "...", "aspects": [{{"aspect": "...", "descriptions": ["... [1]", "... [2]"]}}]}}'
)
_LINES: Mapping[str, object] = {"type": "array", "items": {"type": "string"}}
_ASPECT: Mapping[str, object] = {
    "type": "object",
    "properties": {"aspect": {"type": "string"}, "descriptions": _LINES},
    "required": ["aspect", "descriptions"],
    "additionalProperties": False,
}
SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": {"scope": {"type": "string"}, "aspects": {"type": "array", "items": _ASPECT}},
    "required": ["scope", "aspects"],
    "additionalProperties": False,
}
WHY = 'it is not JSON of the form {"scope": "...", "aspects": [{"aspect": "...", "descriptions": ["... [1]"]}]}'
Outline = tuple[str, tuple[tuple[str, tuple[str, ...]], ...]]


@dataclass(frozen=True, slots=True)
class Aspect:
    """A side of the scope, and what is said of it; marks of each description are the numbers of its own evidence."""

    name: str
    descriptions: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Structure:
    """What a piece of text is about, in three levels."""

    scope: str
    aspects: tuple[Aspect, ...]


def read_outline(text: str) -> Outline:
    """Reads the JSON of a structure, whatever stands around it.

    Raises
    ------
    ValueError : it is not there, or has no description.
    """
    try:
        found: Any = json.JSONDecoder().raw_decode(text, max(0, text.find("{")))[0]
        scope, aspects = " ".join(str(found["scope"]).split()), list[tuple[str, tuple[str, ...]]]()
        for each in found["aspects"]:
            said = each["descriptions"]
            lines = (" ".join(line.split()) for line in ([said] if isinstance(said, str) else said))
            aspects.append((" ".join(str(each["aspect"]).split()), tuple(filter(None, lines))))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(WHY) from None
    aspects = [(name, lines) for name, lines in aspects if lines]
    if not aspects:
        raise ValueError(WHY)
    return scope, tuple(aspects)


def rendered(parts: Sequence[Structure]) -> Note:
    """Structures as lines, with one numbering of what all of them quote."""
    notes = [note for part in parts for aspect in part.aspects for note in aspect.descriptions]
    texts, evidence = gathered(notes)
    said, lines = iter(texts), list[str]()
    for part in parts:
        lines.append(f"Scope: {part.scope}")
        for number, aspect in enumerate(part.aspects, start=1):
            lines.append(f"{number}. {aspect.name}")
            lines += [f"{number}.{place} {next(said)}" for place, _ in enumerate(aspect.descriptions, start=1)]
    unsupported = tuple(mark for note in notes for mark in note.unsupported)
    return Note("\n".join(lines), evidence, unsupported)
