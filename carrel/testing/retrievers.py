"""What every retriever must hold to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np

from carrel.library import Library
from carrel.retrieval.retrievers import Candidates, Retriever
from carrel.testing.encoders import HashEncoder
from carrel.types import Document, Passage, ScoreKind

_TEXTS = {
    "lamp": "A lamp burns at the end of the pier all night.",
    "rope": "Rope is kept dry in the loft; wet rope rots.",
    "both": "The lamp hangs from a rope above the pier.",
    "gull": "Gulls follow the ferry for bread.",
    "twin": "Gulls follow the ferry for bread.",
}


class RetrieverConformance(ABC):
    """One score a candidate, the same every time; passages best first, within limit and filter."""

    question: str = "the lamp and the rope"

    @abstractmethod
    def make(self) -> Retriever:
        """Return a retriever."""

    def candidates(self) -> Candidates:
        """Return candidates of which 30 is the best by every measure and 10 the worst."""
        ids = np.array([10, 20, 30, 40], np.int64)
        ranking = np.array([30, 40, 20, 10], np.int64)
        dense, lexical = np.array([-0.2, 0.1, 0.9, 0.4]), np.array([0.0, 0.5, 7.0, 2.0])
        return Candidates(ids, dense, lexical, ranking, ranking)

    def test_what_it_says_of_itself(self) -> None:
        retriever = self.make()
        assert retriever.name
        assert retriever.kind in get_args(ScoreKind)
        assert retriever.needs_dense or retriever.needs_lexical

    def test_one_finite_score_a_candidate(self) -> None:
        scores = self.make().score(self.candidates())
        assert scores.shape == (4,)
        assert np.isfinite(scores).all()

    def test_better_by_every_measure_is_better(self) -> None:
        scores = self.make().score(self.candidates())
        assert scores.argmax() == 2 and scores.argmin() == 0

    def test_no_candidates_no_scores(self) -> None:
        nothing = np.empty(0, np.int64)
        scores = self.make().score(Candidates(nothing, np.empty(0), np.empty(0), nothing, nothing))
        assert scores.shape == (0,)

    def test_the_same_candidates_get_the_same_scores(self) -> None:
        assert np.array_equal(self.make().score(self.candidates()), self.make().score(self.candidates()))

    def test_passages_come_best_first_with_their_scores(self, tmp_path: Path) -> None:
        with self._library(tmp_path) as library:
            passages = self._search(library)
            assert passages and passages == self._search(library)
            for first, second in pairwise(self._scores(passages)):
                assert first >= second
            for passage in passages:
                text = library.document(passage.document_id).text
                assert passage.text == text[passage.start : passage.end]

    def test_the_limit_holds(self, tmp_path: Path) -> None:
        with self._library(tmp_path) as library:
            everything = self._search(library)
            for limit in (1, 2, 3):
                assert self._search(library, limit) == everything[:limit]

    def test_the_filter_holds(self, tmp_path: Path) -> None:
        with self._library(tmp_path) as library:
            found = library.search(self.question, retriever=self.make(), where={"name": "rope"})
            assert {passage.document_id for passage in found} <= {"rope"}
            assert not library.search(self.question, retriever=self.make(), where={"name": "none"})

    def test_an_empty_library_gives_nothing(self, tmp_path: Path) -> None:
        with Library(tmp_path / "empty", encoder=HashEncoder(), mode="fast") as library:
            assert self._search(library) == []

    def _search(self, library: Library, limit: int = 10) -> list[Passage]:
        return library.search(self.question, retriever=self.make(), limit=limit)

    def _scores(self, passages: list[Passage]) -> list[float]:
        scores = [getattr(passage.scores, self.make().kind) for passage in passages]
        assert None not in scores
        return scores

    def _library(self, folder: Path) -> Library:
        library = Library(folder / "library", encoder=HashEncoder(), mode="fast")
        library.add([Document(text, id=name, metadata={"name": name}) for name, text in _TEXTS.items()])
        return library
