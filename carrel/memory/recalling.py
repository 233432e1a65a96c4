"""Recall: what a memory holds for a query, chosen, joined and rendered inside a budget."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from carrel.errors import EmptyQuestionError, InputError
from carrel.memory import controller
from carrel.memory.base import Note, Recalled, Recollection, StoredTurn, TurnSource
from carrel.memory.claims import Superseded, concerns, superseded
from carrel.memory.days import day_of
from carrel.memory.followups import whole
from carrel.memory.rendering import SEPARATOR, CountingOnce, Fitting, Line, Lines, header, joined, said
from carrel.memory.scoring import Floats, Scored, described, question_of, reasons, scored
from carrel.memory.times import day_shown
from carrel.memory.words import ASSISTANT
from carrel.types import Turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrel.embeddings.base import ChunkEncoder
    from carrel.generation.base import Generator
    from carrel.tokens import Tokenizer

SEARCHED = 100  # turns by cosine, and as many by BM25
LENGTH, DIVERSITY, WITHIN = 0.5, 1.0, 5.0  # chosen in benchmarks/memory_tuning.py
READ, READ_WEIGHT = 16, 0.4  # turns that the reader reads, and what its relevance counts; chosen likewise
_SHORT = 20  # characters that a turn costs besides its own
_SPEAKERS_AMONG = 64  # last turns, to know who speaks
_RECENT_SHARE, _STABLE_SHARE, _SUMMARY_SHARE = 0.3, 0.2, 0.3
_RECENT_TURNS = 12
_LEAST_ROOM_TOKENS = 12
_BEGINNING = 0.7  # of the room for the last turns, that the last one has at most where it is too long
_MOST_MISSES = 12  # turns that did not fit, before the rest is not tried any more
_CLAIMING = 40  # best turns in which claims are compared
_NO_LONGER_SO = 1.0  # what it costs a turn that something else was said since
_NOT_THEN, _NEARLY_DAYS = 9.0, 3.0  # what it costs a turn to have been said days too early or too late, and how many
_BEST = 5
_STRONG = 3.0  # log-odds below the best: turns that may well be needed
_EXCERPT = 0.8  # of the room, that the only strong one may take
_FEW = 2  # turns; where fewer of the strong ones would fit, their best sentences are told; else whole ones serve better
_EXCERPTS = 8  # of so many turns then, at most
_ONCE = re.compile(
    r"\b(?:used to|before|previous(?:ly)?|former(?:ly)?|at first|originally|first|ever|history|when)\b", re.I
)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Turns with their scores, and those among them that say what is no longer so."""

    found: Scored
    superseded: Sequence[Superseded] = ()

    @property
    def until(self) -> dict[int, str]:
        """For a turn by its id, what of it is no longer so, and since when: "home until 6 June 2023"."""
        told: dict[int, list[str]] = {}
        for old in self.superseded:
            if not old.by.is_change:
                continue
            told.setdefault(old.turn.id, []).append(
                f"{old.by.attribute} until {day_shown(day_of(old.by.since))}"
            )
        return {id: "; ".join(dict.fromkeys(several)) for id, several in told.items()}

    def older(self, id: int) -> list[StoredTurn]:  # noqa: A002
        """The turns that a turn replaces."""
        return [old.turn for old in self.superseded if old.by.turn.id == id]


