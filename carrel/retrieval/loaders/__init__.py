"""Files to documents. Importing this package imports no parser; each loader imports its own when it reads.

>>> from carrel.retrieval.loaders import load_file
>>> for item in load_file("handbook/berthing.md"):
...     ...  # a Document, or a Skipped with the reason
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath

from carrel.errors import EmptyDocumentError, EncryptedDocumentError, InputError, UnsupportedFormatError
from carrel.retrieval.loaders.base import Loader
from carrel.retrieval.loaders.code import CodeLoader
from carrel.retrieval.loaders.decoding import is_binary
from carrel.retrieval.loaders.docx import DocxLoader
from carrel.retrieval.loaders.html import HtmlLoader
from carrel.retrieval.loaders.json_records import JsonLinesLoader, JsonLoader
from carrel.retrieval.loaders.markdown import MarkdownLoader
from carrel.retrieval.loaders.notebook import NotebookLoader
from carrel.retrieval.loaders.pdf import PdfLoader
from carrel.retrieval.loaders.tabular import CsvLoader
from carrel.retrieval.loaders.text import TextLoader
from carrel.types import Document, Skipped

__all__ = ["LOADERS", "Loader", "is_current", "load_bytes", "load_file", "loader_for", "made_by_loader"]

LOADERS: list[Loader] = [
    CodeLoader(),
    CsvLoader(),
    DocxLoader(),
    HtmlLoader(),
    JsonLoader(),
    JsonLinesLoader(),
    MarkdownLoader(),
    NotebookLoader(),
    PdfLoader(),
    TextLoader(),
]
_BY_SUFFIX = {suffix: loader for loader in LOADERS for suffix in loader.suffixes}
_BY_NAME = {loader.name: loader for loader in LOADERS}
_HEAD_BYTES = 1024
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_OFFICE = "EncryptedPackage".encode("utf-16-le")
_SVG = re.compile(rb"(?:\s|<\?xml[^>]*>|<!--.*?-->)*<(?:!doctype )?svg\b", re.DOTALL)
_SIGNATURES = (
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"II*\0", "an image"),
    (b"MM\0*", "an image"),
    (b"\x7fELF", "an executable"),
    (b"MZ", "an executable"),
    (b"\xcf\xfa\xed\xfe", "an executable"),
    (b"\x1f\x8b", "a compressed archive"),
    (b"7z\xbc\xaf", "a compressed archive"),
    (b"Rar!", "a compressed archive"),
    (b"BZh", "a compressed archive"),
    (b"\xfd7zXZ", "a compressed archive"),
    (b"SQLite format 3", "a database"),
    (b"OggS", "sound"),
    (b"ID3", "sound"),
    (b"%!PS", "a PostScript file"),
)
_OFFICE_PARTS = (
    (b"xl/workbook", "a spreadsheet: save each sheet as CSV"),
    (b"ppt/presentation", "a presentation: export it as PDF"),
    (b"application/epub", "an EPUB book: convert it to HTML or Markdown"),
    (b"opendocument", "an OpenDocument file: save it as DOCX or PDF"),
)


def loader_for(path: str, data: bytes) -> Loader:
    """Return the loader for a file: by its suffix, and without a known one by its content.

    A PDF or Word file is recognised under any name. Raises UnsupportedFormatError when nothing reads it,
    EncryptedDocumentError for an Office file with a password.
    """
    known = _BY_SUFFIX.get(PurePath(path).suffix.lower())
    if data.startswith(b"%PDF-") or (known is None and b"%PDF-" in data[:_HEAD_BYTES]):
        return _BY_NAME["pdf"]
    if data.startswith(_OLE):
        raise _legacy_office_error(path, data)
    if data.startswith(b"PK\x03\x04"):
        if b"word/document.xml" in data or known is _BY_NAME["docx"]:
            return _BY_NAME["docx"]
        raise _archive_error(path, data)
    if known is not None:
        return known
    return _by_content(path, data)


def load_bytes(data: bytes, path: str) -> Iterator[Document | Skipped]:
    """Yield the documents in ``data``, which came from ``path`` (a name: nothing is read from it)."""
    if not data.strip():
        raise EmptyDocumentError(f"{path} is empty. Nothing was added from it.")
    yield from loader_for(path, data).load(data, path)


def load_file(path: str | os.PathLike[str]) -> Iterator[Document | Skipped]:
    """Yield the documents in a file. Raises InputError when it cannot be opened, DocumentError when not read."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            modified_at = os.fstat(file.fileno()).st_mtime
            data = file.read()
    except FileNotFoundError:
        raise InputError(f"There is no file {name}. Check the name.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name} cannot be opened: {reason}.") from None
    for item in load_bytes(data, name):
        yield replace(item, modified_at=modified_at) if isinstance(item, Document) else item


def made_by_loader(extractor: str) -> bool:
    """Whether a document's text was read from a file: its extractor is a loader, of this version or another."""
    return extractor.rpartition("/")[0] in _BY_NAME


def is_current(extractor: str) -> bool:
    """Whether the loader that read a file is still the one that would."""
    return any(f"{loader.name}/{loader.version}" == extractor for loader in LOADERS)


def _by_content(path: str, data: bytes) -> Loader:
    for signature, kind in _SIGNATURES:
        if data.startswith(signature) and (len(signature) > 3 or is_binary(data)):
            raise UnsupportedFormatError(f"{path} is {kind}, which no loader reads. Leave it out.")
    if data.startswith(b"{\\rtf"):
        raise UnsupportedFormatError(f"{path} is an RTF file, which no loader reads. Save it as DOCX or PDF.")
    if is_binary(data):
        raise UnsupportedFormatError(
            f"{path} holds binary data of a kind that no loader reads. Convert it to text, PDF, DOCX or HTML first."
        )
    head = data[:_HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if _SVG.match(head):
        raise UnsupportedFormatError(f"{path} is a drawing (SVG), which no loader reads. Leave it out.")
    if head.startswith((b"<!doctype html", b"<html")) or (head.startswith(b"<?xml") and b"<html" in head):
        return _BY_NAME["html"]
    if head.startswith((b"{", b"[")) and (name := _json_kind(data)):
        return _BY_NAME[name]
    return _BY_NAME["text"]


def _json_kind(data: bytes) -> str:
    import json

    first, _, rest = data.strip().partition(b"\n")
    for name, text in (("jsonl", first if rest.strip().startswith((b"{", b"[")) else b""), ("json", data)):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            continue
        return name
    return ""


def _legacy_office_error(path: str, data: bytes) -> EncryptedDocumentError | UnsupportedFormatError:
    if _ENCRYPTED_OFFICE in data:
        return EncryptedDocumentError(f"{path} needs a password. Save a copy without one and add that.")
    return UnsupportedFormatError(f"{path} is in the old binary Office format. Save it as DOCX or PDF.")


def _archive_error(path: str, data: bytes) -> UnsupportedFormatError:
    for part, advice in _OFFICE_PARTS:
        if part in data:
            return UnsupportedFormatError(f"{path} is {advice}, and add that.")
    return UnsupportedFormatError(f"{path} is a ZIP archive, which no loader reads. Unpack it and add its files.")
