"""Cutting documents into chunks along their own paragraphs, sentences and rows.

Chunks tile the document: joined in order they are its text, to the character. A chunk never exceeds
the cap, whatever the text; its prefix (title, heading path, table header) is not source and is kept
apart from it.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from carrel.retrieval.sentences import split_sentences
from carrel.tokens import Tokenizer
from carrel.types import Block, Chunk, Document, Span, page_at

_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")
_SPECIAL_TOKENS = 2
_CHARACTERS_PER_TOKEN = 16  # a "word" without spaces can be one token and any number of characters
_PREFIX_SEPARATOR = " > "


@dataclass(frozen=True, slots=True)
class ChunkingOptions:
    """How long chunks are, in tokens of the encoder.

    ``target_tokens``: what pieces of a long paragraph aim at, and up to which short neighbours are
    joined. ``max_tokens``: the cap of a chunk with its prefix and special tokens. ``merge_below``:
    chunks shorter than this are joined with their neighbour in the same section.
    """

    target_tokens: int = 128
    max_tokens: int = 256
    merge_below: int = 48
    max_prefix_tokens: int = 48


@dataclass(frozen=True, slots=True)
class _Unit:
    """A block widened to tile the text, with the headings above it."""

    start: int
    end: int
    block: Block
    path: tuple[str, ...]


class _Counter:
    """Token counts of any part of one text from a single tokenisation."""

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        offsets = tokenizer.offsets(text)
        self.starts: NDArray[np.int64] = np.fromiter((start for start, _ in offsets), np.int64, len(offsets))

    def count(self, start: int, end: int) -> int:
        low, high = np.searchsorted(self.starts, (start, end))
        return int(high - low)

    def advance(self, start: int, tokens: int) -> int | None:
        """Offset of the token that follows the next ``tokens``; None past the end."""
        index = int(np.searchsorted(self.starts, start)) + tokens
        return int(self.starts[index]) if index < len(self.starts) else None


def chunk_document(document: Document, tokenizer: Tokenizer, options: ChunkingOptions | None = None) -> list[Chunk]:
    """The chunks of a document, in order.

    Parameters
    ----------
    document : blocks are used where the loader found them, else paragraphs are found in the text.
    tokenizer : the encoder's, so that no chunk exceeds its window.
    options : lengths in tokens.

    Returns
    -------
    Chunks with ``"".join(chunk.text for chunk in chunks) == document.text``.
    """
    return _Chunker(document, tokenizer, options or ChunkingOptions()).chunks()


class _Chunker:
    def __init__(self, document: Document, tokenizer: Tokenizer, options: ChunkingOptions) -> None:
        self.document, self.tokenizer, self.options = document, tokenizer, options
        self.text = document.text
        self.counter = _Counter(self.text, tokenizer)
        self.prefixes: dict[tuple[str, ...], tuple[str, int]] = {}
        self.prefix_tokens: dict[str, int] = {}

    def chunks(self) -> list[Chunk]:
        drafts: list[Chunk] = []
        for group in self._groups():
            starts = [unit.start for unit in group]
            for span in self._pieces(group):
                unit = group[max(0, bisect.bisect_right(starts, span.start) - 1)]
                drafts.append(self._draft(span, unit))
        return [replace(chunk, ordinal=ordinal) for ordinal, chunk in enumerate(self._joined(drafts))]

    # -- units and groups ---------------------------------------------------------------------

    def _units(self) -> list[_Unit]:
        blocks = list(self.document.blocks) or [Block(span.start, span.end) for span in _paragraphs(self.text)]
        units: list[_Unit] = []
        path: list[tuple[int, str]] = []
        for index, block in enumerate(blocks):
            start = 0 if index == 0 else block.start
            end = blocks[index + 1].start if index + 1 < len(blocks) else len(self.text)
            if block.kind == "heading":
                path = [(level, title) for level, title in path if level < block.level]
            units.append(_Unit(start, end, block, tuple(title for _, title in path)))
            if block.kind == "heading":
                heading = " ".join(self.text[block.start : block.end].strip().strip("#=-").split())
                path.append((block.level, heading))
        return units

    def _groups(self) -> Iterator[list[_Unit]]:
        """Units that belong together: headings with what follows, captions with their table."""
        group: list[_Unit] = []
        for unit in self._units():
            stays = group and (group[-1].block.kind == "heading" or unit.block.joined)
            if group and not stays:
                yield group
                group = []
            group.append(unit)
        if group:
            yield group

    # -- cutting one group --------------------------------------------------------------------

    def _pieces(self, group: Sequence[_Unit]) -> list[Span]:
        """Cut a group into spans of about the target length, none above the cap."""
        whole = Span(group[0].start, group[-1].end)
        room = self._room(group)
        tokens = self.counter.count(whole.start, whole.end)
        target = min(self.options.target_tokens, room)
        if tokens <= target and len(whole) <= room * _CHARACTERS_PER_TOKEN:
            return list(self._halved(whole, room))
        pieces = self._balanced(list(self._group_atoms(group, room)), tokens, target, room)
        return [part for piece in pieces for part in self._halved(piece, room)]

    def _halved(self, span: Span, room: int) -> Iterator[Span]:
        """The span; in two where a cut through a word has made more tokens of it than fit."""
        if len(span) == 1 or self._tokens(span) <= room:
            yield span
            return
        middle = self.counter.advance(span.start, self.counter.count(span.start, span.end) // 2)
        if middle is None or not span.start < middle < span.end:
            middle = (span.start + span.end) // 2
        yield from self._halved(Span(span.start, middle), room)
        yield from self._halved(Span(middle, span.end), room)

    def _tokens(self, span: Span) -> int:
        """The tokens of the span's text alone: where it begins or ends inside a word they are counted anew."""
        if self._between_words(span.start) and self._between_words(span.end):
            return self.counter.count(span.start, span.end)
        return self.tokenizer.count(self.text[span.start : span.end])

    def _between_words(self, offset: int) -> bool:
        return offset in (0, len(self.text)) or self.text[offset - 1].isspace() or self.text[offset].isspace()

    def _group_atoms(self, group: Sequence[_Unit], room: int) -> Iterator[Span]:
        """The atoms of a group's units; a heading is one with the beginning of the text that it heads."""
        heading: Span | None = None
        for unit in group:
            for atom in self._atoms(unit, room):
                if heading is not None:
                    joined = Span(heading.start, atom.end)
                    fits = self._fits(joined, room // 2 if unit.block.kind == "heading" else room)
                    if unit.block.kind != "heading":
                        yield from [joined] if fits else self._cut(joined, room)
                        heading = None
                        continue
                    if fits:
                        heading = joined
                        continue
                    yield heading
                heading = atom if unit.block.kind == "heading" else None
                if heading is None:
                    yield atom
        if heading is not None:
            yield heading

    def _atoms(self, unit: _Unit, room: int) -> Iterator[Span]:
        """The smallest parts worth keeping whole (rows, lines, sentences), each within the room."""
        if unit.block.kind in ("table", "code"):
            parts = _lines(self.text, unit.start, unit.end)
        else:
            parts = split_sentences(self.text, unit.start, unit.end)
        for part in parts:
            if self._fits(part, room):
                yield part
                continue
            for line in _lines(self.text, part.start, part.end):
                yield from self._cut(line, room)

    def _fits(self, span: Span, room: int) -> bool:
        return len(span) <= room * _CHARACTERS_PER_TOKEN and self.counter.count(span.start, span.end) <= room

    def _cut(self, span: Span, room: int) -> Iterator[Span]:
        """The last resort: cut between tokens, and between characters where one token is very long."""
        start = span.start
        while not self._fits(Span(start, span.end), room):
            stop = self.counter.advance(start, room)
            longest = start + room * _CHARACTERS_PER_TOKEN
            stop = min(stop if stop is not None and stop > start else longest, longest, span.end)
            yield Span(start, stop)
            start = stop
        if start < span.end:
            yield Span(start, span.end)

    def _balanced(self, atoms: Sequence[Span], tokens: int, target: int, room: int) -> list[Span]:
        """Join atoms into pieces of nearly equal length, so that none is left over as a crumb."""
        goal = tokens / max(1, round(tokens / target + 0.3)) * 1.1
        pieces: list[Span] = []
        current: Span | None = None
        for atom in atoms:
            joined = Span(current.start, atom.end) if current else atom
            if current and (self.counter.count(joined.start, joined.end) > goal or not self._fits(joined, room)):
                pieces.append(current)
                current = atom
            else:
                current = joined
        return [*pieces, current] if current else pieces

    # -- chunks from spans --------------------------------------------------------------------

    def _room(self, group: Sequence[_Unit]) -> int:
        prefix_tokens = max(self._prefix((*unit.path, unit.block.header))[1] for unit in group)
        return self._beside(prefix_tokens)

    def _beside(self, prefix_tokens: int) -> int:
        """The tokens that a text may have under a prefix of so many."""
        return max(16, self.options.max_tokens - _SPECIAL_TOKENS - prefix_tokens)

    def _prefix(self, parts: tuple[str, ...]) -> tuple[str, int]:
        """Title, headings and table header as one line of bounded length, with its token count.

        A heading that says what the title says is left out: it would be paid for twice in every context.
        """
        if parts not in self.prefixes:
            title = " ".join(self.document.title.split())
            headings = [part for part in parts[:-1] if part.casefold() != title.casefold()]
            lines = _PREFIX_SEPARATOR.join(part for part in (title, *headings) if part)
            limit = min(self.options.max_prefix_tokens, self.options.max_tokens // 4)
            lines = self.tokenizer.truncate(lines, limit)
            if parts[-1]:
                header = self.tokenizer.truncate(parts[-1], limit)
                lines = f"{lines}\n{header}" if lines else header
            if lines not in self.prefix_tokens:
                self.prefix_tokens[lines] = self.tokenizer.count(lines)
            self.prefixes[parts] = (lines, self.prefix_tokens[lines])
        return self.prefixes[parts]

    def _draft(self, span: Span, unit: _Unit) -> Chunk:
        shown = span.start > unit.start or unit.block.kind == "code"  # a table's header stands in its first piece
        header = unit.block.header if shown else ""
        prefix, _ = self._prefix((*unit.path, header))
        return self._chunk(span, prefix)

    def _chunk(self, span: Span, prefix: str) -> Chunk:
        page = page_at(self.document.pages, span.start)
        tokens = self._tokens(span)
        return Chunk(0, span.start, span.end, self.text[span.start : span.end], prefix, tokens, page)

    def _joined(self, drafts: Sequence[Chunk]) -> list[Chunk]:
        """Join crumbs with a neighbour under the same headings."""
        out: list[Chunk] = []
        for chunk in drafts:
            last = out[-1] if out else None
            if last is not None and self._worth_joining(last, chunk):
                out[-1] = self._chunk(Span(last.start, chunk.end), last.prefix if last.text.strip() else chunk.prefix)
            else:
                out.append(chunk)
        return out

    def _worth_joining(self, last: Chunk, chunk: Chunk) -> bool:
        if not chunk.text.strip() or not last.text.strip():
            return True
        small = last.tokens < self.options.merge_below or chunk.tokens < self.options.merge_below // 2
        related = chunk.prefix == last.prefix or chunk.prefix.startswith(f"{last.prefix}{_PREFIX_SEPARATOR}")
        length = chunk.end - last.start
        most = min(self.options.target_tokens, self._beside(self.prefix_tokens[last.prefix]))
        fits = last.tokens + chunk.tokens <= most
        return small and related and fits and length <= self.options.target_tokens * _CHARACTERS_PER_TOKEN


def _paragraphs(text: str) -> list[Span]:
    """Spans between blank lines, tiling the text."""
    cuts = [0, *(match.end() for match in _BLANK_LINES.finditer(text)), len(text)]
    return [Span(start, end) for start, end in pairwise(cuts) if start < end]


def _lines(text: str, start: int, end: int) -> list[Span]:
    spans: list[Span] = []
    position = start
    while position < end:
        stop = text.find("\n", position, end)
        stop = end if stop < 0 else stop + 1
        spans.append(Span(position, stop))
        position = stop
    return spans
