"""What every pruner must hold to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from itertools import pairwise

from carrel.compression.base import Pruner, passage_sentences
from carrel.errors import InputError
from carrel.retrieval.merging import kept_spans, trimmed
from carrel.testing.passages import QUESTION, odd_passages, plain_passages
from carrel.testing.raising import raised
from carrel.types import Passage, Span

_THRESHOLDS = (0.0, 0.001, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0)


class PrunerConformance(ABC):
    """Sentences of the source, whole and in order; 0 keeps all, 1 what is protected, and more keeps less.

    ``tolerance`` is by how much a score may differ with what else is read in the same call.
    """

    question: str = QUESTION
    tolerance: float = 0.0

    @abstractmethod
    def make(self) -> Pruner:
        """Return a pruner; two calls give the same one."""

    def passages(self) -> list[Passage]:
        return plain_passages()

    def test_what_it_says_of_itself(self) -> None:
        pruner = self.make()
        assert isinstance(pruner.name, str) and pruner.name
        assert isinstance(pruner.citation, str) and isinstance(pruner.languages, frozenset)
        assert 0 <= pruner.threshold <= 1

    def test_one_score_for_each_sentence(self) -> None:
        for passages in (self.passages(), self.passages()[:1], []):
            scored = self._scores(passages)
            assert [len(values) for values in scored] == [len(passage_sentences(p)) for p in passages]
            assert all(0 <= value <= 1 for values in scored for value in values), scored

    def test_of_nothing_it_gives_nothing(self) -> None:
        for threshold in _THRESHOLDS:
            assert self.make().prune(self.question, [], threshold) == []

    def test_the_same_passages_are_pruned_the_same(self) -> None:
        first, second = (self._scores(self.passages()) for _ in range(2))
        assert first == second

    def test_a_score_does_not_depend_on_what_is_read_with_it(self) -> None:
        together = self._scores(self.passages())
        for passage, values in zip(self.passages(), together, strict=True):
            alone = self._scores([passage])[0]
            assert all(abs(a - b) <= self.tolerance for a, b in zip(alone, values, strict=True)), passage.document_id

    def test_a_sentence_scores_the_same_whatever_is_asked_for_with_it(self) -> None:
        passages = self.passages()
        sentences = [passage_sentences(passage) for passage in passages]
        every = self.make().scores(self.question, passages, sentences)
        some = self.make().scores(self.question, passages, [spans[1:] for spans in sentences])
        for values, fewer in zip(every, some, strict=True):
            assert all(abs(a - b) <= self.tolerance for a, b in zip(values[1:], fewer, strict=True))

    def test_nothing_changes_at_0(self) -> None:
        for passages in (self.passages(), odd_passages()):
            assert self.make().prune(self.question, passages, 0) == passages

    def test_only_what_is_protected_stays_at_1(self) -> None:
        pruner, passages = self.make(), self.passages()
        assert pruner.prune(self.question, passages, 1) == []
        sentence = passage_sentences(passages[1])[1]
        protected = [(passages[1].document_id, Span(sentence.start + 2, sentence.start + 3))]
        (left,) = pruner.prune(self.question, passages, 1, protected)
        exact, text = self._tight(passages[1], sentence)
        assert (left.document_id, left.kept, left.pieces) == (passages[1].document_id, (exact,), (text,))

    def test_protected_spans_stay_at_every_threshold(self) -> None:
        pruner, passages = self.make(), self.passages()
        for passage in passages:
            middle = Span((passage.start + passage.end) // 2 - 5, (passage.start + passage.end) // 2 + 5)
            for threshold in _THRESHOLDS:
                left = pruner.prune(self.question, passages, threshold, [(passage.document_id, middle)])
                (found,) = [p for p in left if p.document_id == passage.document_id]
                kept = {place for span in kept_spans(found) for place in range(span.start, span.end)}
                blank = {i for i in range(middle.start, middle.end) if passage.text[i - passage.start].isspace()}
                assert set(range(middle.start, middle.end)) <= kept | blank, (passage.document_id, threshold)

    def test_more_keeps_less(self) -> None:
        pruner = self.make()
        for passages in (self.passages(), odd_passages()):
            kept = [self._kept(pruner, passages, threshold) for threshold in _THRESHOLDS]
            for (lower, more), (higher, fewer) in pairwise(zip(_THRESHOLDS, kept, strict=True)):
                assert fewer <= more, (lower, higher)

    def test_what_stays_is_whole_sentences_of_the_source_in_order(self) -> None:
        pruner = self.make()
        for passages in (self.passages(), odd_passages()):
            source = {passage.document_id: passage for passage in passages}
            for threshold in _THRESHOLDS:
                left = pruner.prune(self.question, passages, threshold)
                places = [passages.index(source[passage.document_id]) for passage in left]
                assert places == sorted(set(places))
                for passage in left:
                    self._check(source[passage.document_id], passage)

    def test_a_pruned_passage_is_pruned_further(self) -> None:
        pruner, passage = self.make(), self.passages()[0]
        first, *_, last = passage_sentences(passage)
        for half in (first, last):
            part = replace(passage, kept=(self._tight(passage, half)[0],))
            for threshold in _THRESHOLDS:
                for left in pruner.prune(self.question, [part], threshold):
                    assert left.kept == part.kept

    def test_thresholds_that_are_none_are_refused(self) -> None:
        for threshold in (-0.1, 1.1, float("nan")):
            raised(InputError, lambda t=threshold: self.make().prune(self.question, self.passages(), t))  # type: ignore[misc]

    def test_anything_can_be_read(self) -> None:
        pruner, passages = self.make(), odd_passages()
        for question in (self.question, "", "\0\ud800🚢", "why " * 500):
            scored = pruner.scores(question, passages, [passage_sentences(p) for p in passages])
            assert all(0 <= value <= 1 for values in scored for value in values)

    def _scores(self, passages: list[Passage]) -> list[list[float]]:
        return self.make().scores(self.question, passages, [passage_sentences(passage) for passage in passages])

    def _kept(self, pruner: Pruner, passages: list[Passage], threshold: float) -> set[tuple[str, int]]:
        """Every kept character that is not white space."""
        return {
            (passage.document_id, place)
            for passage in pruner.prune(self.question, passages, threshold)
            for span in kept_spans(passage)
            for place in range(span.start, span.end)
            if not passage.text[place - passage.start].isspace()
        }

    def _tight(self, passage: Passage, span: Span) -> tuple[Span, str]:
        return trimmed(span.start, passage.text[span.start - passage.start : span.end - passage.start])

    def _check(self, source: Passage, pruned: Passage) -> None:
        assert replace(pruned, kept=None) == source
        if pruned.kept is None:
            return
        sentences = [self._tight(source, span)[0] for span in passage_sentences(source)]
        assert pruned.kept
        for span in pruned.kept:
            assert span.start in {s.start for s in sentences} and span.end in {s.end for s in sentences}, span
        for before, after in pairwise(pruned.kept):
            assert before.end < after.start, (before, after)
        for span, piece in zip(pruned.kept, pruned.pieces, strict=True):
            assert piece and piece == source.text[span.start - source.start : span.end - source.start]
