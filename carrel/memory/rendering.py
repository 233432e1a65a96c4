"""Remembered turns as text: in the order of time, dated, and never more than the budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from carrel.memory.base import StoredTurn
from carrel.memory.times import day_of, day_shown, times
from carrel.tokens import Tokenizer

SEPARATOR = "\n\n"
_INDENT = "\n  "
_DATED = 2  # times of a turn that are spelled out
Line = Callable[[StoredTurn], str]


def speaker_shown(name: str) -> str:
    """A speaker as a line begins with: on one line, without what would make it another line's beginning."""
    shown = " ".join(name.split()).replace(":", " ").strip()
    return f"\\{shown}" if shown[:1] in ("[", "\\") else shown or "someone"


def said(text: str) -> str:
    """A turn's text: further lines are indented, so that no text can pass for a turn or a date of its own."""
    return _INDENT.join(part.strip() for part in text.splitlines() if part.strip())


def plain_line(turn: StoredTurn) -> str:
    """``Ann: What was said.``"""
    return f"{speaker_shown(turn.speaker)}: {said(turn.text)}"


def dated_line(turn: StoredTurn) -> str:
    """The same, with the days that its words mean: ``Ann [yesterday = 7 May 2023]: I went to ...``."""
    found = [time for time in times(turn.text, turn.said_at) if time.relative][:_DATED]
    if not found:
        return plain_line(turn)
    days = "; ".join(f"{time.words.lower()} = {time.shown()}" for time in found)
    return f"{speaker_shown(turn.speaker)} [{' '.join(days.split())}]: {said(turn.text)}"


def header(turn: StoredTurn) -> str:
    """The day on which it was said, a line of its own."""
    return f"[{day_shown(day_of(turn.said_at))}]"


def render_turns(turns: Iterable[StoredTurn], line: Line = plain_line, notes: Mapping[int, str] | None = None) -> str:
    """Turns in the order of time under their days; ``notes`` are lines that follow a turn, by its id."""
    ordered = sorted(turns, key=lambda turn: (day_of(turn.said_at), turn.session, turn.said_at, turn.id))
    lines: list[str] = []
    day, session = None, None
    for turn in ordered:
        if (day, session) != (day_of(turn.said_at), turn.session):
            day, session = day_of(turn.said_at), turn.session
            lines.append(header(turn))
        lines.append(line(turn))
        if notes and turn.id in notes:
            lines.append(notes[turn.id])
    return "\n".join(lines)


@dataclass(slots=True)
class Fitting:
    """Takes turns one by one while the rendered text stays within a budget.

    Lines are counted once and summed, which is exact where a tokenizer adds up over lines (``adds_up``); ``rendered``
    counts the text itself and gives up the last turns taken until it fits, whatever the tokenizer.
    """

    tokenizer: Tokenizer
    budget: int
    line: Line = plain_line
    taken: list[StoredTurn] = field(default_factory=list)
    notes: dict[int, str] = field(default_factory=dict)
    spent: int = 0
    _days: set[tuple[object, str]] = field(default_factory=set)

    def cost(self, turn: StoredTurn) -> int:
        """Tokens that the turn would add."""
        cost = self.tokenizer.count(self.line(turn) + "\n")
        if (day_of(turn.said_at), turn.session) not in self._days:
            cost += self.tokenizer.count(header(turn) + "\n")
        return cost

    def take(self, turn: StoredTurn) -> bool:
        """Take the turn if it fits."""
        cost = self.cost(turn)
        if self.spent + cost > self.budget:
            return False
        self.taken.append(turn)
        self.spent += cost
        self._days.add((day_of(turn.said_at), turn.session))
        return True

    def rendered(self) -> tuple[str, list[StoredTurn]]:
        """The text, and the turns in it, in the order they were taken."""
        kept = list(self.taken)
        while kept:
            text = render_turns(kept, self.line, self.notes)
            if self.tokenizer.count(text) <= self.budget:
                return text, kept
            kept.pop()
        return "", []


def joined(turns: Sequence[StoredTurn], neighbours: Callable[[StoredTurn, StoredTurn], bool]) -> list[list[StoredTurn]]:
    """Runs of turns that follow one another, in order."""
    runs: list[list[StoredTurn]] = []
    for turn in sorted(turns, key=lambda turn: (turn.session, turn.id)):
        if runs and neighbours(runs[-1][-1], turn):
            runs[-1].append(turn)
        else:
            runs.append([turn])
    return runs
