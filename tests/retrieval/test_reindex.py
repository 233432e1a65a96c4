"""Changing the encoder: the old one serves until the new one is whole, whatever happens in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from carrel.errors import EncoderMismatchError
from carrel.library import Library
from carrel.retrieval import reindex as module
from carrel.retrieval.store import schema
from carrel.testing import HashEncoder, WordTokenizer
from carrel.types import Document

OLD, NEW = 1, 2
DOCUMENTS = [Document(f"The lamp number {n} burns.\n\nThe rope of {n} is dry.", id=f"d{n}") for n in range(10)]


def opened(folder: Path, seed: int, dimension: int = 128) -> Library:
    return Library(folder, encoder=HashEncoder(dimension, seed=seed))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with opened(tmp_path, OLD) as library:
        library.add(DOCUMENTS)
    return tmp_path


def encoders_of_vectors(library: Library) -> set[int]:
    with library._store.read() as connection:
        return set(connection.execute(select(schema.vectors.c.encoder_id)).scalars())


def found(library: Library, question: str = "lamp number 3") -> list[tuple[str, float | None]]:
    return [(passage.document_id, passage.scores.dense) for passage in library.search(question, retriever="dense")]


def test_after_it_the_library_is_as_if_made_with_the_new_encoder(folder: Path, tmp_path: Path) -> None:
    with opened(folder, NEW, 32) as library, Library(tmp_path / "fresh", encoder=HashEncoder(32, seed=NEW)) as fresh:
        fresh.add(DOCUMENTS)
        report = library.reindex()
        assert report.embedded == report.chunks == fresh.add(DOCUMENTS, dry_run=True).chunks + 10
        assert found(library) == found(fresh)
        assert len(encoders_of_vectors(library)) == 1
        assert all(check.ok for check in library.doctor())
        assert library.add(DOCUMENTS).embedded == 0
    with opened(folder, OLD) as old, pytest.raises(EncoderMismatchError, match="carrel reindex"):
        old.search("lamp")


def test_the_old_encoder_serves_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNKS_A_COMMIT", 2)
    with opened(folder, OLD) as old, opened(folder, NEW) as new:
        before = found(old)
        told = []

        def look(progress: Any) -> None:
            told.append((progress.documents_done, progress.documents_total))
            assert found(old) == before
            with pytest.raises(EncoderMismatchError):
                new.search("lamp")

        new.reindex(progress=look)
        assert len(told) > 2 and told[-1] == (10, 10)
        assert found(new)
        with pytest.raises(EncoderMismatchError):
            old.search("lamp")


def test_progress_goes_on_inside_a_long_document(folder: Path) -> None:
    with opened(folder, OLD) as old, opened(folder, NEW) as new:
        old.add_text("\n\n".join(f"Paragraph {n}: " + "the lamp burns all night. " * 20 for n in range(400)), id="long")
        told: list[Any] = []
        new.reindex(progress=told.append)
    assert sum(at.current == "long" for at in told) >= 3
    done = [at.bytes_done for at in told]
    assert done == sorted(set(done)) and {at.bytes_total for at in told} == {done[-1]}


@pytest.mark.parametrize("stop_at", [1, 2, 4])
def test_an_interrupted_run_goes_on_where_it_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    monkeypatch.setattr(module, "CHUNKS_A_COMMIT", 2)
    calls = 0

    def stop(progress: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt

    with opened(folder, OLD) as old, opened(folder, NEW) as new:
        total = sum(info.chunks for info in old.documents())
        before = found(old)
        with pytest.raises(KeyboardInterrupt):
            new.reindex(progress=stop)
        assert found(old) == before
        assert all(check.ok for check in old.doctor())
        embedded = new.encoder.texts_encoded  # type: ignore[attr-defined]
        assert 0 < embedded < total
        assert new.reindex().embedded == total - embedded
        assert all(check.ok for check in new.doctor())
        assert len(encoders_of_vectors(new)) == 1


def test_what_changes_meanwhile_is_not_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNKS_A_COMMIT", 2)
    with opened(folder, OLD) as old, opened(folder, NEW) as new:
        encode, steps = new.encoder.encode_many, [
            lambda: old.add_text("A new gull arrives.", id="gull"),
            lambda: old.remove("d0"),
            lambda: old.add_text("The lamp is now a crab.", id="d1"),
            lambda: old.remove("d9"),
        ]  # fmt: skip

        def encode_and_change(items: Any) -> Any:
            if steps:
                steps.pop(0)()
            return encode(items)

        monkeypatch.setattr(new.encoder, "encode_many", encode_and_change)
        new.reindex()
        assert [info.id for info in new.documents()] == [*(f"d{n}" for n in range(1, 9)), "gull"]
        assert new.search("gull", retriever="dense")[0].document_id == "gull"
        assert new.search("crab", retriever="dense")[0].document_id == "d1"
        assert all(check.ok for check in new.doctor())


def test_what_is_added_at_the_last_moment_is_not_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last look and the switch."""
    switch, done = module._switch, []

    with opened(folder, OLD) as old, opened(folder, NEW) as new:

        def late(*arguments: Any) -> Any:
            if not done:
                done.append(old.add_text("A late gull arrives.", id="gull"))
            return switch(*arguments)

        monkeypatch.setattr(module, "_switch", late)
        new.reindex()
        assert new.search("gull", retriever="dense")[0].document_id == "gull"
        assert all(check.ok for check in new.doctor())


