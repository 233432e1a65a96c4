"""What the tests of the loaders share. The fixtures are functions: tests are no package to import from."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import pairwise

import docx
import pytest

from carrel.retrieval.loaders import Loader
from carrel.types import Document, Skipped

TextLine = tuple[float, float, float, str]  # left, from the bottom of the page, font size, text


def check_document(document: Document) -> None:
    """Hold a document to what every stage after this one relies on."""
    text = document.text
    assert text.strip()
    assert "\r\n" not in text
    assert "\0" not in text
    text.encode("utf-8")
    assert document.id.startswith(document.source)
    assert document.title
    for block in document.blocks:
        assert 0 <= block.start < block.end <= len(text)
        assert text[block.start : block.end].strip()
        assert (block.level > 0) == (block.kind == "heading")
    for before, after in pairwise(document.blocks):
        assert before.end <= after.start
    if document.pages:
        assert document.pages[0] == 0
        assert list(document.pages) == sorted(document.pages)
        assert document.pages[-1] <= len(text)
    for value in document.metadata.values():
        assert value is None or isinstance(value, str | int | float | list)


def load_all(loader: Loader, data: bytes | str, path: str = "folder/file") -> list[Document | Skipped]:
    """Load bytes, and check the documents."""
    items = list(loader.load(data.encode() if isinstance(data, str) else data, path))
    for document in items:
        if isinstance(document, Document):
            check_document(document)
            assert document.source == path
            assert document.extractor == f"{loader.name}/{loader.version}"
    return items


def load_one(loader: Loader, data: bytes | str, path: str = "folder/file") -> Document:
    """Load bytes that hold one document, and check it."""
    (document,) = load_all(loader, data, path)
    assert isinstance(document, Document)
    return document


def kinds(document: Document) -> list[tuple[str, str]]:
    """Return the kind and the text of every block."""
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def word_file(fill: Callable[..., None]) -> bytes:
    """Return a DOCX that ``fill`` wrote into."""
    word = docx.Document()
    fill(word)
    buffer = io.BytesIO()
    word.save(buffer)
    return buffer.getvalue()


# For content drawn turned to the left by so many degrees, on the same sheet.
TURNED = {0: "1 0 0 1 0 0", 90: "0 1 -1 0 420 0", 180: "-1 0 0 -1 420 595", 270: "0 -1 1 0 0 595"}


def make_pdf(
    pages: Sequence[Sequence[TextLine]], title: str = "", image: bool = False, *, rotate: int = 0, turned: int = 0
) -> bytes:
    """Return a PDF; with ``image`` each page also holds a grey picture.

    ``rotate`` is how a viewer turns the pages, clockwise; ``turned`` how the text is drawn, the other way round.
    """
    objects: list[bytes] = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    objects.append(f"<< /Title ({title}) >>".encode("cp1252"))
    picture = b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8"
    objects.append(picture + b" /Length 1 >>\nstream\n\x80\nendstream")
    kids = []
    for page in pages:
        content = b"".join(
            f"BT /F1 {size} Tf {left} {bottom} Td (".encode()
            + text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)").encode("cp1252")
            + b") Tj ET\n"
            for left, bottom, size, text in page
        )
        if turned:
            content = f"q {TURNED[turned]} cm\n".encode() + content + b"Q\n"
        if image:
            content += b"q 300 0 0 300 50 50 cm /Im Do Q\n"
        kids.append(len(objects) + 1)
        resources = "<< /Font << /F1 3 0 R >> /XObject << /Im 5 0 R >> >>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 420 595] /Rotate {rotate} /Contents {len(objects) + 2} 0 R "
            f"/Resources {resources} >>".encode()
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"endstream")
    kid_list = " ".join(f"{kid} 0 R" for kid in kids)
    objects[1] = f"<< /Type /Pages /Kids [{kid_list}] /Count {len(kids)} >>".encode()
    output = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(output))
        output += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = b"".join(f"{offset:010d} 00000 n \n".encode() for offset in offsets)
    count = len(objects) + 1
    return (
        output
        + f"xref\n0 {count}\n0000000000 65535 f \n".encode()
        + table
        + f"trailer\n<< /Size {count} /Root 1 0 R /Info 4 0 R >>\nstartxref\n{len(output)}\n%%EOF\n".encode()
    )


def paragraph(lines: Sequence[str], top: float = 500.0, size: float = 10.0, left: float = 40.0) -> list[TextLine]:
    """Return lines one under the other."""
    return [(left, top - 1.2 * size * number, size, line) for number, line in enumerate(lines)]


@pytest.fixture(scope="session", name="load_all")
def _load_all() -> Callable[..., object]:
    return load_all


@pytest.fixture(scope="session", name="load")
def _load() -> Callable[..., object]:
    return load_one


@pytest.fixture(scope="session", name="kinds")
def _kinds() -> Callable[..., object]:
    return kinds


@pytest.fixture(scope="session", name="word_file")
def _word_file() -> Callable[..., object]:
    return word_file


@pytest.fixture(scope="session", name="make_pdf")
def _make_pdf() -> Callable[..., object]:
    return make_pdf


@pytest.fixture(scope="session", name="paragraph")
def _paragraph() -> Callable[..., object]:
    return paragraph
