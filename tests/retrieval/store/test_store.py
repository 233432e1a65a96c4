"""Transactions, ids, durability, and many readers beside one writer."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from carrel.errors import StoreError
from carrel.library import Library
from carrel.retrieval.store import Store, schema
from carrel.retrieval.store.store import allocate
from carrel.testing import HashEncoder
from carrel.types import Block, Document, Metadata


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "library")
    yield made
    made.close()


@pytest.mark.parametrize(("durability", "level"), [("normal", 1), ("full", 2)])
def test_durability_is_what_was_asked_for(tmp_path: Path, durability, level: int) -> None:
    store = Store(tmp_path, durability=durability)
    for _ in range(2):  # on every connection of the pool
        with store.read() as first, store.read() as second:
            for connection in (first, second):
                assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
                assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    store.close()


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.write() as connection:
        assert allocate(connection, "chunks", 100) / 0
    with store.write() as connection:
        assert allocate(connection, "chunks", 5) == 1
        assert allocate(connection, "chunks", 1) == 6


def test_errors_of_the_database_are_named_and_the_store_goes_on(store: Store) -> None:
    with pytest.raises(StoreError, match=r"carrel\.db.*no such table"), store.write() as connection:
        connection.exec_driver_sql("INSERT INTO no_such VALUES (1)")
    with store.write() as connection:
        assert allocate(connection, "chunks", 1) == 1


def test_a_read_sees_one_state(store: Store) -> None:
    with store.read() as reading:
        count = select(func.count()).select_from(schema.collections)
        assert reading.execute(count).scalar() == 0
        store.scope("t", "c", create=True)
        assert reading.execute(count).scalar() == 0
    with store.read() as reading:
        assert reading.execute(count).scalar() == 1


def test_scopes_are_made_once_and_apart(store: Store) -> None:
    assert store.scope("t", "c", create=False) is None
    made = {(tenant, name): store.scope(tenant, name, create=True) for tenant in ("a", "b") for name in ("a", "b", "A")}
    assert len({scope.id for scope in made.values() if scope}) == 6
    for (tenant, name), scope in made.items():
        assert store.scope(tenant, name, create=False) == scope


def _chunk_ids(library: Library) -> list[int]:
    with library._store.read() as connection:
        return list(connection.execute(select(schema.chunks.c.id).order_by(schema.chunks.c.id)).scalars())


@settings(max_examples=20)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "remove", "reopen", "purge"])), max_size=12
    )
)
def test_ids_are_never_given_out_twice(tmp_path_factory: pytest.TempPathFactory, steps) -> None:
    folder = tmp_path_factory.mktemp("ids")
    used: set[int] = set()
    alive: list[int] = []
    library = Library(folder, encoder=HashEncoder(8))
    try:
        for number, (key, step) in enumerate(steps):
            if step == "put":
                library.add(Document(f"text {number}", id=key))
            elif step == "purge":
                library.purge()
            elif step == "reopen":
                library.close()
                library = Library(folder, encoder=HashEncoder(8))
            elif any(info.id == key for info in library.documents()):
                library.remove(key)
            new = set(_chunk_ids(library)) - set(alive)
            assert used.isdisjoint(new)
            used |= new
            alive = _chunk_ids(library)
    finally:
        library.close()


def test_a_document_comes_back_as_it_was(tmp_path: Path) -> None:
    text = "# Größe\r\n\r\nTwo\ttabs \u2028 and 🚢\x0b.\n\n\n" + "x" * 5000 + "\n "
    metadata: Metadata = {"n": 1, "r": 0.5, "t": "ü", "b": True, "0": None, "l": ["a", "b"]}
    blocks = (Block(0, 7, "heading", 1), Block(11, 20, header="h", joined=True))
    document = Document(
        text, id="päth/a", title="T", source="s", metadata=metadata,
        media_type="text/markdown", extractor="markdown/9", blocks=blocks,
        pages=(0, 30), modified_at=12.5,
    )  # fmt: skip
    with Library(tmp_path, encoder=HashEncoder(8)) as library:
        library.add(document)
        assert library.document("päth/a") == document
        with library._store.read() as connection:
            rows = connection.execute(select(schema.chunks.c.start, schema.chunks.c.end, schema.chunks.c.text)).all()
        assert all(text[row.start : row.end] == row.text for row in rows)


def test_thousands_of_ids_at_once(tmp_path: Path) -> None:
    """More than one statement may have parameters."""
    with Library(tmp_path, encoder=HashEncoder(8)) as library:
        keys = [f"d{number:04}" for number in range(1201)]
        library.add([Document("lamp", id=key) for key in keys])
        assert library.add([Document("lamp", id=key) for key in keys]).unchanged == tuple(keys)
        assert [info.id for info in library.documents(where={"id": {"in": keys[600:603]}})] == keys[600:603]
        assert len(library.search("lamp", limit=700, retriever="dense")) == 700
        assert sorted(library.remove(keys[1:])) == keys[1:]
        assert [info.id for info in library.documents()] == keys[:1]


def test_threads_read_whole_states_while_one_writes(tmp_path: Path) -> None:
    """A writer replaces two documents in one transaction: no reader ever sees one of them without the other."""
    encoder = HashEncoder(16)
    with Library(tmp_path, encoder=encoder) as library:
        library.add([Document("lamp 0", id="a"), Document("lamp 0", id="b")])
        stop, problems = threading.Event(), []

        def read() -> None:
            while not stop.is_set():
                found = {passage.document_id: passage.text for passage in library.search("lamp", retriever="lexical")}
                dense = library.search("lamp", retriever="dense")
                if set(found) != {"a", "b"} or len(set(found.values())) != 1 or len(dense) > 2:
                    problems.append((found, dense))

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for number in range(1, 40):
                library.add([Document(f"lamp {number}", id="a"), Document(f"lamp {number}", id="b")])
        finally:
            stop.set()
            for reader in readers:
                reader.join()
        assert problems == []
        assert {passage.text for passage in library.search("lamp")} == {"lamp 39"}


_READER = """
import sys
from pathlib import Path
from carrel.library import Library
from carrel.testing import HashEncoder
with Library(Path(sys.argv[1]), encoder=HashEncoder(16), read_only=sys.argv[2] == "ro") as library:
    print("ready", flush=True)
    last = -1
    while last < 25:
        found = {p.document_id: int(p.text.split()[1]) for p in library.search("lamp")}
        assert set(found) == {"a", "b"} and len(set(found.values())) == 1, found
        assert found["a"] >= last, "an old state came back"
        last = found["a"]
