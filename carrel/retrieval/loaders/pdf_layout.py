"""From the lines of PDF pages to paragraphs, headings and tables. Plain functions on numbers and text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from carrel.retrieval.loaders.structure import TextBuilder, rows_to_text
from carrel.types import Block

HYPHEN = "\ufffe"  # a hyphen at a line end, as PDFium writes it
_HEADING_SIZE = 1.12  # of the body's font size
_HEADING_CHARACTERS = 150
_PARAGRAPH_GAP = 1.25  # of the usual distance between lines
_SHORT_LINE = 0.8  # of the usual line width
_EDGE_LINES = 2  # at the top and the bottom of a page, where running headers and footers stand
_RUNNING_SHARE = 0.5
_MIN_PAGES = 3
_TABLE_ROWS = 3
_SENTENCE_END = re.compile(r"[.!?:;][\"'”’)\]]*$")
_HYPHENATED = ("well", "self", "half", "non", "all", "so", "ex", "mid", "cross", "long", "short", "two", "three")
_BULLET = re.compile(r"(?:[•◦▪‣·–*-]|\d{1,2}[.)]|\(?[a-z]\))\s+\S")


@dataclass(frozen=True, slots=True)
class Cell:
    """A part of a line that stands apart from the others."""

    left: float
    right: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page; ``top`` and ``bottom`` in points from the top of the page, ``size`` of its font."""

    text: str
    top: float = 0.0
    bottom: float = 0.0
    size: float = 0.0
    cells: tuple[Cell, ...] = ()


def compose(pages: Sequence[Sequence[Line]]) -> tuple[str, list[Block], list[int]]:
    """Return the text of the pages, its blocks, and the offset where each page starts."""
    composer = _Composer(drop_running_lines(pages))
    composer.compose()
    # An empty page starts where the text then ended, which a hyphen joined over it can have moved back.
    starts = list(accumulate(reversed(composer.starts), min))[::-1]
    return composer.builder.text.replace(HYPHEN, "-"), composer.builder.blocks, starts


