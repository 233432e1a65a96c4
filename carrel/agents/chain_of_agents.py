"""Chain of Agents: workers read a long text piece by piece and pass on their notes; a manager answers from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from carrel.agents.base import Fit, Fitted, Score, Steps, flow
from carrel.agents.pieces import Texts, halves, piece_beside, units
from carrel.agents.reducing import check_tokens
from carrel.agents.replying import (
    Note,
    Written,
    ask_in_form,
    carrying,
    gathered,
    note_of,
    read_number,
    words,
    write,
    write_with_sign,
)
from carrel.agents.tasks import ANSWER_FROM_NOTES, CHOICE, ENOUGH, NOTES
from carrel.errors import ContextOverflowError, InputError, RefusalError
from carrel.options import check_question
from carrel.types import Passage, Prompt

Direction = Literal["forwards", "backwards", "both"]


@dataclass(frozen=True, slots=True)
class Chained:
    """What a chain of agents found.

    Attributes
    ----------
    answer : the manager's, with citations in the text that was read.
    notes : what each worker passed on, in the order of reading; with "both", of the chain whose answer was chosen.
    pieces : how many pieces were read; ``stopped_early`` where the rest was left unread.
    skipped : pieces that a worker declined to read, as their first words.
    candidates : with "both", the answers of the two directions.
    """

    answer: Written
    notes: tuple[Note, ...]
    pieces: int
    stopped_early: bool = False
    skipped: tuple[str, ...] = ()
    candidates: tuple[Written, ...] = ()


@flow("Zhang et al., Chain of Agents: Large Language Models Collaborating on Long-Context Tasks, arXiv 2406.02818")
def chain_of_agents(
    question: str,
    texts: Texts,
    *,
    direction: Direction = "forwards",
    notes_tokens: int = 256,
    piece_tokens: int | None = None,
    least_relevance: float | None = None,
    early_exit: bool = True,
) -> Steps[Chained]:
    """Read a text of any length: each worker has the notes so far and a piece that fills the window.

    Parameters
    ----------
    question : what is to be answered.
    texts : a document, or several, or passages, in the order in which they are read.
    direction : "forwards", "backwards", or "both", where the better of the two answers is chosen.
    notes_tokens : the most tokens of a worker's notes.
    piece_tokens : the most tokens of a piece; by default all that the window holds.
    least_relevance : leave out what scores less than this for the question, 0 to 1, before anything is read.
    early_exit : stop when a worker says that its notes are enough.

    Raises
    ------
    InputError : nothing to read, or an unknown direction. RefusalError : the manager declines.
    """
    question = check_question(question)
    check_tokens(notes_tokens=notes_tokens, piece_tokens=piece_tokens)
    if direction not in ("forwards", "backwards", "both"):
        raise InputError(f"a chain reads 'forwards', 'backwards' or 'both', not {direction!r}")
    left = units(texts)
    if least_relevance is not None:
        scores: tuple[float, ...] = yield Score(question, left)
        best = max(scores)
        left = tuple(unit for unit, score in zip(left, scores, strict=True) if score >= min(least_relevance, best))
    settings = (notes_tokens, piece_tokens, early_exit)
    if direction != "both":
        return (yield from _chain(question, left, direction == "backwards", *settings))
    chains: list[Chained] = yield [_chain(question, left, backwards, *settings) for backwards in (False, True)]
    return (yield from _chosen(question, chains))


def _chain(
    question: str, left: tuple[Passage, ...], backwards: bool, most: int, limit: int | None, early_exit: bool
) -> Steps[Chained]:
    """One way through the text, and the manager's answer."""
    notes: list[Note] = []
    skipped: list[str] = []
    note, enough = Note(), False
    waiting = [left]  # texts still to be read, the next one last
    while waiting and not enough:
        prompt = Prompt(question, task=NOTES, kind="notes", max_tokens=most)
        note, fitted = yield from piece_beside(note, prompt, waiting.pop(), limit, backwards=backwards)
        waiting += [fitted.left] if fitted.left else []
        try:
            signed, said = yield from write_with_sign(_with(prompt, note, fitted.taken), ENOUGH)
        except ContextOverflowError:  # whoever serves the model counts otherwise
            parts = halves(fitted.taken, backwards=backwards)
            if not parts:
                raise
            waiting += parts
            continue
        except RefusalError:
            skipped.append(fitted.taken[0].text.strip()[:80])
            continue
        enough = early_exit and signed
        if not said.abstained and said.text.strip():
            note = note_of(said)
        notes.append(note)
    prompt = yield from carrying(Prompt(question, task=ANSWER_FROM_NOTES), note)
    answer = yield from write(prompt, stream=True)
    return Chained(answer, tuple(notes), len(notes), bool(waiting), tuple(skipped))


def _with(prompt: Prompt, note: Note, piece: tuple[Passage, ...]) -> Prompt:
    return replace(prompt, passages=(*note.evidence, *piece), notes=(note.text,) if note.text else ())


def _chosen(question: str, chains: list[Chained]) -> Steps[Chained]:
    """The chain whose answer stands: the only one there is, the one both gave, or the one that is chosen."""
    answers = tuple(chain.answer for chain in chains)
    said = [chain for chain in chains if not chain.answer.abstained and chain.answer.text.strip()]
    best = (said or chains)[0]
    if len(said) > 1 and len({words(answer.text) for answer in answers}) > 1:
        texts, evidence = gathered(note_of(answer) for answer in answers)
        numbered = tuple(f"Answer {number}: {text}" for number, text in enumerate(texts, start=1))
        prompt = Prompt(question, task=CHOICE, notes=numbered, kind="choice", max_tokens=16)
        fitted: Fitted = yield Fit(prompt, evidence, whole=True)
        prompt = replace(prompt, passages=fitted.taken)
        best = chains[(yield from ask_in_form(prompt, read_number(len(answers)), example="1")) - 1]
    return replace(best, candidates=answers)
