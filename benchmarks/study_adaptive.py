"""Adaptive-k beside a fixed number of passages, at equal mean tokens.

The context budget is so large that only the cutoff decides. A context depends on nothing but the number of passages
kept, so every question is packed once for each count that any cutoff asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from study_results import pack, unpack
from study_savings import Pooled

from carrel import AdaptiveK, FixedK, Library, Threshold
from carrel.evaluation import Dataset, metrics
from carrel.evaluation.bootstrap import Interval, bootstrap_difference
from carrel.evaluation.datasets import Question
from carrel.evaluation.results import Scores
from carrel.options import ContextOptions
from carrel.retrieval.cutoff import Cutoff

FIXED = (1, 2, 3, 5, 8, 12, 20, 30)
BUFFERS = (0, 1, 2, 3, 5, 8)
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
KINDS = ("dense", "fused", "relevance")
SKIP_HEAD = 0.05
BUDGET = 8000
METRICS = {"squad": "answer", "nq": "answer", "musique": "all_support", "hotpotqa": "all_support"}
CORPORA = {
    "dense": ("squad", "nq", "musique"),
    "fused": ("squad", "nq", "musique"),
    "relevance": ("squad", "nq", "musique", "hotpotqa"),
}
"""Whose questions are asked of the whole collection; on relevance all those with an answer to look for."""
AGGREGATION = frozenset({"musique"})
"""Sets whose questions need several documents; they are also measured with the head skipped."""


@dataclass(frozen=True)
class Recorder(Cutoff):
    """Keeps the best passage and notes the scores of all."""

    name: ClassVar[str] = "recorder"
    scores: list[float] = field(default_factory=list)
    max_passages: int | None = None

    def count(self, scores: Sequence[float]) -> tuple[int, str, dict[str, object]]:
        self.scores[:] = scores
        return 1, "recorded", {}


def variants(corpus: str, kind: str) -> dict[str, Cutoff]:
    """The adaptive cutoffs of a set, by name; where scores are probabilities, thresholds on them, too."""
    heads = (0.0, SKIP_HEAD) if corpus in AGGREGATION else (0.0,)
    found: dict[str, Cutoff] = {
        f"buffer {buffer}" + (f", head {head:g}" if head else ""): AdaptiveK(buffer=buffer, skip_head=head)
        for head in heads
        for buffer in BUFFERS
    }
    if kind == "relevance":
        found.update({f"threshold {least:g}": Threshold(least) for least in THRESHOLDS})
    return found


def measure(
    library: Library,
    dataset: Dataset,
    corpus: str,
    kind: str,
    progress: Callable[[int, int], None],
    pooled: Pooled,
) -> dict[str, Any]:
    """Ask the questions of one set with every cutoff; answers and tokens also go into the pool."""
    questions = [question for question in dataset.questions if question.corpus == corpus]
    cutoffs: dict[str, Cutoff] = {f"fixed {k}": FixedK(k) for k in FIXED}
    cutoffs.update(variants(corpus, kind))
    scores = {name: np.zeros(len(questions)) for name in cutoffs}
    tokens = {name: np.zeros(len(questions)) for name in cutoffs}
    answers = {name: np.zeros(len(questions)) for name in cutoffs}
    passages = {name: np.zeros(len(questions)) for name in cutoffs}
    gaps = []
    for row, question in enumerate(questions):
        asked = _Asked(library, question, kind, METRICS[corpus])
        gaps.append(_gap(asked.scores))
        for name, cutoff in cutoffs.items():
            count = cutoff.cut(asked.scores, asked.kind).count
            scores[name][row], answers[name][row], tokens[name][row] = asked.at(count)
            passages[name][row] = count
        progress(row + 1, len(questions))
    for name in cutoffs:
        pooled.add(name, answers[name], tokens[name])
    return {
        "corpus": corpus,
        "library": dataset.name,
        "documents": len(dataset.documents),
        "questions": len(questions),
        "kind": kind,
        "metric": METRICS[corpus],
        "budget": BUDGET,
        "cutoffs": {
            name: {
                "tokens": round(float(tokens[name].mean()), 2),
                "passages": round(float(passages[name].mean()), 2),
                "scores": pack(scores[name]),
            }
            for name in cutoffs
        },
        "oracle": _oracle(scores, tokens),
        "ranks": " ".join(str(gap["rank"]) for gap in gaps),
        "gaps": {key: pack(np.array([gap[key] for gap in gaps])) for key in gaps[0] if key != "rank"},
    }


class _Asked:
    """One question: its scores, and its contexts by the number of passages."""

    def __init__(self, library: Library, question: Question, kind: str, metric: str) -> None:
        recorder = Recorder()
        self.kind: Any = kind
        library.context(question.text, **options_of(kind, recorder))
        self.scores = recorder.scores
        self._library, self._question, self._metric = library, question, metric
        self._found: dict[int, tuple[float, float, int]] = {}

    def at(self, count: int) -> tuple[float, float, int]:
        """The score, whether the answer is there (NaN without one), and the tokens of the context of so many."""
        if count not in self._found:
            context = self._library.context(self._question.text, **options_of(self.kind, FixedK(count)))
            answer = math.nan
            if self._question.has_findable_answers:
                answer = float(metrics.contains_answer(context.text, self._question.answers))
            found = {passage.document_id for passage in context.passages}
            supported = float(metrics.all_support(found, self._question.gold_documents))
            self._found[count] = (answer if self._metric == "answer" else supported), answer, context.tokens
        return self._found[count]


def options_of(kind: str, cutoff: Cutoff) -> ContextOptions:
    """How the passages are ranked whose scores are cut. Nothing is pruned: the budget has room for all of them."""
    if kind == "relevance":
        return {"pruner": "none", "cutoff": cutoff, "budget": BUDGET}
    return {"retriever": kind, "mode": "fast", "cutoff": cutoff, "budget": BUDGET}


def _gap(scores: Sequence[float]) -> dict[str, float]:
    """Where the largest drop is, how large it is and the next largest, and the best score."""
    values = np.array(scores)
    rank = int(AdaptiveK(buffer=0, max_passages=None).cut(scores, "dense").count)
    drops = np.sort(values[:-1] - values[1:])[::-1]
    return {
        "rank": rank,
        "gap": float(values[rank - 1] - values[rank]),
        "second": float(drops[1]),
        "spread": float(values[0] - values[min(29, len(values) - 1)]),
    }


def _oracle(scores: Mapping[str, Scores], tokens: Mapping[str, Scores]) -> dict[str, float]:
    """The best that any choice among the fixed counts could do: the smallest count with a hit, else 1."""
    hit = np.array([scores[f"fixed {k}"] for k in FIXED]) > 0  # (counts, questions)
    spent = np.array([tokens[f"fixed {k}"] for k in FIXED])
    first = np.where(hit.any(axis=0), hit.argmax(axis=0), 0)
    return {
        "recall": round(float(hit.any(axis=0).mean()), 4),
        "tokens": round(float(spent[first, np.arange(first.size)].mean()), 2),
    }


@dataclass(frozen=True, slots=True)
class Comparison:
    """An adaptive cutoff, and its score less that of fixed counts which spend the same mean tokens."""

    name: str
    tokens: float
    passages: float
    recall: float
    fixed_recall: float
    equal_k: float
    difference: Interval


@dataclass(frozen=True)
class Study:
    """One set, one library, one kind of score, as kept in the JSON."""

    content: Mapping[str, Any]

    @property
    def title(self) -> str:
        name = f"{self.content['corpus']} alone"
        return name if self.content["library"] != "whole" else f"{self.content['corpus']} in the whole collection"

    @property
    def short(self) -> str:
        return f"{self.content['corpus']}, {'whole' if self.content['library'] == 'whole' else 'alone'}"

    def scores(self, name: str) -> Scores:
        return unpack(self.content["cutoffs"][name]["scores"], (self.content["questions"],))

    def tokens(self, name: str) -> float:
        return float(self.content["cutoffs"][name]["tokens"])

    def points(self, names: Sequence[str]) -> Scores:
        """Mean tokens and mean score of these cutoffs, shape (cutoffs, 2)."""
        return np.array([(self.tokens(name), self.scores(name).mean()) for name in names])

    def adaptive(self, *, head: bool = False) -> list[str]:
        """Names of the adaptive cutoffs, with or without the head skipped."""
        return [name for name in self.content["cutoffs"] if name.startswith("buffer") and (", head" in name) == head]

    def thresholds(self) -> list[str]:
        """Names of the thresholds, where the scores are probabilities."""
        return [name for name in self.content["cutoffs"] if name.startswith("threshold")]

    @property
    def has_head(self) -> bool:
        return bool(self.adaptive(head=True))

    def compare(self, name: str) -> Comparison | None:
        """Set an adaptive cutoff beside the fixed counts at its mean tokens; None past the largest count.

        The mean tokens lie between those of two neighbouring fixed counts, a share ``weight`` of the way. Every
        question's fixed score is then ``(1 - weight)`` of its score at the lower count and ``weight`` of that at
        the upper one: what a coin of that bias, thrown for each question, would score on average, and so a policy
        that spends exactly the same mean tokens without looking at any score. Its mean lies on the straight line
        between the two points of the curve. The scores stay paired by question, so that the difference gets a
        paired bootstrap interval; ``weight`` is held fixed in it.
        """
        spent = self.tokens(name)
        for lower, upper in pairwise(FIXED):
            first, last = self.tokens(f"fixed {lower}"), self.tokens(f"fixed {upper}")
            if first <= spent <= last:
                weight = (spent - first) / (last - first)
                mixed = (1 - weight) * self.scores(f"fixed {lower}") + weight * self.scores(f"fixed {upper}")
                scores = self.scores(name)
                return Comparison(
                    name,
                    spent,
                    float(self.content["cutoffs"][name]["passages"]),
                    float(scores.mean()),
                    float(mixed.mean()),
                    lower + weight * (upper - lower),
                    bootstrap_difference(scores, mixed),
                )
        return None

    def comparisons(self, *, head: bool = False) -> Iterator[Comparison]:
        for name in self.adaptive(head=head):
            found = self.compare(name)
            if found is not None:
                yield found

    @property
    def ranks(self) -> Scores:
        """After which rank the largest drop is, for each question."""
        return np.array(self.content["ranks"].split(), dtype=np.float64)

    def gaps(self, key: str) -> Scores:
        """The largest drop ("gap"), the next ("second"), or what the score falls over 30 passages ("spread")."""
        return unpack(self.content["gaps"][key], (self.content["questions"],))

    def needed(self) -> Scores:
        """The smallest fixed count with a full score, for each question; NaN where none has it."""
        hit = np.array([self.scores(f"fixed {k}") for k in FIXED]) == 1
        return np.where(hit.any(axis=0), np.array(FIXED)[hit.argmax(axis=0)], np.nan)
