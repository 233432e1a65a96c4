"""What every cutoff must hold to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import get_args

from carrel.errors import InputError, ScoreKindError
from carrel.retrieval.cutoff import Cutoff
from carrel.testing.raising import raised
from carrel.types import ScoreKind

SCORES: tuple[tuple[float, ...], ...] = (
    (0.9,),
    (0.0,),
    (0.9, 0.9, 0.9),
    (0.9, 0.85, 0.2, 0.1),
    (0.0, 0.0, -0.5, -1.0),
    tuple(1 - 0.01 * rank for rank in range(100)),
    tuple(0.5**rank for rank in range(30)),
)


class CutoffConformance(ABC):
    """A cutoff keeps between one and all, says why, and refuses scores that it cannot read."""

    @abstractmethod
    def make(self) -> Cutoff:
        """Return a cutoff."""

    def kind(self) -> ScoreKind:
        return sorted(self.make().reads)[0]

    def test_it_keeps_between_one_and_all_and_says_why(self) -> None:
        cutoff = self.make()
        for scores in SCORES:
            cut = cutoff.cut(scores, self.kind())
            assert 1 <= cut.count <= len(scores), scores
            assert cut.reason, scores
            if cutoff.max_passages is not None:
                assert cut.count <= cutoff.max_passages, scores

    def test_of_nothing_it_keeps_nothing(self) -> None:
        assert self.make().cut([], self.kind()).count == 0

    def test_the_same_scores_give_the_same_cut(self) -> None:
        for scores in SCORES:
            assert self.make().cut(scores, self.kind()) == self.make().cut(list(scores), self.kind())

    def test_kinds_it_cannot_read_are_refused(self) -> None:
        cutoff = self.make()
        for kind in get_args(ScoreKind):
            if kind not in cutoff.reads:
                assert kind in str(raised(ScoreKindError, lambda kind=kind: cutoff.cut([1.0, 0.5], kind)))  # type: ignore[misc]

    def test_scores_that_are_no_ranking_are_refused(self) -> None:
        cutoff = self.make()
        raised(InputError, lambda: cutoff.cut([0.1, 0.9], self.kind()))
        raised(InputError, lambda: cutoff.cut([0.9, float("nan")], self.kind()))
