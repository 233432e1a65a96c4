"""Documents in the language of the tiny model, and what they are asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from carrel.memory.parametric.pairs import Pair
from carrel.types import Document
from training.needle_lm.language import ENTITIES, FIELDS, VALUES

MODEL = Path(__file__).parents[2] / "models" / "needle_lm"


def documents(count: int, facts: int, *, seed: int = 0, fields: int = 5) -> list[Document]:
    """Texts of so many facts each, about ``fields`` fields of an entity; no two documents know the same entity."""
    chance = np.random.default_rng(seed)
    people = chance.permutation(np.array(ENTITIES))
    each = -(-facts // fields)
    made = []
    for number in range(count):
        own = people[number * each : (number + 1) * each]
        cells = [(who, field) for who in own for field in chance.permutation(np.array(FIELDS))[:fields]][:facts]
        text = " ".join(f"{who} {field} {chance.choice(np.array(VALUES))} ." for who, field in cells)
        made.append(Document(text, id=f"{seed}-{number}"))
    return made


def pairs(document: Document) -> list[Pair]:
    """A question for each fact."""
    words = document.text.split()
    facts = [words[at : at + 4] for at in range(0, len(words), 4)]
    return [Pair(f"? {who} {field}", value, f"{who} {field} {value} .") for who, field, value, _ in facts]
