"""The contract of whatever leaves sentences out of passages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from carrel.compression.companions import companions, split_units
from carrel.errors import InputError, ScoreKindError
from carrel.retrieval.merging import keeping, kept_spans
from carrel.types import Passage, Span


class Pruner(ABC):
    """Scores the sentences of passages for a question; the base leaves out those below a threshold.

    What stays is exact source text in its order. Titles and headings are not part of a passage's
    text and always stay; so do protected spans. A row of a table counts as a sentence, and fenced code
    as one; what stays brings what it hangs from (carrel.compression.companions).
    """

    name: ClassVar[str]
    citation: ClassVar[str] = ""
    languages: ClassVar[frozenset[str]] = frozenset()
    """Those it can read; empty: any. A question or passages plainly in another are left as they are."""
    threshold: float
    """Sentences scored below it are left out by default; 0 keeps all."""

    @abstractmethod
    def scores(
        self, question: str, passages: Sequence[Passage], sentences: Sequence[Sequence[Span]]
    ) -> list[list[float]]:
        """A score from 0 to 1 for every sentence (document offsets) of every passage."""

    def checked_scores(
        self, question: str, passages: Sequence[Passage], sentences: Sequence[Sequence[Span]]
    ) -> list[list[float]]:
        """What ``scores`` gives, if it is one number from 0 to 1 for each sentence.

        Raises
        ------
        ScoreKindError : it is something else.
        """
        scored = self.scores(question, passages, sentences)
        fits = [len(values) for values in scored] == [len(spans) for spans in sentences]
        if not fits or not all(0 <= value <= 1 for values in scored for value in values):
            raise ScoreKindError(f"the pruner {self.name!r} must give one score, from 0 to 1, for each sentence")
        return scored

    def prune(
        self,
        question: str,
        passages: Sequence[Passage],
        threshold: float | None = None,
        protected: Sequence[tuple[str, Span]] = (),
        *,
        hanging: bool = False,
    ) -> list[Passage]:
        """The passages with the spans to keep in ``kept``; one of which nothing stays is left out.

        Parameters
        ----------
        threshold : 0 keeps all, 1 nothing but what is protected; the pruner's own by default.
        protected : (document id, span) that must stay whole.
        hanging : whether what stays may stay without what it hangs from: a row without its table's
            header, an item of a list without the line that the list follows from.

        Raises
        ------
        InputError : the threshold is not between 0 and 1.
        """
        least = self.threshold if threshold is None else threshold
        if not 0 <= least <= 1:
            raise InputError(f"a pruning threshold is between 0 and 1, not {least}")
        if least == 0 or not passages:
            return list(passages)
        sentences = [passage_sentences(passage) for passage in passages]
        scored = (
            self.checked_scores(question, passages, sentences) if least < 1 else [[0.0] * len(s) for s in sentences]
        )
        out = []
        for passage, spans, values in zip(passages, sentences, scored, strict=True):
            chosen = {index for index, value in enumerate(values) if value >= least}
            if not hanging:
                beside = companions(passage, spans)
                chosen = chosen.union(*(beside[index] for index in chosen))
            safe = [span for key, span in protected if key == passage.document_id]
            chosen |= {
                i for i, span in enumerate(spans) if any(s.start < span.end and span.start < s.end for s in safe)
            }
            pruned = keeping(passage, [spans[index] for index in chosen])
            if pruned.kept != ():
                out.append(pruned)
        return out


def passage_sentences(passage: Passage) -> list[Span]:
    """The sentences (rows of tables, blocks of code) of what is kept of a passage, as offsets in its document."""
    parts, out, first = kept_spans(passage), [], 0
    for unit in split_units(passage.text):
        start, end = unit.start + passage.start, unit.end + passage.start
        while first < len(parts) and parts[first].end <= start:
            first += 1
        for part in parts[first:]:
            if part.start >= end:
                break
            out.append(Span(max(start, part.start), min(end, part.end)))
    return out
