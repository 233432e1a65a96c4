"""Rendering passages and packing them under a token budget that holds for the text as rendered."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from carrel.errors import BudgetError
from carrel.retrieval.indexes.lexical import query_terms
from carrel.retrieval.merging import merge_spans, tight, trimmed
from carrel.retrieval.ordering import arrange
from carrel.retrieval.sentences import split_sentences
from carrel.tokens import Tokenizer
from carrel.types import Order, Passage, Span, page_at

SEPARATOR = "\n\n"
ELLIPSIS = " … "
_LONGEST_SENTENCE_TOKENS = 64
_MOST_CUTS = 3  # passages looked at for sentences that fill what is left
LEAST_ROOM_TOKENS = 24  # less is not worth another header
_BREAKS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_FAKE_HEADER = re.compile(rf"(?:^|(?<=[{_BREAKS}]))([^\S{_BREAKS}]*)(?=\[\d+\])")


def header(passage: Passage, number: int) -> str:
    """``[1] Title > Heading (p. 3)``, and under it a table's header row where the passage continues one."""
    first, _, rest = passage.prefix.partition("\n")
    place = first or passage.title
    line = _one_line(f"[{number}] {place} {_pages(passage)}")
    return f"{line}\n{_escaped(rest)}" if rest else line


def _pages(passage: Passage) -> str:
    """``(p. 3)``, or ``(pp. 3–4)`` for what begins on one page and ends on another."""
    if not passage.pages:
        return ""
    spans = passage.kept or (Span(passage.start, passage.end),)
    first = page_at(passage.pages, spans[0].start)
    last = page_at(passage.pages, max(spans[-1].start, spans[-1].end - 1))
    return f"(p. {first})" if first == last else f"(pp. {first}–{last})"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return _FAKE_HEADER.sub(r"\1\\", text) if "[" in text else text


def _body(passage: Passage) -> str:
    return _escaped(ELLIPSIS.join(piece.strip() for piece in passage.pieces))


def block(passage: Passage, number: int) -> str:
    """One passage as it stands in the context. A line that looks like a header of ours is escaped."""
    return f"{header(passage, number)}\n{_body(passage)}"


def render(passages: Sequence[Passage]) -> str:
    """The context's text: numbered passages, a blank line between."""
    return SEPARATOR.join(block(passage, number) for number, passage in enumerate(passages, start=1))


@dataclass(frozen=True, slots=True)
class Packed:
    """Passages in their final order, the rendered text, its tokens, and how many candidates it took."""

    passages: list[Passage]
    text: str
    tokens: int
    taken: int
    cut: bool


