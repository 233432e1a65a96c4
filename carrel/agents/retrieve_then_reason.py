"""Retrieve, then reason (ALR2): facts are quoted first and looked up in the text; reasoning sees those alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from carrel.agents.base import Fit, Fitted, Retrieve, Score, Steps, flow
from carrel.agents.facts import FACTS, WHY, Reading, facts_of
from carrel.agents.pieces import Texts, units
from carrel.agents.quotations import distinct
from carrel.agents.replying import Written, write
from carrel.agents.room import with_passages
from carrel.agents.tasks import DATA, MARKS
from carrel.generation.extractive import ABSTENTION
from carrel.options import check_question
from carrel.types import Passage, Prompt

REASON = (
    "The passages are what was quoted from a longer text because it matters for the question. Reason from them, and"
    f" from nothing else, step by step to the answer, and end with the answer. {MARKS} {DATA}"
)


@dataclass(frozen=True, slots=True)
class Reasoned:
    """What was reasoned from facts.

    Attributes
    ----------
    answer : marks are the numbers of its ``passages``, the facts that it was given.
    facts : all that were found, each verified to stand in the text, in the order of the text.
    left_out : facts for which the window had no room, the least relevant.
    hallucinated : what the model said it quoted, and that stands nowhere, or is too short to tell.
    pieces : in which the text was read; ``skipped`` are those that could not be, as their first words and why.
    """

    answer: Written
    facts: tuple[Passage, ...] = ()
    left_out: int = 0
    hallucinated: tuple[str, ...] = ()
    pieces: int = 0
    skipped: tuple[str, ...] = ()


@flow("Li et al., ALR2: A Retrieve-then-Reason Framework for Long-context Question Answering, arXiv 2410.03227")
def retrieve_then_reason(
    question: str,
    texts: Texts | None = None,
    *,
    budget: int = 2000,
    piece_tokens: int | None = None,
    facts_tokens: int = 512,
) -> Steps[Reasoned]:
    """Answer from facts that are quoted from the text first and verified; without any, nothing is reasoned.

    Parameters
    ----------
    question : what is to be answered.
    texts : documents or passages; what the library has on the question, where None.
    budget : tokens of what is retrieved.
    piece_tokens : the most tokens of a piece; by default all that the window holds. Pieces are read side by side.
    facts_tokens : the most tokens that are quoted from a piece.

    Raises
    ------
    InputError : there is nothing to read. ContextOverflowError : the question fills the window.
    RefusalError, ReplyFormatError : not one piece could be read; or the model declines to reason.
    """
    question = check_question(question)
    left: tuple[Passage, ...] = units(texts) if texts is not None else (yield Retrieve(question, budget=budget))
    asked = Prompt(question, task=FACTS, kind="notes", max_tokens=facts_tokens)
    pieces: list[Prompt] = []
    while left:
        prompt, left = yield from with_passages(asked, left, why=WHY, limit=piece_tokens)
        pieces.append(prompt)
    parts: list[list[Reading]] = yield [facts_of(prompt) for prompt in pieces]
    readings = list(chain.from_iterable(parts))
    errors = [reading.error for reading in readings if reading.error]
    if errors and len(errors) == len(readings):
        raise errors[0]
    facts = distinct(chain.from_iterable(reading.facts for reading in readings))
    hallucinated = tuple(chain.from_iterable(reading.hallucinated for reading in readings))
    skipped = tuple(f"{r.piece[0].text.strip()[:80]}: {r.error}" for r in readings if r.error)
    if not facts:
        return Reasoned(Written(ABSTENTION, abstained=True), (), 0, hallucinated, len(pieces), skipped)
    chosen = yield from _chosen(question, facts)
    answer = yield from write(Prompt(question, chosen, task=REASON), stream=True)
    return Reasoned(answer, facts, len(facts) - len(chosen), hallucinated, len(pieces), skipped)


def _chosen(question: str, facts: tuple[Passage, ...]) -> Steps[tuple[Passage, ...]]:
    """The facts that the window holds, the most relevant where it does not hold all, in the order of the text."""
    prompt = Prompt(question, task=REASON)
    fitted: Fitted = yield Fit(prompt, facts, whole=True)
    if fitted.left:
        scores: tuple[float, ...] = yield Score(question, facts)
        ranked = sorted(range(len(facts)), key=lambda place: -scores[place])
        best: Fitted = yield Fit(prompt, tuple(facts[place] for place in ranked), whole=True)
        order = {(fact.document_id, fact.start): place for place, fact in enumerate(facts)}
        in_order = sorted(best.taken, key=lambda fact: order[fact.document_id, fact.start])
        fitted = yield Fit(prompt, tuple(in_order), whole=True)
    return fitted.taken
