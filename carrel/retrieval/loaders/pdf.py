"""PDF: the text page by page, its paragraphs, headings and tables rebuilt from where the lines stand."""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrel.errors import DocumentError, EmptyDocumentError, EncryptedDocumentError
from carrel.retrieval.loaders.base import Loader
from carrel.types import Document, Scalar, Skipped

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfTextPage

    from carrel.retrieval.loaders.pdf_layout import Cell, Line

_PDFIUM = threading.Lock()  # PDFium keeps global state: one thread at a time
_PASSWORD_NEEDED = 4  # FPDF_ERR_PASSWORD
_SECURITY_UNKNOWN = 5  # FPDF_ERR_SECURITY
_TAIL_BYTES = 4096
_PAGES_LOOKED_AT = 10
_CHARACTERS_LOOKED_AT = 100  # of a page, to see which way its text runs
_CELL_GAP = 1.2  # white space between cells, in font sizes; words stand closer, even when justified
_NO_TITLE = ("untitled", "microsoft word - ", "microsoft powerpoint - ", "slide 1", "powerpoint presentation")
_HYPHEN = "\ufffe"  # how PDFium writes a hyphen at a line end
_ROW = re.compile(rf"[^\n{_HYPHEN}\x02]+[{_HYPHEN}\x02]*")  # PDFium writes no line end after such a hyphen
_LIGATURES = str.maketrans({"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl"})


Box = tuple[float, float, float, float]


