"""What a sentence needs beside it to be understood: a row its table's header, a list item the line it follows from."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from carrel.generation.echoes import code_spans
from carrel.retrieval.sentences import split_sentences
from carrel.types import Passage, Span

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_BLANK = re.compile(r"(?:\s*\n)?(?:\s*\Z)?")  # not what indents the line after
_ROW = re.compile(r"\s*(?:\||.*\S \| )")
_RULE = re.compile(r"[\s|:+-]*-[\s|:+-]*")  # between the header of a Markdown table and its rows
_ITEM = re.compile(r"(\s*)(?:[-*•]|\d{1,3}[.)])\s")
_HEADING = re.compile(r"\s*#{1,6}\s+(.*)")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_PRONOUN = re.compile(r"\s*(?:it|its|he|his|she|her|they|their|this|these|those)\b", re.IGNORECASE)
_TOP = -1  # the indentation of what stands above a whole list


def split_units(text: str) -> list[Span]:
    """Sentences, rows of tables, and blocks of fenced code, each with the white space that follows it.

    They tile the text. A row is a line with a bar in it, next to another; code stays or goes whole.
    """
    if "|" not in text and "```" not in text and "~~~" not in text:
        return split_sentences(text)
    units: list[Span] = []
    position = 0
    for block in _blocks(text):
        start = max(position, block.start)
        if text[position:start].strip():
            units += split_sentences(text, position, start)
        else:
            start = position
        blank = _BLANK.match(text, block.end)
        position = max(start, blank.end() if blank else block.end)
        if start < position:
            units.append(Span(start, position))
    return units + split_sentences(text, position)


def _blocks(text: str) -> list[Span]:
    """Fenced code, and lines that are rows, in order."""
    code = code_spans(text)
    ends = [block.end for block in code]
    lines = []
    for line in (Span(*match.span()) for match in _LINE.finditer(text)):
        after = bisect_right(ends, line.start)
        if after == len(code) or line.end <= code[after].start:
            lines.append((line, _ROW.match(text, line.start, line.end) is not None))
    rows = {
        span
        for (one, is_row), (other, is_other) in pairwise(lines)
        if is_row and is_other and one.end == other.start
        for span in (one, other)
    }
    return sorted([*code, *rows], key=lambda span: span.start)


def companions(passage: Passage, sentences: Sequence[Span], *, antecedents: bool = False) -> list[frozenset[int]]:
    """For each sentence of a passage, the others that belong beside it wherever it is kept.

    A row of a table: its header. An item of a list, a table, code: the line before that ends with a
    colon; for an item of an inner list, also the item that it is under. Anything below a Markdown
    heading inside the passage: that heading, unless the passage's heading path already names it.

    Parameters
    ----------
    passage : the whole passage.
    sentences : its units, in order (document offsets).
    antecedents : also, for a sentence that begins with a pronoun, the last one of its paragraph that does not.

    Returns
    -------
    The numbers of the companions of each sentence, itself not among them.
    """
    walk = _Walk(passage, antecedents)
    return [walk.step(index, span) - {index} for index, span in enumerate(sentences)]


class _Walk:
    """Goes through a passage once and knows what each place hangs from."""

    def __init__(self, passage: Passage, antecedents: bool) -> None:
        self.passage, self.antecedents = passage, antecedents
        self.heading: int | None = None
        self.leads: list[tuple[int, int]] = []  # (indentation, number) of the lines that an item follows from
        self.header: frozenset[int] = frozenset()
        self.named: int | None = None  # the last sentence of the paragraph that does not begin with a pronoun
        self.kind = ""
        self.needs: frozenset[int] = frozenset()

    def step(self, index: int, span: Span) -> frozenset[int]:
        text = self.passage.text[span.start - self.passage.start : span.end - self.passage.start]
        place = span.start - self.passage.start
        before = self.passage.text[max(0, place - 80) : place].rstrip(" \t")
        begins_line = not before or before.endswith("\n")
        previous, self.kind = self.kind, self._kind(text, begins_line)
        if self.kind == "heading":
            return self._under_heading(index, text)
        if self.kind == "row":
            self._row(index, text, previous)
        elif self.kind == "item":
            self._item(index, text)
        elif self.kind == "code":
            self.needs = self._lead()
        elif self.kind != "inside":
            self._plain(index, text)
        if self.kind != "row":
            self.header = frozenset()
        return self.needs | self._of_paragraph(index, text, before) | self._of_section()

    def _kind(self, text: str, begins_line: bool) -> str:
        if begins_line and _HEADING.match(text):
            return "heading"
        if begins_line and _FENCE.match(text):
            return "code"
        if begins_line and _ROW.match(text) and "\n" not in text.strip():
            return "row"
        if begins_line and _ITEM.match(text):
            return "item"
        indented = begins_line and text[:1] in " \t"
        return "inside" if self.kind in ("item", "inside") and (indented or not begins_line) else "plain"

    def _lead(self) -> frozenset[int]:
        return frozenset(number for _, number in self.leads)

    def _under_heading(self, index: int, text: str) -> frozenset[int]:
        found = _HEADING.match(text)
        title = found[1].strip(" #\n") if found else ""
        self.heading = None if title and title in self.passage.prefix else index
        self.leads, self.header, self.named = [], frozenset(), None
        return frozenset()

    def _row(self, index: int, text: str, previous: str) -> None:
        if previous != "row":
            continued = index == 0 and "\n" in self.passage.prefix  # its header row stands there
            self.header = frozenset() if continued else frozenset({index})
        elif self.header == {index - 1} and _RULE.fullmatch(text):
            self.header |= {index}
        self.needs = self.header | self._lead()

    def _item(self, index: int, text: str) -> None:
        found = _ITEM.match(text)
        indentation = len(found[1]) if found else 0
        while self.leads and self.leads[-1][0] >= indentation:
            self.leads.pop()
        self.needs = self._lead()
        if text.rstrip().endswith(":"):
            self.leads.append((indentation, index))

    def _plain(self, index: int, text: str) -> None:
        self.needs = frozenset()
        self.leads = [(_TOP, index)] if text.rstrip().endswith(":") else []

    def _of_section(self) -> frozenset[int]:
        return frozenset() if self.heading is None else frozenset({self.heading})

    def _of_paragraph(self, index: int, text: str, before: str) -> frozenset[int]:
        if before.endswith("\n") or self.kind != "plain":
            self.named = None
        if self.named is None or not _PRONOUN.match(text):
            self.named = index
            return frozenset()
        return frozenset({self.named}) if self.antecedents else frozenset()
