"""Confidence intervals by resampling questions: how far a mean, or a difference of means, is to be believed.

The percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993); paired, as advised
for comparing systems on the same questions (Berg-Kirkpatrick et al., "An Empirical Investigation of
Statistical Significance in NLP", EMNLP 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from carrel.errors import InputError

_BLOCK = 1_000_000  # draws held at once
_DRAW_COST = 8  # a multinomial count costs about this many draws of an index


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval, the number written after a plus-minus sign."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether zero is outside the interval: for a difference, that it is not put down to chance."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(values: ArrayLike, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean of the values with its bootstrap interval.

    Where many values are equal, as scores of 0 and 1 are, a multinomial count for each distinct value is
    drawn: the same distribution as drawing questions one by one, at next to no cost. The interval does not
    depend on the order of the values.

    Parameters
    ----------
    values
        One score a question, shape (n,). NaN means not scored and is left out.
    resamples
        How many resamples to draw.
    confidence
        Share of resampled means inside the interval, between 0 and 1.
    seed
        Seed of the generator; the same seed gives the same interval.

    Raises
    ------
    InputError
        There is no value, or ``resamples`` or ``confidence`` is out of range.
    """
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, not {resamples}.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence lies between 0 and 1, not {confidence}.")
    scores = _scores(values)
    scores = scores[~np.isnan(scores)]
    if not scores.size:
        raise InputError("A bootstrap needs at least one value.")
    means = _resampled_means(scores, resamples, np.random.default_rng(seed))
    low, high = np.percentile(means, [50 * (1 - confidence), 50 * (1 + confidence)])
    return Interval(float(scores.mean()), float(low), float(high))


def bootstrap_difference(
    first: ArrayLike, second: ArrayLike, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean of ``first - second`` over the same questions, with its paired bootstrap interval.

    Parameters
    ----------
    first, second
        Scores of two systems, shape (n,) each, one question at the same place in both. A question that
        either did not score (NaN) is left out.
    resamples, confidence, seed
        As in `bootstrap_mean`.

    Raises
    ------
    InputError
        The shapes differ; otherwise as `bootstrap_mean`.
    """
    left, right = _scores(first), _scores(second)
    if left.shape != right.shape:
        raise InputError(f"Paired scores must be of the same questions, not {left.size} and {right.size} of them.")
    return bootstrap_mean(left - right, resamples=resamples, confidence=confidence, seed=seed)


def _scores(values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise InputError(f"Scores are one number a question, shape (n,), not {scores.shape}.")
    return scores


def _resampled_means(
    scores: NDArray[np.float64], resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    distinct, counts = np.unique(scores, return_counts=True)  # (d,), (d,)
    few = distinct.size * _DRAW_COST < scores.size
    ordered, shares = np.sort(scores), counts / scores.size
    means = np.empty(resamples)
    block = max(1, _BLOCK // (distinct.size if few else scores.size))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        if few:
            sums = generator.multinomial(scores.size, shares, size=size) @ distinct  # (size, d) @ (d,)
        else:
            drawn = generator.integers(scores.size, size=(size, scores.size), dtype=np.int32)
            sums = ordered[drawn].sum(axis=1)  # (size, n) -> (size,)
        means[start : start + size] = sums / scores.size
    return means