def test_other_collections_keep_their_encoder(folder: Path) -> None:
    with Library(folder, encoder=HashEncoder(128, seed=OLD), tenant="other") as other:
        other.add(DOCUMENTS)
        before = found(other)
        with opened(folder, NEW) as new:
            new.reindex()
        assert found(other) == before
        assert all(check.ok for check in other.doctor())


def test_there_and_back(folder: Path) -> None:
    with opened(folder, OLD) as old:
        before = found(old)
        for seed in (NEW, OLD):
            with opened(folder, seed) as library:
                library.reindex()
        assert found(old) == before


def test_an_open_library_follows_there_and_back(folder: Path) -> None:
    with opened(folder, OLD) as old, opened(folder, NEW) as new:
        found(old)
        new.reindex()
        new.add_text("A gull arrives.", id="gull")
        new.remove("d3")
        old.reindex()
        assert old.search("gull", retriever="dense")[0].document_id == "gull"
        assert "d3" not in dict(found(old))


def test_with_the_same_encoder_nothing_is_done(folder: Path) -> None:
    with opened(folder, OLD) as library:
        assert library.reindex().embedded == 0
        assert found(library)


def test_of_an_empty_library(tmp_path: Path) -> None:
    with opened(tmp_path, OLD) as library:
        assert library.reindex().embedded == 0
    with opened(tmp_path, NEW) as library:
        library.reindex()
        library.add(DOCUMENTS)
        assert found(library)


class Characters(WordTokenizer):
    """Every character but white space is a token; parts add up, so that the packer trusts the stored counts."""

    name = WordTokenizer.name
    adds_up = True

    def count(self, text: str) -> int:
        return len(self.offsets(text))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [(place, place + 1) for place, character in enumerate(text) if not character.isspace()]


def test_budgets_hold_after_a_change_of_tokenizer(folder: Path) -> None:
    """The stored counts are the new tokenizer's, so none of them is too small."""
    characters = Characters()
    encoder = HashEncoder(64, seed=NEW, tokenizer=characters)
    with Library(folder, encoder=encoder, tokenizer=characters) as library:
        library.reindex()
        with library._store.read() as connection:
            rows = connection.execute(select(schema.chunks.c.text, schema.chunks.c.tokens)).all()
        assert rows and all(row.tokens == characters.count(row.text) for row in rows)
        for budget in (60, 120, 300):
            context = library.context("lamp number 3", budget=budget)
            assert characters.count(context.text) <= budget
