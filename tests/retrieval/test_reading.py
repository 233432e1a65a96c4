"""Reading one file: when it is not read at all, and what of it fails alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carrel.retrieval.loaders.json_records import JsonLinesLoader
from carrel.retrieval.loaders.text import TextLoader
from carrel.retrieval.reading import FileReading, read_file
from carrel.retrieval.store.files import FileRecord
from carrel.retrieval.walk import MAX_FILE_MB, FoundFile
from carrel.types import Document, Skipped

NO_MEMORY = "there is not enough memory for it. Split it, or add it on a machine that has more."


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "a.txt"
    made.write_text("The lamp burns.")
    os.utime(made, (1_700_000_000, 1_700_000_000))
    return made


def read(path: Path, known: FileRecord | None = None, max_file_mb: float = MAX_FILE_MB) -> FileReading:
    status = path.stat()
    return read_file(FoundFile(str(path), status.st_size, status.st_mtime), known, max_file_mb)


def reason(reading: FileReading, path: Path) -> str:
    """Why nothing came of a file."""
    assert (reading.record, reading.documents, reading.unchanged) == (None, [], False)
    assert reading.skipped[-1].id == str(path)
    return reading.skipped[-1].reason


def raising(error: BaseException) -> Callable[..., Iterator[Document]]:
    """A ``read`` that yields a document before it fails."""

    def fail(self: TextLoader, data: bytes, path: str) -> Iterator[Document]:
        yield self.document(path, "first")
        raise error

    return fail


def test_a_file_gives_its_documents_with_its_time_and_a_record(path: Path) -> None:
    reading = read(path)
    assert [(found.text, found.modified_at) for found in reading.documents] == [("The lamp burns.", 1_700_000_000)]
    assert (reading.skipped, reading.unchanged) == ([], False)
    assert reading.record is not None
    assert (reading.record.path, reading.record.size_bytes) == (str(path), 15)
    assert (reading.record.modified_at, reading.record.extractor) == (1_700_000_000, f"text/{TextLoader.version}")


def test_what_looks_as_it_did_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = read(path).record
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("the file was read again"))
    assert read(path, known) == FileReading(unchanged=True)


def test_what_was_touched_is_read_and_not_parsed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = read(path).record
    os.utime(path, (1_800_000_000, 1_800_000_000))
    monkeypatch.setattr(TextLoader, "read", lambda *_: pytest.fail("the file was parsed again"))
    reading = read(path, known)
    assert reading.unchanged and reading.documents == []
    assert reading.record is not None and reading.record.modified_at == 1_800_000_000


def test_another_version_of_the_loader_reads_it_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = read(path).record
    monkeypatch.setattr(TextLoader, "version", TextLoader.version + 1)
    assert len(read(path, known).documents) == 1


def test_a_large_file_is_not_read_unless_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"lamp " * 250_000)  # 1.25 MB
    for limit in (1.25, 2, float("inf")):
        assert len(read(path, max_file_mb=limit).documents) == 1
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("a file over the limit was read"))
    expected = "it has 1.3 MB, and a file may have 1. To take it, raise the limit: max_file_mb=2, or --max-file-mb 2"
    assert reason(read(path, max_file_mb=1), path) == expected


def test_a_large_file_that_is_in_stays_in(path: Path) -> None:
    known = read(path).record
    assert read(path, known, max_file_mb=1e-6) == FileReading(unchanged=True)


def test_the_usual_limit_is_met_before_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_MB * 1_000_000 + 1)  # a hole: no bytes on the disk
    assert reason(read(path), path).startswith("it has 256.1 MB, and a file may have 256.")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ImportError("no libfoo.so"), "a library for it is missing or broken (no libfoo.so). Install Carrel again"),
        (MemoryError(), NO_MEMORY),
        (KeyError("part"), "The file may be damaged"),
    ],
)
def test_a_loader_that_fails_costs_its_file_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    monkeypatch.setattr(TextLoader, "read", raising(error))
    found = reason(read(path), path)
    assert found.startswith(f"{path} cannot be read as text") and expected in found


@pytest.mark.parametrize(
    ("error", "expected"),
    [(MemoryError(), NO_MEMORY), (PermissionError(13, "Permission denied"), "Permission denied")],
)
def test_a_file_that_cannot_be_opened_or_held_costs_itself_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    def refused(self: Path) -> bytes:
        raise error

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert reason(read(path), path) == f"cannot be read: {expected}"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_no_failure_of_a_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setattr(TextLoader, "read", raising(error()))
    with pytest.raises(error):
        read(path)


def test_parts_that_cannot_be_read_are_named_also_when_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a"}\nbroken\n')
    reading = read(path)
    assert reading.record is not None
    assert (len(reading.documents), len(reading.skipped)) == (1, 1)

    def fail(self: TextLoader, data: bytes, path: str) -> Iterator[Skipped]:
        yield Skipped(f"{path}:1", "broken")
        raise MemoryError

    monkeypatch.setattr(JsonLinesLoader, "read", fail)
    reading = read(path)
    assert [skipped.id for skipped in reading.skipped] == [f"{path}:1", str(path)]
    assert NO_MEMORY in reason(reading, path)


@pytest.mark.parametrize(("name", "kind"), [("uv.lock", "a lock file"), ("lib.js", "minified code")])
def test_what_nobody_wrote_is_taken_only_when_named(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    path.write_text("var a=1;" * 1_000)

    def of_folder(known: FileRecord | None = None) -> FileReading:
        return read_file(FoundFile(str(path), 8_000, 0.0, named=False), known, MAX_FILE_MB)

    assert reason(of_folder(), path).startswith(kind)
    named = read(path)
    assert len(named.documents) == 1 and named.record is not None
    again = of_folder(named.record)  # what was named once is followed
    assert again.skipped == [] and again.record is not None


def test_bytes_that_are_no_text_are_told_of(path: Path) -> None:
    path.write_bytes("größe, ".encode() * 50 + b"\xff\xfe" + "größe, ".encode() * 50)
    (warning,) = read(path).warnings
    assert warning == f"{path}: 2 characters could not be read and show as \ufffd. Save the file as UTF-8."


@pytest.mark.parametrize("data", ["a \ufffd of its own".encode(), "a \ufffd of its own".encode("utf-16"), b"na\xefve"])
def test_a_replacement_character_of_the_file_is_no_warning(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert read(path).warnings == []
