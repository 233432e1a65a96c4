"""What a literature review is made of: queries, ranked papers, a plan of sentences; read from replies, and ordered."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from carrel.agents.quotations import bare, quotation
from carrel.agents.replying import Written
from carrel.agents.tasks import DATA, MARKS
from carrel.errors import InputError
from carrel.types import Passage, Prompt

QUERIES = (
    "Name what a library should be searched for, to find what was written about the topic: short queries of keywords,"
    " one a line, without numbers, each about another side of it, and nothing else."
)
RANKS = (
    "The passages are of different papers. Score each for how much a review of the topic needs it, from 0 to 100, and"
    " quote of its passage, word for word, what justifies that: a line for each passage, its number, the score, the"
    f' quotation, like this: [2] 80 "the words as they stand there". {DATA}'
)
SENTENCES = (
    "Plan a review of the topic from the passages, each of a different paper: a line for each sentence of it, with what"
    " the sentence says and the numbers of the papers that it cites, like this: What the sentence says [1][3]. Group"
    f" papers that belong together, and leave out those that do not belong to the topic. {DATA}"
)
REVIEW = (
    "Write the review of the topic by the plan in the notes, sentence by sentence, from the passages and from nothing"
    f" else. {MARKS} {DATA}"
)
RANK_CONSTANT = 60
MOST_QUERY = 200
"""Characters; a longer line is no query."""
MOST_SENTENCES = 40
MOST_POINT = 300
"""Characters of what a planned sentence says."""
WHY_QUERIES = f"it has no line of up to {MOST_QUERY} characters that could be searched for"
WHY_RANKS = 'it has no line such as [2] 80 "the words as they stand there", with a score of 0 to 100'
WHY_PLAN = f"it is not a plan of 1 to {MOST_SENTENCES} lines such as What the sentence says [1][3]"
_RANK = re.compile(
    r"^\W{0,4}(?P<number>\d{1,3})\]?[\s:.)–—-]+(?:score\s*:?\s*)?(?P<score>\d{1,3})(?:\s?%|\s?/\s?100)?"
    r"(?![\d.])[\s:,;–—-]*(?P<words>.*)$",
    re.IGNORECASE,
)
_CITED = re.compile(r"[\[【]\s*(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\s*[\]】]")


@dataclass(frozen=True, slots=True)
class Paper:
    """A document of the library as a review sees it.

    Attributes
    ----------
    passage : what was found of it, by which it was ranked and is cited.
    score : relevance to the topic, 0 to 1.
    ranked_by : "model"; "reader" where the model's reply could not be used; "search" where the model left it out.
    justification : what the model quoted of it as the reason, verified; None where that stands nowhere in it.
    """

    passage: Passage
    score: float = 0.0
    ranked_by: Literal["model", "reader", "search"] = "search"
    justification: Passage | None = None

    @property
    def document_id(self) -> str:
        return self.passage.document_id

    @property
    def title(self) -> str:
        return self.passage.title


@dataclass(frozen=True, slots=True)
class PlannedSentence:
    """A sentence of a review as planned: what it says, and the numbers of the papers that it cites."""

    point: str
    papers: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.point} {''.join(f'[{number}]' for number in self.papers)}".strip()


@dataclass(frozen=True, slots=True)
class Review:
    """A literature review.

    Attributes
    ----------
    text : with verified citations and unsupported marks. Marks are numbers of its passages: the papers' in order.
    papers : all that were found, best first; the first ``reviewed`` of them are those that the text was written from.
    plan : what each sentence was to say and to cite.
    queries : what was searched for, the topic itself first.
    hallucinated : quotations by which the model justified a rank, and that stand nowhere in the paper.
    reports : what did not go as it should, and what was done instead.
    """

    text: Written
    papers: tuple[Paper, ...] = ()
    reviewed: int = 0
    plan: tuple[PlannedSentence, ...] = ()
    queries: tuple[str, ...] = ()
    hallucinated: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()

    @property
    def uncited(self) -> tuple[int, ...]:
        """Papers that the plan cites and the text does not, or not so that it could be verified."""
        cited = {citation.number for citation in self.text.citations}
        return tuple(sorted({number for sentence in self.plan for number in sentence.papers} - cited))


def check_counts(**counts: object) -> None:
    """Raise InputError where one is no number from 1."""
    for name, number in counts.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"the {name} of a review is a number, 1 or more, not {number!r}")


def queries_prompt(topic: str, most: int) -> Prompt:
    """Asks for so many queries at the most."""
    return Prompt(topic, task=QUERIES, notes=(f"At most {most} queries.",), kind="queries", max_tokens=32 * most)


def ranks_prompt(topic: str, papers: int) -> Prompt:
    """Asks for the scores of so many papers."""
    return Prompt(topic, task=RANKS, kind="ranks", max_tokens=64 + 48 * papers)


def plan_prompt(topic: str, papers: int) -> Prompt:
    """Asks for the sentences of a review of so many papers."""
    return Prompt(topic, task=SENTENCES, kind="plan", max_tokens=64 + 40 * papers)


def review_prompt(topic: str, plan: Sequence[PlannedSentence]) -> Prompt:
    """Asks for the text by the plan."""
    return Prompt(topic, task=REVIEW, notes=("\n".join(["The plan:", *map(str, plan)]),), kind="review")


def read_queries(most: int) -> Callable[[str], tuple[str, ...]]:
    """Reads queries, one a line, each once, so many at the most."""

    def read(text: str) -> tuple[str, ...]:
        lines = (" ".join(bare(line).strip("\"'“”`").split()) for line in text.splitlines())
        queries = {line.lower(): line for line in lines if len(line) <= MOST_QUERY and any(map(str.isalnum, line))}
        if not queries:
            raise ValueError(WHY_QUERIES)
        return tuple(queries.values())[:most]

    return read


def found_papers(found: Sequence[Sequence[Passage]]) -> tuple[Passage, ...]:
    """Each document that the queries found, once, by its best passage; documents by reciprocal rank fusion.

    Parameters
    ----------
    found : the passages of each query, best first.
    """
    totals: dict[str, float] = {}
    best: dict[str, tuple[int, Passage]] = {}
    for passages in found:
        for rank, document_id in enumerate(dict.fromkeys(passage.document_id for passage in passages), start=1):
            totals[document_id] = totals.get(document_id, 0.0) + 1 / (RANK_CONSTANT + rank)
        for place, passage in enumerate(passages):
            if passage.document_id not in best or place < best[passage.document_id][0]:
                best[passage.document_id] = place, passage
    order = sorted(totals, key=lambda document_id: -totals[document_id])
    return tuple(best[document_id][1] for document_id in order)


def read_ranks(count: int) -> Callable[[str], dict[int, tuple[int, str]]]:
    """Reads the scores of passages 1 to ``count``, 0 to 100, with the words that are said to justify each."""

    def read(text: str) -> dict[int, tuple[int, str]]:
        ranks: dict[int, tuple[int, str]] = {}
        for match in filter(None, (_RANK.match(line.strip()) for line in text.splitlines())):
            number, score = int(match["number"]), int(match["score"])
            if 1 <= number <= count and score <= 100:
                ranks.setdefault(number, (score, match["words"].strip()))
        if not ranks:
            raise ValueError(WHY_RANKS)
        return ranks

    return read


def ranked_papers(batch: Sequence[Passage], ranks: dict[int, tuple[int, str]]) -> tuple[list[Paper], list[str]]:
    """Papers with the model's scores and what it quoted, where that stands in the paper; and what does not."""
    papers, hallucinated = [], []
    for number, passage in enumerate(batch, start=1):
        if number not in ranks:
            papers.append(Paper(passage))
            continue
        score, words = ranks[number]
        quoted = quotation(words, passage)
        papers.append(Paper(passage, score / 100, "model", quoted))
        if quoted is None:
            hallucinated.append(f"{passage.title or passage.document_id}: {words}")
    return papers, hallucinated