"""


def test_processes_read_whole_states_while_one_writes(tmp_path: Path) -> None:
    with Library(tmp_path, encoder=HashEncoder(16)) as library:
        library.add([Document("lamp 0", id="a"), Document("lamp 0", id="b")])
        command = [sys.executable, "-c", _READER, str(tmp_path)]
        readers = [
            subprocess.Popen([*command, mode], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for mode in ("ro", "rw")
        ]
        for reader in readers:
            assert reader.stdout and reader.stdout.readline() == b"ready\n", reader.communicate()[1].decode()
        for number in range(1, 26):
            library.add([Document(f"lamp {number}", id="a"), Document(f"lamp {number}", id="b")])
        for reader in readers:
            _, errors = reader.communicate(timeout=60)
            assert reader.returncode == 0, errors.decode()


@pytest.mark.parametrize(("durability", "inside"), [("normal", 1), ("full", 1)])
def test_what_is_derived_waits_for_no_sync(tmp_path, durability, inside: int) -> None:
    store = Store(tmp_path, durability=durability)
    usual = {"normal": 1, "full": 2}[durability]
    for failing in (False, True):
        with suppress(ZeroDivisionError), store.write(derived=True) as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == inside
            _ = 1 // (not failing)
        with store.write() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == usual
    store.close()
