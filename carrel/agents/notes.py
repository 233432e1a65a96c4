"""Notes that quote: which runs of a long text a reader's scores pick, and how they are carried from piece to piece.

The extractive worker and manager of a Chain of Agents (Zhang et al., arXiv 2406.02818). What answers a question about
a long document is mostly one stretch of it, so what is looked for is no set of sentences but the run of them whose
scores add up to most: the maximum-sum segment of bounded length (Fan et al., "An optimal algorithm for maximum-sum
segment and its application in bioinformatics", CIAA 2003; Lin, Jiang and Chao, JCSS 65, 2002). Scores are log-odds, so
that a sum of them weighs evidence: averaging probabilities would follow single peaks.

Nothing here reads, counts or asks: scores and token counts come from the caller.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from carrel.errors import InputError
from carrel.types import Passage, Scores, Span

_LEAST = 1e-9  # a probability of 0 or 1 has no logarithm of its odds


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence or a turn: where it stands in its document and its tokens.

    ``score`` says, as log-odds, that around here is what answers; ``sharp`` that this very line does, 0 and up.
    """

    document_id: str
    start: int
    end: int
    tokens: int
    score: float
    sharp: float = 0.0

    def follows(self, other: Line) -> bool:
        """Whether nothing stands between it and the line before."""
        return self.document_id == other.document_id and self.start == other.end


@dataclass(frozen=True, slots=True)
class Notes:
    """What a worker passes on: lines in the order of the text, and what has been seen in all.

    ``level`` is the mean score of a token so far: a line above it speaks for a run, one below against it.
    """

    lines: tuple[Line, ...] = ()
    seen_tokens: int = 0
    seen_score: float = 0.0

    @property
    def level(self) -> float:
        return self.seen_score / self.seen_tokens if self.seen_tokens else 0.0

    @property
    def tokens(self) -> int:
        return sum(line.tokens for line in self.lines)


def log_odds(probability: float) -> float:
    """The logarithm of the odds; finite for 0 and 1, too. Raises InputError for what is no number from 0 to 1."""
    if not 0 <= probability <= 1:
        raise InputError(f"a probability lies between 0 and 1, not {probability}")
    inside = min(max(probability, _LEAST), 1 - _LEAST)
    return math.log(inside / (1 - inside))


def score_lines(
    document_id: str, spans: Sequence[Span], tokens: Sequence[int], windows: Sequence[tuple[Span, float]]
) -> tuple[Line, ...]:
    """Lines (document offsets, in order) with the mean score of the windows that show them, by the characters shown.

    ``windows`` are what was read at once, and its log-odds; they may overlap. A line that none of them shows has the
    lowest score of all, for nothing speaks for it.
    """
    lowest = min((score for _, score in windows), default=0.0)
    lines = []
    for span, count in zip(spans, tokens, strict=True):
        shown = [(min(w.end, span.end) - max(w.start, span.start), score) for w, score in windows]
        weight = sum(part for part, _ in shown if part > 0)
        total = sum(part * score for part, score in shown if part > 0)
        lines.append(Line(document_id, span.start, span.end, count, total / weight if weight else lowest))
    return tuple(lines)


def choose(
    lines: Sequence[Line],
    budget: int,
    *,
    level: float | None = None,
    most: int = 1,
    sharp_tokens: int = 0,
    each: int = 0,
) -> list[range]:
    """The runs of lines to quote, in the order of the text: what they hold and ``each`` per run is within the budget.

    First the sharpest lines, one by one. Then one stretch after another: that whose lines add up to most above the
    level, in what is left of the budget; the stretches grow, the better side first, until it is full.

    Parameters
    ----------
    lines : in the order of the text.
    level : the score that counts as nothing; by default the mean of the lines.
    most : stretches at most. One is best where an answer is a part of a document.
    sharp_tokens : of the budget, for single lines, since an answer may be one; not for those that are not sharp (0).
    each : tokens that a run costs by itself, such as its header.

    Raises InputError for a number below 0, or fewer than one stretch.
    """
    if min(budget, each, sharp_tokens) < 0 or most < 1:
        raise InputError("runs need a budget, costs and shares of 0 or more, and one stretch or more")
    if level is None:
        level = read(Notes(), lines).level
    runs = _sharpest(lines, min(sharp_tokens, budget), each)
    alone = {run.start for run in runs}
    costs = [0 if index in alone else line.tokens for index, line in enumerate(lines)]  # what they add
    room = budget - _cost(lines, runs, each)
    taken: set[int] = set()
    while len(runs) < most + len(alone) and (run := _best(lines, costs, taken, room - each, level)) is not None:
        runs.append(run)
        taken.update(run)
        room -= each + sum(costs[index] for index in run)
    room = budget - _cost(lines, _joined(lines, runs), each)  # a stretch may hold what stood by itself
    for place in range(len(alone), len(runs)):
        runs[place], room = _grown(lines, costs, taken, runs[place], room)
    return _joined(lines, runs)


def read(notes: Notes, lines: Iterable[Line]) -> Notes:
    """The notes with what was seen of more lines counted; the lines themselves are not taken up."""
    seen = list(lines)
    tokens, score = sum(line.tokens for line in seen), math.fsum(line.tokens * line.score for line in seen)
    return replace(notes, seen_tokens=notes.seen_tokens + tokens, seen_score=notes.seen_score + score)


