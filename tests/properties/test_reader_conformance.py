"""The reader's methods, and trivial ones, against the kits of rerankers, pruners and answerers; and those kits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from carrel.compression.base import Pruner
from carrel.generation.answerer import Answerer, FoundAnswer
from carrel.reader.methods import Reader, ReaderAnswerer, ReaderPruner, ReaderReranker
from carrel.reader.model import ReaderModel
from carrel.retrieval.reranking import Reranker
from carrel.testing import AnswererConformance, PrunerConformance, RerankerConformance
from carrel.types import Passage, Span

_WORDS = re.compile(r"\w+")


def fresh() -> Reader:
    """A reader that has read nothing yet."""
    return Reader(ReaderModel())


class TestReaderReranker(RerankerConformance):
    def make(self) -> Reranker:
        return ReaderReranker(fresh())


class TestReaderPruner(PrunerConformance):
    def make(self) -> Pruner:
        return ReaderPruner(fresh())


class TestReaderAnswerer(AnswererConformance):
    def make(self) -> Answerer:
        return ReaderAnswerer(fresh())


# -- the simplest that hold to the contracts -----------------------------------------------------


def share(question: str, text: str) -> float:
    """Share of the question's words in a text."""
    asked = set(_WORDS.findall(question.lower()))
    return len(asked & set(_WORDS.findall(text.lower()))) / max(1, len(asked))


