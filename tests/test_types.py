"""The values between the stages: frozen, small, and true to their words."""

from __future__ import annotations

import dataclasses
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel import types
from carrel.types import Answer, Context, Document, Ledger, LedgerEntry, Passage, Scores, Span, Usage

VALUES = [value for value in vars(types).values() if inspect.isclass(value) and value.__module__ == types.__name__]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_every_type_is_a_frozen_dataclass_with_slots(value: type) -> None:
    assert dataclasses.is_dataclass(value)
    assert value.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(value)
    assert value.__doc__


def test_there_are_types_to_check() -> None:
    assert {Answer, Context, Document, Passage, Scores} <= set(VALUES)


def test_a_value_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Document("text").text = "other"  # type: ignore[misc]


def test_a_span_has_a_length() -> None:
    assert len(Span(3, 8)) == 5
    assert len(Span(3, 3)) == 0


@given(st.text(min_size=1, max_size=60), st.integers(0, 1000), st.lists(st.integers(0, 60), max_size=6))
def test_pieces_quote_the_document(text: str, start: int, cuts: list[int]) -> None:
    source = "\0" * start + text
    places = sorted({min(cut, len(text)) for cut in cuts})
    kept = tuple(Span(start + a, start + b) for a, b in zip(places[::2], places[1::2], strict=False))
    passage = Passage("d", start, start + len(text), text, kept=kept)
    assert passage.pieces == tuple(source[span.start : span.end] for span in kept)


def test_a_passage_that_is_not_pruned_is_one_piece() -> None:
    assert Passage("d", 0, 4, "text").pieces == ("text",)
    assert Passage("d", 0, 4, "text", kept=()).pieces == ()


def test_a_score_of_zero_is_a_score() -> None:
    assert Scores(dense=0.0).dense == 0.0
    assert Scores().dense is None


def test_usage_adds_up() -> None:
    assert Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3).total_tokens == 12


def test_a_ledger_adds_up_its_seconds() -> None:
    entries = (LedgerEntry("a", 1, 1, seconds=0.25), LedgerEntry("b", 1, 1, seconds=0.5))
    assert Ledger("words", entries).seconds == 0.75
    assert Ledger("words").seconds == 0


def test_a_context_names_its_tokenizer() -> None:
    assert Context("q", (), "", 0, 10, Ledger("words")).tokenizer == "words"


def test_an_answer_survives_pickling() -> None:
    answer = Answer("q", "a", (), Context("q", (Passage("d", 0, 1, "x"),), "x", 1, 10, Ledger("words")))
    assert pickle.loads(pickle.dumps(answer)) == answer


def test_a_page_is_that_of_the_start() -> None:
    assert Passage("d", 3, 9, "x" * 6).page is None
    assert [Passage("d", start, start + 1, "x", pages=(0, 4, 4, 9)).page for start in (0, 3, 4, 8, 9, 99)] == [
        *(1, 1, 3, 3, 4, 4)
    ]
    assert "pages" not in repr(Passage("d", 0, 1, "x", pages=tuple(range(1000))))
