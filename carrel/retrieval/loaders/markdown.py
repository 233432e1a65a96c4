"""Markdown: the text stays exactly the source, so every offset is an offset in the file.

Blocks are found by a line scanner, several times faster than a full CommonMark parser (which would parse the
inline markup too, only to throw it away); the tests hold it to what markdown-it-py finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from carrel.retrieval.loaders.base import Loader
from carrel.retrieval.loaders.decoding import decode
from carrel.retrieval.loaders.structure import is_caption
from carrel.types import Block, BlockKind, Document, Scalar, Skipped

_INDENT = r" {0,3}"
_ATX = rf"{_INDENT}(#{{1,6}})(?=[ \t\n]|\Z)[^\n]*"
_FENCE = rf"{_INDENT}(`{{3,}}(?=[^`\n]*$)|~{{3,}})[^\n]*"
_RULE = rf"{_INDENT}(?:(?:\*[ \t]*){{3,}}|(?:-[ \t]*){{3,}}|(?:_[ \t]*){{3,}})$"
_MARKER = rf"(?!{_RULE}){_INDENT}(?:[-+*]|\d{{1,9}}[.)])(?=[ \t\n]|\Z)"
_UNDERLINE = rf"{_INDENT}(?:=+|-+)[ \t]*$"
_DELIMITER = rf"{_INDENT}(?=[^\n]*\|)\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$"
_TABLE_HEAD = rf"{_INDENT}(?! )[^\n|]*\|[^\n]*\n{_DELIMITER}"
_ENDS_QUOTE = rf"[ \t]*$|{_INDENT}(?:#{{1,6}}(?:[ \t]|$)|```|~~~)|{_RULE}"
_ENDS_TABLE = rf"{_ENDS_QUOTE}|{_INDENT}>"
# A list item ends a paragraph only when it has text and, if numbered, begins with 1.
_ENDS_PARAGRAPH = rf"{_ENDS_TABLE}|{_INDENT}(?:[-+*]|1[.)])[ \t]+[^ \t\n]|{_UNDERLINE}|{_TABLE_HEAD}"


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE)


_BLANKS_RE = re.compile(r"(?:[ \t]*\n)+")
_ATX_RE = _compile(_ATX)
_FENCE_RE = _compile(_FENCE)
_RULE_RE = _compile(_RULE)
_UNDERLINE_RE = _compile(_UNDERLINE)
_MARKER_RE = _compile(_MARKER)
_CODE_RE = re.compile(r"(?:    | {0,3}\t)[^\n]*(?:\n(?:[ \t]*\n)*(?:    | {0,3}\t)[ \t]*[^ \t\n][^\n]*)*")
_TABLE_RE = _compile(rf"({_TABLE_HEAD})(?:\n(?!{_ENDS_TABLE})[^\n]+)*")
_LIST_RE = _compile(rf"[^\n]*(?:\n(?:[ \t]*\n)*(?:{_MARKER}|  +(?=[^ \n])|\t)[^\n]*|\n(?!{_ENDS_TABLE})[^\n]+)*")
_QUOTE_RE = _compile(rf"{_INDENT}>[^\n]*(?:\n(?!{_ENDS_QUOTE})[^\n]+)*")
_PARAGRAPH_RE = _compile(rf"[^\n]*(?:\n(?!{_ENDS_PARAGRAPH})[^\n]+)*")
_FRONT_MATTER_RE = re.compile(r"---[ \t]*\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_KEY_RE = re.compile(r"([A-Za-z_][\w .-]*?)[ \t]*:(?:[ \t]+(.*))?$")
_LINK_RE = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+[\"'][^\"']*[\"'])?\)")


class MarkdownLoader(Loader):
    """Markdown, with front matter read into the metadata."""

    name = "markdown"
    suffixes = (".md", ".markdown", ".mdown", ".mkd", ".mdx")
    media_type = "text/markdown"

    def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield one document: the source text, with its headings, lists, tables and code as blocks."""
        text = decode(data, path)
        metadata, start = front_matter(text)
        blocks = tuple(scan(text, start))
        title = str(metadata.pop("title", None) or "") or first_heading(text, blocks)
        yield self.document(path, text, title=title, blocks=blocks, metadata=metadata)


