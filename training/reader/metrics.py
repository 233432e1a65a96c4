"""The figures that the reader is judged by, and their 95 % intervals.

What each of them means, in plain words:

f1, exact          The answer is given whether or not the reader is sure. F1: how many words it shares with the
                   reference (articles, punctuation and case aside; the best of several references). Exact: it is one.
f1_with_abstentions   Over the questions that have an answer; where the reader abstains it gets 0.
no_answer_accuracy    Over the questions without an answer: how often the reader abstains.
balanced_accuracy  The mean of two shares: answerable questions that are answered, others that are not.
squad2_f1          The score of SQuAD 2.0: F1 on answerable questions, and 1 for a right abstention, over all.
auc                Area under the ROC curve: the chance that an answerable question has a higher confidence than
                   one without an answer. 0.5 is a coin, 1 is perfect; no threshold is in it.
kept               Pruning: the share of questions all of whose answer's sentences stay.
removed            Pruning: the share of all tokens that go.
ece                Expected calibration error: how far a stated probability is from what then happens, on average.

Intervals are from a bootstrap that draws whole paragraphs, since questions of one paragraph are alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from data import normal
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
DRAWS = 1000


def f1(predicted: str, wanted: str) -> float:
    """F1 of the words that two answers share."""
    ours, theirs = normal(predicted).split(), normal(wanted).split()
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs)) if common else float(ours == theirs)


def resamples(keys: Sequence[str], draws: int = DRAWS, seed: int = 0) -> Floats:
    """(1 + draws, items): how often each item counts. The first row counts each once; items of a key go together."""
    place = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    counts = np.random.default_rng(seed).multinomial(len(place), np.full(len(place), 1 / len(place)), size=draws)
    drawn = counts[:, [place[key] for key in keys]]
    return np.concatenate([np.ones((1, len(keys))), drawn]).astype(np.float64)


def interval(values: Floats, n: int) -> dict[str, float]:
    """The first value and the 95 % interval of the others; draws without such items (nan) are left out."""
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return {"mean": float(values[0]), "low": float(low), "high": float(high), "n": n}


def mean(values: Floats, weights: Floats) -> dict[str, float]:
    """The mean of (items,) values under (draws, items) weights, with its interval."""
    return interval(ratio(weights @ values, weights.sum(axis=1)), len(values))


def ratio(above: Floats, below: Floats) -> Floats:
    """Division, nan where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) > 0)


def auc_draws(labels: Bools, values: Floats, weights: Floats) -> Floats:
    """(draws,) areas under the ROC curve, ties counted half; nan where a draw has but one kind."""
    order = np.argsort(values, kind="stable")
    _, first = np.unique(values[order], return_index=True)  # of each group of equal values
    yes = np.add.reduceat(weights[:, order] * labels[order], first, axis=1)  # (draws, groups)
    no = np.add.reduceat(weights[:, order] * ~labels[order], first, axis=1)
    below = np.cumsum(no, axis=1) - no
    return ratio((yes * (below + 0.5 * no)).sum(axis=1), yes.sum(axis=1) * no.sum(axis=1))


def auc(labels: Bools, values: Floats) -> float:
    """Area under the ROC curve, ties counted half."""
    return float(auc_draws(labels, values, np.ones((1, len(labels))))[0])


def abstention(labels: Bools, right: Floats, confidence: Floats, threshold: float, weights: Floats) -> dict[str, Any]:
    """Figures of answering only from ``threshold`` up; ``right`` is the F1 of each answer, were it given."""
    given = confidence >= threshold
    out = {
        "f1_with_abstentions": mean((right * given)[labels], weights[:, labels]),
        "answered": mean(given[labels].astype(float), weights[:, labels]),
    }
    if labels.all():
        return out
    recall = ratio(weights @ (given & labels), weights @ labels)
    silent = ratio(weights @ (~given & ~labels), weights @ ~labels)
    return out | {
        "no_answer_accuracy": interval(silent, int((~labels).sum())),
        "balanced_accuracy": interval((recall + silent) / 2, len(labels)),
        "squad2_f1": mean(np.where(labels, right * given, ~given), weights),
        "auc": interval(auc_draws(labels, confidence, weights), len(labels)),
    }


