"""Clustered retrieval (CRAG): what was found is clustered, each cluster summarised, the summaries answered from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carrel.agents.base import Embed, Retrieve, Steps, flow
from carrel.agents.clustering import choose_clusters, kmeans
from carrel.agents.map_reduce import MERGE
from carrel.agents.pieces import Texts, units
from carrel.agents.reducing import Reading, answered, as_written, check_tokens, cut_up, merged, read_piece, told
from carrel.agents.replying import Note, Written
from carrel.agents.room import with_passages
from carrel.agents.tasks import ANSWER_FROM_NOTES, SUMMARY
from carrel.errors import InputError
from carrel.options import check_limit, check_question
from carrel.retrieval.filters import Where
from carrel.types import Passage, Prompt


@dataclass(frozen=True, slots=True)
class Cluster:
    """Passages that are about the same, in the order in which they were found, and their summary."""

    passages: tuple[Passage, ...]
    summary: Note


@dataclass(frozen=True, slots=True)
class Clustered:
    """What was found in clusters.

    Attributes
    ----------
    answer : from the summaries and what they quote.
    clusters : every passage is in one of them; that of the best passage first.
    read_tokens : of all prompts in which the passages themselves were read; ``answer_tokens`` of the one that the
        answer was made from. Both as the generator counts.
    skipped : what could not be summarised, as its first words and why.
    """

    answer: Written
    clusters: tuple[Cluster, ...] = ()
    read_tokens: int = 0
    answer_tokens: int = 0
    skipped: tuple[str, ...] = ()

    @property
    def saved(self) -> float:
        """How much shorter the answer's prompt is than those with the passages were, as a share of them, 0 to 1."""
        return max(0.0, 1 - self.answer_tokens / self.read_tokens) if self.read_tokens else 0.0


@flow("Akesson and Santos, Clustered Retrieved Augmented Generation (CRAG), arXiv 2406.00029")
def clustered(
    question: str,
    *,
    passages: Texts | None = None,
    limit: int = 64,
    clusters: int | None = None,
    summary_tokens: int = 256,
    where: Where | None = None,
    seed: int = 0,
) -> Steps[Clustered]:
    """Answer from one summary for each group of passages: for questions about what many documents say.

    Parameters
    ----------
    question : what is to be answered.
    passages : what is clustered; by default what the library finds.
    limit : how many passages are retrieved; ``where`` filters their documents.
    clusters : how many, at the most one for each passage; by default 1 to 8, by their silhouettes.
    summary_tokens : the most tokens of a summary.
    seed : of k-means.

    Raises
    ------
    InputError : a parameter is of no use. ContextOverflowError : the question fills the window.
    RefusalError : the model declines to answer, or to summarise any cluster at all.
    """
    question = check_question(question)
    check_limit(limit)
    check_tokens(summary_tokens=summary_tokens)
    if clusters is not None and (isinstance(clusters, bool) or not isinstance(clusters, int) or clusters < 1):
        raise InputError(f"clusters are a number from 1, or None to have it found, not {clusters!r}")
    found = units(passages) if passages is not None else ()
    if passages is None:
        found = yield Retrieve(question, limit, where=where)
    if not found:
        return Clustered(as_written(Note()))
    merge = Prompt(question, task=MERGE, kind="summary", max_tokens=summary_tokens)
    final = Prompt(question, task=ANSWER_FROM_NOTES)
    for prompt in (merge, final):
        yield from with_passages(prompt)
    vectors: NDArray[np.float32] = yield Embed(tuple(" ".join(passage.pieces) for passage in found))  # (N, D)
    labels = (
        choose_clusters(vectors, seed) if clusters is None else kmeans(vectors, min(clusters, len(found)), seed=seed)
    )
    groups = [
        tuple(passage for passage, label in zip(found, labels, strict=True) if label == cluster)
        for cluster in range(int(labels.max()) + 1)
    ]
    made: list[_Summed] = yield [_summed(merge, group) for group in groups]
    readings = [reading for each in made for reading in each.readings]
    told(readings)  # raises where not one could be read
    reached = yield from answered(final, merge, [each.note for each in made if each.note.text.strip()])
    skipped = [why for each in made for why in (*each.unread, *each.unmerged)]
    return Clustered(
        reached.answer,
        tuple(Cluster(group, each.note) for group, each in zip(groups, made, strict=True)),
        sum(reading.prompt_tokens for reading in readings),
        reached.answer.prompt_tokens,
        (*skipped, *reached.unmerged),
    )


@dataclass(frozen=True, slots=True)
class _Summed:
    """The summary of a cluster, and what it was made from."""

    note: Note
    readings: list[Reading]
    unmerged: list[str]

    @property
    def unread(self) -> list[str]:
        return [reading.skipped for reading in self.readings if reading.error]


def _summed(merge: Prompt, group: tuple[Passage, ...]) -> Steps[_Summed]:
    """The summary of a cluster: of its pieces, and of their summaries, where a prompt does not hold it."""
    asked = Prompt(merge.question, task=SUMMARY, kind="summary", max_tokens=merge.max_tokens)
    prompts = yield from cut_up(asked, group)
    found: list[list[Reading]] = yield [read_piece(prompt) for prompt in prompts]
    readings = [reading for each in found for reading in each]
    notes, unmerged = [reading.note for reading in readings if reading.note.text.strip()], list[str]()
    while len(notes) > 1:
        notes, failures = yield merged(merge, notes)
        unmerged += failures
    return _Summed(notes[0] if notes else Note(), readings, unmerged)
