"""Remembered turns as text: in the order of time, dated, and never more than the budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from carrel.memory.base import StoredTurn
from carrel.memory.days import day_of
from carrel.memory.times import day_shown, times
from carrel.memory.words import terms
from carrel.retrieval.sentences import split_sentences
from carrel.tokens import Tokenizer
from carrel.types import Span

SEPARATOR = "\n\n"
_INDENT = "\n  "
_LONGEST, _LOOKED_AT = 20_000, 30  # characters of a turn, and its best sentences, that an excerpt is made of
_DATED = 2  # times of a turn that are spelled out
Line = Callable[[StoredTurn], str]


def speaker_shown(name: str) -> str:
    """A speaker as a line begins with: on one line, without what would make it another line's beginning."""
    shown = " ".join(name.replace(":", " ").split())
    return f"\\{shown}" if shown[:1] in ("[", "\\") else shown or "someone"


def said(text: str) -> str:
    """A turn's text: further lines are indented, so that no text can pass for a turn or a date of its own."""
    return _INDENT.join(part.strip() for part in text.splitlines() if part.strip())


def plain_line(turn: StoredTurn) -> str:
    """``Ann: What was said.``"""
    return f"{speaker_shown(turn.speaker)}: {said(turn.text)}"


@dataclass(frozen=True, slots=True)
class Lines:
    """How turns are told: ``Ann [yesterday = 7 May 2023]: I went to ...``.

    Parameters
    ----------
    dated : whether the days that their words mean are spelled out.
    until : for turns, by id, that say what is no longer so: of what, and until when.
    limit : turns of more tokens are told by the sentences that have most of ``terms`` (None: every turn whole).
    """

    tokenizer: Tokenizer
    dated: bool = False
    until: Mapping[int, str] = field(default_factory=dict)
    limit: int | None = None
    terms: frozenset[str] = frozenset()
    _made: dict[int, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, turn: StoredTurn) -> str:
        if turn.id not in self._made:
            self._made[turn.id] = self._line(turn)
        return self._made[turn.id]

    def _line(self, turn: StoredTurn) -> str:
        marks: list[str] = []
        if turn.id in self.until:
            marks.append(self.until[turn.id])
        if self.dated:
            found = [time for time in times(turn.text, turn.said_at) if time.relative][:_DATED]
            marks += [f"{' '.join(time.words.lower().split())} = {time.shown()}" for time in found]
        shown = f" [{'; '.join(marks)}]" if marks else ""
        text = turn.text if self.limit is None else excerpt(turn.text, self.terms, self.limit, self.tokenizer)
        return f"{speaker_shown(turn.speaker)}{shown}: {said(text)}"


def excerpt(text: str, about: frozenset[str], limit: int, tokenizer: Tokenizer) -> str:
    """The sentences of a text that have most of the terms, in their order, in at most ``limit`` tokens.

    Between sentences that do not follow one another stands an ellipsis; a first sentence that is too long is cut.
    """
    text = text[:_LONGEST]
    if tokenizer.count(text) <= limit:
        return text
    spans = split_sentences(text)
    worth = [len(about & frozenset(terms(text[span.start : span.end]))) for span in spans]
    kept: list[int] = []
    for place in sorted(range(len(spans)), key=lambda place: (-worth[place], place))[:_LOOKED_AT]:
        if tokenizer.count(_joined(text, spans, sorted([*kept, place]))) <= limit:
            kept.append(place)
    if not kept:
        best = spans[max(range(len(spans)), key=lambda place: (worth[place], -place))]
        return tokenizer.truncate(text[best.start : best.end].strip(), max(1, limit - 1)) + "…"
    return _joined(text, spans, sorted(kept))


def _joined(text: str, spans: Sequence[Span], kept: Sequence[int]) -> str:
    """Sentences by their places, an ellipsis wherever something is left out."""
    parts: list[str] = []
    last = -1
    for place in kept:
        parts += ["…"] if place != last + 1 else []
        parts.append(text[spans[place].start : spans[place].end].strip())
        last = place
    return " ".join([*parts, "…"] if last != len(spans) - 1 else parts)


def header(said_at: float) -> str:
    """The day on which something was said, a line of its own above it."""
    return f"[{day_shown(day_of(said_at))}]"


def render_turns(turns: Iterable[StoredTurn], line: Line = plain_line) -> str:
    """Turns in the order of time under their days."""
    ordered = sorted(turns, key=lambda turn: (day_of(turn.said_at), turn.session, turn.said_at, turn.id))
    lines: list[str] = []
    day, session = None, None
    for turn in ordered:
        if (day, session) != (day_of(turn.said_at), turn.session):
            day, session = day_of(turn.said_at), turn.session
            lines.append(header(turn.said_at))
        lines.append(line(turn))
    return "\n".join(lines)


class CountingOnce:
    """A tokenizer that counts a text once, for as long as one recall takes: lines and headers come up again and again.

    Texts of several lines too, where the counts of lines add up. It is no longer kept than that, so that nothing
    forgotten stays in it.
    """

    def __init__(self, inner: Tokenizer) -> None:
        self.inner, self._counts = inner, dict[str, int]()

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def adds_up(self) -> bool:
        """Whether counts of lines add up to that of the text."""
        return bool(getattr(self.inner, "adds_up", False))

    def count(self, text: str) -> int:
        if "\n" in text and self.adds_up:
            return sum(map(self.count, filter(None, text.split("\n"))))
        found = self._counts.get(text)
        if found is None:
            found = self._counts[text] = self.inner.count(text)
        return found

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return self.inner.offsets(text)

    def truncate(self, text: str, limit: int) -> str:
        return self.inner.truncate(text, limit)


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
    spent: int = 0
    _days: set[tuple[object, str]] = field(default_factory=set)

    def cost(self, turn: StoredTurn) -> int:
        """Tokens that the turn would add."""
        cost = self.tokenizer.count(self.line(turn) + "\n")
        if (day_of(turn.said_at), turn.session) not in self._days:
            cost += self.tokenizer.count(header(turn.said_at) + "\n")
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
            text = render_turns(kept, self.line)
            if getattr(self.tokenizer, "adds_up", False) or self.tokenizer.count(text) <= self.budget:
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
