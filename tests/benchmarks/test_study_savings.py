"""What a cutoff saves beside a fixed number of passages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.study_savings import Pooled, equal_tokens

TOKENS = np.array([100.0, 200.0, 400.0])
RECALL = np.array([0.5, 0.7, 0.8])


@pytest.mark.parametrize(
    ("recall", "expected"),
    [(0.4, 100), (0.5, 100), (0.6, 150), (0.7, 200), (0.75, 300), (0.8, 400)],
)
def test_equal_tokens_lie_on_the_line_between_two_counts(recall: float, expected: float) -> None:
    assert equal_tokens(TOKENS, RECALL, recall) == pytest.approx(expected)


def test_a_recall_that_no_count_reaches_has_no_equal() -> None:
    assert np.isnan(equal_tokens(TOKENS, RECALL, 0.81))


def test_where_a_larger_count_finds_less_the_cheapest_way_is_taken() -> None:
    assert equal_tokens(TOKENS, np.array([0.5, 0.7, 0.6]), 0.6) == pytest.approx(150)
    assert equal_tokens(TOKENS, np.array([0.5, 0.4, 0.6]), 0.45) == pytest.approx(100)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0, 1), st.floats(0, 1))
def test_more_recall_never_costs_fewer_tokens(recalls: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    less, more = (equal_tokens(TOKENS, np.array(recalls), recall) for recall in (low, high))
    assert np.isnan(more) or less <= more + 1e-6


def pooled(answers: list[float], tokens: list[float]) -> Pooled:
    pool = Pooled()
    for name, found, spent in (("fixed 1", 0.0, 100.0), ("fixed 2", 1.0, 200.0)):
        pool.add(name, np.full(4, found), np.full(4, spent))
    pool.add("buffer 0", np.array(answers), np.array(tokens))
    return pool


def test_half_the_tokens_at_equal_recall_is_a_ratio_of_one_half() -> None:
    saving = pooled([1, 1, 1, 1], [100, 100, 100, 100]).savings(0)
    assert saving == {
        "buffer 0": {"tokens": 100, "recall": 1, "fixed_tokens": 200, "ratio": 0.5, "low": 0.5, "high": 0.5}
    }


def test_the_interval_holds_the_ratio_and_has_a_width_where_questions_differ() -> None:
    row = pooled([1, 0, 1, 1], [50, 100, 150, 300]).savings(0)["buffer 0"]
    assert row["ratio"] == pytest.approx(150 / 175, abs=1e-4)
    assert row["low"] < row["ratio"] < row["high"]
    assert pooled([1, 0, 1, 1], [50, 100, 150, 300]).savings(0)["buffer 0"] == row


def test_questions_without_an_answer_to_look_for_are_left_out() -> None:
    pool = pooled([1, 1, np.nan, 1], [100, 100, 9000, 100])
    pool.answers["fixed 1"] = [np.zeros(3)]
    pool.answers["fixed 2"], pool.tokens["fixed 2"] = [np.ones(3)], [np.full(3, 200.0)]
    pool.tokens["fixed 1"] = [np.full(3, 100.0)]
    assert pool.savings(0)["buffer 0"]["tokens"] == 100


def test_a_cutoff_measured_on_some_sets_only_is_not_pooled() -> None:
    pool = pooled([1, 1, 1, 1], [100, 100, 100, 100])
    for name in ("fixed 1", "fixed 2", "buffer 0"):
        pool.add(name, np.ones(2), np.full(2, 100.0))
    pool.add("head", np.ones(2), np.full(2, 100.0))
    assert list(pool.savings(0)) == ["buffer 0"]
