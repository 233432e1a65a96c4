"""A literature review of the library (LitLLM): keywords, search, ranking by quotation, a plan, a cited text."""

from __future__ import annotations

from dataclasses import replace

from carrel.agents.base import Retrieve, Score, Steps, flow
from carrel.agents.replying import Written, ask_in_form, write
from carrel.agents.reviewing import (
    WHY_PLAN,
    WHY_QUERIES,
    WHY_RANKS,
    Paper,
    PlannedSentence,
    Review,
    among,
    best_first,
    check_counts,
    found_papers,
    plain_plan,
    plan_prompt,
    queries_prompt,
    ranked_papers,
    ranks_prompt,
    read_queries,
    read_ranks,
    read_sentences,
    review_prompt,
)
from carrel.agents.room import with_passages
from carrel.errors import ContextOverflowError, RefusalError, ReplyFormatError
from carrel.generation.extractive import ABSTENTION
from carrel.options import check_question
from carrel.retrieval.filters import Where
from carrel.types import Passage, Prompt

_TOPIC, _CANDIDATES = 1000, 3  # characters that are searched for; papers that are ranked for each of the review
_BATCH = 8  # papers that are scored in one prompt; a reply of 512 tokens holds their scores
_UNUSABLE = (RefusalError, ReplyFormatError, ContextOverflowError)


@flow("Agarwal et al., LitLLMs, LLMs for Literature Review: Are we there yet?, arXiv 2412.15249")
def literature_review(
    topic: str, *, limit: int = 10, budget: int | None = None, queries: int = 5, where: Where | None = None
) -> Steps[Review]:
    """Review what the library has on a topic; every rank has its quotation, every citation is verified.

    Parameters
    ----------
    topic : a question, a topic, or the abstract of the text that the review is for.
    limit : papers that the review is written from, at the most. Three times as many are ranked.
    budget : the most tokens of their passages; by default what the window holds.
    queries : that the model may add to the topic itself, at the most; they are searched for side by side.
    where : filter of the documents' metadata.

    Raises
    ------
    InputError : a parameter is of no use. ContextOverflowError : the topic fills the window.
    RefusalError : the model declines to write the review.
    """
    topic = check_question(topic)
    check_counts(limit=limit, queries=queries)
    reports: list[str] = []
    searched = yield from _queries(topic, queries, reports)
    found: list[tuple[Passage, ...]] = yield [Retrieve(query, 2 * limit, where=where) for query in searched]
    candidates = found_papers(found)[: _CANDIDATES * limit]
    if not candidates:
        return Review(Written(ABSTENTION, abstained=True), queries=searched, reports=tuple(reports))
    papers, hallucinated = yield from _ranked(topic, candidates, reports)
    given = tuple(paper.passage for paper in papers[:limit])
    plan, given = yield from _planned(topic, given, budget, reports)
    prompt, plan = yield from _by_plan(topic, plan, given, budget, reports)
    text = yield from write(prompt, stream=True)
    return Review(text, papers, len(prompt.passages), plan, searched, tuple(hallucinated), tuple(reports))


def _queries(topic: str, most: int, reports: list[str]) -> Steps[tuple[str, ...]]:
    """The topic, and what the model would search for."""
    prompt, _ = yield from with_passages(queries_prompt(topic, most), why=WHY_QUERIES)
    example = "\n".join(f"{topic[:80]}, side {number}" for number in range(most))
    try:
        said = yield from ask_in_form(prompt, read_queries(most), example=example)
    except _UNUSABLE as error:
        reports.append(f"only the topic itself was searched for: {error}")
        said = ()
    return tuple(dict.fromkeys((topic[:_TOPIC], *said)))


def _ranked(
    topic: str, candidates: tuple[Passage, ...], reports: list[str]
) -> Steps[tuple[tuple[Paper, ...], list[str]]]:
    """All candidates, best first, scored in as many prompts as they need; and the quotations that stand nowhere."""
    prompts, left = [], candidates
    while left:
        asked = ranks_prompt(topic, min(len(left), _BATCH))
        prompt, rest = yield from with_passages(asked, left[:_BATCH], why=WHY_RANKS, whole=True)
        taken = {passage.document_id for passage in prompt.passages}
        left = (*(passage for passage in rest if passage.document_id not in taken), *left[_BATCH:])  # a cut one is done
        prompts.append(prompt)
    batches: list[tuple[list[Paper], list[str], str]] = yield [_scored(prompt) for prompt in prompts]
    whole = {passage.document_id: passage for passage in candidates}
    papers = [replace(paper, passage=whole[paper.document_id]) for batch in batches for paper in batch[0]]
    reports += [report for _, _, report in batches if report]
    return best_first(papers), [words for batch in batches for words in batch[1]]


def _scored(prompt: Prompt) -> Steps[tuple[list[Paper], list[str], str]]:
    """The papers of a prompt as the model scores them; as the reader does, where its reply is of no use."""
    batch = prompt.passages
    example = "\n".join(f'[{n}] 50 "{" ".join(p.pieces[0].split()[:12])}"' for n, p in enumerate(batch, start=1))
    try:
        ranks = yield from ask_in_form(prompt, read_ranks(len(batch)), example=example)
    except _UNUSABLE as error:
        scores: tuple[float, ...] = yield Score(prompt.question, batch)
        papers = [Paper(passage, score, "reader") for passage, score in zip(batch, scores, strict=True)]
        return papers, [], f"{len(batch)} papers were scored by the reader: {error}"
    return (*ranked_papers(batch, ranks), "")


def _planned(
    topic: str, given: tuple[Passage, ...], budget: int | None, reports: list[str]
) -> Steps[tuple[tuple[PlannedSentence, ...], tuple[Passage, ...]]]:
    """The plan of the review, and the papers that it was made from."""
    prompt, _ = yield from with_passages(plan_prompt(topic, len(given)), given, why=WHY_PLAN, limit=budget)
    example = "\n".join(map(str, plain_plan(prompt.passages)))
    try:
        plan = yield from ask_in_form(prompt, read_sentences(len(prompt.passages)), example=example)
    except _UNUSABLE as error:
        reports.append(f"the plan has a sentence for each paper: {error}")
        plan = plain_plan(prompt.passages)
    return plan, prompt.passages


def _by_plan(
    topic: str, plan: tuple[PlannedSentence, ...], given: tuple[Passage, ...], budget: int | None, reports: list[str]
) -> Steps[tuple[Prompt, tuple[PlannedSentence, ...]]]:
    """The prompt of the text, and the plan as far as the window has room for it and the papers that it cites."""
    every = plan
    while True:
        try:
            prompt, _ = yield from with_passages(review_prompt(topic, plan), given, limit=budget)
            break
        except ContextOverflowError:
            if len(plan) == 1:
                raise
            plan = plan[: len(plan) // 2]
    if len(plan := among(plan, len(prompt.passages))) < len(every):
        reports.append(f"the window holds {len(plan)} of the {len(every)} sentences planned, and what they cite")
    return replace(prompt, notes=review_prompt(topic, plan).notes), plan
