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
        not known: it is spread evenly over all choices; without choices, it is that of none of the answers.
    weights : of the thoughts, at least 0; all equal where they are all 0.
    rule : "mixture": the weighted mean. "product": the weighted geometric mean to the power of how many there are,
        made to sum to 1. "vote": the share of weights whose surest answer it is; ties go by the mixture.
    choices : all answers that there may be; without them, those of the thoughts, and none of these.
    """
    answers = list(dict.fromkeys(choices or [answer for thought in thoughts for answer in thought]))
    if not thoughts or not answers:
        return {}
    rows = [_row(thought, answers, is_open=not choices) for thought in thoughts]
    shares = [weight / sum(weights) for weight in weights] if sum(weights) > 0 else [1 / len(rows)] * len(rows)
    mixture = [sum(map(math.prod, zip(shares, column, strict=True))) for column in zip(*rows, strict=True)]
    totals = mixture
    if rule == "product":
        totals = _product(rows, shares)
    if rule == "vote":
        voted = [(share, _surest(thought)) for share, thought in zip(shares, thoughts, strict=True)]
        totals = [sum(share for share, name in voted if name == answer) for answer in answers]
    order = sorted(range(len(answers)), key=lambda place: (-round(totals[place], 9), -round(mixture[place], 9)))
    return {answers[place]: totals[place] for place in order}


def _row(thought: Mapping[str, float], answers: Sequence[str], *, is_open: bool) -> list[float]:
    """A thought's probability of each answer, and, where the question is open, of none of them at the end."""
    row = [max(0.0, thought.get(answer, 0.0)) for answer in answers]
    total = max(1.0, sum(row))
    row = [value / total for value in row]
    unknown = max(0.0, 1 - sum(row))
    return [*row, unknown] if is_open else [value + unknown / len(row) for value in row]


def _product(rows: Sequence[Sequence[float]], shares: Sequence[float]) -> list[float]:
    powers = [share * len(rows) for share in shares]
    logs = [
        math.fsum(power * math.log(max(LEAST, value)) for power, value in zip(powers, column, strict=True))
        for column in zip(*rows, strict=True)
    ]
    products = [math.exp(log - max(logs)) for log in logs]
    return [product / sum(products) for product in products]


def _surest(thought: Mapping[str, float]) -> str | None:
    return max(thought, key=lambda answer: thought[answer], default=None)
