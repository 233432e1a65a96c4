"""What can be wrong with a library on disk: each has its error, which says what, where and what to do."""

from __future__ import annotations

import ast
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import carrel
from carrel.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreVersionError,
)
from carrel.library import Library
from carrel.retrieval.ingest import Ingest
from carrel.retrieval.store import Store, schema
from carrel.retrieval.sync import remove
from carrel.testing import HashEncoder
from carrel.types import Document

TEXT = "The lamp burns all night.\n\n" + "\n\n".join(f"Rope number {n} is kept dry in the loft." for n in range(60))


def library(folder: Path, **options) -> Library:
    return Library(folder, encoder=HashEncoder(), **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with library(tmp_path / "library") as made:
        made.add(Document(TEXT, id="a"))
    return tmp_path / "library"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_newer_version_is_refused_and_left_alone(folder: Path) -> None:
    with sqlite3.connect(folder / "carrel.db") as raw:
        raw.execute("UPDATE meta SET value = '2' WHERE key = 'schema_version'")
    raw.close()
    before = snapshot(folder)
    for options in ({}, {"read_only": True}):
        with pytest.raises(
            StoreVersionError, match=r"carrel\.db was written by a newer Carrel.*schema 2.*pip install --upgrade"
        ):
            library(folder, **options)
    assert snapshot(folder)["carrel.db"] == before["carrel.db"]


def test_a_version_that_is_no_number_is_damage(folder: Path) -> None:
    with sqlite3.connect(folder / "carrel.db") as raw:
        raw.execute("UPDATE meta SET value = 'two' WHERE key = 'schema_version'")
    raw.close()
    with pytest.raises(StoreCorruptError, match="two"):
        library(folder)


def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    data = b"Not a database, but somebody's only copy of a text.\n" * 200
    (tmp_path / "carrel.db").write_bytes(data)
    for options in ({}, {"read_only": True}):
        with pytest.raises(StoreCorruptError, match=r"carrel\.db is damaged.*Restore a copy"):
            library(tmp_path, **options)
    assert (tmp_path / "carrel.db").read_bytes() == data


@pytest.mark.parametrize("share", [0.001, 0.02, 0.1, 0.3, 0.5, 0.75, 0.9, 0.99])
def test_a_truncated_database_is_noticed_and_never_taken_for_an_empty_one(folder: Path, share: float) -> None:
    path = folder / "carrel.db"
    data = path.read_bytes()
    path.write_bytes(data[: max(1, int(len(data) * share))])
    try:
        with library(folder) as opened:
            assert opened.document("a").text == TEXT  # what can still be read must be right
            assert opened.search("lamp")[0].document_id == "a"
            bad = [check for check in opened.doctor() if not check.ok]
        assert bad and all(check.remedy for check in bad)
    except StoreError as error:
        assert str(path) in str(error)  # noqa: PT017 -- either will do


@pytest.mark.parametrize("seed", range(6))
def test_overwritten_pages_never_end_in_a_foreign_error(folder: Path, seed: int) -> None:
    path = folder / "carrel.db"
    data = bytearray(path.read_bytes())
    start = 4096 * (seed * len(data) // 4096 // 6)
    data[start + 100 : start + 4096] = bytes(3996)
    path.write_bytes(bytes(data))
    try:
        with library(folder) as opened:
            opened.search("lamp rope")
            opened.documents()
            opened.doctor()
    except StoreError as error:
        assert str(path) in str(error)  # noqa: PT017 -- not every damage is met


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "library").write_text("a file")
    with pytest.raises(StoreError, match=r"is a file, but a library is a folder\. Name another place"):
        library(tmp_path / "library")
    with pytest.raises(StoreError, match="cannot make the folder"):
        library(tmp_path / "library" / "inner")
    assert (tmp_path / "library").read_text() == "a file"


def test_a_folder_in_place_of_the_database(tmp_path: Path) -> None:
    (tmp_path / "carrel.db").mkdir()
    with pytest.raises(StoreError, match=r"cannot open .*carrel\.db"):
        library(tmp_path)


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_a_missing_library_is_not_made_unasked(tmp_path: Path, options: dict[str, bool]) -> None:
    with pytest.raises(StoreNotFoundError, match="there is no library at .*carrel add"):
        library(tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


def test_an_odd_name_is_a_name(tmp_path: Path) -> None:
    odd = tmp_path / "a?mode=memory#x %41 é\\"
    with library(odd) as made:
        made.add(Document("the lamp", id="a"))
    assert (odd / "carrel.db").is_file()
    with library(odd, read_only=True) as opened:
        assert opened.search("lamp")


def test_read_only_reads_and_refuses_every_change(folder: Path) -> None:
    before = (folder / "carrel.db").read_bytes()
    with library(folder, read_only=True) as opened:
        assert opened.search("lamp")[0].text.startswith("The lamp")
        assert opened.add(Document("new", id="b"), dry_run=True).added == ("b",)
        changes = [
            lambda: opened.add(Document("new", id="b")),
            lambda: opened.remove("a"),
            opened.purge,
            opened.reindex,
            lambda: opened.doctor(repair=True),
        ]
        for change in changes:
            with pytest.raises(StoreReadOnlyError, match="opened read-only"):
                change()
        assert all(check.ok for check in opened.doctor())
    with library(folder, read_only=True, collection="other") as other:
        assert other.search("lamp") == []
        assert other.documents() == []
    assert (folder / "carrel.db").read_bytes() == before


def test_a_medium_that_nobody_can_write_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only file system: there is no log beside the database, and none can be made."""
    for name in ("carrel.db-wal", "carrel.db-shm"):
        assert not (folder / name).exists()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with library(folder, read_only=True) as opened:
        assert opened._store._uri().endswith("immutable=1")
        assert opened.search("lamp")
    assert sorted(path.name for path in folder.iterdir()) == ["carrel.db"]


def test_a_database_that_refuses_writes_says_so(folder: Path) -> None:
    """As with a file whose permissions forbid it: SQLite itself refuses."""
    store = Store(folder)
    encoder = HashEncoder()
    scope = store.scope("local", "default", create=False)
    assert scope
    store.engine.dispose()
    store._uri = lambda: f"{store.path.resolve().as_uri()}?mode=ro"  # type: ignore[method-assign]
    with pytest.raises(StoreReadOnlyError, match=r"cannot be written to.*permissions"):
        Ingest(store, scope, encoder).run(Document("new", id="b"))
    store.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process in the middle of a write."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == b"locked\n"
        yield
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def test_while_another_process_writes(folder: Path) -> None:
    store, encoder = Store(folder, busy_timeout_s=0.2), HashEncoder()
    scope = store.scope("local", "default", create=False)
    assert scope
    with locked(folder / "carrel.db"):
        started = time.perf_counter()
        with pytest.raises(StoreBusyError, match=r"another process is writing to .*carrel\.db.*try again"):
            Ingest(store, scope, encoder).run(Document("new", id="b"))
        assert 0.15 < time.perf_counter() - started < 5
        with pytest.raises(StoreBusyError):
            remove(store, scope, ["a"])
        with pytest.raises(StoreBusyError):
            store.erase_freed_pages()
        with library(folder) as reader:  # readers do not wait
            assert reader.search("lamp")
            assert [info.id for info in reader.documents()] == ["a"]
    assert Ingest(store, scope, encoder).run(Document("new", id="b")).added == ("b",)
    assert remove(store, scope, ["a"]) == ("a",)
    store.close()


def test_a_writer_waits_for_another(folder: Path) -> None:
    store, encoder = Store(folder, busy_timeout_s=10), HashEncoder()
    scope = store.scope("local", "default", create=False)
    assert scope
    with locked(folder / "carrel.db"):
        done: list[tuple[str, ...]] = []
        writer = threading.Thread(
            target=lambda: done.append(Ingest(store, scope, encoder).run(Document("n", id="b")).added)
        )
        writer.start()
        time.sleep(0.3)
        assert not done
    writer.join(10)
    assert done == [("b",)]
    store.close()


def test_another_databases_tables_are_no_library(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "carrel.db") as raw:
        raw.execute("CREATE TABLE meta (a, b)")
        raw.execute("INSERT INTO meta VALUES (1, 2)")
    raw.close()
    with pytest.raises(StoreError, match=r"carrel\.db"):
        library(tmp_path)


def test_read_only_an_empty_database_is_no_library(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "carrel.db").execute("CREATE TABLE t (a)").connection.close()
    with pytest.raises(StoreCorruptError, match="holds no library"):
        library(tmp_path, read_only=True)


@pytest.mark.parametrize(
    ("message", "error", "advice"),
    [
        ("database or disk is full", StoreError, "Free some"),
        ("attempt to write a readonly database", StoreReadOnlyError, "permissions"),
        ("database is locked", StoreBusyError, "try again"),
        ("database disk image is malformed", StoreCorruptError, "Restore a copy"),
        ("unable to open database file", StoreError, "can be written to"),
        ("something new", StoreError, "something new"),
    ],
)
def test_errors_of_the_database_say_what_to_do(
    folder: Path, message: str, error: type[StoreError], advice: str
) -> None:
    store = Store(folder)
    with pytest.raises(error, match=advice) as caught, store.write():
        raise sqlite3.OperationalError(message)
    assert type(caught.value) is error
    assert str(folder) in str(caught.value)
    store.close()


def test_many_open_a_new_library_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from carrel.library import Library; from carrel.testing import HashEncoder\n"
        "from carrel.types import Document\n"
        "sys.stdin.readline()\n"
        "with Library(Path(sys.argv[1]), encoder=HashEncoder()) as library:\n"
        "    library.add(Document('the lamp', id=sys.argv[2]))\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "new"), str(n)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for n in range(4)
    ]
    for process in started:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    with library(tmp_path / "new") as opened:
        assert [info.id for info in opened.documents()] == ["0", "1", "2", "3"]
        assert all(check.ok for check in opened.doctor())


def test_threads_open_a_new_library_at_once(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    barrier = threading.Barrier(6)

    def work(number: int) -> None:
        barrier.wait()
        try:
            with library(tmp_path / "new") as opened:
                opened.add(Document("the lamp", id=str(number)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with library(tmp_path / "new") as opened:
        assert len(opened.documents()) == 6


# -- nothing is ever unpickled --------------------------------------------------------------------

_UNPICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def _sources() -> list[Path]:
    return sorted(Path(carrel.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", _sources(), ids=lambda path: path.stem)
def test_nothing_is_ever_unpickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if call in ("np.load", "numpy.load"):
                assert options.get("allow_pickle") == "False", f"{path}:{node.lineno}"
            if call == "torch.load":
                assert options.get("weights_only") == "True", f"{path}:{node.lineno}"
            assert call not in ("eval", "exec", "__import__"), f"{path}:{node.lineno}"
        assert _UNPICKLERS.isdisjoint(name.split(".")[0] for name in names), f"{path}:{node}"


def test_the_tables_hold_no_pickled_columns() -> None:
    kinds = {type(column.type).__name__ for table in schema.metadata.tables.values() for column in table.columns}
    assert "PickleType" not in kinds
