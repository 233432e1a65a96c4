"""From a file to its documents: what looks as it did is not read, and no file stops the others."""

from __future__ import annotations

import codecs
import hashlib
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from carrel.errors import DocumentError
from carrel.retrieval.loaders import is_current, load_bytes, loader_for
from carrel.retrieval.loaders.base import TOO_LITTLE_MEMORY
from carrel.retrieval.store.files import FileRecord
from carrel.retrieval.unwanted import unwanted_content, unwanted_name
from carrel.retrieval.walk import FoundFile
from carrel.types import Document, Skipped

_BYTES_A_MB = 1_000_000
_NOT_TEXT = ("pdf", "docx")  # what is no character in them was none before


@dataclass(slots=True)
class FileReading:
    """What a file gave: nothing new when ``unchanged``, else its documents, and what of it could not be read.

    ``warnings`` are of what was read all the same. ``record`` is what there is to remember of the file, None when
    nothing is.
    """

    record: FileRecord | None = None
    documents: list[Document] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unchanged: bool = False


def read_file(file: FoundFile, known: FileRecord | None, max_file_mb: float) -> FileReading:
    """Read a file, unless it is as ``known`` says or has more than ``max_file_mb``. Whatever fails is a Skipped."""
    if known and _looks_the_same(file, known):
        return FileReading(unchanged=True)
    path = storable_path(file.path)
    reading = FileReading()
    try:
        wanted = file.named or known is not None  # named now, or once
        if not wanted:
            _refuse(unwanted_name(os.path.basename(path)))
        _refuse_large(file, max_file_mb)
        data = Path(file.path).read_bytes()
        if not wanted:
            _refuse(unwanted_content(path, data))
        _read(file, path, data, known, reading)
    except DocumentError as error:
        reason = str(error)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    except MemoryError:  # of the bytes themselves; a loader names its own
        reason = f"cannot be read: {TOO_LITTLE_MEMORY}"
    else:
        return reading
    return FileReading(skipped=[*reading.skipped, Skipped(path, reason)])


def storable_path(path: str) -> str:
    """A path as loaders name it: the name of a file may be no valid text."""
    return path.encode("utf-8", "backslashreplace").decode()


def _looks_the_same(file: FoundFile, known: FileRecord) -> bool:
    same = (known.size_bytes, known.modified_at) == (file.size_bytes, file.modified_at)
    return same and is_current(known.extractor)


def _refuse(reason: str) -> None:
    if reason:
        raise DocumentError(reason)


def _refuse_large(file: FoundFile, max_file_mb: float) -> None:
    if file.size_bytes > max_file_mb * _BYTES_A_MB:
        size = math.ceil(10 * file.size_bytes / _BYTES_A_MB) / 10
        needed = math.ceil(file.size_bytes / _BYTES_A_MB)
        raise DocumentError(
            f"it has {size:,.1f} MB, and a file may have {max_file_mb:,g}."
            f" To take it, raise the limit: max_file_mb={needed}, or --max-file-mb {needed}"
        )


def _read(file: FoundFile, path: str, data: bytes, known: FileRecord | None, reading: FileReading) -> None:
    content_hash = hashlib.blake2b(data, digest_size=16).hexdigest()
    loader = loader_for(path, data)
    extractor = f"{loader.name}/{loader.version}"
    reading.record = FileRecord(path, file.size_bytes, file.modified_at, content_hash, extractor)
    if known and known.content_hash == content_hash and known.extractor == extractor:
        reading.unchanged = True
        return
    for item in load_bytes(data, path):
        if isinstance(item, Skipped):
            reading.skipped.append(item)
        else:
            reading.documents.append(replace(item, modified_at=item.modified_at or file.modified_at))
    if loader.name not in _NOT_TEXT and (stray := _stray(data, reading.documents)):
        what = "character could" if stray == 1 else "characters could"
        reading.warnings.append(f"{path}: {stray:,} {what} not be read and show as \ufffd. Save the file as UTF-8.")


def _stray(data: bytes, documents: list[Document]) -> int:
    """How many replacement characters stand for bytes that are no text."""
    found = sum(document.text.count("\ufffd") for document in documents)
    if not found or data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # they stood in the file
        return 0
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return found
    return 0
