from __future__ import annotations

import itertools
import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.evaluation.bootstrap import Interval, bootstrap_difference, bootstrap_mean

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def naive_interval(values: list[float], resamples: int, seed: int) -> Interval:
    """Draw question by question, with another generator."""
    draw = random.Random(seed)
    means = sorted(statistics.fmean(draw.choices(values, k=len(values))) for _ in range(resamples))
    return Interval(
        statistics.fmean(values), means[int(0.025 * (resamples - 1))], means[math.ceil(0.975 * (resamples - 1))]
    )


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 70 + [1.0] * 130,  # few distinct values: counts are drawn
        [index / 60 for index in range(60)],  # all distinct: indices are drawn
        [(index % 25) ** 2 / 600 for index in range(100)],
    ],
)
def test_agrees_with_drawing_question_by_question(values: list[float]) -> None:
    expected = naive_interval(values, 4000, 7)
    found = bootstrap_mean(values, resamples=4000)
    assert found.mean == pytest.approx(expected.mean)
    assert found.low == pytest.approx(expected.low, abs=0.01)
    assert found.high == pytest.approx(expected.high, abs=0.01)


@pytest.mark.parametrize("repeats", [1, 9])
def test_resampled_means_have_the_exact_distribution(repeats: int) -> None:
    """Every resample of four values is listed; 9 copies take the other way of drawing."""
    values = [0.0, 0.2, 0.2, 1.0]
    sums = {0.0: 1.0}
    for _ in range(4 * repeats):
        grown: dict[float, float] = {}
        for (total, chance), value in itertools.product(sums.items(), values):
            key = round(total + value, 6)
            grown[key] = grown.get(key, 0.0) + chance / 4
        sums = grown
    ordered = sorted((total / (4 * repeats), chance) for total, chance in sums.items())
    found = bootstrap_mean(values * repeats, resamples=20_000, confidence=0.8)
    for edge, share in ((found.low, 0.1), (found.high, 0.9)):
        below = sum(chance for mean, chance in ordered if mean < edge - 1e-9)
        up_to = sum(chance for mean, chance in ordered if mean <= edge + 1e-9)
        assert below - 0.02 <= share <= up_to + 0.02


@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_intervals_cover_the_truth_as_often_as_they_say(kind: str) -> None:
    generator = np.random.default_rng(1)
    truth, covered, trials = 0.7, 0, 400
    for trial in range(trials):
        values = generator.random(120) < truth if kind == "binary" else generator.beta(1.4, 0.6, 120)
        interval = bootstrap_mean(values, resamples=500, confidence=0.9, seed=trial)
        covered += interval.low <= truth <= interval.high
    assert 0.85 <= covered / trials <= 0.945


def test_a_paired_difference_is_tighter_than_two_separate_means() -> None:
    generator = np.random.default_rng(2)
    hard = generator.random(300)
    first, second = hard + 0.02 + 0.01 * generator.random(300), hard
    paired = bootstrap_difference(first, second)
    assert paired.excludes_zero
    assert paired.mean == pytest.approx(0.025, abs=0.002)
    assert paired.half_width < bootstrap_mean(first).half_width / 5


def test_no_difference_is_called_significant_about_as_often_as_said() -> None:
    generator = np.random.default_rng(3)
    wrong = sum(
        bootstrap_difference(generator.random(80) < 0.5, generator.random(80) < 0.5, resamples=400).excludes_zero
        for _ in range(300)
    )
    assert 3 <= wrong <= 30  # 5 % of 300 is 15


@given(SCORES, st.integers(0, 3))
def test_interval_properties(values: list[float], seed: int) -> None:
    found = bootstrap_mean(values, resamples=50, seed=seed)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    again = bootstrap_mean(values[::-1], resamples=50, seed=seed)
    assert (again.low, again.high) == (found.low, found.high)  # order does not matter, the seed does
    assert found.half_width == pytest.approx((found.high - found.low) / 2)
    wider = bootstrap_mean(values, resamples=50, seed=seed, confidence=0.99)
    assert wider.low <= found.low
    assert wider.high >= found.high


@given(SCORES)
def test_differences_change_sign_with_their_order(values: list[float]) -> None:
    other = [1 - value for value in values]
    assert bootstrap_difference(values, other, resamples=20).mean == pytest.approx(
        -bootstrap_difference(other, values, resamples=20).mean
    )
    assert bootstrap_difference(values, values, resamples=20) == Interval(0.0, 0.0, 0.0)


def test_what_was_not_scored_is_left_out() -> None:
    with_gaps = bootstrap_mean([1.0, math.nan, 0.0, 1.0], seed=4)
    assert with_gaps == bootstrap_mean([1.0, 0.0, 1.0], seed=4)
    paired = bootstrap_difference([1.0, math.nan, 1.0], [0.0, 0.0, math.nan])
    assert paired == Interval(1.0, 1.0, 1.0)
    assert paired.excludes_zero


def test_seeds_differ() -> None:
    values = [index / 60 for index in range(60)]
    assert bootstrap_mean(values, resamples=50, seed=0) != bootstrap_mean(values, resamples=50, seed=1)


def test_refuses_what_it_cannot_use() -> None:
    for values in ([], [math.nan]):
        with pytest.raises(InputError, match="at least one value"):
            bootstrap_mean(values)
    with pytest.raises(InputError, match="same questions"):
        bootstrap_difference([1.0], [1.0, 0.0])
    with pytest.raises(InputError, match="resamples"):
        bootstrap_mean([1.0], resamples=0)
    with pytest.raises(InputError, match="confidence"):
        bootstrap_mean([1.0], confidence=1.0)
    with pytest.raises(InputError, match=r"shape \(n,\)"):
        bootstrap_mean([[1.0]])
