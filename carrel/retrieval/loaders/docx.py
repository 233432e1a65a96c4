"""Word files (.docx): headings, paragraphs, lists and tables in the order of the document."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from carrel.errors import DocumentError
from carrel.retrieval.loaders.base import Loader
from carrel.retrieval.loaders.structure import TextBuilder, rows_to_text
from carrel.types import Document, Scalar, Skipped

if TYPE_CHECKING:
    from docx.document import Document as WordDocument
    from lxml.etree import _Element

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_PARTS = ("[Content_Types].xml", "_rels/.rels")  # of every Office file
_MAX_BYTES = 200_000_000  # unpacked: a small file that unpacks to more is broken or hostile
_TEXT = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_NOT_SHOWN = (_FALLBACK, f"{_W}del", f"{_W}moveFrom", f"{_W}pPr", f"{_W}rPr")


class DocxLoader(Loader):
    """Word documents; text marked as deleted is left out."""

    name = "docx"
    suffixes = (".docx", ".docm", ".dotx")
    media_type = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

    def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield one document; its title is the one in the file's properties, or its first heading."""
        word = _open(data, path)
        builder = TextBuilder()
        _Writer(word, builder).write()
        text = builder.text
        title = word.core_properties.title.strip()
        if not title:
            headings = (block for block in builder.blocks if block.kind == "heading")
            title = next((text[block.start : block.end] for block in headings), "")
        metadata: dict[str, Scalar | list[str]] = {}
        if word.core_properties.author and word.core_properties.author != "python-docx":
            metadata["author"] = word.core_properties.author
        yield self.document(path, text, title=title, blocks=builder.blocks, metadata=metadata)


def _open(data: bytes, path: str) -> WordDocument:
    import zipfile

    import docx

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise _not_whole(path, str(error)) from None
    for part in _PARTS:
        if part not in names:
            raise _not_whole(path, f"{part} is missing in it")
    if size > _MAX_BYTES:
        raise DocumentError(
            f"{path} unpacks to {size / 1e6:.0f} MB, more than the {_MAX_BYTES / 1e6:.0f} MB that are allowed. "
            "If it can be trusted, save it as PDF or split it."
        )
    try:
        return docx.Document(io.BytesIO(data))
    except KeyError as error:  # of a part that another one names
        raise _not_whole(path, str(error.args[0])) from None


def _not_whole(path: str, detail: str) -> DocumentError:
    return DocumentError(
        f"{path} is not a whole DOCX file: {detail}. It may have been cut off: fetch or save it again."
    )


class _Writer:
    def __init__(self, word: WordDocument, builder: TextBuilder) -> None:
        self._body = word.element.body
        self._builder = builder
        self._levels: dict[str, int] = {}  # heading styles
        self._list_styles: set[str] = set()
        self._items: list[str] = []
        for style in word.styles:
            name = (style.name or "").lower()
            outline = style.element.find(f"{_W}pPr/{_W}outlineLvl")
            if name == "title":
                self._levels[style.style_id] = 1
            elif name.startswith("heading ") and name[8:].isdigit():
                self._levels[style.style_id] = int(name[8:])
            elif outline is not None and _number(outline) < 9:
                self._levels[style.style_id] = _number(outline) + 1
            elif name.startswith("list ") or style.element.find(f"{_W}pPr/{_W}numPr") is not None:
                self._list_styles.add(style.style_id)

    def write(self) -> None:
        for element in _contents(self._body):
            if element.tag == f"{_W}tbl":
                self._end_list()
                rows = [row for row in _rows(element) if any(row)]
                self._builder.add(rows_to_text(rows), "table", header=rows_to_text(rows[:1]))
            else:
                self._paragraph(element)
        self._end_list()

    def _paragraph(self, paragraph: _Element) -> None:
        text = _text(paragraph)
        if not text:
            return
        style = paragraph.find(f"{_W}pPr/{_W}pStyle")
        style_id = style.get(f"{_W}val", "") if style is not None else ""
        numbering = paragraph.find(f"{_W}pPr/{_W}numPr")
        if level := self._levels.get(style_id, 0):
            self._end_list()
            self._builder.add(" ".join(text.split()), "heading", level=level)
        elif numbering is not None or style_id in self._list_styles:
            depth = numbering.find(f"{_W}ilvl") if numbering is not None else None
            self._items.append("  " * (_number(depth) if depth is not None else 0) + "- " + " ".join(text.split()))
        else:
            self._end_list()
            self._builder.add(text)

    def _end_list(self) -> None:
        self._builder.add("\n".join(self._items), "list")
        self._items.clear()


def _contents(parent: _Element) -> Iterator[_Element]:
    """Yield paragraphs and tables in order, also those inside content controls and tracked insertions."""
    waiting = list(parent)[::-1]
    while waiting:
        element = waiting.pop()
        if element.tag in (f"{_W}p", f"{_W}tbl"):
            yield element
        elif element.tag in (f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml"):
            waiting.extend(list(element)[::-1])


def _rows(table: _Element) -> Iterator[list[str]]:
    for row in table.iter(f"{_W}tr"):
        cells = (cell for cell in row.iter(f"{_W}tc") if next(cell.iterancestors(f"{_W}tr")) is row)
        yield [" ".join(_text(paragraph) for paragraph in cell.iterchildren(f"{_W}p")) for cell in cells]


def _text(paragraph: _Element) -> str:
    parts: list[str] = []
    waiting = [paragraph]
    while waiting:
        element = waiting.pop()
        if element.tag == f"{_W}t":
            parts.append(element.text or "")
        elif element.tag in _TEXT:
            parts.append(_TEXT[element.tag])
        elif element.tag not in _NOT_SHOWN:
            waiting.extend(list(element)[::-1])
    return "".join(parts).strip()


def _number(element: _Element) -> int:
    value = element.get(f"{_W}val", "0")
    return min(int(value), 9) if value.isdigit() else 0
