"""Recall: what a memory holds for a query, chosen, joined and rendered inside a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from carrel.errors import EmptyQuestionError, InputError
from carrel.memory.base import Note, Recalled, Recollection, StoredTurn, TurnSource
from carrel.memory.rendering import SEPARATOR, Fitting, Line, dated_line, joined, plain_line
from carrel.memory.scoring import Scored, described, question_of, scored
from carrel.memory.words import ASSISTANT
from carrel.types import Turn

if TYPE_CHECKING:
    from carrel.embeddings.base import TextEncoder
    from carrel.generation.base import Generator
    from carrel.tokens import Tokenizer

SEARCHED = 80  # turns by cosine, and as many by BM25
_SPEAKERS_AMONG = 64  # last turns, to know who speaks
_RECENT_SHARE, _STABLE_SHARE = 0.3, 0.2
_RECENT_TURNS = 12
_LENGTH = 0.5  # how much a long turn has to be better than a short one
_LEAST_ROOM_TOKENS = 12
_MOST_MISSES = 24  # turns that did not fit, before the rest is not tried any more


def recollect(
    source: TurnSource,
    query: str,
    *,
    encoder: TextEncoder,
    tokenizer: Tokenizer,
    budget: int = 1000,
    session: str | None = None,
    now: float,
    generator: Generator | None = None,
    reader: bool = False,
) -> Recollection:
    """Recall what the turns of a source hold for a query.

    The vectors of the source are of ``carrel.memory.words.embedded_text``.

    Parameters
    ----------
    budget : tokens of all that is given back, as rendered and counted by ``tokenizer``.
    session : the conversation that goes on; its last turns are the short-term memory.
    now : seconds since 1970 (UTC), from which "last May" is told.
    generator : rewrites follow-up questions; rules do where there is none.
    reader : whether the shipped reader reads the best turns once more.

    Raises
    ------
    EmptyQuestionError : the query has no words. InputError : the budget is negative.
    """
    if not query.strip():
        raise EmptyQuestionError("the query is empty: ask something, such as 'Where did Ann move to?'")
    if budget < 0:
        raise InputError(f"budget is a number of tokens, 0 or more, not {budget}")
    recent = _recent(source, session, tokenizer, int(budget * _RECENT_SHARE))
    spent = sum(tokenizer.count(f"{turn.speaker}: {turn.text}\n") for turn in recent)
    stable = _stable(source, tokenizer, int(budget * _STABLE_SHARE))
    spent += tokenizer.count(stable + SEPARATOR) if stable else 0
    speakers = sorted({turn.speaker for turn in source.last(_SPEAKERS_AMONG)})
    question = question_of(query, speakers, encoder, now)
    found = scored(described(question, source.search(query, question.vector, SEARCHED), source))
    text, taken = chosen(found, tokenizer, budget - spent, without={turn.id for turn in recent})
    return Recollection(
        query=query,
        rewritten=query,
        needed=True,
        answerable=1.0 if taken else 0.0,
        recent=tuple(_as_turn(turn) for turn in recent),
        recalled=_recalled(found, taken),
        stable=stable,
        text=text,
        tokens=_tokens(tokenizer, stable, recent, text),
        budget=budget,
    )


def _tokens(tokenizer: Tokenizer, stable: str, recent: Sequence[StoredTurn], text: str) -> int:
    parts = [stable, "\n".join(f"{_as_turn(turn).role}: {turn.text}" for turn in recent), text]
    return tokenizer.count(SEPARATOR.join(part for part in parts if part))


def _as_turn(turn: StoredTurn) -> Turn:
    return Turn("assistant" if turn.speaker == ASSISTANT else "user", turn.text)


def _recent(source: TurnSource, session: str | None, tokenizer: Tokenizer, room: int) -> list[StoredTurn]:
    """The last turns of the session that fit, in order."""
    if session is None:
        return []
    kept: list[StoredTurn] = []
    for turn in reversed(source.last(_RECENT_TURNS, session=session)):
        room -= tokenizer.count(f"{turn.speaker}: {turn.text}\n")
        if room < 0:
            break
        kept.append(turn)
    return kept[::-1]


def _stable(source: TurnSource, tokenizer: Tokenizer, room: int) -> str:
    """The facts that were written down, the oldest first, so that new ones leave what stands before them."""
    lines: list[str] = []
    facts: list[Note] = sorted(source.notes("fact"), key=lambda note: (note.said_at, note.id))
    for note in reversed(facts):
        line = f"- {' '.join(note.text.split())}"
        room -= tokenizer.count(f"{line}\n")
        if room < 0:
            break
        lines.append(line)
    return "\n".join(reversed(lines))


def chosen(
    found: Scored,
    tokenizer: Tokenizer,
    budget: int,
    *,
    without: frozenset[int] | set[int] = frozenset(),
    line: Line | None = None,
) -> tuple[str, list[StoredTurn]]:
    """The best turns that fit, rendered, and in the order in which they were taken."""
    if line is None:
        line = dated_line if found.question.wants_time else plain_line
    fitting = Fitting(tokenizer, max(0, budget), line)
    lengths = np.array([len(turn.text) for turn in found.turns], float)
    worth = found.scores - _LENGTH * np.log(lengths + 20)
    misses = 0
    for place in np.argsort(-worth, kind="stable"):
        turn = found.turns[place]
        if turn.id in without:
            continue
        if not fitting.take(turn):
            misses += 1
            if misses > _MOST_MISSES or fitting.budget - fitting.spent < _LEAST_ROOM_TOKENS:
                break
    return fitting.rendered()


def _recalled(found: Scored, taken: Sequence[StoredTurn]) -> tuple[Recalled, ...]:
    """Runs of neighbouring turns, the best first."""
    scores = {turn.id: float(score) for turn, score in zip(found.turns, found.scores, strict=True)}
    runs = joined(taken, lambda one, two: one.session == two.session and two.id - one.id == 1)
    whole = [Recalled(tuple(run), max(scores[turn.id] for turn in run)) for run in runs]
    return tuple(sorted(whole, key=lambda each: (-each.score, each.turns[0].id)))
