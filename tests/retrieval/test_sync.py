"""A folder mirrored: what has gone is removed, what only failed to be read is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from carrel.errors import DocumentNotFoundError, InputError
from carrel.library import Library
from carrel.retrieval import sync
from carrel.retrieval.indexes import base
from carrel.retrieval.loaders.text import TextLoader
from carrel.retrieval.progress import IngestProgress
from carrel.retrieval.store import schema
from carrel.testing import HashEncoder
from carrel.types import Document


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library", encoder=HashEncoder(16)) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    (path / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        (path / name).write_text(f"The lamp of {name} burns.")
    return path


def ids(library: Library) -> list[str]:
    return [info.id for info in library.documents()]


def test_new_changed_and_vanished_files(library: Library, folder: Path) -> None:
    assert len(library.sync(folder).added) == 3
    (folder / "a.txt").unlink()
    (folder / "b.txt").write_text("The rope of b.")
    (folder / "d.txt").write_text("The gull of d.")
    report = library.sync(folder)
    names = {
        field: [os.path.relpath(key, folder) for key in getattr(report, field)]
        for field in ("added", "updated", "removed")
    }
    assert names == {"added": ["d.txt"], "updated": ["b.txt"], "removed": ["a.txt"]}
    assert report.unchanged == (str(folder / "sub" / "c.txt"),)
    assert library.search("lamp", retriever="lexical")[0].document_id == str(folder / "sub" / "c.txt")
    with pytest.raises(DocumentNotFoundError):
        library.document(str(folder / "a.txt"))
    again = library.sync(folder)
    assert (again.added, again.updated, again.removed, len(again.unchanged)) == ((), (), (), 3)


def test_only_under_the_folder(library: Library, folder: Path, tmp_path: Path) -> None:
    beside = tmp_path / "files-too"
    beside.mkdir()
    (beside / "x.txt").write_text("beside")
    library.sync(folder)
    library.add([beside, Document("by hand", id="note"), Document("elsewhere", id="n2", source="/elsewhere/n2.txt")])
    (beside / "x.txt").unlink()
    (folder / "sub" / "c.txt").unlink()
    before = ids(library)
    assert library.sync(folder / "sub").removed == (str(folder / "sub" / "c.txt"),)
    assert set(before) - set(ids(library)) == {str(folder / "sub" / "c.txt")}
    assert library.sync(folder).removed == ()
    assert library.sync(beside).removed == (str(beside / "x.txt"),)
    assert ids(library) == [str(folder / "a.txt"), str(folder / "b.txt"), "n2", "note"]


def test_only_what_was_read_from_a_file_vanishes_with_it(library: Library, folder: Path) -> None:
    path = str(folder / "a.txt")
    library.sync(folder)
    by_hand = [
        Document("The rope of a file that never was.", id="note", source=str(folder / "x.txt")),
        Document("The gull of a scan.", id="scan", source=path, extractor="my-ocr/2"),
        Document("The crab, beside.", id=str(folder / "y.txt")),
    ]
    library.add(by_hand)
    kept = {document.id for document in by_hand}
    assert library.sync(folder).removed == ()
    Path(path).unlink()
    assert library.sync(folder, dry_run=True).removed == (path,)
    assert library.sync(folder).removed == (path,)
    assert kept < set(ids(library))
    shutil.rmtree(folder / "sub")
    (folder / "b.txt").unlink()
    library.sync(folder)
    assert set(ids(library)) == kept


def test_what_an_older_loader_read_vanishes_too(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.sync(folder)
    (folder / "a.txt").unlink()
    monkeypatch.setattr(TextLoader, "version", TextLoader.version + 1)
    report = library.sync(folder)
    assert (len(report.updated), report.removed) == (2, (str(folder / "a.txt"),))
    assert library.document(str(folder / "b.txt")).extractor == f"text/{TextLoader.version}"
    assert len(library.sync(folder).unchanged) == 2


def test_a_file_that_grew_over_the_limit_keeps_its_documents(library: Library, folder: Path) -> None:
    library.sync(folder)
    (folder / "a.txt").write_text("The rope. " * 200)
    report = library.sync(folder, max_file_mb=0.001)
    assert (len(report.skipped), report.removed, len(ids(library))) == (1, (), 3)
    assert library.sync(folder).updated == (str(folder / "a.txt"),)


def test_a_dry_run_removes_nothing(library: Library, folder: Path) -> None:
    library.sync(folder)
    (folder / "a.txt").unlink()
    (folder / "n.txt").write_text("new")
    planned = library.sync(folder, dry_run=True)
    assert planned.planned
    assert (planned.added, planned.removed) == ((str(folder / "n.txt"),), (str(folder / "a.txt"),))
    assert len(ids(library)) == 3
    done = library.sync(folder)
    assert (planned.added, planned.updated, planned.removed) == (done.added, done.updated, done.removed)


def test_a_file_that_cannot_be_read_this_time_keeps_its_documents(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.sync(folder)
    (folder / "b.txt").write_bytes(b"")
    read = Path.read_bytes

    def refused(self: Path) -> bytes:
        if self.name == "a.txt":
            raise PermissionError(13, "Permission denied")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refused)
    os.utime(folder / "a.txt", (1, 1))
    report = library.sync(folder)
    assert report.removed == ()
    assert sorted(os.path.basename(skipped.id) for skipped in report.skipped) == ["a.txt", "b.txt"]
    assert len(ids(library)) == 3
    assert library.document(str(folder / "b.txt")).text == "The lamp of b.txt burns."


def test_a_folder_that_cannot_be_read_this_time_keeps_its_documents(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.sync(folder)
    scan = os.scandir

    def refused(path):
        if os.path.basename(path) == "sub":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    report = library.sync(folder)
    assert report.removed == ()
    assert len(ids(library)) == 3
    assert "cannot be read" in report.skipped[0].reason


def test_what_is_now_ignored_is_removed(library: Library, folder: Path) -> None:
    library.sync(folder)
    (folder / ".carrelignore").write_text("sub/\n")
    assert library.sync(folder).removed == (str(folder / "sub" / "c.txt"),)


def test_an_emptied_folder_empties_its_part(library: Library, folder: Path) -> None:
    library.sync(folder)
    library.add_text("by hand", id="note")
    for path in ("a.txt", "b.txt", "sub/c.txt"):
        (folder / path).unlink()
    assert len(library.sync(folder).removed) == 3
    assert ids(library) == ["note"]
    with library._store.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.files)).scalar() == 0


def test_a_moved_file_is_embedded_no_second_time(library: Library, folder: Path) -> None:
    library.sync(folder)
    (folder / "a.txt").rename(folder / "sub" / "a.txt")
    report = library.sync(folder)
    assert (report.added, report.removed) == ((str(folder / "sub" / "a.txt"),), (str(folder / "a.txt"),))
    assert report.embedded == 0


def test_a_file_name_that_is_no_text_is_no_obstacle(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "named"
    folder.mkdir()
    name = os.fsdecode(b"gr\xf6sse.txt")
    try:
        (folder / name).write_text("the lamp")
    except OSError:
        pytest.skip("this file system takes only valid names")
    (folder / "z.txt").write_text("the rope")
    assert len(library.add(folder).added) == 2
    assert len(library.sync(folder).unchanged) == 2
    assert "udcf6" in library.search("lamp")[0].document_id
    (folder / name).unlink()
    assert len(library.sync(folder).removed) == 1


def test_a_file_or_nothing_is_no_folder(library: Library, folder: Path) -> None:
    for path in (folder / "a.txt", folder / "none"):
        with pytest.raises(InputError, match="is not a folder"):
            library.sync(path)


def test_removing_is_all_or_nothing(library: Library, folder: Path) -> None:
    library.sync(folder)
    with pytest.raises(DocumentNotFoundError, match="'none'"):
        library.remove([str(folder / "a.txt"), "none"])
    assert len(ids(library)) == 3
    assert library.remove(str(folder / "a.txt")) == (str(folder / "a.txt"),)
    assert library.remove([]) == ()
    assert len(ids(library)) == 2


# -- the log of changes -------------------------------------------------------------------------


def test_the_log_does_not_grow_forever(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_LOG_LENGTH", 10)
    with Library(library.path, encoder=HashEncoder(16)) as other:
        for number in range(30):
            library.add_text(f"The lamp {number}.", id="lamp")
            library.add_text(f"The rope {number}.", id=f"rope{number}")
            library.remove(f"rope{number}")
            if number in (3, 29):
                for each in (library, other):
                    assert [p.text for p in each.search("lamp rope", retriever="dense")] == [f"The lamp {number}."]
        with library._store.read() as connection:
            assert connection.execute(select(func.count()).select_from(schema.changes)).scalar_one() <= 10
        assert all(check.ok for check in library.doctor())


# -- purge --------------------------------------------------------------------------------------


def test_a_purge_needs_no_collection_of_its_own(library: Library) -> None:
    library.add_text("The zanzibarquux of the lamp.", id="a")
    library.remove("a")
    with Library(library.path, tenant="nobody", encoder=HashEncoder(16)) as other:
        other.purge()
        assert other._scope.id == 0
    assert b"zanzibarquux" not in b"".join(path.read_bytes() for path in library.path.iterdir())


def test_a_large_removal_is_several_transactions(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(f"word{n} lamp" for n in range(size)) for size in (1, 4000, 1, 1, 4000, 1)]
    library.add([Document(text, id=f"d{n}") for n, text in enumerate(texts)])
    sizes = {info.id: info.chunks for info in library.documents()}
    monkeypatch.setattr(sync, "CHUNKS_A_REMOVAL", max(sizes.values()) + 1)
    seen: list[tuple[int, int | None, list[str]]] = []

    def progress(at: IngestProgress) -> None:
        with Library(library.path, encoder=HashEncoder(16)) as other:  # another can write in between
            other.add_text("gull", id=f"other{len(seen)}")
            seen.append((at.documents_done, at.documents_total, ids(other)))

    assert library.remove([*sizes, "d1"], progress=progress) == tuple(sizes)
    assert [(done, total) for done, total, _ in seen] == [(2, 6), (4, 6), (6, 6)]
    assert seen[0][2] == ["d2", "d3", "d4", "d5", "other0"]
    assert ids(library) == ["other0", "other1", "other2"]
    assert library.search("lamp", retriever="lexical") == []
    assert all(check.ok for check in library.doctor())


def test_an_unknown_id_removes_nothing_however_many_there_are(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add([Document("the lamp", id=f"d{n}") for n in range(3)])
    monkeypatch.setattr(sync, "CHUNKS_A_REMOVAL", 1)
    with pytest.raises(DocumentNotFoundError):
        library.remove(["d0", "d1", "none"])
    assert len(ids(library)) == 3


def test_a_library_made_before_there_was_the_index_gets_it(library: Library) -> None:
    """Without it every removed chunk costs a look at every vector."""
    library.add([Document("the lamp", id=f"d{n}") for n in range(3)])
    with library._store.write() as connection:
        connection.exec_driver_sql("DROP INDEX vectors_by_chunk")
    library.remove("d1")
    with library._store.read() as connection:
        plan = connection.exec_driver_sql("EXPLAIN QUERY PLAN DELETE FROM vectors WHERE chunk_id >= 1 AND chunk_id < 9")
        assert "vectors_by_chunk" in str(plan.all())


def test_progress_is_a_function(library: Library, folder: Path) -> None:
    wrong: object = 3
    for call in (library.add, library.sync, library.remove):
        with pytest.raises(InputError, match="progress is a function"):
            call(folder if call != library.remove else [], progress=wrong)
    with pytest.raises(InputError, match="progress is a function"):
        library.reindex(progress=wrong)
    with pytest.raises(InputError, match="dry_run is True or False"):
        library.add(folder, dry_run="no")
