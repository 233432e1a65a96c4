from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable

import docx
import pytest
from docx.document import Document as WordDocument
from docx.oxml import parse_xml

from carrel.errors import DocumentError, EmptyDocumentError
from carrel.retrieval.loaders import docx as docx_loader
from carrel.retrieval.loaders.docx import DocxLoader
from carrel.types import Document

Load = Callable[..., Document]
Kinds = Callable[[Document], list[tuple[str, str]]]
WordFile = Callable[[Callable[[WordDocument], object]], bytes]
NAMESPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def fill(word: WordDocument) -> None:
    word.core_properties.title = "Minutes"
    word.core_properties.author = "Oona"
    word.add_heading("The board", level=0)
    word.add_paragraph("Present: all.\nClosed at six.")
    word.add_heading("Decisions", level=2)
    word.add_paragraph("first", style="List Bullet")
    word.add_paragraph("second", style="List Number")
    word.add_paragraph("Table 1. Offers")
    table = word.add_table(rows=2, cols=3)
    for cell, text in zip(table._cells, ["Firm", "Price", "Date", "F & B", "94\n500", "May"], strict=True):
        cell.text = text
    merged = table.add_row().cells
    merged[0].merge(merged[1]).text = "both"
    word.add_paragraph("")
    word.add_paragraph("After.")


def test_blocks_in_order(load: Load, kinds: Kinds, word_file: WordFile) -> None:
    document = load(DocxLoader(), word_file(fill))
    assert kinds(document) == [
        ("heading", "The board"),
        ("paragraph", "Present: all.\nClosed at six."),
        ("heading", "Decisions"),
        ("list", "- first\n- second"),
        ("paragraph", "Table 1. Offers"),
        ("table", "Firm | Price | Date\nF & B | 94 500 | May\nboth |"),
        ("paragraph", "After."),
    ]
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 2]
    table = next(block for block in document.blocks if block.kind == "table")
    assert (table.header, table.joined) == ("Firm | Price | Date", True)
    assert (document.title, document.metadata) == ("Minutes", {"author": "Oona"})


def test_title_falls_back_to_the_first_heading(load: Load, word_file: WordFile) -> None:
    assert load(DocxLoader(), word_file(lambda word: word.add_heading("Log", 1))).title == "Log"


def test_tracked_changes_controls_and_links(load: Load, word_file: WordFile) -> None:
    def write(word: WordDocument) -> None:
        body = word.element.body
        body.insert(0, parse_xml(
            f"<w:p {NAMESPACE}><w:r><w:t>kept </w:t></w:r><w:del><w:r><w:br/><w:delText>gone</w:delText></w:r></w:del>"
            "<w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:hyperlink><w:r><w:tab/><w:t>link</w:t></w:r></w:hyperlink></w:p>"
        ))  # fmt: skip
        body.insert(1, parse_xml(
            f"<w:sdt {NAMESPACE}><w:sdtContent><w:p><w:r><w:t>in a control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        ))  # fmt: skip

    assert load(DocxLoader(), word_file(write)).text == "kept new\tlink\n\nin a control"


def test_a_nested_table_is_read_once(load: Load, word_file: WordFile) -> None:
    def write(word: WordDocument) -> None:
        cell = word.add_table(rows=1, cols=1).cell(0, 0)
        cell.text = "outer"
        cell.add_table(rows=1, cols=1).cell(0, 0).text = "inner"

    assert load(DocxLoader(), word_file(write)).text == "outer\ninner"


def test_no_text(word_file: WordFile) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^a\.docx holds no text"):
        list(DocxLoader().load(word_file(lambda word: word.add_paragraph(" ")), "a.docx"))


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in files.items():
            target.writestr(name, text)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04 and then nothing", "not a whole DOCX file.*cut off"),
        (b"plain text", "not a whole DOCX file"),
        (archive(a="b"), r"not a whole DOCX file: \[Content_Types\]\.xml is missing in it\. It may"),
        (archive(**{"[Content_Types].xml": "<Types", "_rels/.rels": ""}), "cannot be read as docx .*damaged"),
    ],
)
def test_what_is_no_word_file(data: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=rf"(?s)^a\.docx .*{message}"):
        list(DocxLoader().load(data, "a.docx"))


@pytest.mark.parametrize("part", ["[Content_Types].xml", "_rels/.rels", "word/document.xml"])
def test_a_missing_part_is_named(word_file: WordFile, part: str) -> None:
    whole = zipfile.ZipFile(io.BytesIO(word_file(lambda word: word.add_paragraph("text"))))
    others = {name: whole.read(name).decode("latin-1") for name in whole.namelist() if name != part}
    with pytest.raises(DocumentError) as caught:
        list(DocxLoader().load(archive(**others), "a.docx"))
    assert part in str(caught.value) and "KeyError" not in str(caught.value)


def test_every_truncation_is_a_document_error(word_file: WordFile) -> None:
    data = word_file(fill)
    for size in range(1, len(data), len(data) // 40):
        with pytest.raises(DocumentError):
            list(DocxLoader().load(data[:size], "a.docx"))


def test_damage_inside_is_a_document_error_or_read(word_file: WordFile) -> None:
    data = word_file(fill)
    for position in range(0, len(data), len(data) // 60):
        damaged = data[:position] + b"\xff\x00\xff" + data[position + 3 :]
        with contextlib.suppress(DocumentError):
            list(DocxLoader().load(damaged, "a.docx"))


def test_a_zip_bomb_is_not_unpacked(word_file: WordFile, monkeypatch: pytest.MonkeyPatch) -> None:
    data = word_file(lambda word: word.add_paragraph("x" * 100_000))
    assert len(list(DocxLoader().load(data, "a.docx"))) == 1
    monkeypatch.setattr(docx_loader, "_MAX_BYTES", 100_000)
    monkeypatch.setattr(docx, "Document", None)
    with pytest.raises(DocumentError, match="unpacks to"):
        list(DocxLoader().load(data, "a.docx"))


def test_an_external_entity_is_not_read(word_file: WordFile) -> None:
    with zipfile.ZipFile(io.BytesIO(word_file(fill))) as source:
        files = {entry.filename: source.read(entry).decode("utf-8", "replace") for entry in source.infolist()}
    declaration = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    body = files["word/document.xml"]
    start = body.index("<w:document")
    files["word/document.xml"] = body[:start] + declaration + body[start:].replace("After.", "After &f; it")
    (document,) = DocxLoader().load(archive(**files), "a.docx")
    assert isinstance(document, Document)
    assert "root:" not in document.text
