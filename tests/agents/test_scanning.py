"""Sentences with what they have to do with a question: BM25 beside a plain oracle, lines that tile."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.pieces import units
from carrel.agents.scanning import bm25, scan, with_scores
from carrel.embeddings.minilm import MiniLM
from carrel.tokens import shipped_tokenizer
from carrel.types import Document

WORDS = st.sampled_from(["pier", "harbour", "crane", "light", "storm"])
TEXTS = st.lists(st.lists(WORDS, max_size=12).map(" ".join), min_size=1, max_size=6)


def oracle(question: str, texts: list[str], k1: float = 1.2, b: float = 0.75) -> list[float]:
    """BM25 term by term, as it is written down."""
    lengths = [len(text.split()) for text in texts]
    mean = sum(lengths) / len(texts) or 1.0
    scores = []
    for text, length in zip(texts, lengths, strict=True):
        total = 0.0
        for term in dict.fromkeys(question.split()):
            frequency, holding = text.split().count(term), sum(term in other.split() for other in texts)
            weight = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
            total += weight * frequency * (k1 + 1) / (frequency + k1 * (1 - b + b * length / mean))
        scores.append(total)
    return scores


@given(st.lists(WORDS, min_size=1, max_size=4).map(" ".join), TEXTS)
def test_bm25_is_what_its_formula_says(question: str, texts: list[str]) -> None:
    np.testing.assert_allclose(bm25(question, texts), oracle(question, texts), atol=1e-9)


def test_lines_tile_the_text_and_the_telling_one_stands_out() -> None:
    text = "The road was dry. The weather was mild.\n\n" * 30 + "The pier was built in 1894 by the harbour company.\n"
    passages = units(Document(text, "d"))
    lines = scan("When was the pier built?", passages, MiniLM(), shipped_tokenizer())
    assert "".join(text[line.start : line.end] for line in lines) == text
    assert all(before.end == after.start for before, after in pairwise(lines))
    sharpest = max(lines, key=lambda line: line.sharp)
    assert "1894" in text[sharpest.start : sharpest.end]
    assert scan("When?", (), MiniLM(), shipped_tokenizer()) == []


def test_passages_are_scored_among_one_another() -> None:
    passages = units(Document("The pier was built in 1894.", "a"))
    (scored,) = with_scores("When was the pier built?", passages, MiniLM())
    assert scored.scores.dense is not None and scored.scores.dense > 0.5
    assert scored.scores.lexical is not None and scored.text == passages[0].text
