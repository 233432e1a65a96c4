"""A memory by itself, and libraries made before there was one."""

from __future__ import annotations

import pytest

import carrel
import carrel.memory
from carrel.errors import InputError, StoreNotFoundError
from carrel.memory import tables
from carrel.retrieval.store import schema
from carrel.testing import HashEncoder


def test_names_are_found_and_listed() -> None:
    for name in carrel.memory.__all__:
        assert getattr(carrel.memory, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        carrel.memory.nothing  # noqa: B018


def test_a_library_without_memory_gets_one_when_something_is_said(tmp_path) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        library.add_text("The ferry.", id="ferry")
        with library._store.read() as connection:
            assert not tables.exist(connection)
    with carrel.memory.open(tmp_path, user="ann", encoder=HashEncoder()) as memory:
        assert memory.turns() == []
        memory.observe("goat")
        with memory.stream.store.read() as connection:
            assert tables.exist(connection)
            version = "SELECT value FROM meta WHERE key='schema_version'"
            assert connection.exec_driver_sql(version).scalar() == str(schema.SCHEMA_VERSION)
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        assert [info.id for info in library.documents()] == ["ferry"]
        assert all(check.ok for check in library.doctor())


def test_tables_are_made_once(tmp_path) -> None:
    with carrel.memory.open(tmp_path, user="ann", encoder=HashEncoder()) as memory:
        memory.observe("goat")
        with memory.stream.store.write() as connection:
            tables.make(connection)
            row = "SELECT next FROM counters WHERE name='memory_turns'"
            assert connection.exec_driver_sql(row).scalar() == 2


def test_bad_places_and_encoders_are_refused(tmp_path) -> None:
    with pytest.raises(StoreNotFoundError):
        carrel.memory.open(tmp_path / "none", user="ann", create=False, encoder=HashEncoder())
    with pytest.raises(InputError, match="address"):
        carrel.memory.open("https://example.org/x", user="ann", encoder=HashEncoder())
    with pytest.raises(InputError, match="an encoder is an object"):
        carrel.memory.open(tmp_path, user="ann", encoder=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a tokenizer is an object"):
        carrel.memory.open(tmp_path, user="ann", encoder=HashEncoder(), tokenizer=3)  # type: ignore[arg-type]
