"""Iterative retrieval: what was found says what to look for next, until that is enough or the steps are spent."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carrel.agents.base import Fit, Fitted, Retrieve, Steps, flow
from carrel.agents.hops import Followed, FollowUp, Seed, names, ranked, seeds
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
DEPTH = 100
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
    question: str,
    *,
    budget: int = 1000,
    steps: int = 2,
    searches: int = 48,
    limit: int = 32,
    where: Where | None = None,
) -> Steps[Iterated]:
    """Retrieve, say what is still missing, retrieve that, and answer from the best of all.

    Parameters
    ----------
    budget : tokens of the passages that the answer is written from.
    steps : rounds of further retrieval at most; with ``searches``, the compute that may be spent.
    searches : queries of one round at most.
    limit : passages that the question itself retrieves.
    where : metadata filter of every retrieval.

    Raises
    ------
    InputError : fewer than 0 steps. ReplyFormatError : twice a reply names no search.
    """
    check_question(question)
    check_budget(budget)
    if steps < 0 or searches < 1:
        raise InputError(f"steps are 0 or more and searches 1 or more, not {steps} and {searches}")
    first: list[tuple[Passage, ...]] = yield [
        Retrieve(question, limit, where=where), Retrieve(question, DEPTH, where=where, mode="fast")
    ]  # fmt: skip
    found, nearest = first
    chosen: list[Seed] = []
    followed: list[Followed] = []
    notes: list[Note] = []
    asked: list[tuple[str, ...]] = []
    order, enough = found, False
    for _ in range(steps):
        new = seeds(order, {}, [key_of(seed.passage) for seed in chosen])
        if not new:
            break
        follow_ups = yield from _missing(question, new, notes, asked, searches)
        enough = not follow_ups
        if enough:
            break
        chosen += new
        asked.append(tuple(each.query for each in follow_ups))
        retrieved: list[tuple[Passage, ...]] = yield [
            Retrieve(each.query, each.limit, where=where, mode="fast") for each in follow_ups
        ]
        followed += [Followed(each, passages) for each, passages in zip(follow_ups, retrieved, strict=True)]
        notes += yield [_answered(each, passages) for each, passages in zip(follow_ups, retrieved, strict=True)
                        if each.query.endswith("?")]  # fmt: skip
        order = tuple(ranked(found, nearest, chosen, followed))
    answer = yield from _answer(question, order, notes, budget)
    return Iterated(answer, order, tuple(asked), tuple(notes), enough)


def _missing(
    question: str, new: list[Seed], notes: list[Note], asked: list[tuple[str, ...]], most: int
) -> Steps[list[FollowUp]]:
    """What to search for next, from the passages that were not followed yet; empty where nothing is missing."""
    said = tuple(note.text for note in notes if note.text)
    done = "\n".join(f"Searched already: {query}" for queries in asked for query in queries if query.endswith("?"))
    prompt = Prompt(question, task=QUERIES, notes=(*said, *([done] if done else [])), kind="queries", max_tokens=2048)
    fitted: Fitted = yield Fit(prompt, tuple(seed.passage for seed in new), whole=True)
    prompt = replace(prompt, passages=fitted.taken)

    def read(text: str) -> list[FollowUp]:
        lines = [match for match in map(_LINE.match, text.splitlines()) if match]
        if not lines and ENOUGH not in text.upper():
            raise ValueError(f"it has no line that begins with SEARCH:, and does not say {ENOUGH}")
        known = {query for queries in asked for query in queries}
        made = {
            match["query"]: float(match["weight"] or 1.0) for match in reversed(lines) if match["query"] not in known
        }
        return [
            FollowUp(query, weight, names(query) == [query]) for query, weight in list(reversed(made.items()))[:most]
        ]

    return (yield from ask_in_form(prompt, read, example=f"SEARCH: {question}"))


def _answered(follow_up: FollowUp, passages: tuple[Passage, ...]) -> Steps[Note]:
    """The answer to a sub-question, from what was found for it."""
    prompt = Prompt(follow_up.query, task=ANSWER_FROM_NOTES, max_tokens=128)
    fitted: Fitted = yield Fit(prompt, passages, whole=True)
    note = yield from take_note(replace(prompt, passages=fitted.taken))
    return replace(note, text=f"{follow_up.query} {note.text}") if note.text else note


def _answer(question: str, order: tuple[Passage, ...], notes: list[Note], budget: int) -> Steps[Written]:
    """The answer from the best of what was found."""
    texts, evidence = gathered(notes[-MOST_NOTES:])
    prompt = Prompt(question, evidence, task=ANSWER_FROM_NOTES if texts else "", notes=texts)
    known = {(passage.document_id, passage.start, passage.end) for passage in evidence}
    new = tuple(passage for passage in order if (passage.document_id, passage.start, passage.end) not in known)
    fitted: Fitted = yield Fit(prompt, new, limit=budget)
    return (yield from write(replace(prompt, passages=(*evidence, *fitted.taken)), stream=True))
