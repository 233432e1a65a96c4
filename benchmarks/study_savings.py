"""What a cutoff saves: its mean tokens, divided by those of a fixed number of passages with the same answer recall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from carrel.evaluation.results import Scores

RESAMPLES = 2000


@dataclass
class Pooled:
    """Answers found and tokens spent with each cutoff, for the questions of several sets together."""

    answers: dict[str, list[Scores]] = field(default_factory=dict)
    tokens: dict[str, list[Scores]] = field(default_factory=dict)

    def add(self, name: str, answers: Scores, tokens: Scores) -> None:
        """Take the questions of one set, those that have an answer to look for: shapes (questions,)."""
        asked = ~np.isnan(answers)
        self.answers.setdefault(name, []).append(answers[asked])
        self.tokens.setdefault(name, []).append(tokens[asked])

    def savings(self, seed: int) -> dict[str, dict[str, Any]]:
        """For each cutoff that is no fixed count: its figures, and the ratio with its 95 % interval.

        The interval resamples questions, and with them the cutoff's point and the whole curve of fixed counts.
        """
        sets = max(len(parts) for parts in self.answers.values())
        shared = [name for name, parts in self.answers.items() if len(parts) == sets]  # some are for one set only
        answers = {name: np.concatenate(self.answers[name]) for name in shared}
        tokens = {name: np.concatenate(self.tokens[name]) for name in answers}
        fixed = [name for name in answers if name.startswith("fixed")]
        count = len(answers[fixed[0]])
        draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
        return {name: _saving(name, fixed, answers, tokens, draws) for name in answers if name not in fixed}


def _saving(
    name: str, fixed: list[str], answers: Mapping[str, Scores], tokens: Mapping[str, Scores], draws: Scores
) -> dict[str, Any]:
    curve_tokens = np.array([tokens[k].mean() for k in fixed])
    curve_recall = np.array([answers[k].mean() for k in fixed])
    recall, spent = float(answers[name].mean()), float(tokens[name].mean())
    equal = equal_tokens(curve_tokens, curve_recall, recall)
    drawn_tokens = np.stack([draws @ tokens[k] for k in fixed], axis=1)  # (resamples, counts)
    drawn_recall = np.stack([draws @ answers[k] for k in fixed], axis=1)
    drawn = zip(drawn_tokens, drawn_recall, draws @ answers[name], draws @ tokens[name], strict=True)
    ratios = np.array([own / equal_tokens(of_tokens, of_recall, found) for of_tokens, of_recall, found, own in drawn])
    known = ratios[np.isfinite(ratios)]
    low, high = np.percentile(known, [2.5, 97.5]) if known.size else (np.nan, np.nan)
    rounded = [None if np.isnan(value) else round(float(value), 4) for value in (spent / equal, low, high)]
    return {
        "tokens": round(spent, 2),
        "recall": round(recall, 4),
        "fixed_tokens": None if np.isnan(equal) else round(equal, 2),
        **dict(zip(("ratio", "low", "high"), rounded, strict=True)),
    }


def equal_tokens(curve_tokens: Scores, curve_recall: Scores, recall: float) -> float:
    """The fewest mean tokens at which fixed counts, or a coin between two neighbouring ones, reach a recall.

    Parameters
    ----------
    curve_tokens, curve_recall : means of the fixed counts, the smallest count first, shape (counts,).

    Returns
    -------
    float
        Those of the smallest count where it is enough; NaN where none is.
    """
    best = np.nan
    for index, (spent, found) in enumerate(zip(curve_tokens, curve_recall, strict=True)):
        if found < recall:
            continue
        if index == 0 or curve_recall[index - 1] >= recall:
            reached = spent
        else:
            share = (recall - curve_recall[index - 1]) / (found - curve_recall[index - 1])
            reached = curve_tokens[index - 1] + share * (spent - curve_tokens[index - 1])
        best = float(np.fmin(best, reached))
    return float(best)