def recollect(
    source: TurnSource,
    query: str,
    *,
    encoder: ChunkEncoder,
    tokenizer: Tokenizer,
    budget: int = 1000,
    session: str | None = None,
    now: float,
    generator: Generator | None = None,
    reader: bool = False,
) -> Recollection:
    """Recall what the turns of a source hold for a query.

    The vectors of the source are of ``carrel.memory.words.embedded_text``. Where memory is not needed, nothing is
    looked up, and ``answerable`` says nothing.

    Parameters
    ----------
    budget : tokens of all that is given back, as rendered and counted by ``tokenizer``.
    session : the conversation that goes on; its last turns are the short-term memory.
    now : seconds since 1970 (UTC), from which "last May" is told.
    generator : rewrites follow-up questions; rules do where there is none.
    reader : whether the shipped reader reads the best turns once more: slower, and on the dialogues measured no better.

    Raises
    ------
    EmptyQuestionError : the query has no words. InputError : the budget is negative.
    """
    if not query.strip():
        raise EmptyQuestionError("the query is empty: ask something, such as 'Where did Ann move to?'")
    if budget < 0:
        raise InputError(f"budget is a number of tokens, 0 or more, not {budget}")
    tokenizer = CountingOnce(tokenizer)
    last = [] if session is None else source.last(_RECENT_TURNS, session=session)
    recent = _recent(last, tokenizer, int(budget * _RECENT_SHARE))
    stable = _stable(source, tokenizer, int(budget * _STABLE_SHARE))
    base = Recollection(query, query, False, 0.0, tuple(map(as_turn, recent)), (), stable, "", 0, budget)
    if not controller.needed(query):
        return _counted(base, tokenizer)
    rewritten = whole(query, last, generator)
    ranked = rank(source, rewritten, encoder=encoder, now=now, reader=reader)
    likely = controller.answerable(ranked.found)
    base = replace(base, rewritten=rewritten, needed=True, answerable=likely, best=_best(ranked))
    shown = {turn.id for turn in set(recent) & set(last)}  # whole
    used = _counted(base, tokenizer).tokens
    room = budget - used - (tokenizer.count(SEPARATOR) if used else 0)
    while room > 0:
        text, recalled = _rendered(source, ranked, tokenizer, room, shown)
        full = _counted(replace(base, text=text, recalled=recalled), tokenizer)
        if full.tokens <= budget:
            return full
        room -= full.tokens - budget  # a tokenizer whose parts do not add up
    return _counted(base, tokenizer)


def rank(
    source: TurnSource, query: str, *, encoder: ChunkEncoder, now: float, reader: bool = False,
    weights: Mapping[str, float] | None = None,
) -> Ranked:  # fmt: skip
    """Score the turns that may answer a whole question; what was said otherwise later goes before what it replaces."""
    speakers = sorted({turn.speaker for turn in source.last(_SPEAKERS_AMONG)})
    question = question_of(query, speakers, encoder, now)
    words, told = question.words or query, question.said
    around = None if told is None else (told.since - _NEARLY_DAYS * 86400, told.before + _NEARLY_DAYS * 86400)
    candidates = source.search(words, question.vector, SEARCHED, since=around[0], before=around[1]) if around else []
    candidates = candidates or source.search(words, question.vector, SEARCHED)
    found = _as_said(scored(described(question, candidates, source), weights))
    if reader:
        found = _reread(found)
    return _resolved(found)


def _as_said(found: Scored) -> Scored:
    """The scores, less for what was said at another time than the question tells."""
    said = found.question.said
    if said is None or not found.turns:
        return found
    days = np.array([max(said.since - turn.said_at, turn.said_at - said.before, 0.0) / 86400 for turn in found.turns])
    return replace(found, scores=found.scores - np.minimum(_NOT_THEN, days * _NOT_THEN / _NEARLY_DAYS))


def _resolved(found: Scored) -> Ranked:
    best = np.argsort(-found.scores, kind="stable")[:_CLAIMING]
    older = superseded(found.turns[place] for place in best)
    places = {turn.id: place for place, turn in enumerate(found.turns)}
    scores = found.scores.copy()
    query = found.question.text
    for old in older:
        if concerns(query, old.by.attribute):
            one, other = places[old.turn.id], places[old.by.turn.id]
            scores[other] = max(scores[other], scores[one])
            scores[one] -= 0.0 if _ONCE.search(query) else _NO_LONGER_SO
    return Ranked(replace(found, scores=scores), older)


def _reread(found: Scored) -> Scored:
    """The scores with the reader's opinion of the best turns."""
    from carrel.reader.methods import shipped_reader
    from carrel.reader.model import ReaderInput

    best = np.argsort(-found.scores, kind="stable")[:READ]
    if not len(best):
        return found
    inputs = [ReaderInput("", f"{found.turns[place].speaker}: {found.turns[place].text}") for place in best]
    read = np.array([reading.relevance for reading in shipped_reader().model.read(found.question.text, inputs)])
    scores = found.scores.copy()
    scores[best] += READ_WEIGHT * (read - read.min())
    return replace(found, scores=scores, raised=float(scores.max() - found.scores.max()))


