"""What is remembered of files, and how the times of their documents follow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.library import Library
from carrel.retrieval.store import files
from carrel.retrieval.store.files import FileRecord
from carrel.testing import HashEncoder
from carrel.types import Document

RECORD = FileRecord("/folder/a.txt", 3, 1.5, "hash", "text/1")
OLD, NEW = 1_600_000_000.0, 1_700_000_000.25


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library", encoder=HashEncoder(16), mode="fast") as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "a.txt"
    made.write_text("The lamp burns.")
    os.utime(made, (OLD, OLD))
    return made


def times(library: Library) -> dict[str, float | None]:
    return {os.path.basename(info.id): info.modified_at for info in library.documents()}


def test_a_file_is_remembered_as_it_was_last_read_and_forgotten(library: Library) -> None:
    scope = library._made()
    other = replace(scope, id=scope.id + 1)
    newer = replace(RECORD, size_bytes=4, modified_at=2.5)
    with library._store.write() as connection:
        assert files.recorded(connection, scope, RECORD.path) is None
        for record in (RECORD, newer):
            files.record(connection, scope, record)
            assert files.recorded(connection, scope, RECORD.path) == record
        assert files.recorded(connection, other, RECORD.path) is None
        files.forget(connection, other, [RECORD.path])
        assert files.recorded(connection, scope, RECORD.path) == newer
        files.forget(connection, scope, [RECORD.path, "/folder/none.txt"])
        assert files.recorded(connection, scope, RECORD.path) is None


def test_the_documents_of_a_touched_file_follow_its_time(
    library: Library, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(path)
    encoder = library.encoder
    assert isinstance(encoder, HashEncoder)
    before = encoder.texts_encoded
    os.utime(path, (NEW, NEW))
    assert library.add(path, dry_run=True).unchanged == (str(path),)
    assert times(library) == {"a.txt": OLD}
    report = library.add(path)
    assert (report.unchanged, report.updated, report.embedded) == ((str(path),), (), 0)
    assert times(library) == {"a.txt": NEW}
    assert encoder.texts_encoded == before
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("the file was read again"))
    assert library.add(path).unchanged == (str(path),)
    assert all(check.ok for check in library.doctor())


def test_recency_reads_the_time_that_followed(library: Library, path: Path) -> None:
    library.add([path, Document("The lamp burns.", id="b", modified_at=OLD + 1)])
    assert library.search("lamp", recency=1)[0].document_id == "b"
    os.utime(path, (NEW, NEW))
    library.sync(path.parent)
    assert library.search("lamp", recency=1)[0].document_id == str(path)


def test_documents_follow_also_when_others_of_their_file_change(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": "a", "text": "lamp"}\n{"id": "b", "text": "rope"}\n')
    os.utime(path, (OLD, OLD))
    library.add(path)
    path.write_text('{"id": "a", "text": "lamp"}\n{"id": "b", "text": "gull"}\n')
    os.utime(path, (NEW, NEW))
    assert len(library.add(path).unchanged) == 1
    assert times(library) == {"r.jsonl#a": NEW, "r.jsonl#b": NEW}


def test_a_document_with_a_time_or_a_text_of_its_own_keeps_its_time(library: Library, path: Path) -> None:
    library.add(path)
    by_hand = Document("An excerpt.", id="excerpt", source=str(path), modified_at=OLD)
    library.add([by_hand, replace(by_hand, id="undated", modified_at=None)])
    library.add(replace(library.document(str(path)), metadata={"checked": True}, modified_at=12.5))
    os.utime(path, (NEW, NEW))
    library.add(path)
    assert times(library) == {"a.txt": 12.5, "excerpt": OLD, "undated": None}
    assert library.document(str(path)).metadata == {"checked": True}


def test_collections_follow_on_their_own(tmp_path: Path, path: Path) -> None:
    for collection in ("x", "y"):
        with Library(tmp_path / "library", encoder=HashEncoder(16), collection=collection) as library:
            library.add(path)
    os.utime(path, (NEW, NEW))
    for collection, expected in (("x", NEW), ("y", OLD)):
        with Library(tmp_path / "library", encoder=HashEncoder(16), collection=collection) as library:
            if collection == "x":
                library.add(path)
            assert times(library) == {"a.txt": expected}
