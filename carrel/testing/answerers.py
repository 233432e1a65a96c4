"""What every answerer must hold to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from itertools import pairwise

from carrel.compression.base import passage_sentences
from carrel.generation.answerer import Answerer, FoundAnswer
from carrel.retrieval.merging import keeping, kept_spans
from carrel.testing.passages import QUESTION, odd_passages, plain_passages
from carrel.types import Passage


class AnswererConformance(ABC):
    """Answers are quotations at their places, with probabilities; what agrees is one answer, surer than alone.

    ``tolerance`` is by how much a probability may differ with what else is read in the same call.
    """

    question: str = QUESTION
    tolerance: float = 0.0

    @abstractmethod
    def make(self) -> Answerer:
        """Return an answerer; two calls give the same one."""

    def passages(self) -> list[Passage]:
        """Return passages in which it finds something."""
        return plain_passages()

    def test_what_it_says_of_itself(self) -> None:
        answerer = self.make()
        assert isinstance(answerer.name, str) and answerer.name
        assert isinstance(answerer.citation, str) and isinstance(answerer.languages, frozenset)
        assert 0 <= answerer.threshold <= 1

    def test_answers_are_quotations_with_probabilities(self) -> None:
        found = self.make().find(self.question, self.passages())
        assert found, "it finds nothing in these passages: override them"
        self._check(self.passages(), found)

    def test_of_nothing_it_finds_nothing(self) -> None:
        assert self.make().candidates(self.question, []) == []

    def test_the_same_passages_give_the_same_answers(self) -> None:
        first, second = (self.make().candidates(self.question, self.passages(), 20) for _ in range(2))
        assert first == second

    def test_an_answer_does_not_depend_on_what_is_read_with_it(self) -> None:
        passages = self.passages()
        together = self.make().find(self.question, passages)
        for number, passage in enumerate(passages, start=1):
            alone = {(f.start, f.end): f.probability for f in self.make().find(self.question, [passage])}
            among = {(f.start, f.end): f.probability for f in together if f.number == number}
            assert alone.keys() == among.keys(), passage.document_id
            assert all(abs(alone[place] - among[place]) <= self.tolerance for place in alone)

    def test_candidates_come_best_first_with_their_places(self) -> None:
        answerer, passages = self.make(), self.passages()
        every = answerer.candidates(self.question, passages, 100)
        assert sorted(place_of(f) for c in every for f in c.places) == sorted(
            place_of(f) for f in answerer.find(self.question, passages)
        )
        for before, after in pairwise(every):
            assert before.probability >= after.probability
        for candidate in every:
            assert candidate.text == candidate.places[0].text
            assert candidate.places[0].probability <= candidate.probability <= 1
            for one, other in pairwise(candidate.places):
                assert one.probability >= other.probability
        for count in range(len(every) + 1):
            assert answerer.candidates(self.question, passages, count) == every[:count]

    def test_a_second_source_makes_surer_and_the_same_place_does_not(self) -> None:
        passages = self.passages()[:1]
        alone = self.make().candidates(self.question, passages, 1)[0]
        elsewhere = self._again([*passages, replace(passages[0], document_id="another")], alone.text)
        assert elsewhere >= alone.probability - self.tolerance
        if self.tolerance < alone.probability < 1 - self.tolerance:
            assert elsewhere > alone.probability
        assert abs(self._again([*passages, *passages], alone.text) - alone.probability) <= self.tolerance

    def test_only_what_was_kept_can_answer(self) -> None:
        for passage in self.passages():
            parts = [keeping(passage, [span]) for span in passage_sentences(passage)] + [replace(passage, kept=())]
            for part in parts:
                for found in self.make().find(self.question, [part]):
                    assert any(s.start <= found.start and found.end <= s.end for s in kept_spans(part)), found

    def test_anything_can_be_read(self) -> None:
        answerer = self.make()
        for question in (self.question, "", "\0\ud800🚢", "why " * 500):
            self._check(odd_passages(), answerer.find(question, odd_passages()))
            answerer.candidates(question, odd_passages())

    def _again(self, passages: list[Passage], text: str) -> float:
        return next(c.probability for c in self.make().candidates(self.question, passages, 100) if c.text == text)

    def _check(self, passages: list[Passage], answers: list[FoundAnswer]) -> None:
        for found in answers:
            passage = passages[found.number - 1]
            assert found.number >= 1 and passage.start <= found.start < found.end <= passage.end, found
            assert found.text == passage.text[found.start - passage.start : found.end - passage.start], found
            assert 0 <= found.probability <= 1, found


def place_of(found: FoundAnswer) -> tuple[int, int, int]:
    """What tells an answer from the others of a call."""
    return found.number, found.start, found.end
