"""From the reader's logits to probabilities and thresholds, as fitted on held-out documents."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carrel.errors import ModelError
from carrel.reader.reading import Reading
from carrel.types import Scores, Span

Floats = NDArray[np.float64]
_LEAST = 1e-4  # share or probability of a sentence, so that its logarithm is one
_NO_SPAN = -20.0  # what stands for the best span's logit where a passage has no tokens


@dataclass(frozen=True, slots=True)
class Logistic:
    """A logistic regression over named features."""

    bias: float
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.bias, *self.weights.values())):
            raise ValueError("a weight is no finite number")

    def probability(self, features: Mapping[str, Floats]) -> Floats:
        """(items,) from (items,) of each feature."""
        total = self.bias + sum(weight * features[name] for name, weight in self.weights.items())
        return np.asarray(1 / (1 + np.exp(-np.clip(total, -40, 40))), np.float64)


MEAN_OF_TOKENS = Logistic(0.0, {"keep": 1.0})
READING_ALONE = Logistic(0.0, {"answer": 1.0})


@dataclass(frozen=True, slots=True)
class Calibration:
    """What training/reader/calibrate.py wrote beside the weights.

    ``relevance``: that a passage is one to answer from, by the reader's logits and the retriever's scores.
    ``answer``: that the best span is an answer. ``keep``: that a sentence holds the answer; without a fit of its
    own, the mean keep-probability of its tokens. ``keep_threshold``: sentences below it are pruned.
    ``answer_threshold``: below it the answer of a single passage is an abstention. ``asked`` and
    ``asked_threshold`` are the same for the answer to a question that was asked of a library, by its confidence as a
    reading and by its passage's relevance.
    """

    relevance: Logistic
    answer: Logistic
    keep_threshold: float
    answer_threshold: float
    keep: Logistic = MEAN_OF_TOKENS
    asked: Logistic = READING_ALONE
    asked_threshold: float | None = None

    def __post_init__(self) -> None:
        for least in (self.keep_threshold, self.answer_threshold, self.least_asked):
            if not 0 <= least <= 1:
                raise ValueError(f"{least} is no threshold between 0 and 1")

    @property
    def least_asked(self) -> float:
        """The least probability of an answer that is given."""
        return self.answer_threshold if self.asked_threshold is None else self.asked_threshold

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read the JSON; raises ModelError when it is missing, damaged or made for another version."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            names = [name for name in _FEATURES if name in content or name not in ("keep", "asked")]
            parts = {name: Logistic(content[name]["bias"], content[name]["weights"]) for name in names}
            for name in names:
                if unknown := sorted(set(parts[name].weights) - _FEATURES[name]):
                    raise ValueError(f"no such features of {name}: {', '.join(unknown)}")
            return cls(
                parts["relevance"],
                parts["answer"],
                content["keep_threshold"],
                content["answer_threshold"],
                parts.get("keep", MEAN_OF_TOKENS),
                parts.get("asked", READING_ALONE),
                content.get("asked_threshold"),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"cannot read {path}: {error!r}. Reinstall carrel.") from error


_FEATURES = {
    "relevance": frozenset({"relevance", "answerable", "dense", "lexical"}),
    "answer": frozenset({"span", "answerable", "relevance", "keep"}),
    "keep": frozenset({"keep", "share", "answerable", "relevance"}),
    "asked": frozenset({"answer", "relevance"}),
}


def relevance_features(readings: Sequence[Reading], scores: Sequence[Scores]) -> dict[str, Floats]:
    """(passages,) of each feature; a score that the retriever did not give counts as 0.

    BM25 is divided by the best of the list, for it has no scale of its own: this feature alone depends
    on what else was retrieved.
    """
    lexical = np.array([s.lexical or 0.0 for s in scores])
    best = lexical.max(initial=0.0)
    return {
        "relevance": np.array([r.relevance for r in readings]),
        "answerable": np.array([r.answerable for r in readings]),
        "dense": np.array([s.dense or 0.0 for s in scores]),
        "lexical": lexical / best if best > 0 else np.zeros_like(lexical),
    }


def answer_features(readings: Sequence[Reading]) -> dict[str, Floats]:
    """(passages,) of each feature of their best spans."""
    best = [reading.answers(1) for reading in readings]
    return {
        "span": np.array([found[0].score if found else _NO_SPAN for found in best]),
        "answerable": np.array([r.answerable for r in readings]),
        "relevance": np.array([r.relevance for r in readings]),
        "keep": np.array([float(r.keep.max(initial=0.0)) for r in readings]),
    }


def keep_features(reading: Reading, spans: Sequence[Span]) -> dict[str, Floats]:
    """(sentences,) of each feature of these spans of a passage's text.

    ``keep`` is the logit of the tokens' mean keep-probability, ``share`` the logarithm of the sentence's share of
    the answer's probability: where the answer's words are is better known than what else belongs to them.
    """
    return {
        "keep": _logit(np.asarray(reading.keep_scores(spans), np.float64)),
        "share": np.log(_LEAST + np.asarray(reading.answer_shares(spans), np.float64)),
        "answerable": np.full(len(spans), reading.answerable),
        "relevance": np.full(len(spans), reading.relevance),
    }


def asked_features(answer: Floats, relevance: Floats) -> dict[str, Floats]:
    """(answers,) logits of an answer's probability as a reading, and of its passage's relevance."""
    return {"answer": _logit(answer), "relevance": _logit(relevance)}


def _logit(probability: Floats) -> Floats:
    inside = np.clip(probability, _LEAST, 1 - _LEAST)
    return np.asarray(np.log(inside / (1 - inside)), np.float64)
