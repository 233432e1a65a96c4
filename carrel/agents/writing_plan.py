"""The plan of a long text: lines of a main point and its words, read, scaled to what is wanted, and shown in part."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

MOST_SECTIONS = 50
LEAST_WORDS = 40
"""Of a section, however little is left for it."""
SECTION_WORDS = 300
"""What a section has where the text has few enough; a reply of 512 tokens holds it."""
MOST_POINT = 200
"""Characters of a main point."""
WHY = f'it is not a plan of 1 to {MOST_SECTIONS} lines such as "What the section says - 300 words"'
_LONGEST_LINE = 1000  # characters
_SHOWN_BEFORE, _SHOWN_AFTER = 3, 6
_LEADING = re.compile(
    r"^[\s*•>#-]*(?:(?:paragraph|section)\s*\d+\s*[-–—:.]\s*|\d{1,3}\s*[.)]\s*)?(?:\**main point\**\s*:\s*)?[\[*]*",
    re.IGNORECASE,
)
_COUNT = re.compile(r"(?P<words>\d{1,3}(?:,\d{3})+|(?<![\d.,])\d{1,6})(?P<unit>\s*words?)?[\s\])*._]*$", re.IGNORECASE)
_BETWEEN = re.compile(r"(?:[\s\[\](*~≈|:,–—-]|word count|about|approx\.|e\.g\.)*$", re.IGNORECASE)
_SUMS = re.compile(r"\W*(?:in )?total\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Planned:
    """A section as planned: what it says, and its words."""

    point: str
    words: int

    def __str__(self) -> str:
        return f"{self.point} - {self.words} words"


def example(sections: int, words: int) -> str:
    """A plan of the right form."""
    return "\n".join(f"What section {number} says - {words} words" for number in range(1, sections + 1))


def wanted_sections(words: int) -> int:
    """How many sections a text of so many words is planned in."""
    return min(MOST_SECTIONS, max(1, round(words / SECTION_WORDS)))


def read_plan(sections: int | None = None) -> Callable[[str], tuple[Planned, ...]]:
    """Reads a plan, of just so many sections where a number is given; lines without a count of words are talk."""

    def read(text: str) -> tuple[Planned, ...]:
        plan = tuple(each for each in map(_planned, text.splitlines()) if each)
        if not 1 <= len(plan) <= MOST_SECTIONS or (sections is not None and len(plan) != sections):
            raise ValueError(WHY if sections is None else why_of(sections))
        return plan

    return read


def _planned(line: str) -> Planned | None:
    """The section that a line plans; None where it ends with no count of words, or with that of all."""
    line = _LEADING.sub("", line)
    count = _COUNT.search(line) if len(line) <= _LONGEST_LINE else None
    if count is None:
        return None
    between = _BETWEEN.search(line, 0, count.start())
    assert between is not None  # it may be empty
    point = " ".join(line[: between.start()].strip(' "').split())[:MOST_POINT]
    if not (between[0].strip() or count["unit"]) or not any(map(str.isalnum, point)) or _SUMS.match(point):
        return None
    return Planned(point, int(count["words"].replace(",", "")))


def why_of(sections: int) -> str:
    """What is wrong with a plan that does not have just so many sections."""
    return f'it is not a plan of {sections} lines such as "What the section says - 300 words"'


def scaled(plan: Sequence[Planned], words: int) -> tuple[Planned, ...]:
    """The plan with its words in the same proportions and of this sum, or of the least that sections must have."""
    words = max(words, LEAST_WORDS * len(plan))
    spare, total = words - LEAST_WORDS * len(plan), sum(max(0, each.words - LEAST_WORDS) for each in plan)
    weights = [max(0, each.words - LEAST_WORDS) / total if total else 1 / len(plan) for each in plan]
    shares, reached, given = [], 0.0, 0
    for weight in weights:
        reached += spare * weight
        shares.append(round(reached) - given)
        given += shares[-1]
    return tuple(replace(each, words=LEAST_WORDS + share) for each, share in zip(plan, shares, strict=True))


def outline(plan: Sequence[Planned], number: int) -> str:
    """The lines of a plan around a section, so many at the most, however long the plan is; numbers from 1."""
    first, last = max(1, number - _SHOWN_BEFORE), min(len(plan), number + _SHOWN_AFTER)
    lines = [f"{place}. {plan[place - 1]}" for place in range(first, last + 1)]
    before = [f"({first - 1} sections before)"] if first > 1 else []
    after = [f"({len(plan) - last} sections after)"] if last < len(plan) else []
    return "\n".join([f"The plan, of {len(plan)} sections:", *before, *lines, *after])
