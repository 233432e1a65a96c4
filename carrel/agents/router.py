"""Sends a question where it is answered at the least cost: one passage, a context, a chain, or clusters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from carrel.agents.base import Fit, Fitted, Read, Retrieve, Steps, flow
from carrel.agents.chain_of_agents import Chained, chain_of_agents
from carrel.agents.clustered import Clustered, clustered
from carrel.agents.replying import Written, write
from carrel.errors import InputError
from carrel.options import check_budget, check_question
from carrel.types import Document, Ledger, LedgerEntry, Passage, Prompt

Route = Literal["direct", "context", "chain", "clustered"]
CANDIDATES = 32
RELEVANT = 0.3
"""Relevance from which a passage counts as one to answer from."""
_SURE, _SHARP_DROP = 0.5, 0.5
_DIFFUSED = 0.8
_MANY_PASSAGES = 6
_WIDE_DOCUMENTS = 6


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard a question looks by the relevance of what was found for it.

    Attributes
    ----------
    best : the highest relevance, 0 to 1; ``drop`` is the share of it that the second has not.
    spread : entropy of the relevances as shares, 0 (one passage has all) to 1 (all have the same): how diffused.
    relevant : passages above the threshold, in ``documents`` documents: how wide the scope is.
    """

    best: float
    drop: float
    spread: float
    relevant: int
    documents: int


@dataclass(frozen=True, slots=True)
class Routed:
    """The answer, the way it was sent, why, and what that way gave."""

    answer: Written
    route: Route
    reason: str
    difficulty: Difficulty
    ledger: Ledger = field(default_factory=lambda: Ledger(""))
    detail: Chained | Clustered | None = None


def difficulty(passages: Sequence[Passage], threshold: float = RELEVANT) -> Difficulty:
    """Measure passages as they were found, best first. Without relevances, cosines stand for them."""
    scores = [_relevance(passage) for passage in passages]
    if not scores:
        return Difficulty(0.0, 0.0, 0.0, 0, 0)
    ordered = sorted(scores, reverse=True)
    total = sum(ordered)
    shares = [share for score in ordered if (share := score / total) > 0] if total else []
    spread = -sum(p * math.log(p) for p in shares) / math.log(len(ordered)) if len(ordered) > 1 and shares else 0.0
    drop = 1.0 - ordered[1] / ordered[0] if len(ordered) > 1 and ordered[0] > 0 else float(ordered[0] > 0)
    above = [passage for passage, score in zip(passages, scores, strict=True) if score >= threshold]
    return Difficulty(ordered[0], drop, spread, len(above), len({passage.document_id for passage in above}))


def choose(found: Difficulty) -> tuple[Route, str]:
    """The cheapest way that fits what was measured, and why."""
    seen = f"{found.relevant} relevant passages in {found.documents} documents"
    if found.documents >= _WIDE_DOCUMENTS:
        return "clustered", f"wide: {seen}"
    if found.best >= _SURE and found.drop >= _SHARP_DROP:
        return "direct", f"one passage stands out: {found.best:.2f}, the next has {1 - found.drop:.0%} of that"
    if found.relevant >= _MANY_PASSAGES and found.spread >= _DIFFUSED:
        return "chain", f"diffused: {seen}, spread {found.spread:.2f}"
    return "context", f"in between: {seen}, best {found.best:.2f}, spread {found.spread:.2f}"


@flow("Jeong et al., Adaptive-RAG: Learning to Adapt RAG through Question Complexity, arXiv 2403.14403")
def router(
    question: str, *, budget: int = 1000, threshold: float = RELEVANT, route: Route | None = None
) -> Steps[Routed]:
    """Answer a question from the library by the way that its measured difficulty asks for.

    ``direct`` reads the best passage, ``context`` a pruned context, ``chain`` the whole of the document that has most
    of what is relevant, ``clustered`` a summary of each group of passages.

    Parameters
    ----------
    budget : tokens of the context, where that is the way.
    threshold : relevance from which a passage counts, 0 to 1.
    route : take this way whatever was measured. Where nothing is found, there is none but the context.

    Raises
    ------
    InputError : a parameter is of no use. ContextOverflowError : the question fills the window.
    RefusalError : the model declines to answer.
    """
    question = check_question(question)
    check_budget(budget)
    if route not in (None, *get_args(Route)) or not 0 <= threshold <= 1:
        raise InputError(f"a route is one of {', '.join(get_args(Route))}, or None, and a threshold a number from 0 to"
                         f" 1, not {route!r} and {threshold!r}")  # fmt: skip
    found: tuple[Passage, ...] = yield Retrieve(question, CANDIDATES)
    measured = difficulty(found, threshold)
    chosen, reason = choose(measured)
    if route is not None and found:
        chosen, reason = route, "as asked for"
    ledger = Ledger("", (LedgerEntry("route", len(found), measured.relevant, reason=f"{chosen}: {reason}"),))
    answer, detail = yield from _taken(question, chosen, found, budget, threshold)
    return Routed(answer, chosen, reason, measured, ledger, detail)


def _taken(
    question: str, route: Route, found: tuple[Passage, ...], budget: int, threshold: float
) -> Steps[tuple[Written, Chained | Clustered | None]]:
    """Go one way."""
    if route == "chain":
        relevant = [passage for passage in found if _relevance(passage) >= threshold] or list(found)
        most = Counter(passage.document_id for passage in relevant).most_common(1)[0][0]
        document: Document = yield Read(most)
        chained: Chained = yield chain_of_agents(question, document)
        return chained.answer, chained
    if route == "clustered":
        grouped: Clustered = yield clustered(question, passages=found)
        return grouped.answer, grouped
    passages = found[:1]
    if route != "direct":
        passages = yield Retrieve(question, budget=budget)
    fitted: Fitted = yield Fit(Prompt(question), passages)
    return (yield from write(Prompt(question, fitted.taken), stream=True)), None


def _relevance(passage: Passage) -> float:
    scores = passage.scores
    value = scores.relevance if scores.relevance is not None else scores.dense
    return min(1.0, max(0.0, value or 0.0))