class Packer:
    """Takes passages in rank order while they fit; one that does not is cut to its best sentences."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        budget: int,
        question: str,
        order: Order = "relevance",
        known: Mapping[str, int] | None = None,
    ) -> None:
        self.tokenizer, self.budget, self.order = tokenizer, budget, order
        self.terms = frozenset(query_terms(question))
        self._adds_up = bool(getattr(tokenizer, "adds_up", False))
        self._counted = dict(known or {})
        self._sizes: dict[int, tuple[Passage, int]] = {}  # by identity; holding the passage keeps its id its own

    def pack(self, ranked: Iterable[Passage]) -> Packed:
        """Pack passages that come best first; no more of them are read than fit.

        Raises
        ------
        BudgetError : not even one sentence fits.
        """
        return self.continued([], ranked)

    def continued(self, chosen: list[Passage], ranked: Iterable[Passage], first: Passage | None = None) -> Packed:
        """Add passages, best first, to those chosen already; ``first`` is the best of all, ``taken`` counts the new."""
        taken, cuts = 0, 0
        for passage in ranked:
            first = first or passage
            grown = merge_spans([*chosen, passage])
            if self._estimate(grown) <= self.budget:
                chosen, taken = grown, taken + 1
                continue
            cuts += 1
            part = self._cut(chosen, passage)
            if part is not None:
                chosen, taken = merge_spans([*chosen, part]), taken + 1
            if self.budget - self._estimate(chosen) < LEAST_ROOM_TOKENS or (cuts >= _MOST_CUTS and chosen):
                break
        if first is None:
            return Packed(arrange([], self.order), "", 0, 0, False)
        return self._verified(chosen, taken, cuts > 0) or self._shortest(first)

    def _verified(self, chosen: list[Passage], taken: int, was_cut: bool) -> Packed | None:
        """Count the text as it is; a tokenizer whose parts do not add up costs passages, never the budget."""
        while chosen:
            arranged = [tight(passage) for passage in arrange(chosen, self.order)]
            text = render(arranged)
            tokens = self._exact(arranged, text)
            if tokens <= self.budget:
                return Packed(arranged, text, tokens, taken, was_cut)
            last = self._cut(chosen[:-1], chosen[-1], spare=tokens - self.budget)
            chosen = chosen[:-1] if last is None or last == chosen[-1] else [*chosen[:-1], last]
            was_cut = True
        return None

    def _exact(self, arranged: Sequence[Passage], text: str) -> int:
        """Tokens of the rendered text; from its parts where the tokenizer's counts add up over lines."""
        if not self._adds_up:
            return self.tokenizer.count(text)
        headers = sum(self._header_tokens(passage, number) for number, passage in enumerate(arranged, start=1))
        return headers + sum(self._count(_body(passage)) for passage in arranged)

    def _shortest(self, passage: Passage) -> Packed:
        """The shortest sentence of a passage alone: the least that a budget must hold."""
        parts = [passage]
        if passage.kept is None:
            cut = [_part(passage, span.start, span.end) for span in self._parts_of(passage)]
            parts = [part for part in cut if part.text] or parts
        needed, part = min(((self.tokenizer.count(block(part, 1)), part) for part in parts), key=lambda pair: pair[0])
        if needed <= self.budget:
            return Packed([part], block(part, 1), needed, 1, True)
        raise BudgetError(
            f"a budget of {self.budget} tokens (counted by {self.tokenizer.name}) cannot hold one sentence with its"
            f" source: the best passage needs at least {needed}. Give it more."
        )

    def _count(self, text: str) -> int:
        if text not in self._counted:
            self._counted[text] = self.tokenizer.count(text)
        return self._counted[text]

    def _estimate(self, passages: Sequence[Passage]) -> int:
        parts = sum(self._block_tokens(passage) for passage in passages)
        return parts + self._count(SEPARATOR) * max(0, len(passages) - 1)

    def _block_tokens(self, passage: Passage) -> int:
        if id(passage) not in self._sizes:
            tokens = self._header_tokens(passage, 1) + self._count(_body(passage))
            self._sizes[id(passage)] = (passage, tokens)
        return self._sizes[id(passage)][1]

    def _header_tokens(self, passage: Passage, number: int) -> int:
        """Tokens of a header and its line end; the number, which changes, is counted apart where that adds up."""
        if not self._adds_up:
            return self._count(f"{header(passage, number)}\n")
        return self._count(f"[{number}]") + self._count(f"{header(passage, 0)[len('[0]') :]}\n")

    def _cut(self, chosen: Sequence[Passage], passage: Passage, spare: int = 0) -> Passage | None:
        """The run of sentences of a passage that fits the room left and has most words of the question."""
        if passage.kept is not None:  # it has been chosen sentence by sentence: the last ones go
            for count in range(len(passage.kept) - 1, 0, -1):
                part = replace(passage, kept=passage.kept[:count])
                if self._estimate([*chosen, part]) + spare <= self.budget:
                    return part
            return None
        room = self.budget - spare - self._estimate(chosen) - self._count(SEPARATOR) * bool(chosen)
        room -= self._header_tokens(passage, 1)
        if room <= 0:
            return None
        starts = [start for start, _ in self.tokenizer.offsets(passage.text)]
        sentences = _parts(passage.text, starts)
        tokens = [bisect_left(starts, s.end) - bisect_left(starts, s.start) for s in sentences]
        terms = [self.terms & frozenset(query_terms(passage.text[s.start : s.end])) for s in sentences]
        best: tuple[int, int, int] | None = None  # (terms, -first, end)
        for first in range(len(sentences)):
            total, end = 0, first
            while end < len(sentences) and total + tokens[end] <= room:
                total += tokens[end]
                end += 1
            if end > first:
                key = (len(frozenset().union(*terms[first:end])), -first, end)
                best = key if best is None or key[:2] > best[:2] else best
        if best is None:
            return None
        return _part(passage, sentences[-best[1]].start, sentences[best[2] - 1].end)

    def _parts_of(self, passage: Passage) -> list[Span]:
        return _parts(passage.text, [start for start, _ in self.tokenizer.offsets(passage.text)])


def _parts(text: str, starts: Sequence[int]) -> list[Span]:
    """Sentences; what runs on without an end (a dump, a list on one line) is parted between its words.

    ``starts`` are the offsets at which the tokens of the text start.
    """
    parts: list[Span] = []
    for sentence in split_sentences(text):
        start = sentence.start
        first, end = bisect_left(starts, sentence.start), bisect_left(starts, sentence.end)
        for stop in starts[first + _LONGEST_SENTENCE_TOKENS : end : _LONGEST_SENTENCE_TOKENS]:
            place = next((i for i in range(stop, sentence.end) if text[i - 1].isspace()), sentence.end)
            if start < place < sentence.end:
                parts.append(Span(start, place))
                start = place
        parts.append(Span(start, sentence.end))
    return parts


def _part(passage: Passage, start: int, end: int) -> Passage:
    """The passage's text from one offset in it to another, without the white space around it."""
    span, text = trimmed(passage.start + start, passage.text[start:end])
    return replace(passage, start=span.start, end=span.end, text=text)