def drop_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Leave out lines that stand at the edge of most pages, their page number aside."""
    if len(pages) < _MIN_PAGES:
        return [list(page) for page in pages]
    seen: Counter[str] = Counter()
    for number, page in enumerate(pages):
        seen.update({key for line in _edges(page) for key in _running_keys(line.text, number)})
    body = _body_size([line for page in pages for line in page])
    needed = max(_MIN_PAGES, int(_RUNNING_SHARE * sum(bool(page) for page in pages)) + 1)

    def runs(line: Line, number: int) -> bool:
        keys = _running_keys(line.text, number)
        # A numbered line in large type is a heading ("Chapter 3"), not a page number.
        return any(seen[key] >= needed and ("#" not in key or line.size <= body * _HEADING_SIZE) for key in keys)

    kept = []
    for number, page in enumerate(pages):
        edges = {id(line) for line in _edges(page)}
        kept.append([line for line in page if id(line) not in edges or not runs(line, number)])
    # Where that is most of the text, the pages are copies of each other, and it is no header.
    return kept if 2 * sum(map(len, kept)) >= sum(map(len, pages)) else [list(page) for page in pages]


def _edges(page: Sequence[Line]) -> list[Line]:
    depth = min(_EDGE_LINES, (len(page) + 2) // 3)
    return [*page[:depth], *page[max(depth, len(page) - depth) :]]


def _running_keys(text: str, number: int) -> set[str]:
    """Return the text, and for each number in it that may count pages the text with that number left open."""
    keys = {text}
    for match in re.finditer(r"(?<![\d.,])\d{1,4}(?![\d.,]*\d)", text):
        keys.add(f"{text[: match.start()]}#{int(match[0]) - number}{text[match.end() :]}")
    return keys


def _body_size(lines: Sequence[Line]) -> float:
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    return max(sizes, key=lambda size: (sizes[size], -size), default=0.0)


class _Composer:
    def __init__(self, pages: list[list[Line]]) -> None:
        self.pages = pages
        self.builder = TextBuilder()
        self.starts: list[int] = []
        lines = [line for page in pages for line in page]
        self.body = _body_size(lines)
        large = {line.size for line in lines if self._is_large(line)}
        self.levels = {size: min(level, 6) for level, size in enumerate(sorted(large, reverse=True), 1)}
        gaps = [b.top - a.top for page in pages for a, b in pairwise(page) if b.top > a.top]
        self.pitch = sorted(gaps)[len(gaps) // 2] if gaps else 0.0
        widths = sorted(len(line.text) for line in lines)
        self.width = widths[len(widths) * 3 // 4] if widths else 0
        self.words: set[str] = set()  # of all pages, once they are needed
        self.open: Line | None = None  # the last line of the running paragraph

    def compose(self) -> None:
        for page in self.pages:
            self._page(page)

    def _is_large(self, line: Line) -> bool:
        return line.size > self.body * _HEADING_SIZE and len(line.text) <= _HEADING_CHARACTERS

    def _page(self, lines: list[Line]) -> None:
        mark = len(self.starts)
        index = 0
        while index < len(lines):
            rows = _table_length(lines, index)
            before = self.builder.length
            if rows:
                cells = [[cell.text for cell in line.cells] for line in lines[index : index + rows]]
                self.builder.add(rows_to_text(cells), "table", header=rows_to_text(cells[:1]))
                self.open = None
            else:
                self._line(lines[index], new_page=index == 0)
            if len(self.starts) == mark and self.builder.length > before:
                last = self.builder.blocks[-1]
                self.starts.append(last.start if last.start >= before else self.builder.length - len(lines[index].text))
            index += rows or 1
        if len(self.starts) == mark:  # an empty page starts where the next one does, or at the end
            self.starts.append(self.builder.length)

    def _line(self, line: Line, new_page: bool) -> None:
        text = line.text
        if self._is_large(line):
            self._heading(line)
        elif self.open is not None and self._continues(self.open, line, new_page):
            self._join(text)
            self.open = line
        else:
            bullet = bool(_BULLET.match(text))
            if bullet and self.open is not None and self.builder.blocks[-1].kind == "list":
                self.builder.extend(text, "\n")
            else:
                self.builder.add(text, "list" if bullet else "paragraph")
            self.open = line

    def _heading(self, line: Line) -> None:
        last = self.open
        if last is not None and last.size == line.size and 0 < line.top - last.top < 2 * line.size:
            self._join(line.text)  # a heading of two lines
        else:
            self.builder.add(line.text, "heading", level=self.levels[line.size])
        self.open = line

    def _continues(self, last: Line, line: Line, new_page: bool) -> bool:
        if self._is_large(last) or self.builder.blocks[-1].kind == "table":
            return False
        short = len(last.text) < _SHORT_LINE * self.width
        ended = short or bool(_SENTENCE_END.search(last.text))
        if _BULLET.match(line.text) and (ended or self.builder.blocks[-1].kind == "list"):
            return False
        if new_page or line.top <= last.top:  # a new page or column: only a sentence that goes on
            return not ended or last.text.endswith(HYPHEN) or line.text[:1].islower()
        if abs(line.size - last.size) > 0.05 * max(last.size, 1.0):
            return False
        if self.pitch and line.top - last.top > _PARAGRAPH_GAP * max(self.pitch, last.size):
            return False
        return not (short and _SENTENCE_END.search(last.text))

    def _join(self, text: str) -> None:
        """Add a line to the running paragraph; a word divided at the line end becomes whole."""
        last = self.builder.last
        if last.endswith(HYPHEN):
            self.builder.extend(text, "-" if self._keeps_hyphen(last, text) else "", drop=1)
        else:
            self.builder.extend(text, "" if last.endswith("-") else " ")

    def _keeps_hyphen(self, before: str, after: str) -> bool:
        """Tell whether the hyphen at a line end belongs to the word: as the rest of the document writes it."""
        first = re.search(r"\w*$", before[:-1])
        second = re.match(r"\w*", after)
        if not first or not second or not after[:1].islower():
            return True
        if not self.words:
            self.words = {
                word.lower() for page in self.pages for line in page for word in re.findall(r"\w[\w-]*", line.text)
            }
        if f"{first[0]}-{second[0]}".lower() in self.words:
            return True
        return f"{first[0]}{second[0]}".lower() not in self.words and first[0].lower() in _HYPHENATED


def _table_length(lines: Sequence[Line], start: int) -> int:
    """Return how many lines from ``start`` on make a table: three or more with cells under cells."""
    end = start
    while end < len(lines) and len(lines[end].cells) > 1 and _aligned(lines[start], lines[end]):
        end += 1
    return end - start if end - start >= _TABLE_ROWS else 0


def _aligned(head: Line, row: Line) -> bool:
    """Tell whether every cell of ``row`` stands under or over a cell of ``head``."""
    if len(row.cells) > len(head.cells):
        return False
    slack = 2 * max(head.size, 1.0)
    return all(
        any(cell.left < other.right + slack and other.left < cell.right + slack for other in head.cells)
        for cell in row.cells
    )