def as_turn(turn: StoredTurn) -> Turn:
    """A stored turn as one of a conversation's history; who is not the assistant speaks as the user."""
    return Turn("assistant" if turn.speaker == ASSISTANT else "user", turn.text)


def _history(turns: Sequence[Turn]) -> str:
    return "\n".join(f"{turn.role}: {said(turn.text)}" for turn in turns)


def _counted(found: Recollection, tokenizer: Tokenizer) -> Recollection:
    """The recollection with its tokens: of the parts together, or one by one, whichever is more."""
    parts = [part for part in (found.stable, _history(found.recent), found.text) if part]
    counts = list(map(tokenizer.count, parts))
    whole_text = tokenizer.count(SEPARATOR.join(parts)) if len(parts) > 1 else 0
    return replace(found, tokens=max(whole_text, sum(counts)))


def _recent(last: Sequence[StoredTurn], tokenizer: Tokenizer, room: int) -> list[StoredTurn]:
    """The last turns that fit, in order. Of a last one that is too long, its beginning."""
    kept: list[StoredTurn] = []
    for turn in reversed(last):
        if tokenizer.count(_history([as_turn(each) for each in [turn, *kept]])) > room:
            if kept or room < _LEAST_ROOM_TOKENS:
                break
            turn = _begun(turn, tokenizer, room)
        kept.insert(0, turn)
    return kept


def _begun(turn: StoredTurn, tokenizer: Tokenizer, room: int) -> StoredTurn:
    """A turn that is cut so that it takes a part of the room, and what it is an answer to may stand before it."""
    limit = int(room * _BEGINNING)
    while True:
        cut = replace(turn, text=tokenizer.truncate(turn.text, limit).rstrip() + " …")
        if limit <= 1 or tokenizer.count(_history([as_turn(cut)])) <= room:
            return cut
        limit = limit * 3 // 4


def _stable(source: TurnSource, tokenizer: Tokenizer, room: int) -> str:
    """The facts that were written down, the oldest first, so that new ones leave what stands before them."""
    lines: list[str] = []
    misses = 0
    for note in reversed(source.facts()):
        if misses > _MOST_MISSES:
            break
        line = f"- {' '.join(note.text.split())}"
        if tokenizer.count("\n".join([line, *lines])) > room:
            misses += 1
        else:
            lines.insert(0, line)
    return "\n".join(lines)


def _best(ranked: Ranked) -> tuple[Recalled, ...]:
    found = ranked.found
    places = np.argsort(-found.scores, kind="stable")[:_BEST].tolist()
    return tuple(
        Recalled((found.turns[place],), float(found.scores[place]), None, tuple(ranked.older(found.turns[place].id)))
        for place in places
    )


def _rendered(
    source: TurnSource, ranked: Ranked, tokenizer: Tokenizer, room: int, without: Collection[int]
) -> tuple[str, tuple[Recalled, ...]]:
    """The text and what is in it: turns, and summaries where more turns matter than there is room for."""
    found = ranked.found
    if not found.turns:
        return "", ()
    lines = Lines(tokenizer, dated=found.question.wants_time, until=ranked.until)
    costs = np.array([tokenizer.count(lines(found.turns[place]) + "\n") for place in _strong(found, without)])
    summary: str = ""
    notes: list[Recalled] = []
    if costs.sum() > room:
        summary, notes = _summaries(source, found, tokenizer, int(room * _SUMMARY_SHARE))
        lines = replace(lines, limit=_longest(costs, room), terms=frozenset(found.question.terms))
    used = tokenizer.count(summary + SEPARATOR) if summary else 0
    text, taken = chosen(found, tokenizer, room - used, without=without, line=lines)
    whole_text = SEPARATOR.join(part for part in (summary, text) if part)
    return whole_text, (*_recalled(ranked, taken), *notes)


