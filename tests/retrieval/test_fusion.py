"""Fusion against its definition, computed the slow way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.retrieval.fusion import convex, recency_weight, reciprocal_rank

cosines = st.floats(-1, 1, allow_nan=False, width=32)
bm25 = st.floats(0, 60, allow_nan=False, width=32).filter(lambda value: value == 0 or value > 1e-6)
pairs = st.lists(st.tuples(cosines, bm25), min_size=1, max_size=20)
weights = st.floats(0, 1, allow_nan=False)


def split(scores: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    dense, lexical = np.array(scores, np.float64).T
    return dense, lexical


@given(pairs, weights)
def test_convex_is_its_definition(scores: list[tuple[float, float]], weight: float) -> None:
    best = max(score for _, score in scores)
    expected = [weight * d + (1 - weight) * (s / best if best > 0 else 0.0) for d, s in scores]
    assert convex(*split(scores), weight) == pytest.approx(expected)


@given(pairs, weights, st.floats(0, 1))
def test_what_was_not_returned_counts_as_the_bound(
    scores: list[tuple[float, float]], weight: float, share: float
) -> None:
    dense, lexical = split(scores)
    bound = share * float(min(lexical[lexical > 0], default=0.0))
    filled = np.where(lexical == 0, bound, lexical)
    assert convex(dense, lexical, weight, bound) == pytest.approx(convex(dense, filled, weight))


@given(pairs, weights, st.floats(0.01, 100))
def test_the_scale_of_bm25_does_not_matter(scores: list[tuple[float, float]], weight: float, scale: float) -> None:
    dense, lexical = split(scores)
    assert convex(dense, lexical * scale, weight) == pytest.approx(convex(dense, lexical, weight))


@given(pairs, weights, st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(scores: list[tuple[float, float]], weight: float, random) -> None:
    order = list(range(len(scores)))
    random.shuffle(order)
    dense, lexical = split(scores)
    assert np.array_equal(convex(dense[order], lexical[order], weight), convex(dense, lexical, weight)[order])


def test_the_ends_of_the_weight_are_the_methods_themselves() -> None:
    dense, lexical = np.array([0.2, -0.4, 0.9]), np.array([4.0, 8.0, 0.0])
    assert convex(dense, lexical, 1.0).tolist() == dense.tolist()
    assert convex(dense, lexical, 0.0).tolist() == [0.5, 1.0, 0.0]


def test_no_word_of_the_question_anywhere() -> None:
    dense = np.array([0.5, 0.25])
    assert convex(dense, np.zeros(2), 0.5).tolist() == [0.25, 0.125]


def test_nothing_to_fuse() -> None:
    assert convex(np.empty(0), np.empty(0), 0.5).tolist() == []
    assert reciprocal_rank([np.empty(0, np.int64)], np.empty(0, np.int64)).tolist() == []


rankings = st.lists(st.lists(st.integers(0, 15), unique=True, max_size=10), max_size=4)


@given(rankings, st.lists(st.integers(0, 15), unique=True, max_size=16), st.integers(1, 100))
def test_reciprocal_ranks_are_their_definition(lists: list[list[int]], candidates: list[int], k: int) -> None:
    found = reciprocal_rank([np.array(ids, np.int64) for ids in lists], np.array(candidates, np.int64), k)
    expected = [sum(1 / (k + ids.index(item) + 1) for ids in lists if item in ids) for item in candidates]
    assert found == pytest.approx(expected)


def test_the_first_rank_is_one() -> None:
    found = reciprocal_rank([np.array([7]), np.array([7, 3])], np.array([3, 7]))
    assert found == pytest.approx([1 / 62, 2 / 61])


@given(st.floats(0, 1e5), st.floats(0.1, 1e4), st.floats(0, 1))
def test_recency_halves_what_age_can_take(age: float, half_life: float, floor: float) -> None:
    weight = recency_weight(age, half_life, floor)
    assert floor <= weight <= 1
    assert weight >= recency_weight(age + half_life, half_life, floor)
    assert recency_weight(0, half_life, floor) == pytest.approx(1)
    assert recency_weight(half_life, half_life, floor) == pytest.approx((1 + floor) / 2)


def test_a_date_in_the_future_is_new() -> None:
    assert recency_weight(-5, 10) == 1