class PdfLoader(Loader):
    """PDF files with text in them. Scanned pages need OCR first."""

    name = "pdf"
    version = 2
    suffixes = (".pdf",)
    media_type = "application/pdf"

    def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield one document; ``pages`` says where each page starts in its text."""
        from carrel.retrieval.loaders.pdf_layout import compose

        with _PDFIUM:
            pages, metadata = _extract(data, path)
        text, blocks, starts = compose(pages)
        title = str(metadata.pop("title", ""))
        if not title:
            headings = (block for block in blocks if block.kind == "heading")
            title = next((text[block.start : block.end] for block in headings), "")
        yield self.document(path, text, title=title, blocks=blocks, pages=starts, metadata=metadata)


def _extract(data: bytes, path: str) -> tuple[list[list[Line]], dict[str, Scalar | list[str]]]:
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise _open_error(error, path) from None
    try:
        if b"%%EOF" not in data[-_TAIL_BYTES:]:
            raise DocumentError(
                f"{path} ends before its end mark, so pages may be missing. It was cut off: fetch or export it again."
            )
        pages = [_page_lines(pdf, number) for number in range(len(pdf))]
        if not any(pages):
            raise _empty_error(pdf, path)
        return pages, _metadata(pdf)
    finally:
        pdf.close()


def _open_error(error: Exception, path: str) -> DocumentError:
    code = getattr(error, "err_code", None)
    if code == _PASSWORD_NEEDED:
        return EncryptedDocumentError(f"{path} needs a password. Save a copy without one and add that.")
    if code == _SECURITY_UNKNOWN:
        return EncryptedDocumentError(f"{path} is protected in a way PDFium cannot open. Save an unprotected copy.")
    detail = str(error).rstrip(". ")
    return DocumentError(f"{path} is no PDF that can be opened: {detail}. It may be cut off: fetch or export it again.")


def _empty_error(pdf: PdfDocument, path: str) -> EmptyDocumentError:
    import pypdfium2.raw as pdfium

    for number in range(min(len(pdf), _PAGES_LOOKED_AT)):
        page = pdf[number]
        try:
            if next(iter(page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE])), None) is not None:
                return EmptyDocumentError(
                    f"{path} holds only images, no text: it was scanned. Run OCR on it first (for example ocrmypdf)."
                )
        finally:
            page.close()
    return EmptyDocumentError(f"{path} holds no text. Nothing was added from it.")


def _metadata(pdf: PdfDocument) -> dict[str, Scalar | list[str]]:
    metadata: dict[str, Scalar | list[str]] = {}
    for key in ("Title", "Author"):
        value = " ".join(pdf.get_metadata_value(key).replace("\0", "").split())
        if value and not value.lower().startswith(_NO_TITLE):
            metadata[key.lower()] = value
    return metadata


@dataclass(frozen=True, slots=True)
class _View:
    """A page turned so that its text is upright; PDFium gives places as they were before.

    ``rotation`` in degrees, clockwise; ``width`` and ``height`` in points, of the page as it is turned.
    """

    rotation: int
    width: float
    height: float

    def upright(self, box: Box) -> Box:
        """(left, top, right, bottom) from the bottom left, as PDFium has it; the same from the top left."""
        left, top, right, bottom = box
        if self.rotation == 90:
            return bottom, left, top, right
        if self.rotation == 180:
            return self.width - right, bottom, self.width - left, top
        if self.rotation == 270:
            return self.width - top, self.height - right, self.width - bottom, self.height - left
        return left, self.height - top, right, self.height - bottom

    def padded(self, box: Box, points: float) -> Box:
        """The box with more room before and behind the text."""
        left, top, right, bottom = box
        if self.rotation % 180:
            return left, top + points, right, bottom - points
        return left - points, top, right + points, bottom


def _page_lines(pdf: PdfDocument, number: int) -> list[Line]:
    page = pdf[number]
    try:
        text_page = page.get_textpage()
        try:
            rotation = _reading_rotation(text_page, page.get_rotation())
            if rotation != page.get_rotation():
                text_page.close()
                page.set_rotation(rotation)  # PDFium puts the lines in order for the page as it is turned
                text_page = page.get_textpage()
            return list(_lines(text_page, _View(rotation, page.get_width(), page.get_height())))
        finally:
            text_page.close()
    finally:
        page.close()


def _reading_rotation(text_page: PdfTextPage, usual: int) -> int:
    """How the page must be turned for most of its text to be upright, in degrees clockwise."""
    import pypdfium2.raw as pdfium

    count = text_page.count_chars()
    seen: Counter[int] = Counter()
    for index in range(0, count, max(1, count // _CHARACTERS_LOOKED_AT)):
        if pdfium.FPDFText_GetUnicode(text_page, index) > 32:  # the spaces that PDFium adds have no direction
            seen[round(pdfium.FPDFText_GetCharAngle(text_page, index) / (math.pi / 2)) % 4] += 1
    return -seen.most_common(1)[0][0] % 4 * 90 if seen else usual


def _lines(text_page: PdfTextPage, view: _View) -> Iterator[Line]:
    """Yield the lines as PDFium finds them, with their place (from the top of the page) and size."""
    import pypdfium2.raw as pdfium

    from carrel.retrieval.loaders.pdf_layout import Line

    if text_page.count_chars() <= 0:
        return
    raw = text_page.get_text_range()
    for match in _ROW.finditer(raw):
        start, row = match.start(), match[0]
        text = row.strip("\r \t\u00a0")
        if not text or text.isspace():
            continue
        first = pdfium.FPDFText_GetCharIndexFromTextIndex(text_page, start + len(row) - len(row.lstrip()))
        last = pdfium.FPDFText_GetCharIndexFromTextIndex(text_page, start + len(row.rstrip()) - 1)
        size = round(_font_size(text_page, first), 1)
        cells = tuple(_cells(text_page, first, last - first + 1, size, view)) if 0 <= first <= last else ()
        top, bottom = _vertical(text_page, first, view)
        yield Line(_clean(text), top, bottom, size, cells)


def _cells(text_page: PdfTextPage, first: int, count: int, size: float, view: _View) -> Iterator[Cell]:
    """Yield the parts of a line that stand apart."""
    import ctypes

    import pypdfium2.raw as pdfium

    from carrel.retrieval.loaders.pdf_layout import Cell

    boxes: list[Box] = []
    box = [ctypes.c_double() for _ in range(4)]
    for index in range(pdfium.FPDFText_CountRects(text_page, first, count)):
        if pdfium.FPDFText_GetRect(text_page, index, *map(ctypes.byref, box)):
            left, top, right, bottom = (value.value for value in box)
            here = (left, top, right, bottom)
            if boxes and -size < view.upright(here)[0] - view.upright(boxes[-1])[2] < _CELL_GAP * size:
                last = boxes[-1]
                boxes[-1] = (min(last[0], left), max(last[1], top), max(last[2], right), min(last[3], bottom))
            else:
                boxes.append(here)
    for here in boxes:
        text = ""
        if len(boxes) > 1:
            left, top, right, bottom = view.padded(here, 0.5)
            text = " ".join(_clean(text_page.get_text_bounded(left, bottom, right, top)).split())
        start, _, end, _ = view.upright(here)
        yield Cell(start, end, text)


def _font_size(text_page: PdfTextPage, index: int) -> float:
    from ctypes import byref

    import pypdfium2.raw as pdfium

    if index < 0:
        return 0.0
    matrix = pdfium.FS_MATRIX()
    size = float(pdfium.FPDFText_GetFontSize(text_page, index))
    if pdfium.FPDFText_GetMatrix(text_page, index, byref(matrix)):
        scale = (matrix.c**2 + matrix.d**2) ** 0.5  # many programs set size 1 and scale
        size *= scale or 1.0
    return size


def _vertical(text_page: PdfTextPage, index: int, view: _View) -> tuple[float, float]:
    from ctypes import byref

    import pypdfium2.raw as pdfium

    box = pdfium.FS_RECTF()
    if index < 0 or not pdfium.FPDFText_GetLooseCharBox(text_page, index, byref(box)):
        return 0.0, 0.0
    _, top, _, bottom = view.upright((box.left, box.top, box.right, box.bottom))
    return top, bottom


def _clean(text: str) -> str:
    text = text.replace("\x02", _HYPHEN).translate(_LIGATURES)
    return re.sub("\u00ad$", _HYPHEN, text).replace("\u00ad", "")
