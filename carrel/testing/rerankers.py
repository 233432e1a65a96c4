"""What every reranker must hold to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from carrel.retrieval.reranking import Reranker
from carrel.testing.passages import QUESTION, odd_passages, plain_passages, scored_passages
from carrel.types import Passage, Scores


class RerankerConformance(ABC):
    """One probability for each passage, by what the passage says; the order is theirs, and nothing else changes.

    ``tolerance`` is by how much a score may differ with what else is read in the same call: models that
    pad their batches round differently.
    """

    question: str = QUESTION
    tolerance: float = 0.0

    @abstractmethod
    def make(self) -> Reranker:
        """Return a reranker; two calls give the same one."""

    def passages(self) -> list[Passage]:
        """Return passages without a retriever's scores."""
        return plain_passages()

    def test_what_it_says_of_itself(self) -> None:
        reranker = self.make()
        assert isinstance(reranker.name, str) and reranker.name
        assert isinstance(reranker.citation, str) and isinstance(reranker.languages, frozenset)

    def test_one_probability_for_each_passage(self) -> None:
        for passages in (self.passages(), scored_passages(), self.passages()[:1]):
            scores = self.make().scores(self.question, passages)
            assert scores.shape == (len(passages),), scores.shape
            assert ((scores >= 0) & (scores <= 1)).all(), scores

    def test_of_nothing_it_gives_nothing(self) -> None:
        assert self.make().rerank(self.question, []) == []

    def test_the_same_passages_get_the_same_scores(self) -> None:
        first, second = (self.make().scores(self.question, scored_passages()) for _ in range(2))
        assert np.array_equal(first, second)

    def test_a_score_does_not_depend_on_what_is_read_with_it(self) -> None:
        reranker, passages = self.make(), self.passages()
        together = reranker.scores(self.question, passages)
        for passage, score in zip(passages, together, strict=True):
            alone = self.make().scores(self.question, [passage])
            assert abs(float(alone[0]) - score) <= self.tolerance, passage.document_id
        backwards = self.make().scores(self.question, passages[::-1])[::-1]
        assert np.abs(together - backwards).max() <= self.tolerance

    def test_the_text_is_read(self) -> None:
        """Passages that differ in nothing but their text do not all get the same score."""
        passages = [replace(passage, title="", prefix="") for passage in self.passages()]
        assert len(set(self.make().scores(self.question, passages).tolist())) > 1

    def test_the_question_is_read(self) -> None:
        reranker, passages = self.make(), self.passages()
        first, other = (reranker.scores(question, passages) for question in (self.question, "What do gulls eat?"))
        assert not np.array_equal(first, other)

    def test_passages_come_best_first_and_otherwise_unchanged(self) -> None:
        passages = scored_passages()
        scores = self.make().scores(self.question, passages)
        ranked = self.make().rerank(self.question, passages)
        order = np.argsort(-scores, kind="stable")
        assert [passage.scores.relevance for passage in ranked] == scores[order].tolist()
        assert [replace(p, scores=replace(p.scores, relevance=None)) for p in ranked] == [passages[i] for i in order]

    def test_ties_stay_in_the_order_they_came_in(self) -> None:
        one = self.passages()[0]
        copies = [replace(one, document_id=str(number), scores=Scores(dense=0.5)) for number in range(6)]
        ranked = self.make().rerank(self.question, copies)
        for before, after in self._pairs(ranked):
            if before.scores.relevance == after.scores.relevance:
                assert before.document_id < after.document_id

    def test_anything_can_be_read(self) -> None:
        reranker = self.make()
        for question in (self.question, "", "\0\ud800🚢", "why " * 500):
            scores = reranker.scores(question, odd_passages())
            assert ((scores >= 0) & (scores <= 1)).all(), scores

    def _pairs(self, passages: Sequence[Passage]) -> list[tuple[Passage, Passage]]:
        return [(one, other) for i, one in enumerate(passages) for other in passages[i + 1 :]]