def abstention_curve(labels: Bools, right: Floats, confidence: Floats, points: int = 60) -> dict[str, list[float]]:
    """What each threshold gives: answered questions have fewer errors as more of them are left unanswered."""
    thresholds = np.unique(np.quantile(confidence, np.linspace(0, 1, points)))
    given = confidence[None, :] >= thresholds[:, None]  # (thresholds, questions)
    out = {
        "threshold": thresholds.tolist(),
        "f1_with_abstentions": (given * right)[:, labels].mean(axis=1).tolist(),
        "answered": given[:, labels].mean(axis=1).tolist(),
    }
    if not labels.all():
        out["no_answer_accuracy"] = (~given[:, ~labels]).mean(axis=1).tolist()
    return out


def reliability(
    probability: Floats, labels: Bools | Floats, bins: int = 10, weights: Floats | None = None
) -> dict[str, Any]:
    """Expected calibration error and the diagram's points: [stated, observed, how many] of each tenth.

    ``weights`` are those that the probabilities were fitted with: they are ones for cases in that mixture.
    """
    each = np.ones(len(probability)) if weights is None else weights / weights.mean()
    place = np.clip((probability * bins).astype(int), 0, bins - 1)
    points, error = [], 0.0
    for b in range(bins):
        own = place == b
        if own.any():
            stated, observed = (float(np.average(v[own], weights=each[own])) for v in (probability, np.asarray(labels)))
            points.append([stated, observed, int(own.sum())])
            error += each[own].sum() * abs(stated - observed) / len(probability)
    return {"ece": float(error), "points": points}


def ranking(lists: Sequence[tuple[Bools, Floats]], keys: Sequence[str]) -> dict[str, Any]:
    """How often the right passage is first and among the first five, and the mean reciprocal rank (ties lose)."""
    ranks = np.array([1 + int((score[~right] >= score[right].max()).sum()) for right, score in lists], float)
    weights = resamples(keys)
    return {
        "first": mean((ranks == 1).astype(float), weights),
        "in_five": mean((ranks <= 5).astype(float), weights),
        "mrr": mean(1 / ranks, weights),
    }


Sentence = tuple[float, int, bool]
"""Keep score, tokens, and whether it holds the answer."""


class Pruning:
    """What every threshold keeps of the sentences of many questions' paragraphs."""

    def __init__(self, tables: Sequence[Sequence[Sentence]], thresholds: Floats, keys: Sequence[str]) -> None:
        self.thresholds, self.weights, self.n = thresholds, resamples(keys), len(tables)
        kept, left, total = [], [], []
        for rows in tables:
            score = np.array([row[0] for row in rows])
            tokens = np.array([row[1] for row in rows], float)
            lowest = min((row[0] for row in rows if row[2]), default=np.inf)
            kept.append(lowest >= thresholds)
            left.append((score[None, :] >= thresholds[:, None]) @ tokens)
            total.append(tokens.sum())
        self._kept = ratio(self.weights @ np.array(kept, float), self.weights.sum(axis=1)[:, None] + 0 * thresholds)
        self._removed = 1 - (self.weights @ np.array(left)) / (self.weights @ np.array(total))[:, None]

    def curve(self) -> dict[str, list[float]]:
        """Share kept and removed at every threshold."""
        return {
            "threshold": self.thresholds.tolist(), "kept": self._kept[0].tolist(), "removed": self._removed[0].tolist(),
        }  # fmt: skip

    def kept_at(self, removed: float) -> dict[str, float]:
        """The share kept where at least ``removed`` of the tokens go, threshold chosen on each draw anew."""
        place = np.argmax(self._removed >= removed, axis=1)
        place[~(self._removed >= removed).any(axis=1)] = len(self.thresholds) - 1
        return interval(self._kept[np.arange(len(place)), place], self.n)

    def removed_at(self, kept: float) -> dict[str, float]:
        """The most that can go while ``kept`` of the answers' sentences stay."""
        return interval(np.where(self._kept >= kept, self._removed, 0.0).max(axis=1), self.n)

    def at(self, threshold: float) -> dict[str, Any]:
        """Kept and removed at one of the thresholds."""
        index = int(np.flatnonzero(self.thresholds == threshold)[0])
        return {
            "kept": interval(self._kept[:, index], self.n),
            "removed": interval(self._removed[:, index], self.n),
        }  # fmt: skip
