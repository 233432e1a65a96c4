"""What time a question is about: a period that it names, and when what it asks for was said."""

from __future__ import annotations

import re
from dataclasses import dataclass

from carrel.memory.times import times


@dataclass(frozen=True, slots=True)
class Period:
    """What a question asks about, in seconds since 1970: from ``since`` up to, not with, ``before``."""

    since: float
    before: float

    def nearness(self, start: float, end: float) -> float:
        """1 for an interval that meets the period, less the further it is away: half at 14 days, none beyond 60."""
        gap = max(self.since - end, start - self.before, 0.0) / 86400
        return 1.0 if gap <= 0 else max(0.0, 1 - gap / 28) if gap < 14 else max(0.0, 0.5 * (1 - (gap - 14) / 46))


_OPEN = re.compile(r"\b(?P<side>since|after|before|until|till|up to)\s+(?:the\s+)?$", re.IGNORECASE)


def asked_period(query: str, now: float) -> Period | None:
    """The time that a question names; None where it names none. "Since May" and "before June" are open."""
    found = times(query, now)
    if not found:
        return None
    since, before = min(time.seconds()[0] for time in found), max(time.seconds()[1] for time in found)
    first = found[0]
    side = _OPEN.search(query[: first.at]) or _OPEN.search(first.words[: -len(first.words.split()[-1])])
    if side and len(found) == 1:
        word = side["side"].lower()
        if word == "since":
            before = max(before, now + 86400.0)
        elif word == "after":
            since, before = before, max(before, now) + 86400.0
        else:
            since, before = 0.0, since if word == "before" else before
    return Period(since, before)


def without_relative(query: str, now: float) -> str:
    """A question without the times that are told from now: nobody who was asked about yesterday has said the word."""
    for time in reversed(times(query, now)):
        if time.relative:
            query = query[: time.at] + query[time.at + len(time.words) :]
    return query


_TELLING = r"(?:tell|told|say|said|mention\w*|talk\w*|discuss\w*|chat\w*|speak|spoke)"
_TOLD_AT = re.compile(
    rf"\b{_TELLING}(?: (?:to |with )?(?:you|me|us|him|her|them|each other))?(?: about)?(?: back)?"
    r"(?: (?:in|on|at|during))?\s+$",
    re.IGNORECASE,
)
_OPENS = re.compile(r"^\W*(?:back )?(?:(?:in|on|at|during) )?$", re.IGNORECASE)


def said_period(query: str, now: float) -> Period | None:
    """When what is asked for was said, where a question tells that: "What did I tell you last May?".

    None where the time may belong to something else, as in "What did I say about my trip last May?".
    """
    found = times(query, now)
    if len(found) != 1:
        return None
    before, after = query[: found[0].at], query[found[0].at + len(found[0].words) :]
    if after[:1] in ("'", "’"):  # last May's trip
        return None
    told = _TOLD_AT.search(before) or (_OPENS.match(before) and re.search(rf"\b{_TELLING}\b", after, re.IGNORECASE))
    return asked_period(query, now) if told else None
