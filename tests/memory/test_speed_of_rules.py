"""No rule takes long over any text: whoever speaks must not be able to stop everybody else."""

from __future__ import annotations

import time

import pytest

from carrel.memory.base import StoredTurn
from carrel.memory.claims import claims
from carrel.memory.controller import needed
from carrel.memory.followups import whole
from carrel.memory.importance import importance
from carrel.memory.periods import asked_period, said_period, without_relative
from carrel.memory.rendering import said
from carrel.memory.times import times
from carrel.memory.words import asked_people, asked_terms, terms

LONG = 8_000
BITS = (
    "a", "aB3x", "1", "+-", "-", " ", "\n", "(", ".", "?", "'", "I ", "my ", "ok ", "no, ", "last ", "in ", "May ", "A",
    "Ann ", "\u00e9", "\u200b", "\u4e00", "and ", "what is ", "moved to ", "1.", "\u201c", "I moved to ", "on Monday ",
)  # fmt: skip
AROUND = (("", ""), ("ok ", " b c d e"), ("Thanks! ", " is the token"), ("1", "x"), ("What is 1", "?"))


@pytest.mark.parametrize("bit", BITS)
def test_a_long_text_is_soon_read(bit: str) -> None:
    for before, after in AROUND:
        text = before + bit * (LONG // len(bit)) + after
        turn = StoredTurn(1, "s", "user", text, 1.7e9)
        began = time.process_time()
        importance(text)
        needed(text)
        claims(turn)
        times(text, 1.7e9)
        asked_period(text, 1.7e9)
        said_period(text, 1.7e9)
        without_relative(text, 1.7e9)
        asked_people(text, ["user", "Ann", "assistant"])
        asked_terms(text)
        terms(text)
        said(text)
        whole(text[:2000], [turn])
        whole("And in 2019?", [turn])
        assert time.process_time() - began < 2.0, (before, bit)
