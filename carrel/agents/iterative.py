"""Iterative retrieval: what was found says what to look for next, until that is enough or the steps are spent."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carrel.agents.base import Fit, Fitted, Pack, Retrieve, Score, Steps, flow
from carrel.agents.hops import Followed, FollowUp, Seed, names, ranked, seeds, settled
from carrel.agents.replying import Note, Written, ask_in_form, gathered, take_note, write
from carrel.agents.tasks import ANSWER_FROM_NOTES, DATA, ENOUGH
from carrel.errors import InputError
from carrel.options import check_budget, check_question
from carrel.retrieval.pruned_packing import key_of
from carrel.types import Passage, Prompt

if TYPE_CHECKING:
    from carrel.retrieval.filters import Where

QUERIES = (
    "To answer the question, more may have to be looked up. From the passages found so far, say what to search for"
    " next: sub-questions of the question that are still open, or names that lead on. One search a line, each after"
    f" SEARCH:, the most telling first. If the passages and notes answer the question already, reply {ENOUGH}. {DATA}"
)
DEPTH, READ = 100, 32
FLOOR = 16  # passages of which the best sentence stays: of a chain of facts, each link alone says little
MOST_NOTES = 4  # answers to sub-questions, the latest, that go into the last prompt
_LINE = re.compile(r"^\s*(?:[-*\d.)]+\s*)?(?:\((?P<weight>0(?:\.\d+)?|1(?:\.0+)?)\)\s*)?SEARCH:\s*(?P<query>\S.*?)\s*$")


@dataclass(frozen=True, slots=True)
class Iterated:
    """The answer, all that was found, best first, and how.

    Attributes
    ----------
    queries : of each step, in order; ``notes`` are the answers to those that are questions.
    sufficient : whether it ended because nothing more was needed, and not because the steps were spent.
    """

    answer: Written
    passages: tuple[Passage, ...]
    queries: tuple[tuple[str, ...], ...] = ()
    notes: tuple[Note, ...] = ()
    sufficient: bool = False


@flow("Yue et al., Inference Scaling for Long-Context Retrieval Augmented Generation (IterDRAG), arXiv 2410.04343")
def iterative(
    question: str, *, budget: int = 1000, steps: int = 1, searches: int = 48, where: Where | None = None
) -> Steps[Iterated]:
    """Retrieve, say what is still missing, retrieve that, and answer from the best of all.

    Parameters
    ----------
    budget : tokens of the passages that the answer is written from.
    steps : rounds of further retrieval at most; with ``searches``, the compute that may be spent.
    searches : queries of one round at most.
    where : metadata filter of every retrieval.

    Raises
    ------
    InputError : fewer than 0 steps. ReplyFormatError : twice a reply names no search.
    """
    check_question(question)
    check_budget(budget)
    if steps < 0 or searches < 1:
        raise InputError(f"steps are 0 or more and searches 1 or more, not {steps} and {searches}")
    nearest: tuple[Passage, ...] = yield Retrieve(question, DEPTH, where=where, mode="fast")
    read = yield from _read(question, nearest[:READ])
    chosen: list[Seed] = []
    followed: list[Followed] = []
    notes: list[Note] = []
    asked: list[tuple[str, ...]] = []
    order, enough = ranked(read, nearest, [], []), False
    for _ in range(steps):
        fresh = seeds(read, [key_of(seed.passage) for seed in chosen])
        follow_ups = (yield from _missing(question, fresh, notes, asked, searches)) if fresh else []
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
        questions = [each for each in followed[-len(found) :] if each.follow_up.query.endswith("?")]
        notes += yield [_answered(each) for each in questions]
        before, order = order, ranked(read, nearest, chosen, followed)
        enough = settled(before, order)
        if enough:
            break
        known = {key_of(passage) for passage in read}
        read += yield from _read(question, tuple(p for p in order[:READ] if key_of(p) not in known))
    answer = yield from _answer(question, tuple(order), notes, budget)
    return Iterated(answer, tuple(order), tuple(asked), tuple(notes), enough)


def _read(question: str, passages: tuple[Passage, ...]) -> Steps[list[Passage]]:
    """Passages with their relevance."""
    scores: tuple[float, ...] = yield Score(question, passages)
    return [replace(p, scores=replace(p.scores, relevance=score)) for p, score in zip(passages, scores, strict=True)]


def _missing(
    question: str, fresh: list[Seed], notes: list[Note], asked: list[tuple[str, ...]], most: int
) -> Steps[list[FollowUp]]:
    """What to search for next, from the passages that were not followed yet; empty where nothing is missing."""
    said = tuple(note.text for note in notes[-MOST_NOTES:] if note.text)
    prompt = Prompt(question, task=QUERIES, notes=said, kind="queries")
    fitted: Fitted = yield Fit(prompt, tuple(seed.passage for seed in fresh), whole=True)
    known = {query for queries in asked for query in queries}

    def parsed(text: str) -> list[FollowUp]:
        lines = [match for match in map(_LINE.match, text.splitlines()) if match]
        if not lines and ENOUGH not in text.upper():
            raise ValueError(f"it has no line that begins with SEARCH:, and does not say {ENOUGH}")
        weights: dict[str, float] = {}
        for line in lines:
            if line["query"] not in known:
                weights.setdefault(line["query"], float(line["weight"] or 1.0))
        return [FollowUp(query, weight, names(query) == [query]) for query, weight in weights.items()][:most]

    return (yield from ask_in_form(replace(prompt, passages=fitted.taken), parsed, example=f"SEARCH: {question}"))


def _answered(followed: Followed) -> Steps[Note]:
    """The answer to a sub-question, from what was found for it."""
    query = followed.follow_up.query
    prompt = Prompt(query, task=ANSWER_FROM_NOTES, max_tokens=128)
    fitted: Fitted = yield Fit(prompt, followed.passages, whole=True)
    note = yield from take_note(replace(prompt, passages=fitted.taken))
    return replace(note, text=f"{query} {note.text}") if note.text else note


def _answer(question: str, order: tuple[Passage, ...], notes: list[Note], budget: int) -> Steps[Written]:
    """The answer from the best of what was found, pruned to the budget."""
    texts, evidence = gathered(notes[-MOST_NOTES:])
    prompt = Prompt(question, evidence, task=ANSWER_FROM_NOTES if texts else "", notes=texts)
    packed: tuple[Passage, ...] = (yield Pack(question, order, budget, FLOOR)) if order else ()
    known = {key_of(passage) for passage in evidence}
    fitted: Fitted = yield Fit(prompt, tuple(passage for passage in packed if key_of(passage) not in known))
    return (yield from write(replace(prompt, passages=(*evidence, *fitted.taken)), stream=True))