def take_notes(
    notes: Notes, piece: Sequence[Line], budget: int, *, most: int = 1, sharp_tokens: int = 0, edge: int = 0
) -> Notes:
    """What a worker passes on after a piece: the best runs of the notes and the piece together.

    Parameters
    ----------
    notes, piece : the notes so far, and the lines of the next piece, of which none was seen before.
    budget, most, sharp_tokens : as in ``choose``.
    edge : tokens kept besides at either end of the piece, for a run may go on in the next one.
    """
    known = read(notes, piece)
    lines = in_order(notes.lines, piece)
    runs = choose(lines, budget, level=known.level, most=most, sharp_tokens=sharp_tokens)
    kept = {index for run in runs for index in run}
    places = [index for index, line in enumerate(lines) if piece and line in (piece[0], piece[-1])]
    for way in (range(places[0], len(lines)), range(places[-1], -1, -1)) if edge and places else ():
        room = edge
        for index in way:
            room -= lines[index].tokens
            if room < 0:
                break
            kept.add(index)
    return replace(known, lines=tuple(lines[index] for index in sorted(kept)))


def in_order(first: Iterable[Line], second: Iterable[Line]) -> list[Line]:
    """The lines of both, each once, in the order of their texts; documents in the order in which they come up."""
    every = {(line.document_id, line.start, line.end): line for line in (*first, *second)}
    documents = {key: place for place, key in enumerate(dict.fromkeys(line.document_id for line in every.values()))}
    return sorted(every.values(), key=lambda line: (documents[line.document_id], line.start, line.end))


def quote(run: Sequence[Line], piece: Passage) -> Passage:
    """A run as a passage of its document, with its lines' mean relevance. InputError: it is not in the piece."""
    if not run or run[0].document_id != piece.document_id or run[0].start < piece.start or run[-1].end > piece.end:
        raise InputError("a run is quoted from a passage that holds all of its lines")
    start, end = run[0].start, run[-1].end
    level = read(Notes(), run).level
    scores = Scores(relevance=1 / (1 + math.exp(-min(max(level, -700.0), 700.0))))
    text = piece.text[start - piece.start : end - piece.start]
    return replace(piece, start=start, end=end, text=text, kept=None, scores=scores)


def _cost(lines: Sequence[Line], runs: Iterable[range], each: int) -> int:
    return sum(each + sum(lines[index].tokens for index in run) for run in runs)


def _sharpest(lines: Sequence[Line], budget: int, each: int) -> list[range]:
    """The sharpest lines that fit, each for itself; of equals the first."""
    runs = []
    for index in sorted(range(len(lines)), key=lambda index: (-lines[index].sharp, index)):
        if lines[index].sharp > 0 and lines[index].tokens + each <= budget:
            runs.append(range(index, index + 1))
            budget -= lines[index].tokens + each
    return runs


def _best(lines: Sequence[Line], costs: Sequence[int], taken: Collection[int], room: int, level: float) -> range | None:
    """The free run with the greatest sum above the level for so many tokens; of equals the first, and the shortest.

    One pass: the least of the sums before stands at the front of a queue in rising order.
    """
    tokens = [0, *accumulate(costs)]
    sums = [0.0, *accumulate(line.tokens * (line.score - level) for line in lines)]
    best: tuple[float, range] | None = None
    starts: deque[int] = deque()
    for last, line in enumerate(lines):
        if last in taken or (last and not line.follows(lines[last - 1])):
            starts.clear()
        if last in taken:
            continue
        while starts and sums[starts[-1]] > sums[last]:
            starts.pop()
        starts.append(last)
        while starts and tokens[last + 1] - tokens[starts[0]] > room:
            starts.popleft()
        if starts and (best is None or sums[last + 1] - sums[starts[0]] > best[0]):
            best = sums[last + 1] - sums[starts[0]], range(starts[0], last + 1)
    return best[1] if best else None


def _grown(lines: Sequence[Line], costs: Sequence[int], taken: set[int], run: range, room: int) -> tuple[range, int]:
    """The run with its neighbours, as long as they are free and fit; and the room that is left."""
    while True:
        sides = []
        if run.start and lines[run.start].follows(lines[run.start - 1]):
            sides.append(run.start - 1)
        if run.stop < len(lines) and lines[run.stop].follows(lines[run.stop - 1]):
            sides.append(run.stop)
        free = [index for index in sides if index not in taken and costs[index] <= room]
        if not free:
            return run, room
        index = max(free, key=lambda index: lines[index].score)
        taken.add(index)
        room -= costs[index]
        run = range(min(run.start, index), max(run.stop, index + 1))


def _joined(lines: Sequence[Line], runs: Iterable[range]) -> list[range]:
    """The runs in order; those that overlap or touch become one."""
    out: list[range] = []
    for run in sorted(runs, key=lambda run: (run.start, run.stop)):
        touches = bool(out) and out[-1].stop == run.start and lines[run.start].follows(lines[run.start - 1])
        if out and (run.start < out[-1].stop or touches):
            out[-1] = range(out[-1].start, max(out[-1].stop, run.stop))
        else:
            out.append(run)
    return out
