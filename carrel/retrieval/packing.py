"""Rendering passages and packing them under a token budget that holds for the text as rendered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from carrel.errors import BudgetError
from carrel.retrieval.indexes.lexical import query_terms
from carrel.retrieval.merging import merge_spans, trimmed
from carrel.retrieval.ordering import arrange
from carrel.retrieval.sentences import split_sentences
from carrel.tokens import Tokenizer
from carrel.types import Order, Passage

SEPARATOR = "\n\n"
ELLIPSIS = " … "
_FAKE_HEADER = re.compile(r"(?m)^(\s*)(?=\[\d+\])")


def header(passage: Passage, number: int) -> str:
    """``[1] Title > Heading (p. 3)``, and under it a table's header row where the passage continues one."""
    first, _, rest = passage.prefix.partition("\n")
    place = first or passage.title
    page = f" (p. {passage.page})" if passage.page is not None else ""
    line = f"[{number}] {_one_line(place)}{page}".rstrip()
    return f"{line}\n{rest}" if rest else line


def _one_line(text: str) -> str:
    return " ".join(text.split())


def block(passage: Passage, number: int) -> str:
    """One passage as it stands in the context. A line that looks like a header of ours is escaped."""
    text = ELLIPSIS.join(piece.strip() for piece in passage.pieces)
    return f"{header(passage, number)}\n" + _FAKE_HEADER.sub(r"\1\\", text)


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
    """Takes passages in rank order while they fit; the first that does not is cut to its best sentences."""

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
        self._counted = dict(known or {})

    def pack(self, ranked: Iterable[Passage]) -> Packed:
        """Pack passages that come best first; no more of them are read than fit.

        Raises
        ------
        BudgetError : not even one sentence fits.
        """
        chosen: list[Passage] = []
        taken, was_cut = 0, False
        first: Passage | None = None
        for passage in ranked:
            first = first or passage
            grown = merge_spans([*chosen, passage])
            if self._estimate(grown) <= self.budget:
                chosen, taken = grown, taken + 1
                continue
            part = self._cut(chosen, passage)
            if part is not None:
                chosen, taken, was_cut = merge_spans([*chosen, part]), taken + 1, True
            break
        if first is not None and not chosen:
            raise BudgetError(self._too_small(first))
        return self._verified(chosen, taken, was_cut)

    def _verified(self, chosen: list[Passage], taken: int, was_cut: bool) -> Packed:
        """Count the text as it is; a tokenizer whose parts do not add up costs passages, never the budget."""
        while True:
            arranged = arrange(chosen, self.order)
            text = render(arranged)
            tokens = self.tokenizer.count(text)
            if tokens <= self.budget:
                return Packed(arranged, text, tokens, taken, was_cut)
            last = self._cut(chosen[:-1], chosen[-1], spare=tokens - self.budget)
            chosen = chosen[:-1] if last is None or last == chosen[-1] else [*chosen[:-1], last]
            was_cut = True
            if not chosen:
                raise BudgetError(
                    f"a budget of {self.budget} tokens cannot hold one sentence with its source. Give it more."
                )

    def _count(self, text: str) -> int:
        if text not in self._counted:
            self._counted[text] = self.tokenizer.count(text)
        return self._counted[text]

    def _estimate(self, passages: Sequence[Passage]) -> int:
        parts = sum(self._block_tokens(passage) for passage in passages)
        return parts + self._count(SEPARATOR) * max(0, len(passages) - 1)

    def _block_tokens(self, passage: Passage) -> int:
        heading = self._count(header(passage, 1) + "\n")
        text = ELLIPSIS.join(piece.strip() for piece in passage.pieces)
        return heading + self._count(_FAKE_HEADER.sub(r"\1\\", text))

    def _cut(self, chosen: Sequence[Passage], passage: Passage, spare: int = 0) -> Passage | None:
        """The run of sentences of a passage that fits the room left and has most words of the question."""
        if passage.kept is not None:
            return None
        room = self.budget - spare - self._estimate(chosen) - self._count(SEPARATOR) * bool(chosen)
        room -= self._count(header(passage, 1) + "\n")
        sentences = split_sentences(passage.text)
        if room <= 0 or not sentences:
            return None
        tokens = [self._count(passage.text[s.start : s.end].strip()) for s in sentences]
        best: tuple[int, int, int] | None = None  # (terms, -first, end)
        for first in range(len(sentences)):
            total, end = 0, first
            while end < len(sentences) and total + tokens[end] <= room:
                total += tokens[end]
                end += 1
            if end > first:
                text = passage.text[sentences[first].start : sentences[end - 1].end]
                key = (len(self.terms & frozenset(query_terms(text))), -first, end)
                best = key if best is None or key[:2] > best[:2] else best
        if best is None:
            return None
        start = passage.start + sentences[-best[1]].start
        span, text = trimmed(start, passage.text[start - passage.start : sentences[best[2] - 1].end])
        return replace(passage, start=span.start, end=span.end, text=text)

    def _too_small(self, passage: Passage) -> str:
        sentences = split_sentences(passage.text)
        shortest = min((self._count(passage.text[s.start : s.end].strip()) for s in sentences), default=1)
        needed = shortest + self._count(header(passage, 1) + "\n")
        return (
            f"a budget of {self.budget} tokens (counted by {self.tokenizer.name}) cannot hold one sentence with its"
            f" source: the best passage needs at least {needed}. Give it more."
        )
