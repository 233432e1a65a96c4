"""Packing a ranking of one's own: never over the budget, pruned, with a floor for the first passages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.base import Pack
from carrel.agents.packing import pack
from carrel.compression.base import Pruner
from carrel.errors import BudgetError
from carrel.retrieval.packing import render
from carrel.testing import WordTokenizer
from carrel.types import Passage


class Wordy(Pruner):
    """Keeps what has the word pier."""

    name = "wordy"
    threshold = 0.5

    def scores(self, question, passages, sentences):
        return [
            [0.9 if "pier" in p.text[s.start - p.start : s.end - p.start] else 0.1 / (1 + i) for i, s in enumerate(row)]
            for p, row in zip(passages, sentences, strict=True)
        ]


SENTENCES = st.lists(
    st.sampled_from(["A pier stands here. ", "It rained. ", "Nobody came by today. "]), min_size=1, max_size=8
)


def passages(texts: list[str]) -> tuple[Passage, ...]:
    return tuple(Passage(f"d{number}", 0, len(text), text) for number, text in enumerate(texts))


@given(st.lists(SENTENCES.map("".join), min_size=1, max_size=6), st.integers(12, 120), st.integers(0, 8), st.booleans())
def test_the_budget_holds(texts: list[str], budget: int, floor: int, prunes: bool) -> None:
    tokenizer, request = WordTokenizer(), Pack("Is there a pier?", passages(texts), budget, floor)
    try:
        packed = pack(request, tokenizer, Wordy() if prunes else None)
    except BudgetError:
        return
    assert tokenizer.count(render(packed)) <= budget
    for passage in packed:
        whole = texts[int(passage.document_id[1:])]
        assert all(piece in whole for piece in passage.pieces)


def test_the_floor_keeps_a_sentence_of_each_of_the_first() -> None:
    texts = [
        "A pier stands here. It rained all day long on the roofs of the town. " * 3,
        *["It rained. Nobody came."] * 4,
    ]
    tokenizer, request = WordTokenizer(), Pack("pier?", passages(texts), 70, 0)
    alone = {passage.document_id for passage in pack(request, tokenizer, Wordy())}
    floored = {p.document_id for p in pack(Pack("pier?", passages(texts), 70, 5), tokenizer, Wordy())}
    assert len(floored) > len(alone) and floored == {f"d{number}" for number in range(5)}


def test_the_same_passage_twice_counts_once() -> None:
    (packed,) = pack(Pack("pier?", passages(["A pier stands here."]) * 2, 50), WordTokenizer(), Wordy())
    assert packed.text == "A pier stands here."


def test_too_small_a_budget() -> None:
    with pytest.raises(BudgetError):
        pack(Pack("pier?", passages(["A pier stands here."]), 2), WordTokenizer(), None)