def scan(text: str, position: int = 0) -> Iterator[Block]:
    """Yield the blocks of a Markdown text from ``position`` on."""
    previous: Block | None = None
    size = len(text)
    while position < size:
        if blank := _BLANKS_RE.match(text, position):
            position = blank.end()
            continue
        block, position = _next_block(text, position)
        position += 1  # the line end
        if block is None or text[block.start : block.end].isspace():
            continue
        if block.kind == "table" and previous is not None:
            above = text[previous.start : previous.end]
            if is_caption(previous, above) and not text[previous.end : block.start].strip():
                block = Block(block.start, block.end, "table", header=block.header, joined=True)
        previous = block
        yield block


def _next_block(text: str, start: int) -> tuple[Block | None, int]:
    """Return the block that begins on the line at ``start`` (None for a rule), and where its last line ends."""
    kind: BlockKind = "paragraph"
    if match := _CODE_RE.match(text, start):
        kind = "code"
    elif match := _ATX_RE.match(text, start):
        return Block(start, match.end(), "heading", level=len(match[1])), match.end()
    elif match := _FENCE_RE.match(text, start):
        close = _compile(rf"^{_INDENT}{match[1][0]}{{{len(match[1])},}}[ \t]*$").search(text, match.end())
        end = close.end() if close else len(text.rstrip())
        return Block(start, end, "code"), max(end, match.end())
    elif match := _RULE_RE.match(text, start):
        return None, match.end()
    elif _MARKER_RE.match(text, start) and (match := _LIST_RE.match(text, start)):
        kind = "list"
    elif match := _TABLE_RE.match(text, start):
        header = match[1].partition("\n")[0].strip()
        return Block(start, match.end(), "table", header=header), match.end()
    elif not (match := _QUOTE_RE.match(text, start)):
        match = _PARAGRAPH_RE.match(text, start)
        assert match is not None  # the pattern takes any line
        underline = _UNDERLINE_RE.match(text, match.end() + 1)
        if underline and match.end() < len(text):
            level = 1 if "=" in underline[0] else 2
            return Block(start, underline.end(), "heading", level=level), underline.end()
    return Block(start, match.end(), kind), match.end()


def front_matter(text: str) -> tuple[dict[str, Scalar | list[str]], int]:
    """Return what the front matter says and where it ends: lines of ``key: value`` and flat lists, no more of YAML."""
    match = _FRONT_MATTER_RE.match(text)
    if not match:
        return {}, 0
    metadata: dict[str, Scalar | list[str]] = {}
    items: list[str] | None = None
    for line in (match[1] or "").splitlines():
        entry = _KEY_RE.match(line)
        if entry and entry[2] is None:
            metadata[entry[1]] = items = []
        elif entry:
            metadata[entry[1]] = _value(entry[2].strip())
            items = None
        elif items is not None and line.lstrip().startswith("- "):
            items.append(_unquote(line.lstrip()[2:].strip()))
    return {key: value for key, value in metadata.items() if value != []}, match.end()


def _value(text: str) -> Scalar | list[str]:
    if text.startswith("[") and text.endswith("]"):
        return [_unquote(item.strip()) for item in text[1:-1].split(",") if item.strip()]
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):  # only where the number says all that the text says: 1.10 and 007 stay text
        try:
            if str(number(text)) == text and text not in ("inf", "nan", "-inf"):
                return number(text)
        except ValueError:
            continue
    return _unquote(text)


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def first_heading(text: str, blocks: Sequence[Block]) -> str:
    """Return the first heading of level 1, without its markup."""
    for block in blocks:
        if block.kind == "heading" and block.level == 1:
            line = text[block.start : block.end].strip().splitlines()[0]
            line = re.sub(r"^#+|[ \t]+#+[ \t]*$", "", line).strip()
            return re.sub(r"[*`]", "", _LINK_RE.sub(r"\1", line)).strip()
    return ""
