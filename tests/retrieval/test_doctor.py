"""The doctor finds what is wrong, says what to do, and mends what is derived."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from carrel.embeddings.base import ChunkEncoder, Vectors
from carrel.embeddings.late import LateChunking
from carrel.embeddings.minilm import MiniLM
from carrel.errors import ModelError
from carrel.library import Library
from carrel.retrieval import doctor
from carrel.testing import HashEncoder
from carrel.tokens import model_folder
from carrel.types import Chunk, Document


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


def test_what_the_encoder_is(library: Library) -> None:
    message = library.doctor()[2].message
    facts = (
        r"hash, 16 dimensions, window 512 tokens, any language, about [\d,]+ tokens/s in chunks of 256, fingerprint "
    )
    assert re.fullmatch(facts + library.encoder.fingerprint[:12], message)
    assert doctor._measured(MiniLM(threads=1)).message.startswith(
        "all-MiniLM-L6-v2, 384 dimensions, window 512 tokens, "
    )


class _Slow(HashEncoder):
    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        time.sleep(0.01 * len(texts))
        return super().encode_texts(texts)


def test_the_throughput_is_measured() -> None:
    rate, length = doctor._tokens_a_second(_Slow())
    assert length == 256 and 256 / 0.1 < rate <= 256 / 0.01


@pytest.mark.parametrize("model", [HashEncoder(8), LateChunking(MiniLM(threads=1), threads=1)])
def test_what_is_measured_is_a_document_in_chunks(model: ChunkEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Document, Sequence[Chunk]]] = []
    encode = type(model).encode

    def noted(self: ChunkEncoder, document: Document, chunks: Sequence[Chunk]) -> list[Vectors]:
        seen.append((document, chunks))
        return encode(self, document, chunks)

    monkeypatch.setattr(type(model), "encode", noted)
    monkeypatch.setattr(doctor, "_PROBE_S", 0.0)
    rate, _ = doctor._tokens_a_second(model)
    assert rate > 0 and len(seen) == 2
    for document, chunks in seen:
        assert all(document.text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert len(seen[1][1]) == 8 and seen[1][1][-1].end <= len(seen[1][0].text)


class _Broken(HashEncoder):
    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        raise ModelError("the weights are gone")


def test_an_encoder_that_does_not_work(tmp_path: Path) -> None:
    with Library(tmp_path, encoder=_Broken()) as library:
        assert bad(library)["encoder"] == ("the weights are gone", "mend it, or name another encoder")