class WordReranker(Reranker):
    name: ClassVar[str] = "words"

    def scores(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        return np.array([share(question, passage.text) for passage in passages], np.float64)


class WordPruner(Pruner):
    name: ClassVar[str] = "words"
    threshold = 0.3

    def scores(
        self, question: str, passages: Sequence[Passage], sentences: Sequence[Sequence[Span]]
    ) -> list[list[float]]:
        return [
            [share(question, p.text[span.start - p.start : span.end - p.start]) for span in spans]
            for p, spans in zip(passages, sentences, strict=True)
        ]


class YearAnswerer(Answerer):
    name: ClassVar[str] = "years"
    threshold = 0.5

    def find(self, question: str, passages: Sequence[Passage]) -> list[FoundAnswer]:
        return [
            FoundAnswer(number, span.start + match.start(), span.start + match.end(), match[0], 0.5)
            for number, passage in enumerate(passages, start=1)
            for span, piece in zip(passage.kept or self._whole(passage), passage.pieces, strict=True)
            for match in re.finditer(r"\b\d{4}\b", piece)
        ]

    def _whole(self, passage: Passage) -> tuple[Span, ...]:
        return (Span(passage.start, passage.end),) if passage.kept is None else ()


class TestWordReranker(RerankerConformance):
    def make(self) -> Reranker:
        return WordReranker()


class TestWordPruner(PrunerConformance):
    def make(self) -> Pruner:
        return WordPruner()


class TestYearAnswerer(AnswererConformance):
    def make(self) -> Answerer:
        return YearAnswerer()


# -- the kits notice what is wrong ----------------------------------------------------------------


def failures(kit: Any) -> set[str]:
    failed = set()
    for name in dir(kit):
        if name.startswith("test_"):
            try:
                getattr(kit, name)()
            except Exception:
                failed.add(name)
    return failed


class _Logits(WordReranker):
    def scores(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        return 8 * super().scores(question, passages) - 4


class _Relative(WordReranker):
    def scores(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        scores = super().scores(question, passages)
        return scores / max(scores.sum(), 1e-9) if len(scores) else scores


class _ByRank(WordReranker):
    def scores(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        return np.linspace(1, 0, len(passages))


class _Short(WordReranker):
    def scores(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        return super().scores(question, passages)[:-1]


class _Reordering(WordReranker):
    def rerank(self, question: str, passages: Sequence[Passage]) -> list[Passage]:
        return super().rerank(question, passages[::-1])


class _Stripping(WordReranker):
    def rerank(self, question: str, passages: Sequence[Passage]) -> list[Passage]:
        return [replace(passage, prefix="") for passage in super().rerank(question, passages)]


class _Deaf(WordReranker):
    def scores(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        return super().scores("the pier", passages)


class _Breaking(WordReranker):
    def scores(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        for passage in passages:
            passage.text.encode()
        return super().scores(question, passages)


@pytest.mark.parametrize(
    ("make", "noticed"),
    [
        (_Logits, "test_one_probability_for_each_passage"),
        (_Relative, "test_a_score_does_not_depend_on_what_is_read_with_it"),
        (_ByRank, "test_a_score_does_not_depend_on_what_is_read_with_it"),
        (_Short, "test_one_probability_for_each_passage"),
        (_Reordering, "test_ties_stay_in_the_order_they_came_in"),
        (_Stripping, "test_passages_come_best_first_and_otherwise_unchanged"),
        (_Deaf, "test_the_question_is_read"),
        (_Breaking, "test_anything_can_be_read"),
    ],
)
def test_the_reranker_kit_notices(make: Callable[[], Reranker], noticed: str) -> None:
    class Kit(RerankerConformance):
        def make(self) -> Reranker:
            return make()

    assert noticed in failures(Kit())


class _Rewriting(WordPruner):
    def prune(self, *arguments: Any, **options: Any) -> list[Passage]:
        return [replace(p, text=p.text.upper()) for p in super().prune(*arguments, **options)]


class _Cutting(WordPruner):
    def prune(self, *arguments: Any, **options: Any) -> list[Passage]:
        pruned = super().prune(*arguments, **options)
        return [replace(p, kept=tuple(Span(s.start + 1, s.end) for s in p.kept)) if p.kept else p for p in pruned]


class _Sorting(WordPruner):
    def prune(self, *arguments: Any, **options: Any) -> list[Passage]:
        return super().prune(*arguments, **options)[::-1]


class _Negated(WordPruner):
    def scores(self, *arguments: Any) -> list[list[float]]:
        return [[-value for value in values] for values in super().scores(*arguments)]


class _BatchPruner(WordPruner):
    def scores(self, *arguments: Any) -> list[list[float]]:
        scored = super().scores(*arguments)
        return [[value / len(scored) for value in values] for values in scored]


class _PerPassage(WordPruner):
    def scores(self, *arguments: Any) -> list[list[float]]:
        return [[value / len(values) for value in values] for values in super().scores(*arguments)]


class _Hasty(WordPruner):
    def prune(
        self, question: str, passages: Any, threshold: Any = None, protected: Any = (), **o: Any
    ) -> list[Passage]:
        return super().prune(question, passages, threshold, (), **o)


class _Fickle(WordPruner):
    def prune(
        self, question: str, passages: Any, threshold: Any = None, protected: Any = (), **o: Any
    ) -> list[Passage]:
        at = threshold if threshold in (0, 1) or threshold is None or not 0 <= threshold <= 1 else 1 - threshold
        return super().prune(question, passages, at, protected, **o)


class _Reviving(WordPruner):
    def prune(self, question: str, passages: Any, *arguments: Any, **options: Any) -> list[Passage]:
        whole = [passage if passage.kept is None else replace(passage, kept=None) for passage in passages]
        return super().prune(question, whole, *arguments, **options)


@pytest.mark.parametrize(
    ("make", "noticed"),
    [
        (_Rewriting, "test_what_stays_is_whole_sentences_of_the_source_in_order"),
        (_Cutting, "test_what_stays_is_whole_sentences_of_the_source_in_order"),
        (_Sorting, "test_what_stays_is_whole_sentences_of_the_source_in_order"),
        (_Negated, "test_one_score_for_each_sentence"),
        (_BatchPruner, "test_a_score_does_not_depend_on_what_is_read_with_it"),
        (_PerPassage, "test_a_sentence_scores_the_same_whatever_is_asked_for_with_it"),
        (_Hasty, "test_protected_spans_stay_at_every_threshold"),
        (_Fickle, "test_more_keeps_less"),
        (_Reviving, "test_a_pruned_passage_is_pruned_further"),
    ],
)
def test_the_pruner_kit_notices(make: Callable[[], Pruner], noticed: str) -> None:
    class Kit(PrunerConformance):
        def make(self) -> Pruner:
            return make()

    assert noticed in failures(Kit())


class _OffByOne(YearAnswerer):
    def find(self, *arguments: Any) -> list[FoundAnswer]:
        return [replace(found, start=found.start + 1) for found in super().find(*arguments)]


class _Paraphrasing(YearAnswerer):
    def find(self, *arguments: Any) -> list[FoundAnswer]:
        return [replace(found, text=f"in {found.text}") for found in super().find(*arguments)]


class _Unpruned(YearAnswerer):
    def find(self, question: str, passages: Sequence[Passage]) -> list[FoundAnswer]:
        return super().find(question, [replace(passage, kept=None) for passage in passages])


class _Counting(YearAnswerer):
    def find(self, *arguments: Any) -> list[FoundAnswer]:
        answers = super().find(*arguments)
        return [replace(found, probability=1 / (1 + len(answers))) for found in answers]


class _Hoarding(YearAnswerer):
    def candidates(self, question: str, passages: Sequence[Passage], count: int = 3) -> list[Any]:
        return super().candidates(question, passages, count + 1)


class _Adding(YearAnswerer):
    def candidates(self, *arguments: Any) -> list[Any]:
        found = super().candidates(*arguments)
        return [replace(c, probability=min(1.0, sum(p.probability for p in c.places))) for c in found]


class _Sure(YearAnswerer):
    def find(self, *arguments: Any) -> list[FoundAnswer]:
        return [replace(found, probability=1.5) for found in super().find(*arguments)]


@pytest.mark.parametrize(
    ("make", "noticed"),
    [
        (_OffByOne, "test_answers_are_quotations_with_probabilities"),
        (_Paraphrasing, "test_answers_are_quotations_with_probabilities"),
        (_Sure, "test_answers_are_quotations_with_probabilities"),
        (_Unpruned, "test_only_what_was_kept_can_answer"),
        (_Counting, "test_an_answer_does_not_depend_on_what_is_read_with_it"),
        (_Hoarding, "test_candidates_come_best_first_with_their_places"),
        (_Adding, "test_a_second_source_makes_surer_and_the_same_place_does_not"),
    ],
)
def test_the_answerer_kit_notices(make: Callable[[], Answerer], noticed: str) -> None:
    class Kit(AnswererConformance):
        def make(self) -> Answerer:
            return make()

    assert noticed in failures(Kit())