def _longest(costs: NDArray[np.int64], room: int) -> int:
    """Tokens of a turn, of which there are many for the room: one that has more is told by its best sentences.

    Where even two of the middling ones do not fit, all are; else that one alone which would take most of the room.
    """
    if len(costs) == 1:
        return max(_LEAST_ROOM_TOKENS, int(room * _EXCERPT))
    several = min(_EXCERPTS, len(costs)) if room < _FEW * np.median(costs) else _FEW
    return max(_LEAST_ROOM_TOKENS, room // several)


def _strong(found: Scored, without: Collection[int]) -> list[int]:
    """The places of the turns that may well be needed, the best first."""
    best = np.argsort(-found.scores, kind="stable")[:READ]
    limit = found.scores[best[0]] - _STRONG
    return [int(place) for place in best if found.scores[place] >= limit and found.turns[place].id not in without]


def _summaries(source: TurnSource, found: Scored, tokenizer: Tokenizer, room: int) -> tuple[str, list[Recalled]]:
    """Summaries of the best turns that fit the room, in the order of time."""
    scores = {turn.id: float(score) for turn, score in zip(found.turns, found.scores, strict=True)}
    lowest = min(scores.values(), default=0.0)
    rated = [
        (max((scores.get(id, lowest) for id in note.turns), default=lowest), note)
        for note in source.summaries(list(scores))
    ]
    kept: list[tuple[float, Note]] = []
    misses = 0
    for score, note in sorted(rated, key=lambda pair: (-pair[0], pair[1].id)):
        if tokenizer.count(_told([*(each for _, each in kept), note])) <= room:
            kept.append((score, note))
        elif (misses := misses + 1) > _MOST_MISSES:
            break
    text = _told([note for _, note in kept])
    if tokenizer.count(text) > room:
        return "", []
    return text, [Recalled(tuple(source.turns(note.turns)), score, note, reason="a summary") for score, note in kept]


def _told(notes: Sequence[Note]) -> str:
    """Summaries in the order of time, a line each: ``[7 May 2023] In short: ...``."""
    ordered = sorted(notes, key=lambda note: (note.said_at, note.id))
    return "\n".join(f"{header(note.said_at)} In short: {said(note.text)}" for note in ordered)


def chosen(
    found: Scored,
    tokenizer: Tokenizer,
    budget: int,
    *,
    without: Collection[int] = (),
    line: Line | None = None,
    length: float = LENGTH,
    diversity: float = DIVERSITY,
    within: float = WITHIN,
) -> tuple[str, list[StoredTurn]]:
    """The best turns that fit, rendered, and in the order in which they were taken.

    Greedy, by score less ``length`` times the logarithm of a turn's length, less ``diversity`` times its greatest
    cosine with what was taken (maximal marginal relevance, Carbonell and Goldstein, SIGIR 1998). It ends where the
    score is ``within`` below the best, so that a question with one answer does not fill the budget.
    """
    if line is None:
        line = Lines(tokenizer, dated=found.question.wants_time)
    fitting = Fitting(tokenizer, max(0, budget), line)
    lengths = np.array([len(turn.text) for turn in found.turns], float)
    worth: Floats = found.scores - length * np.log(lengths + _SHORT)
    left = np.array([turn.id not in without for turn in found.turns], bool)
    left &= found.scores >= found.scores.max(initial=-np.inf) - found.raised - within
    alike = np.zeros(len(found.turns))
    misses = 0
    while left.any() and misses <= _MOST_MISSES and fitting.budget - fitting.spent >= _LEAST_ROOM_TOKENS:
        place = int(np.argmax(np.where(left, worth - diversity * alike, -np.inf)))
        left[place] = False
        if fitting.take(found.turns[place]):
            alike = np.maximum(alike, found.vectors @ found.vectors[place])
        else:
            misses += 1
    return fitting.rendered()


def _recalled(ranked: Ranked, taken: Sequence[StoredTurn]) -> tuple[Recalled, ...]:
    """Runs of neighbouring turns, the best first; with each, what it replaces and why it was taken."""
    found = ranked.found
    places = {turn.id: place for place, turn in enumerate(found.turns)}
    runs = joined(taken, found.adjoin)
    several: list[Recalled] = []
    for run in runs:
        best = max(run, key=lambda turn: (found.scores[places[turn.id]], -turn.id))
        older = [old for turn in run for old in ranked.older(turn.id)]
        score = float(found.scores[places[best.id]])
        several.append(Recalled(tuple(run), score, None, tuple(older), reasons(found, places[best.id])))
    return tuple(sorted(several, key=lambda each: (-each.score, each.turns[0].id)))
