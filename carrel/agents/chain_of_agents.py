"""Chain of Agents: workers read a long text piece by piece and pass on their notes; a manager answers from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from carrel.agents.base import Score, Steps, flow
from carrel.agents.pieces import Texts, halves, piece_beside, units
from carrel.agents.quotations import says_nothing
from carrel.agents.reducing import as_written, check_tokens, skipped, together
from carrel.agents.replying import Note, Written, note_of, write, write_with_sign
from carrel.agents.tasks import ANSWER_FROM_NOTES, ENOUGH, NOTES
from carrel.agents.voting import voted
from carrel.errors import CarrelError, ContextOverflowError, InputError, RefusalError
from carrel.options import check_question
from carrel.types import Passage, Prompt

Direction = Literal["forwards", "backwards", "both"]


@dataclass(frozen=True, slots=True)
class Chained:
    """What a chain of agents found.

    Attributes
    ----------
    answer : the manager's, with citations in the text that was read; abstained where no worker noted anything.
    notes : what each worker passed on, in the order of reading; with "both", of the chain whose answer was chosen.
    pieces : how many pieces were read; ``stopped_early`` where the rest was left unread.
    skipped : pieces that could not be read, as their first words and why; with "both", a direction without an
        answer, or why none of two was chosen.
    candidates : with "both", the answers of the two directions, or of the one that has one.
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
    least_relevance : what scores less than this for the question, 0 to 1, is left unread.
    early_exit : stop when a worker says that its notes are enough.

    Raises
    ------
    InputError : nothing to read, or an unknown direction. ContextOverflowError : the question fills the window.
    RefusalError : the manager declines, or no worker reads any piece; with "both", in both directions.
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
    both: list[Chained | CarrelError] = yield [_tried(_chain(question, left, way, *settings)) for way in (False, True)]
    chains = [each for each in both if isinstance(each, Chained)]
    failed = [each for each in both if isinstance(each, CarrelError)]
    if not chains:
        raise failed[0]
    answers = tuple(chain.answer for chain in chains)
    place, why = yield from voted(question, answers)
    reports = (*(f"one direction has no answer: {error}" for error in failed), *([why] if why else []))
    return replace(chains[place], skipped=(*chains[place].skipped, *reports), candidates=answers)


def _tried(chain: Steps[Chained]) -> Steps[Chained | CarrelError]:
    """One way through the text; or why it has no answer, which is no reason to lose that of the other."""
    try:
        return (yield from chain)
    except (RefusalError, ContextOverflowError) as error:
        return error


def _chain(
    question: str, left: tuple[Passage, ...], backwards: bool, most: int, limit: int | None, early_exit: bool
) -> Steps[Chained]:
    """One way through the text, and the manager's answer."""
    notes: list[Note] = []
    unread: list[str] = []
    failure: CarrelError | None = None
    note, enough = Note(), False
    waiting = [left]  # texts still to be read, the next one last
    while waiting and not enough:
        prompt = Prompt(question, task=NOTES, kind="notes", max_tokens=most)
        note, fitted = yield from piece_beside(note, prompt, waiting.pop(), limit, backwards=backwards)
        waiting += [fitted.left] if fitted.left else []
        try:
            signed, said = yield from write_with_sign(_with(prompt, note, fitted.taken), ENOUGH)
        except (RefusalError, ContextOverflowError) as error:
            parts = halves(fitted.taken, backwards=backwards) if isinstance(error, ContextOverflowError) else []
            waiting += parts  # whoever serves the model counts otherwise
            failure = error
            unread += [] if parts else [skipped(replace(prompt, passages=fitted.taken), error)]
            continue
        enough = early_exit and signed
        if not (said.abstained or says_nothing(said.text)) and said.text.strip():
            note = note_of(said)
        notes.append(note)
    if failure is not None and not notes:
        raise failure
    answer = as_written(Note())  # where nobody noted anything, there is nothing to answer from
    if note.text.strip():
        prompt = yield from together(Prompt(question, task=ANSWER_FROM_NOTES), [note])
        answer = yield from write(prompt, stream=True)
    return Chained(answer, tuple(notes), len(notes), bool(waiting), tuple(unread))


def _with(prompt: Prompt, note: Note, piece: tuple[Passage, ...]) -> Prompt:
    return replace(prompt, passages=(*note.evidence, *piece), notes=(note.text,) if note.text else ())
