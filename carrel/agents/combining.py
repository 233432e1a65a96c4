"""Distributions over answers, one for each passage, combined by rules: mixture, product, vote."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

Rule = Literal["mixture", "product", "vote"]
RULES: tuple[Rule, ...] = ("mixture", "product", "vote")
LEAST = 0.01
"""The least probability that a passage gives an answer in a product: none may veto the others."""


def combined(
    thoughts: Sequence[Mapping[str, float]], weights: Sequence[float], rule: Rule, choices: Sequence[str] = ()
) -> dict[str, float]:
    """How probable each answer is by all thoughts together; the surest first, earlier ones before equals.

    Parameters
    ----------
    thoughts : for each passage the answers that it gives, with probabilities of at most 1 together. What is left is
        spread evenly over the others: the other choices, or without choices the other answers and none of them.
    weights : of the thoughts, at least 0; all equal where they are all 0.
    rule : "mixture": the weighted mean. "product": the weighted geometric mean to the power of how many there are,
        made to sum to 1. "vote": the share of weights whose surest answer it is; ties go by the mixture.
    choices : all answers that there may be; without them, those of the thoughts, and the rest is none of them.
    """
    answers = list(dict.fromkeys(choices or [answer for thought in thoughts for answer in thought]))
    if not thoughts or not answers:
        return {}
    rows = [_spread(thought, answers, not choices) for thought in thoughts]
    shares = [weight / sum(weights) for weight in weights] if sum(weights) > 0 else [1 / len(rows)] * len(rows)
    mixture = [
        sum(share * row[place] for share, row in zip(shares, rows, strict=True)) for place in range(len(rows[0]))
    ]
    totals = mixture
    if rule == "product":
        powers = [share * len(rows) for share in shares]
        totals = [
            sum(power * math.log(max(LEAST, row[place])) for power, row in zip(powers, rows, strict=True))
            for place in range(len(mixture))
        ]
        totals = [math.exp(total - max(totals)) for total in totals]
        totals = [total / sum(totals) for total in totals]
    if rule == "vote":
        tops = [max(range(len(row)), key=lambda place: row[place]) for row in (row[: len(answers)] for row in rows)]
        totals = [
            sum(share for share, top in zip(shares, tops, strict=True) if top == place) for place in range(len(mixture))
        ]
    order = sorted(range(len(answers)), key=lambda place: (-round(totals[place], 9), -round(mixture[place], 9)))
    return {answers[place]: totals[place] for place in order}


def _spread(thought: Mapping[str, float], answers: Sequence[str], is_open: bool) -> list[float]:
    """A thought's probability of each answer, and, where the question is open, of none of them at the end."""
    said = {answer: thought[answer] for answer in answers if thought.get(answer, 0.0) > 0}
    total = sum(said.values())
    row = [said.get(answer, 0.0) for answer in answers] + [0.0] * is_open
    others = [place for place, value in enumerate(row) if value == 0.0]
    if not others or total > 1:
        return [value / total for value in row]
    return [(1 - total) / len(others) if place in others else value for place, value in enumerate(row)]
