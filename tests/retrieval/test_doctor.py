"""The doctor finds what is wrong, says what to do, and mends what is derived."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.embeddings.minilm import MiniLM
from carrel.library import Library
from carrel.retrieval import doctor
from carrel.testing import HashEncoder
from carrel.tokens import model_folder
from carrel.types import Document


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library", encoder=HashEncoder(16)) as made:
        made.add([Document("The lamp burns.", id="a"), Document("The rope is dry.", id="b")])
        yield made


def bad(library: Library, **options: bool) -> dict[str, tuple[str, str]]:
    return {check.name: (check.message, check.remedy) for check in library.doctor(**options) if not check.ok}


def test_a_sound_library(library: Library) -> None:
    checks = library.doctor()
    assert [check.name for check in checks] == [
        "database", "schema", "encoder", "documents", "vectors", "lexical index", "disk",
    ]  # fmt: skip
    assert all(check.ok and check.message and not check.remedy for check in checks)
    assert checks[3].message == "2 documents, 2 chunks"


def test_an_empty_library_is_sound(tmp_path: Path) -> None:
    with Library(tmp_path, encoder=HashEncoder()) as library:
        assert bad(library) == {}
        assert "nothing embedded yet" in library.doctor()[2].message


def test_another_encoder(library: Library) -> None:
    with Library(library.path, encoder=HashEncoder(16, seed=5)) as other:
        message, remedy = bad(other)["encoder"]
    assert "was indexed with hash" in message and remedy == "carrel reindex"


def test_missing_vectors(library: Library) -> None:
    with library._store.write() as connection:
        connection.exec_driver_sql("DELETE FROM vectors WHERE chunk_id = 1")
    assert bad(library) == {"vectors": ("1 chunks have no vector", "carrel reindex")}
    assert library.reindex().embedded == 1
    assert bad(library) == {}


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM lexical_1 WHERE rowid = 1",
        "DROP TABLE lexical_1",
        "DELETE FROM watermarks",
        "INSERT INTO lexical_1(rowid, prefix, text) VALUES (99, '', 'ghost')",
    ],
)
def test_a_damaged_lexical_index_is_rebuilt(library: Library, damage: str) -> None:
    with library._store.write() as connection:
        connection.exec_driver_sql(damage)
    message, remedy = bad(library)["lexical index"]
    assert "of 2 chunks" in message and remedy == "carrel doctor --repair"
    assert bad(library, repair=True) == {}
    assert [passage.document_id for passage in library.search("lamp", retriever="lexical")] == ["a"]
    assert library.search("ghost", retriever="lexical") == []


def test_a_repair_of_a_sound_library_changes_nothing(library: Library) -> None:
    before = library.search("lamp")
    assert bad(library, repair=True) == {}
    assert library.search("lamp") == before


def test_little_space(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    message, remedy = bad(library)["disk"]
    assert message == "0.0 GB free" and "free some space" in remedy


def test_damaged_pages(library: Library) -> None:
    library.add([Document(f"word{n} " * 300, id=f"d{n}") for n in range(20)])
    with library._store.read() as connection:
        root = connection.exec_driver_sql(
            "SELECT rootpage FROM sqlite_master WHERE name = 'documents_by_source'"
        ).scalar_one()
    library.close()
    data = bytearray((library.path / "carrel.db").read_bytes())
    data[(root - 1) * 4096 + 8 : root * 4096] = b"\xff" * 4088
    (library.path / "carrel.db").write_bytes(bytes(data))
    with Library(library.path, encoder=HashEncoder(16)) as damaged:
        message, remedy = bad(damaged)["database"]
    assert message and "restore a copy" in remedy


def test_the_shipped_model(tmp_path: Path) -> None:
    with Library(tmp_path / "library", encoder=MiniLM(threads=1)) as library:
        (model,) = (check for check in library.doctor() if check.name == "model")
    assert model.ok and model.message == "all-MiniLM-L6-v2, files as shipped"


def test_a_changed_and_a_missing_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("minilm"), folder)
    with (folder / "tokenizer.json").open("a") as file:
        file.write("\n")
    with Library(tmp_path / "library", encoder=MiniLM(folder, threads=1)) as library:
        assert bad(library)["model"] == (f"changed files in {folder}: tokenizer.json", "reinstall carrel")
        (folder / "model.onnx").unlink()
        message, remedy = bad(library)["model"]
        assert "model.onnx" in message and remedy == "reinstall carrel"
