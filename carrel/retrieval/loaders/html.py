"""HTML: the main text with its structure; scripts, navigation and hidden parts are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from carrel.errors import DocumentError
from carrel.retrieval.loaders.base import Loader
from carrel.retrieval.loaders.decoding import decode
from carrel.retrieval.loaders.html_tree import INLINE, Page
from carrel.retrieval.loaders.structure import TextBuilder, rows_to_text
from carrel.types import BlockKind, Document, Skipped

if TYPE_CHECKING:
    from lxml.etree import _Element

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LISTS = ("ul", "ol", "menu", "dir")
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([\w.:-]{2,40})", re.IGNORECASE)
_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_HEAD_BYTES = 4096
_MAIN_SHARE = 0.2  # of the page's text; a smaller <main> is a place that a script would have filled


class HtmlLoader(Loader):
    """Web pages, from their ``<main>`` or ``<article>`` where they have one."""

    name = "html"
    version = 2
    suffixes = (".html", ".htm", ".xhtml")
    media_type = "text/html"

    def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield one document: headings, paragraphs, lists, tables and code in the order of the page."""
        declared = _CHARSET.search(data, 0, _HEAD_BYTES)
        text = decode(data, path, declared[1].decode("ascii") if declared else "")
        page = Page(_DECLARATION.sub("", text, count=1))
        writer = _PageWriter()
        writer.write(_main_part(page.root))
        built = writer.built.text
        if page.problem and not built:
            raise DocumentError(f"{path} could not be read: {page.problem}. Flatten it, or save it as text.")
        title = page.title
        heading = next((block for block in writer.built.blocks if block.kind == "heading" and block.level == 1), None)
        if not title and heading:
            title = built[heading.start : heading.end]
        yield self.document(path, built, title=title, blocks=writer.built.blocks, metadata={**page.metadata})
        if page.problem:
            yield Skipped(path, f"read in part: {page.problem}")


class _PageWriter:
    """Walks the elements without recursion (pages nest without limit) and writes blocks."""

    def __init__(self) -> None:
        self.built = TextBuilder()
        self._inline: list[str] = []  # the running paragraph
        self._items: list[str] = []  # the lines of the running list
        self._lists: list[int] = []  # the open lists: the next number, or -1 for bullets
        self._item_open = False
        self._level = 0  # of the open heading

    def write(self, root: _Element) -> None:
        from lxml import etree

        skipped: _Element | None = None
        walker = etree.iterwalk(root, events=("start", "end"))
        for event, element in walker:
            tag = element.tag
            if event == "start":
                if self._whole(element, tag):
                    skipped = element
                    walker.skip_subtree()
                else:
                    self._open(tag)
                    self._add(element.text)
            else:
                if element is skipped:
                    skipped = None
                elif tag not in INLINE:
                    self._close(tag)
                if element is not root:
                    self._add(element.tail)
        self._flush()
        self._flush_list()

    def _whole(self, element: _Element, tag: str) -> bool:
        """Write an element that is a block by itself."""
        if tag == "pre":
            self._end_blocks()
            self.built.add("".join(element.itertext()), "code")
        elif tag == "table" and _is_data_table(element):
            self._end_blocks()
            caption = element.find("caption")
            if caption is not None:
                self.built.add(_flat(caption))
            rows = [[_flat(cell) for cell in row if cell.tag in ("td", "th")] for row in element.iter("tr")]
            rows = [row for row in rows if any(row)]
            self.built.add(rows_to_text(rows), "table", header=rows_to_text(rows[:1]))
        else:
            return False
        return True

    def _open(self, tag: str) -> None:
        if tag in INLINE:
            return
        if tag == "br":
            self._inline.append("\n")
            return
        self._flush()
        if tag in _LISTS:
            self._lists.append(1 if tag == "ol" else -1)
        elif tag == "li":
            self._item_open = True
        elif tag in _HEADINGS:
            self._flush_list()
            self._level = _HEADINGS[tag]

    def _close(self, tag: str) -> None:
        if tag == "br":
            return
        self._flush()
        if tag in _LISTS and self._lists:
            self._lists.pop()
            if not self._lists:
                self._flush_list()
        elif tag == "li":
            self._item_open = False
        self._level = 0

    def _add(self, text: str | None) -> None:
        if text:
            self._inline.append(re.sub(r"\s+", " ", text))

    def _end_blocks(self) -> None:
        self._flush()
        self._flush_list()

    def _flush(self) -> None:
        """Write the running paragraph: as a block, or as a line of the open list."""
        text = re.sub(r"[ \t]*\n[ \t]*", "\n", re.sub(r"[ \u00a0]+", " ", "".join(self._inline))).strip()
        self._inline.clear()
        if not text:
            return
        if self._level:
            self.built.add(" ".join(text.split()), "heading", level=self._level)
        elif self._lists:
            indent = "  " * min(len(self._lists) - 1, 20)
            marker = "  "
            if self._item_open:
                number = self._lists[-1]
                marker = f"{number}. " if number > 0 else "- "
                self._lists[-1] += number > 0
                self._item_open = False
            self._items.append(indent + marker + " ".join(text.split()))
        else:
            self.built.add(text)

    def _flush_list(self) -> None:
        kind: BlockKind = "list"
        self.built.add("\n".join(self._items), kind)
        self._items.clear()


def _main_part(page: _Element) -> _Element:
    body = page.find("html/body")
    if body is None:
        body = page
    size = len("".join(body.itertext()).split())
    for path in (".//main", ".//*[@role='main']", ".//article"):
        found = body.findall(path)
        if len(found) == 1 and len("".join(found[0].itertext()).split()) >= _MAIN_SHARE * size:
            return found[0]
    return body


def _is_data_table(table: _Element) -> bool:
    """Tell tables of data from tables that lay out a page: those hold other tables, headings or lists."""
    if table.get("role") in ("presentation", "none"):
        return False
    layout = ("table", "ul", "ol", "h1", "h2", "h3", "pre", "form")
    return next(table.iter("tr"), None) is not None and not any(
        inner is not table for tag in layout for inner in table.iter(tag)
    )


def _flat(element: _Element) -> str:
    """Return an element's text on one line."""
    from lxml import etree

    parts: list[str] = []
    for event, inner in etree.iterwalk(element, events=("start", "end")):
        if event == "end":
            parts.append(inner.tail or "" if inner is not element else "")
        else:
            parts.append(inner.text or "")
            if inner.tag not in INLINE:
                parts.insert(-1, " ")
    return " ".join("".join(parts).split())
