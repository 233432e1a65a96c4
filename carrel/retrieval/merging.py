"""Passages that overlap, touch or repeat each other become one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from carrel.types import Passage, Scores, Span

_WORDS = re.compile(r"\w+")


def merge_spans(passages: Sequence[Passage]) -> list[Passage]:
    """Join passages of a document that overlap or touch, given best first.

    Each union stands at the place of its best part, and keeps what any of its parts keeps.
    """
    merged: list[Passage] = []
    for passage in passages:
        joined = passage
        place = len(merged)
        for index in range(len(merged) - 1, -1, -1):
            other = merged[index]
            same = other.document_id == joined.document_id
            if same and other.start <= joined.end and joined.start <= other.end:
                joined = _union(other, joined)
                place = index
                del merged[index]
        merged.insert(place, joined)
    return merged


def _union(better: Passage, worse: Passage) -> Passage:
    first, second = (better, worse) if better.start <= worse.start else (worse, better)
    text = first.text if second.end <= first.end else first.text[: second.start - first.start] + second.text
    whole = replace(
        first,
        end=max(first.end, second.end),
        text=text,
        chunks=tuple(sorted({*first.chunks, *second.chunks})),
        scores=best_scores(better.scores, worse.scores),
        kept=None,
    )
    if first.kept is None and second.kept is None:
        return whole
    return keeping(whole, [*kept_spans(first), *kept_spans(second)])


def kept_spans(passage: Passage) -> tuple[Span, ...]:
    """What is kept of a passage, as spans of its document."""
    return (Span(passage.start, passage.end),) if passage.kept is None else passage.kept


def keeping(passage: Passage, spans: Iterable[Span]) -> Passage:
    """The passage with these spans kept, in any order; those that touch become one, without white space around it."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, s.end)):
        between = passage.text[joined[-1].end - passage.start : span.start - passage.start] if joined else ""
        if joined and (span.start <= joined[-1].end or not between.strip()):
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    tightened = (trimmed(s.start, passage.text[s.start - passage.start : s.end - passage.start])[0] for s in joined)
    kept = tuple(span for span in tightened if span.start < span.end)
    whole = trimmed(passage.start, passage.text)[0]
    return replace(passage, kept=None if kept == (whole,) else kept)


def best_scores(first: Scores, second: Scores) -> Scores:
    """The better of each kind of score."""

    def better(name: str) -> float | None:
        known = [value for value in (getattr(first, name), getattr(second, name)) if value is not None]
        return max(known, default=None)

    return Scores(*(better(name) for name in ("dense", "lexical", "fused", "rank_fused", "relevance")))


class Repeats:
    """Leaves out passages that say what a better one says, word for word or nearly.

    Likeness is the share of common three-word sequences in the smaller passage (Broder, "On the
    resemblance and containment of documents", 1997). ``seconds`` is the time that looking took.
    """

    def __init__(self, similarity: float = 0.85) -> None:
        self.similarity = similarity
        self.kept: list[Passage] = []
        self.dropped: list[tuple[Passage, Passage]] = []  # (left out, the better one)
        self.seconds = 0.0
        self._shingles: list[set[int]] = []  # of each that was kept
        self._seen: set[int] = set()  # of all of them

    def distinct(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        """What stays of passages that come best first; they are read as they are needed."""
        for passage in passages:
            started = time.perf_counter()
            distinct = self._is_new(passage)
            self.seconds += time.perf_counter() - started
            if distinct:
                yield passage

    def _is_new(self, passage: Passage) -> bool:
        shingles = _shingles(passage.text)
        twin = self._twin(shingles)
        if twin is not None:
            self.dropped.append((passage, self.kept[twin]))
            return False
        self.kept.append(passage)
        self._shingles.append(shingles)
        self._seen |= shingles
        return True

    def _twin(self, shingles: set[int]) -> int | None:
        common = len(shingles & self._seen)  # with one of them at most as much as with all together
        if common * 2 < self.similarity * len(shingles):
            return None
        for index, other in enumerate(self._shingles):
            if _alike(len(shingles & other), len(shingles), len(other)) >= self.similarity:
                return index
        return None


def _shingles(text: str) -> set[int]:
    """Hashes of the three-word sequences; of all words together when there are fewer."""
    words = _WORDS.findall(text.lower()) or text.split()
    if len(words) < 3:
        return {hash(tuple(words))}
    return set(map(hash, zip(words, words[1:], words[2:], strict=False)))


def _alike(common: int, first: int, second: int) -> float:
    if min(first, second) * 2 < max(first, second):
        return 0.0  # a short passage inside a long one is no repetition of it
    return common / min(first, second)


def tight(passage: Passage) -> Passage:
    """The passage without white space around it."""
    span, text = trimmed(passage.start, passage.text)
    outside = any(part.start < span.start or span.end < part.end for part in passage.kept or ())
    if outside or not text or len(text) == len(passage.text):
        return passage
    return replace(passage, start=span.start, end=span.end, text=text)


def trimmed(start: int, text: str) -> tuple[Span, str]:
    """The span without the white space around its text."""
    stripped = text.strip()
    lead = len(text) - len(text.lstrip()) if stripped else 0
    return Span(start + lead, start + lead + len(stripped)), stripped
