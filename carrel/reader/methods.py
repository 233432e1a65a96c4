"""The shipped reader behind the contracts: reranker, pruner and answerer share one pass over each passage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from carrel.compression.base import Pruner, passage_sentences
from carrel.generation.answerer import Answerer, FoundAnswer
from carrel.reader.calibration import (
    Calibration,
    answer_features,
    asked_features,
    keep_features,
    relevance_features,
)
from carrel.reader.model import ReaderInput, ReaderModel
from carrel.reader.reading import Reading
from carrel.retrieval.reranking import Reranker
from carrel.types import Passage, Span


class Reader:
    """The model and its calibration, shared by the methods below.

    Parameters
    ----------
    model : the shipped one by default.
    calibration : the file of the fitted probabilities and thresholds; the one beside the model by default.
    """

    def __init__(self, model: ReaderModel | None = None, calibration: Path | None = None) -> None:
        self.model = model or ReaderModel()
        self._calibration = calibration or self.model.folder / "calibration.json"

    @cached_property
    def calibration(self) -> Calibration:
        return Calibration.load(self._calibration)

    def read(self, question: str, passages: Sequence[Passage]) -> list[Reading]:
        """One reading for each passage, whole even where it has been pruned.

        White space around a text is not read: a passage is known again when it has been trimmed.
        """
        texts = [passage.text.strip() for passage in passages]
        inputs = [ReaderInput(p.prefix or p.title, text) for p, text in zip(passages, texts, strict=True)]
        before = [p.text.index(text) for p, text in zip(passages, texts, strict=True)]
        readings = self.model.read(question, inputs)
        return [reading.shifted(by) for reading, by in zip(readings, before, strict=True)]


@lru_cache(maxsize=1)
def shipped_reader() -> Reader:
    """The reader that comes with Carrel: one for all stages and libraries of a process, so that they share readings."""
    return Reader()


class ReaderReranker(Reranker):
    """Relevance by the reader's cross-encoder together with the retriever's own scores.

    A reading depends on nothing but question and passage; the share that the retriever's lexical score
    has in the probability is relative to the best lexical score of the list.
    """

    name: ClassVar[str] = "reader"
    citation: ClassVar[str] = "Nogueira and Cho, Passage Re-ranking with BERT, arXiv 1901.04085"
    languages: ClassVar[frozenset[str]] = ReaderModel.languages

    def __init__(self, reader: Reader | None = None) -> None:
        self.reader = reader or shipped_reader()

    def scores(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        readings = self.reader.read(question, passages)
        features = relevance_features(readings, [passage.scores for passage in passages])
        return self.reader.calibration.relevance.probability(features)


class ReaderPruner(Pruner):
    """Keeps a sentence by the keep-probabilities of its tokens and by where the answer would stand.

    Provence takes the mean over the tokens. A logistic regression over that mean and the sentence's share of the
    answer's probability, fitted on held-out documents, keeps more answers at the same length.
    """

    name: ClassVar[str] = "reader"
    citation: ClassVar[str] = "Chirkova et al., Provence, arXiv 2501.16214"
    languages: ClassVar[frozenset[str]] = ReaderModel.languages

    def __init__(self, reader: Reader | None = None, threshold: float | None = None) -> None:
        self.reader = reader or shipped_reader()
        self._threshold = threshold

    @property
    def threshold(self) -> float:  # type: ignore[override]
        return self.reader.calibration.keep_threshold if self._threshold is None else self._threshold

    def scores(
        self, question: str, passages: Sequence[Passage], sentences: Sequence[Sequence[Span]]
    ) -> list[list[float]]:
        readings, fitted = self.reader.read(question, passages), self.reader.calibration.keep
        out = []
        for passage, reading, spans in zip(passages, readings, sentences, strict=True):
            inside = [Span(s.start - passage.start, s.end - passage.start) for s in spans]
            out.append(fitted.probability(keep_features(reading, inside)).tolist())
        return out


class ReaderAnswerer(Answerer):
    """The best answer spans, each with the calibrated probability that it is right.

    An answer stands in one sentence or row; of a pruned passage, only what was kept can answer. As a
    reading, the best span of a passage has the passage's probability, and another has as much less of it
    as its logit is below that one's. What is given weighs that with the relevance of the passage: the
    reranker's, or where nothing was reranked, by the reading itself.

    Parameters
    ----------
    spans_each : the most spans of one passage.
    """

    name: ClassVar[str] = "reader"
    citation: ClassVar[str] = "Devlin et al., BERT, arXiv 1810.04805; Rajpurkar et al., arXiv 1806.03822"
    languages: ClassVar[frozenset[str]] = ReaderModel.languages

    def __init__(self, reader: Reader | None = None, spans_each: int = 3) -> None:
        self.reader, self.spans_each = reader or shipped_reader(), spans_each

    @property
    def threshold(self) -> float:  # type: ignore[override]
        return self.reader.calibration.least_asked

    def find(self, question: str, passages: Sequence[Passage]) -> list[FoundAnswer]:
        found = self.read(question, passages)
        if not found:
            return []
        relevance = self._relevance(question, passages)[[answer.number - 1 for answer in found]]
        features = asked_features(np.array([answer.probability for answer in found]), relevance)
        sure = self.reader.calibration.asked.probability(features)
        return [replace(answer, probability=float(p)) for answer, p in zip(found, sure, strict=True)]

    def _relevance(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        """(passages,): the reranker's, else by the reading and what scores the passages have."""
        scores = [passage.scores for passage in passages]
        own = self.reader.calibration.relevance.probability(
            relevance_features(self.reader.read(question, passages), scores)
        )
        given = [score.relevance for score in scores]
        return np.array([p if known is None else known for known, p in zip(given, own, strict=True)])

    def read(self, question: str, passages: Sequence[Passage]) -> list[FoundAnswer]:
        """The same spans with their probabilities as readings, whatever else is known of their passages."""
        readings = self.reader.read(question, passages)
        features = answer_features(readings)
        sure = self.reader.calibration.answer.probability(features)
        out = []
        for index, (passage, reading) in enumerate(zip(passages, readings, strict=True)):
            for found in reading.answers(self.spans_each, within=_sentences(passage)):
                share = float(np.exp(found.score - features["span"][index]))
                start, end = passage.start + found.start, passage.start + found.end
                text = passage.text[found.start : found.end]
                out.append(FoundAnswer(index + 1, start, end, text, float(sure[index]) * share))
        return out


def _sentences(passage: Passage) -> list[Span]:
    """What an answer must stand in whole, as offsets in the text: a sentence, or a row, that a pruner left."""
    spans = passage_sentences(passage)
    return [Span(span.start - passage.start, span.end - passage.start) for span in spans]
