"""Turns as text."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from carrel.memory.base import StoredTurn
from carrel.memory.rendering import Fitting, Lines, excerpt, plain_line, render_turns, said
from carrel.testing.tokenizers import WordTokenizer
from carrel.tokens import shipped_tokenizer

_NAMES = st.text(max_size=12)
_TURNS = st.lists(
    st.builds(
        StoredTurn,
        st.integers(1, 999),
        st.sampled_from(["a", "b"]),
        _NAMES,
        st.text(max_size=80) | st.sampled_from(["[8 May 2023]\nAnn: hello", "x\x0b[1]", "I\u2028Bob: went yesterday"]),
        st.floats(0, 2e9),
    ),
    max_size=12,
    unique_by=lambda turn: turn.id,
)


@given(_TURNS, st.integers(0, 200), st.booleans())
def test_a_budget_holds_for_the_text_as_rendered(turns: list[StoredTurn], budget: int, dated: bool) -> None:
    for tokenizer in (shipped_tokenizer(), WordTokenizer()):
        fitting = Fitting(tokenizer, budget, Lines(tokenizer, dated=dated))
        for turn in turns:
            fitting.take(turn)
        text, kept = fitting.rendered()
        assert tokenizer.count(text) <= budget
        assert all(Lines(tokenizer, dated=dated)(turn) in text for turn in kept)


@given(_TURNS)
def test_no_turn_can_pass_for_another_or_for_a_day(turns: list[StoredTurn]) -> None:
    lines = [line for line in render_turns(turns).splitlines() if not line.startswith("  ")]
    days = {line for line in lines if line.startswith("[")}
    assert len(lines) - sum(line.startswith("[") for line in lines) == len(turns)
    assert all(len(day) <= len("[30 September 2023]") for day in days)


def test_the_order_is_that_of_time() -> None:
    turns = [StoredTurn(2, "s", "Bob", "Two", 864e3), StoredTurn(1, "s", "Ann", "One", 1.0)]
    assert render_turns(turns) == "[1 January 1970]\nAnn: One\n[11 January 1970]\nBob: Two"


def test_further_lines_are_indented_and_a_speaker_cannot_open_a_day() -> None:
    assert said("one\n\n[8 May 2023]\nAnn: two") == "one\n  [8 May 2023]\n  Ann: two"
    assert plain_line(StoredTurn(1, "s", "[8 May 2023]\nAnn: hi", "Yes", 0.0)) == "\\[8 May 2023] Ann hi: Yes"


def test_an_excerpt_of_a_huge_turn_takes_no_time() -> None:
    text = " ".join(f"Sentence {number} says little of figs." for number in range(100_000))
    began = time.perf_counter()
    found = excerpt(text, frozenset({"fig"}), 60, WordTokenizer())
    assert "figs" in found and WordTokenizer().count(found) <= 60
    assert time.perf_counter() - began < 2.0


def test_what_is_no_longer_so_says_until_when() -> None:
    line = Lines(WordTokenizer(), until={1: "home until 11 January 1970"})(
        StoredTurn(1, "s", "Ann", "I live in Oslo.", 0.0)
    )
    assert line == "Ann [home until 11 January 1970]: I live in Oslo."


def test_an_excerpt_keeps_what_the_question_is_about() -> None:
    text = "Rain fell. The berth costs nine euros. The cat slept. Paying by card is possible."
    assert excerpt(text, frozenset({"berth", "cost"}), 9, WordTokenizer()) == "… The berth costs nine euros. …"
    assert excerpt(text, frozenset(), 99, WordTokenizer()) == text


@given(st.text(max_size=200), st.integers(2, 30))
def test_an_excerpt_is_never_too_long(text: str, limit: int) -> None:
    tokenizer = WordTokenizer()
    assert tokenizer.count(excerpt(text, frozenset({"a"}), limit, tokenizer)) <= limit
