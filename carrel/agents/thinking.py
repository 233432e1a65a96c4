"""What one passage says of a question: answers with probabilities, read from a reply or from its tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from carrel.agents.hops import plain
from carrel.agents.quotations import says_nothing
from carrel.agents.room import bounded
from carrel.agents.tasks import DATA, NOTHING
from carrel.types import Completion, Passage

THINK = (
    "Answer the question from the passage alone, whatever others may say. Reply with two lines, and nothing else:"
    " ANSWER: and {what}; CONFIDENCE: and how sure you are of it, from 0 to 100."
    f" {DATA} If the passage does not tell, reply with the single word {NOTHING}."
)
_ANSWER = re.compile(
    r"^[^\w\n]{0,8}answer[^\w\n]{0,4}:[ \t*\"“]{0,8}(?P<said>[^\n]*[^\s*\"”.])", re.IGNORECASE | re.MULTILINE
)
_CONFIDENCE = re.compile(r"confidence[^\w\n]{0,4}:[^\w\n]{0,8}(\d{1,3})(?!\d)", re.IGNORECASE)
WHY = "it is not two lines with ANSWER: and what was asked for, CONFIDENCE: and a number from 0 to 100"
_MOST_WORDS = 24
Basis = Literal["logprobs", "stated", "generator"]


@dataclass(frozen=True, slots=True)
class Thought:
    """What one passage says: answers with their probabilities, at most 1 together; none where it does not tell.

    ``basis`` says whose they are: the probabilities of the answer's tokens, the confidence that the model states, or
    the calibrated ones of a generator that has such. ``weight`` is how much the passage counts.
    """

    passage: Passage
    answers: Mapping[str, float] = field(default_factory=dict)
    basis: Basis = "stated"
    weight: float = 1.0


def read_thought(reply: Completion, choices: Sequence[str] = ()) -> tuple[dict[str, float], Basis]:
    """The answers of a reply with their probabilities, and whose they are.

    Raises
    ------
    ValueError : it is not of the form that was asked for.
    """
    if reply.finish_reason == "abstained" or says_nothing(reply.text):
        return {}, "stated"
    if reply.answers:
        return _told(reply, choices), "generator"
    found = _ANSWER.search(reply.text)
    if found is None or not plain(found["said"]):
        raise ValueError(WHY)
    if says_nothing(found["said"]):
        return {}, "stated"
    said = bounded(found["said"], _MOST_WORDS)
    if choices:
        number = re.search(r"\d+", said)
        if number is None or len(number[0]) > 6 or not 1 <= int(number[0]) <= len(choices):
            raise ValueError(f"it names no number from 1 to {len(choices)}")
        said = choices[int(number[0]) - 1]
    by_tokens, stated = _by_tokens(reply, is_number=bool(choices)), _CONFIDENCE.search(reply.text)
    if by_tokens is not None:
        return {said: by_tokens}, "logprobs"
    if reply.confidence is not None:
        return {said: reply.confidence}, "generator"
    if stated is None or int(stated[1]) > 100:
        raise ValueError(WHY)
    return {said: int(stated[1]) / 100}, "stated"


def _told(reply: Completion, choices: Sequence[str]) -> dict[str, float]:
    """Short answers that a generator found, the surest first, while they are 1 together; as choices, where it has."""
    out: dict[str, float] = {}
    for each in reply.answers:
        words = f" {plain(each.text)} "
        names = [each.text] if not choices else [name for name in choices if f" {plain(name)} " in words]
        for name in names[:1]:
            out.setdefault(name, min(each.confidence, max(0.0, 1 - sum(out.values()))))
    return out


def _by_tokens(reply: Completion, *, is_number: bool) -> float | None:
    """The probability of the tokens in which an answer is given; None where the reply came without."""
    text = "".join(token for token, _ in reply.logprobs)
    found = _ANSWER.search(text)
    if found is None:
        return None
    start, end = found.span("said")
    number = re.compile(r"\d+").search(text, start, end)
    if is_number and number is not None:
        start, end = number.span()
    at, total = 0, 0.0
    for token, logprob in reply.logprobs:
        if at < end and at + len(token) > start:
            total += min(0.0, logprob)
        at += len(token)
    return math.exp(total)


def named(thoughts: list[Thought]) -> list[Thought]:
    """Thoughts in which answers that differ in case and spaces alone have one name: as it was first given."""
    names: dict[str, str] = {}
    out: list[Thought] = []
    for thought in thoughts:
        answers: dict[str, float] = {}
        for said, value in thought.answers.items():
            name = names.setdefault(" ".join(said.casefold().split()), said)
            answers[name] = min(1.0, answers.get(name, 0.0) + value)
        out.append(replace(thought, answers=answers))
    return out
