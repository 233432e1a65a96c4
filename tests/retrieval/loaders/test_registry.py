"""Which loader reads what, and what holds for all of them."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import (
    DocumentError,
    EmptyDocumentError,
    EncryptedDocumentError,
    InputError,
    MissingDependencyError,
    UnsupportedFormatError,
)
from carrel.retrieval.loaders import LOADERS, Loader, is_current, load_bytes, load_file, loader_for, made_by_loader
from carrel.types import Document, Skipped

LoadAll = Callable[..., list[Document | Skipped]]
LIBRARY = Path(__file__).parents[3] / "examples" / "library"
EVERY = pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.name)
# What each loader is at home with, for the property tests to damage.
SEEDS: dict[str, Path | bytes] = {
    "code": LIBRARY / "tide_height.py",
    "csv": LIBRARY / "equipment.csv",
    "docx": LIBRARY / "minutes-2024-05-22.docx",
    "html": LIBRARY / "greyhorn-light.html",
    "json": LIBRARY / "incidents.jsonl",
    "jsonl": LIBRARY / "incidents.jsonl",
    "markdown": LIBRARY / "handbook" / "berthing.md",
    "notebook": b"""{"metadata": {"kernelspec": {"language": "python"}}, "nbformat": 4, "cells": [
 {"cell_type": "markdown", "source": ["# Tides\\n", "\\n", "- high\\n", "- low"]},
 {"cell_type": "code", "source": "height = 4.5\\nprint(height)", "outputs": [{"text": ["4.5"]}]}]}""",
    "pdf": LIBRARY / "annual-report-2023.pdf",
    "text": LIBRARY / "logs" / "duty-log-2024-02-09.txt",
}


def seed(name: str) -> bytes:
    found = SEEDS[name]
    return found if isinstance(found, bytes) else found.read_bytes()


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in names:
            target.writestr(name, "content")
    return buffer.getvalue()


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)


def test_names_and_suffixes_are_unique() -> None:
    suffixes = [suffix for loader in LOADERS for suffix in loader.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)
    assert [loader.name for loader in LOADERS] == sorted({loader.name for loader in LOADERS})
    assert all(loader.version >= 1 and "/" in loader.media_type for loader in LOADERS)
    assert set(SEEDS) == {loader.name for loader in LOADERS}


@EVERY
def test_every_suffix_in_any_case(loader: Loader) -> None:
    for suffix in loader.suffixes:
        assert loader_for(f"dir.x/Name{suffix.upper()}", b"some text") is loader


@pytest.mark.parametrize(
    ("path", "data", "name"),
    [
        ("README", b"Some words.", "text"),
        ("x.unknown", "naïve".encode("utf-16"), "text"),
        ("x.unknown", b"  <!DOCTYPE HTML><p>x", "html"),
        ("x", b"<?xml version='1.0'?>\n<html><p>x</p></html>", "html"),
        ("x", b'{"a": 1}', "json"),
        ("x", b'{"a": 1}\n{"a": 2}\n', "jsonl"),
        ("x", b"[1, 2]", "json"),
        ("x", b"{not json", "text"),
        ("x", b"[" * 100_000, "text"),
        ("x", b"%PDF-1.7 ...", "pdf"),
        ("x.txt", b"%PDF-1.7 ...", "pdf"),
        ("x", b"\n\n%PDF-1.7 ...", "pdf"),
        ("x", archive("word/document.xml"), "docx"),
        ("x.zip", archive("word/document.xml"), "docx"),
        ("x.docx", archive("other"), "docx"),
        ("x", b"<!doctype html><svg></svg>", "html"),
        ("x", b"<?xml version='1.0'?><note>How to write <svg></note>", "text"),
        ("x", b"BZh are the first letters of this note", "text"),
    ],
)
def test_loader_by_content(path: str, data: bytes, name: str) -> None:
    assert loader_for(path, data).name == name


@pytest.mark.parametrize(
    ("path", "data", "message"),
    [
        ("x.png", b"\x89PNG\r\n\x1a\n....", "an image"),
        ("x.jpg", b"\xff\xd8\xff\xe0\0\0", "an image"),
        ("prog", b"\x7fELF\x02\x01\0", "an executable"),
        ("x.gz", b"\x1f\x8b\x08\0", "archive"),
        ("x.bin", bytes(range(256)), "binary data"),
        ("x.rtf", rb"{\rtf1 text}", "RTF"),
        ("x.doc", OLE, "old binary Office format.*DOCX"),
        ("x.xlsx", archive("xl/workbook.xml"), "spreadsheet.*CSV"),
        ("x.pptx", archive("ppt/presentation.xml"), "presentation.*PDF"),
        ("x.zip", archive("a.txt"), "ZIP archive.*Unpack"),
        ("x.txt", archive("a.txt"), "ZIP archive"),
        ("carrel.db", b"SQLite format 3\0", "a database"),
        ("y.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>", "a drawing"),
        ("x.svg", b"<?xml version='1.0'?>\n<!-- by hand -->\n<!DOCTYPE svg PUBLIC '-//W3C'>\n<svg/>", "a drawing"),
        ("x.ps", b"%!PS-Adobe-3.0\n", "a PostScript file"),
    ],
)
def test_what_no_loader_reads(path: str, data: bytes, message: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=rf"^{path} .*{message}"):
        loader_for(path, data)


def test_an_office_file_with_a_password() -> None:
    with pytest.raises(EncryptedDocumentError, match=r"^x\.docx needs a password"):
        loader_for("x.docx", OLE + "EncryptedPackage".encode("utf-16-le"))


@EVERY
@pytest.mark.parametrize("data", [b"", b" \n\t", b"\n" * 1000])
def test_empty_files(loader: Loader, data: bytes) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^dir/x is empty"):
        list(loader.load(data, "dir/x"))


@EVERY
@pytest.mark.parametrize(
    "data",
    [b"\0", b"text\0text", bytes(range(256)) * 20, b"\xff\xfe\0", b"PK\x03\x04\0", b"\xef\xbb\xbf", b"\x80\x02}q\0."],
    ids=["nul", "nul in text", "all bytes", "half a character", "zip", "only a mark", "pickle"],
)
def test_bytes_that_nothing_reads(loader: Loader, data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"^dir/x .*\. [A-Z].*\.$"):  # where, what, and what to do
        list(loader.load(data, "dir/x"))


@EVERY
@given(data=st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_give_documents_or_a_document_error(loader: Loader, data: bytes, load_all: LoadAll) -> None:
    try:
        load_all(loader, data)
    except DocumentError:
        return


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    start = draw(st.integers(0, len(data)))
    length = draw(st.integers(0, 200) | st.just(len(data)))
    return data[:start] + draw(st.binary(max_size=20)) + data[start + length :]


@EVERY
@given(data=st.data())
def test_damaged_files_give_documents_or_a_document_error(
    loader: Loader, data: st.DataObject, load_all: LoadAll
) -> None:
    content = data.draw(damaged(seed(loader.name)))
    try:
        load_all(loader, content)
    except DocumentError:
        return


@EVERY
def test_the_same_bytes_give_the_same_documents(loader: Loader) -> None:
    if loader.name == "json":
        return
    data = seed(loader.name)
    assert list(loader.load(data, "x")) == list(loader.load(data, "x"))


def test_what_a_parser_raises_becomes_a_document_error() -> None:
    class Failing(Loader):
        name = "failing"
        suffixes = ()
        media_type = "x/y"

        def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
            yield self.document(path, "first")
            raise errors[data]

    errors: dict[bytes, BaseException] = {
        b"k": KeyError("part"),
        b"r": RecursionError(),
        b"m": MemoryError(),
        b"i": ImportError("no libfoo.so"),
        b"x": MissingDependencyError("foo", "files", "Reading this"),
        b"c": KeyboardInterrupt(),
    }

    for data in (b"k", b"r"):
        items = Failing().load(data, "x.y")
        assert isinstance(next(items), Document)
        with pytest.raises(DocumentError, match=r"^x\.y cannot be read as failing .*damaged") as caught:
            next(items)
        assert caught.value.__cause__ is not None
        assert "\"'part'\"" not in str(caught.value)
    advice = {  # these say something about the machine, not about the file
        b"m": "there is not enough memory for it. Split it, or add it on a machine that has more",
        b"i": "a library for it is missing or broken (no libfoo.so). Install Carrel again",
        b"x": "Reading this needs the package 'foo'. Install it with: pip install 'carrel[files]'",
    }
    for data, expected in advice.items():
        with pytest.raises(DocumentError, match=rf"^x\.y cannot be read as failing: {re.escape(expected)}"):
            list(Failing().load(data, "x.y"))
    with pytest.raises(KeyboardInterrupt):
        list(Failing().load(b"c", "x.y"))


def test_extractors_tell_what_a_loader_made() -> None:
    for loader in LOADERS:
        current = f"{loader.name}/{loader.version}"
        assert made_by_loader(current) and is_current(current)
        assert made_by_loader(f"{loader.name}/0") and not is_current(f"{loader.name}/0")
    for other in ("", "text", "my-ocr/2", "my/text/1", Document("by hand").extractor):
        assert not made_by_loader(other) and not is_current(other)


def test_load_file(tmp_path: Path) -> None:
    path = tmp_path / "note.md"
    path.write_bytes(b"# Note\r\n\r\nText.\r\n")
    os.utime(path, (1_700_000_000, 1_700_000_000.5))
    (document,) = load_file(path)
    assert isinstance(document, Document)
    assert (document.id, document.title, document.modified_at) == (str(path), "Note", 1_700_000_000.5)
    assert document.text == "# Note\n\nText.\n"


def test_load_file_passes_on_what_was_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a"}\nbroken\n')
    assert [type(item) for item in load_file(path)] == [Document, Skipped]


def test_load_bytes_reads_nothing_from_disk() -> None:
    (document,) = load_bytes(b"words", "no/such/file.txt")
    assert isinstance(document, Document)
    assert document.modified_at is None
    with pytest.raises(EmptyDocumentError):
        list(load_bytes(b"", "x.png"))


@pytest.mark.parametrize("name", ["missing.txt", "", "nul\0name", "."])
def test_files_that_cannot_be_opened(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        list(load_file(name))
    assert not isinstance(caught.value, DocumentError)


def test_importing_the_loaders_imports_no_parser() -> None:
    heavy = ("lxml", "docx", "pypdfium2", "charset_normalizer", "pathspec", "markdown_it", "numpy")
    script = (
        f"import sys, carrel.retrieval.loaders, carrel.retrieval.walk; print([m for m in {heavy} if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.strip() == "[]"