def best_first(papers: Sequence[Paper]) -> tuple[Paper, ...]:
    """Papers by score; those whose justification stands nowhere come after all others, those without a score last."""

    def tier(paper: Paper) -> int:
        if paper.ranked_by == "search":
            return 2
        return int(paper.ranked_by == "model" and paper.justification is None)

    return tuple(sorted(papers, key=lambda paper: (tier(paper), -paper.score)))


def read_sentences(papers: int) -> Callable[[str], tuple[PlannedSentence, ...]]:
    """Reads a plan of sentences that cite papers 1 to ``papers``; at least one must."""

    def read(text: str) -> tuple[PlannedSentence, ...]:
        plan = tuple(filter(None, (_sentence(line, papers) for line in text.splitlines())))
        if not any(sentence.papers for sentence in plan) or len(plan) > MOST_SENTENCES:
            raise ValueError(WHY_PLAN)
        return plan

    return read


def _sentence(line: str, papers: int) -> PlannedSentence | None:
    numbers = [int(number) for group in _CITED.findall(line) for number in re.findall(r"\d+", group)]
    point = " ".join(bare(_CITED.sub("", line)).split())[:MOST_POINT]
    if not any(map(str.isalnum, point)):
        return None
    return PlannedSentence(point, tuple(sorted({number for number in numbers if 1 <= number <= papers})))


def among(plan: Sequence[PlannedSentence], papers: int) -> tuple[PlannedSentence, ...]:
    """The plan without the papers above a number, and without the sentences that rest on those alone."""
    kept = (replace(each, papers=tuple(n for n in each.papers if n <= papers)) for each in plan)
    return tuple(new for new, old in zip(kept, plan, strict=True) if new.papers or not old.papers)


def plain_plan(papers: Sequence[Passage]) -> tuple[PlannedSentence, ...]:
    """A sentence for each paper, where the model's plan could not be used."""
    return tuple(
        PlannedSentence(f"What {paper.title or 'it'} says of the topic."[:MOST_POINT], (number,))
        for number, paper in enumerate(papers, start=1)
    )
