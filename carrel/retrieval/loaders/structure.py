"""What loaders share: text built block by block, and captions tied to their tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from carrel.types import Block, BlockKind

_CAPTION_CHARACTERS = 200
CELL_SEPARATOR = " | "


class TextBuilder:
    """A text that grows block by block, with a blank line between blocks."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.length = 0
        self._parts: list[str] = []

    @property
    def last(self) -> str:
        """What was added last."""
        return self._parts[-1] if self._parts else ""

    @property
    def text(self) -> str:
        """All that was added."""
        return "".join(self._parts)

    def add(self, text: str, kind: BlockKind = "paragraph", *, level: int = 0, header: str = "") -> None:
        """Append a block; white space around it is dropped, and nothing is added for an empty one."""
        text = text.strip("\n") if kind == "code" else text.strip()
        if not text or text.isspace():
            return
        if self._parts:
            self._append("\n\n")
        start = self.length
        joined = kind == "table" and bool(self.blocks) and is_caption(self.blocks[-1], self._parts[-1])
        self._append(text)
        self.blocks.append(Block(start, self.length, kind, level=level, header=header, joined=joined))

    def extend(self, text: str, separator: str = " ", drop: int = 0) -> None:
        """Append to the last block, after dropping that many of its last characters."""
        if drop:
            self._parts[-1] = self._parts[-1][:-drop]
            self.length -= drop
        self._append(separator)
        self._append(text)
        self.blocks[-1] = replace(self.blocks[-1], end=self.length)

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self.length += len(text)


def is_caption(block: Block, text: str) -> bool:
    """Tell whether a block directly above a table names it: a heading, or a paragraph of one short line."""
    if block.kind == "heading":
        return True
    return block.kind == "paragraph" and len(text) <= _CAPTION_CHARACTERS and "\n" not in text.strip()


def rows_to_text(rows: Iterable[Sequence[str]]) -> str:
    """Write one line a row; a cell is one line, and empty rows are left out."""
    lines = (CELL_SEPARATOR.join(" ".join(cell.split()) for cell in row) for row in rows)
    return "\n".join(line.strip() for line in lines if line.strip(" |"))


def line_starts(text: str) -> list[int]:
    """Return the offset of each line, and at the end the length of the text."""
    starts = [0]
    starts += [match.end() for match in re.finditer("\n", text)]
    if starts[-1] != len(text):
        starts.append(len(text))
    return starts
