"""The outcome of an evaluation: one score for each question, configuration, metric and budget, and their origin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from carrel.errors import InputError
from carrel.evaluation.bootstrap import Interval, bootstrap_difference, bootstrap_mean

Scores = NDArray[np.float64]
_Value = TypeVar("_Value")
FORMAT = "carrel-evaluation/1"


@dataclass(frozen=True, slots=True)
class QuestionKey:
    """Which question a row of scores belongs to."""

    id: str
    corpus: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where the figures come from: what was measured, with what, on which machine.

    ``libraries`` holds, for each encoder and chunking set-up, its encoder fingerprint and its last ingest.
    """

    dataset: str
    fingerprint: str
    documents: int
    questions: int
    seed: int
    date: str
    tokenizer: str
    platform: str
    cpu_count: int
    versions: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """The scores of one configuration; NaN where a question was not scored.

    Parameters
    ----------
    options
        The options of the configuration.
    library
        Key of its library in the manifest.
    ranking
        Metric to scores, shape (questions,).
    contexts
        Metric to scores, shape (questions, budgets).
    """

    options: Mapping[str, object]
    library: str
    ranking: Mapping[str, Scores]
    contexts: Mapping[str, Scores]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of several configurations on the same questions."""

    manifest: Manifest
    questions: tuple[QuestionKey, ...]
    budgets: tuple[int, ...]
    k_values: tuple[int, ...]
    results: Mapping[str, Result]

    @property
    def configurations(self) -> tuple[str, ...]:
        """The names of the rows, in the order they were asked for."""
        return tuple(self.results)

    @property
    def corpora(self) -> tuple[str, ...]:
        """The question sets in it, in order."""
        return tuple(dict.fromkeys(question.corpus for question in self.questions))

    def values(self, configuration: str, metric: str, budget: int | None = None) -> Scores:
        """Return one score a question, shape (questions,); NaN where it was not scored.

        Raises
        ------
        InputError
            No such configuration, metric or budget; a metric of contexts needs a budget.
        """
        result = _pick(self.results, configuration, "configuration")
        if metric in result.ranking:
            return result.ranking[metric]
        scores = _pick(result.contexts, metric, "metric", also=result.ranking)
        if budget not in self.budgets:
            raise InputError(f"{metric!r} was measured at the budgets {list(self.budgets)}, not at {budget}.")
        return scores[:, self.budgets.index(budget)]

    def is_scored(self, metric: str) -> bool:
        """Whether any question has a score of this metric."""
        result = next(iter(self.results.values()))
        scores = _pick({**result.ranking, **result.contexts}, metric, "metric")
        return not bool(np.isnan(scores).all())

    def interval(
        self, configuration: str, metric: str, budget: int | None = None, *, resamples: int = 2000
    ) -> Interval | None:
        """Return the mean with its bootstrap interval, None when no question was scored. Errors as `values`."""
        scores = self.values(configuration, metric, budget)
        if np.isnan(scores).all():
            return None
        return bootstrap_mean(scores, resamples=resamples, seed=self.manifest.seed)

    def difference(
        self, first: str, second: str, metric: str, budget: int | None = None, *, resamples: int = 2000
    ) -> Interval | None:
        """Return the paired interval of ``first - second``, None when no question was scored by both."""
        left, right = self.values(first, metric, budget), self.values(second, metric, budget)
        if np.isnan(left - right).all():
            return None
        return bootstrap_difference(left, right, resamples=resamples, seed=self.manifest.seed)

    def select(self, corpus: str) -> Evaluation:
        """Keep the questions of one set.

        Raises
        ------
        InputError
            No question is of this set.
        """
        rows = np.array([index for index, question in enumerate(self.questions) if question.corpus == corpus], int)
        if not rows.size:
            raise InputError(f"There is no question set {corpus!r}. Sets: {', '.join(self.corpora)}.")
        results = {
            name: replace(
                result,
                ranking={metric: scores[rows] for metric, scores in result.ranking.items()},
                contexts={metric: scores[rows] for metric, scores in result.contexts.items()},
            )
            for name, result in self.results.items()
        }
        return replace(self, questions=tuple(self.questions[row] for row in rows), results=results)

    def to_json(self) -> str:
        """Write everything, every question's scores included, as JSON; NaN becomes null."""
        content = {
            "format": FORMAT,
            "manifest": asdict(self.manifest),
            "budgets": self.budgets,
            "k_values": self.k_values,
            "questions": [asdict(question) for question in self.questions],
            "results": {
                name: {
                    "options": dict(result.options),
                    "library": result.library,
                    "ranking": {metric: _to_list(scores) for metric, scores in result.ranking.items()},
                    "contexts": {metric: _to_list(scores) for metric, scores in result.contexts.items()},
                }
                for name, result in self.results.items()
            },
        }
        return json.dumps(content, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            The text is not an evaluation, or one of another format.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise InputError(f"This is no evaluation: it is not JSON ({error}).") from error
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise InputError(f"This is no evaluation of the format {FORMAT!r}: its format is {found!r}.")
        try:
            return _from_content(content)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"This evaluation is damaged: {type(error).__name__}: {error}.") from error


def _from_content(content: dict[str, Any]) -> Evaluation:
    questions = tuple(QuestionKey(**question) for question in content["questions"])
    budgets = tuple(content["budgets"])
    results = {
        name: Result(
            options=result["options"],
            library=result["library"],
            ranking={key: _to_array(scores, (len(questions),)) for key, scores in result["ranking"].items()},
            contexts={
                key: _to_array(scores, (len(questions), len(budgets))) for key, scores in result["contexts"].items()
            },
        )
        for name, result in content["results"].items()
    }
    return Evaluation(Manifest(**content["manifest"]), questions, budgets, tuple(content["k_values"]), results)


def _pick(choices: Mapping[str, _Value], name: str, what: str, *, also: Mapping[str, object] | None = None) -> _Value:
    if name not in choices:
        listed = ", ".join([*choices, *(also or ())])
        raise InputError(f"There is no {what} {name!r}. There are: {listed}.")
    return choices[name]


def _to_list(scores: Scores) -> list[Any]:
    """Turn scores into numbers, whole ones without a fraction and NaN into None."""
    return [_to_list(row) for row in scores] if scores.ndim > 1 else [_to_number(value) for value in scores.tolist()]


def _to_number(value: float) -> float | int | None:
    if np.isnan(value):
        return None
    return int(value) if value.is_integer() else value


def _to_array(values: Sequence[Any], shape: tuple[int, ...]) -> Scores:
    array = np.array(values, dtype=np.float64)  # None becomes NaN
    if array.size == 0 or array.shape != shape:
        raise ValueError(f"scores of shape {array.shape} where {shape} is expected")
    return array
