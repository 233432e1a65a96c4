"""BM25 in memory against a sum over words, written down plainly."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.memory.bm25 import K1, B, Postings, best_rows, index_terms

texts = st.lists(st.sampled_from(["lamp", "lamps", "rope", "gull", "the", "tide"]), max_size=8).map(" ".join)


@given(said=st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=12), query=texts)
def test_it_is_the_formula(said, query: str) -> None:
    postings = Postings()
    for text, _ in said:
        postings.append(text)
    alive = np.array([lives for _, lives in said])
    terms = [index_terms(text) for text, _ in said]
    living = [words for words, lives in zip(terms, alive, strict=True) if lives]
    mean = sum(map(len, living)) / len(living) if living else 0.0
    expected = []
    for words, lives in zip(terms, alive, strict=True):
        score = 0.0
        for term in dict.fromkeys(index_terms(query)) if lives else ():
            often, holding = Counter(words)[term], sum(term in each for each in living)
            if often:
                idf = math.log(1 + (len(living) - holding + 0.5) / (holding + 0.5))
                score += idf * often * (K1 + 1) / (often + K1 * (1 - B + B * len(words) / mean))
        expected.append(score)
    assert postings.scores(index_terms(query), alive).tolist() == pytest.approx(expected)


@given(scores=st.lists(st.integers(0, 4), max_size=20), limit=st.integers(0, 8), seed=st.integers(0, 9))
def test_the_best_rows_are_those_of_a_sort(scores: list[int], limit: int, seed: int) -> None:
    allowed = np.random.default_rng(seed).random(len(scores)) < 0.7
    ordered = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    expected = [row for row in ordered if allowed[row] and scores[row] > 0][:limit]
    assert best_rows(np.array(scores, float), allowed, limit).tolist() == expected


def test_inflected_words_and_ideographs_meet() -> None:
    postings = Postings()
    for text in ("We painted the boat.", "東京に住んでいます", "nothing"):
        postings.append(text)
    alive = np.ones(3, bool)
    assert np.flatnonzero(postings.scores(index_terms("who paints boats"), alive)).tolist() == [0]
    assert np.flatnonzero(postings.scores(index_terms("京"), alive)).tolist() == [1]
    assert 0 < postings.size_bytes < 20_000
