"""Iterative retrieval: what was found says what to look for next, until that is enough or the steps are spent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carrel.agents.base import Fit, Fitted, Pack, Retrieve, Score, Steps, flow
from carrel.agents.hops import Followed, Seed, ranked, seeds, settled
from carrel.agents.replying import Note, Written, gathered, renumbered, take_note, write
from carrel.agents.searches import is_question, missing
from carrel.agents.tasks import ANSWER_FROM_NOTES
from carrel.errors import ContextOverflowError, InputError, RefusalError, ReplyFormatError
from carrel.options import check_budget, check_question
from carrel.retrieval.pruned_packing import key_of
from carrel.types import Passage, Prompt

if TYPE_CHECKING:
    from carrel.retrieval.filters import Where

DEPTH, READ = 100, 32
FLOOR = 16  # passages of which the best sentence stays: of a chain of facts, each link alone says little
MOST_NOTES = 4  # answers to sub-questions, the latest, that go into a prompt
_UNUSABLE = (RefusalError, ReplyFormatError, ContextOverflowError)


@dataclass(frozen=True, slots=True)
class Iterated:
    """The answer, all that was found, best first, and how.

    Attributes
    ----------
    queries : of each step, in order; ``notes`` are the answers to those that are questions.
    sufficient : whether it ended because nothing more was needed, and not because the steps were spent.
    skipped : sub-questions that were not answered, and why no more was searched for, where a model failed to say.
    """

    answer: Written
    passages: tuple[Passage, ...]
    queries: tuple[tuple[str, ...], ...] = ()
    notes: tuple[Note, ...] = ()
    sufficient: bool = False
    skipped: tuple[str, ...] = ()


@flow("Yue et al., Inference Scaling for Long-Context Retrieval Augmented Generation (IterDRAG), arXiv 2410.04343")
def iterative(
    question: str, *, budget: int = 1000, steps: int = 1, searches: int = 48, where: Where | None = None
) -> Steps[Iterated]:
    """Retrieve, say what is still missing, retrieve that, and answer from the best of all.

    Parameters
    ----------
    budget : tokens of the passages that the answer is written from, what its notes quote included.
    steps : rounds of further retrieval at most; with ``searches``, the compute that may be spent.
    searches : queries of one round at most.
    where : metadata filter of every retrieval.

    Raises
    ------
    InputError : fewer than 0 steps. ContextOverflowError : the question fills the window.
    RefusalError : the model declines to answer.
    """
    question = check_question(question)
    check_budget(budget)
    if steps < 0 or searches < 1:
        raise InputError(f"steps are 0 or more and searches 1 or more, not {steps} and {searches}")
    nearest: tuple[Passage, ...] = yield Retrieve(question, DEPTH, where=where, mode="fast")
    read = yield from _read(question, nearest[:READ])
    chosen: list[Seed] = []
    followed: list[Followed] = []
    notes: list[Note] = []
    asked: list[tuple[str, ...]] = []
    skipped: list[str] = []
    order, enough = ranked(read, nearest, [], []), False
    for _ in range(steps):
        fresh = seeds(read, [key_of(seed.passage) for seed in chosen])
        try:
            follow_ups = (yield from missing(question, fresh, notes[-MOST_NOTES:], asked, searches)) if fresh else []
        except _UNUSABLE as error:
            skipped.append(f"nothing more was searched for: {error}")
            break
        enough = not follow_ups
        if enough:
            break
        asked.append(tuple(each.query for each in follow_ups))
        found: list[tuple[Passage, ...]] = yield [
            Retrieve(each.query, each.limit, None, where, "fast", "lexical" if each.is_name else "")
            for each in follow_ups
        ]
        chosen += fresh
        followed += [Followed(each, passages) for each, passages in zip(follow_ups, found, strict=True)]
        answers: list[Note | str] = yield [_answered(f) for f in followed[-len(found) :] if is_question(f.follow_up)]
        notes += [each for each in answers if isinstance(each, Note)]
        skipped += [each for each in answers if isinstance(each, str)]
        before, order = order, ranked(read, nearest, chosen, followed)
        enough = settled(before, order)
        if enough:
            break
        known = {key_of(passage) for passage in read}
        read += yield from _read(question, tuple(p for p in order[:READ] if key_of(p) not in known))
    answer = yield from _answer(question, tuple(order), notes, budget)
    return Iterated(answer, tuple(order), tuple(asked), tuple(notes), enough, tuple(skipped))


def _read(question: str, passages: tuple[Passage, ...]) -> Steps[list[Passage]]:
    """Passages with their relevance."""
    scores: tuple[float, ...] = yield Score(question, passages)
    return [replace(p, scores=replace(p.scores, relevance=score)) for p, score in zip(passages, scores, strict=True)]


def _answered(followed: Followed) -> Steps[Note | str]:
    """The answer to a sub-question, from what was found for it; or why there is none."""
    query = followed.follow_up.query
    prompt = Prompt(query, task=ANSWER_FROM_NOTES, max_tokens=128)
    try:
        fitted: Fitted = yield Fit(prompt, followed.passages, whole=True)
        note = yield from take_note(replace(prompt, passages=fitted.taken))
    except (RefusalError, ContextOverflowError) as error:
        return f"{query}: {error}"
    return replace(note, text=f"{renumbered(query, {})} {note.text}") if note.text else note


def _answer(question: str, order: tuple[Passage, ...], notes: list[Note], budget: int) -> Steps[Written]:
    """The answer from the best of what was found, pruned to the budget; of the notes, the latest that fit beside it."""
    packed: tuple[Passage, ...] = (yield Pack(question, order, budget, FLOOR)) if order else ()
    shown = [note for note in notes[-MOST_NOTES:] if note.text]
    while True:
        texts, evidence = gathered(shown)
        known = {key_of(passage) for passage in evidence}
        rest = tuple(passage for passage in packed if key_of(passage) not in known)
        prompt = Prompt(question, task=ANSWER_FROM_NOTES if texts else "", notes=texts)
        try:
            fitted: Fitted = yield Fit(prompt, (*evidence, *rest), budget if evidence else None)
            if fitted.taken[: len(evidence)] == evidence:
                return (yield from write(replace(prompt, passages=fitted.taken), stream=True))
        except ContextOverflowError:
            if not shown:
                raise
        shown = shown[1:]
