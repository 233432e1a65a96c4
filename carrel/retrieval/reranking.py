"""The contract of whatever orders retrieved passages anew, by reading them with the question."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from carrel.errors import ScoreKindError
from carrel.types import Passage


class Reranker(ABC):
    """Scores passages for a question; the base orders them and keeps every other score.

    ``relevance`` is a calibrated probability: of the passages scored 0.3, about three in ten are
    relevant. So a threshold on it means something, and cutoffs may read it.
    """

    name: ClassVar[str]
    citation: ClassVar[str] = ""
    languages: ClassVar[frozenset[str]] = frozenset()
    """Those it can read; empty: any. A question or passages plainly in another are left as they are."""

    @abstractmethod
    def scores(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        """(passages,) probability that each is one to answer from. The list is all that was retrieved."""

    def checked_scores(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        """What ``scores`` gives, if it is one probability for each passage.

        Raises
        ------
        ScoreKindError : it is something else.
        """
        if not passages:
            return np.empty(0, np.float64)
        scores = np.asarray(self.scores(question, passages), np.float64)
        if scores.shape != (len(passages),) or not ((scores >= 0) & (scores <= 1)).all():
            raise ScoreKindError(
                f"the reranker {self.name!r} must give one probability, from 0 to 1, for each of {len(passages)}"
                f" passages; it gave {np.array2string(scores, threshold=6)}"
            )
        return scores

    def rerank(self, question: str, passages: Sequence[Passage]) -> list[Passage]:
        """The passages, best first, with their ``relevance``; ties keep the order they came in."""
        scores = self.checked_scores(question, passages)
        order = np.argsort(-scores, kind="stable")
        return [replace(passages[i], scores=replace(passages[i].scores, relevance=float(scores[i]))) for i in order]
