"""Promise 5: only what changed is embedded, and an unchanged file is not even read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrel.types import Document

fixtures = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
# Paragraphs of about the target length, so that each is a chunk of its own.
PARAGRAPHS = [" ".join(f"lamp{number} rope{number} burns all night." for _ in range(20)) for number in range(12)]


def text_of(numbers: list[int]) -> str:
    return "\n\n".join(PARAGRAPHS[number] for number in numbers)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    for name in range(4):
        (path / f"f{name}.txt").write_text("\n\n".join(f"{p} {name}." for p in PARAGRAPHS[name : name + 3]))
    (path / "records.csv").write_text("name,year\npier,1894\nferry,1911\n")
    return path


def test_adding_a_folder_again_reads_and_embeds_nothing(make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make() as library:
        first = library.add(folder)
        assert first.embedded == first.chunks == library.encoder.texts_encoded > 4
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} was read again"))
            for again in (library.add(folder), library.sync(folder), library.add([folder])):
                assert (again.added, again.updated, again.removed, again.embedded) == ((), (), (), 0)
                assert sorted(again.unchanged) == sorted(first.added)
        assert library.encoder.texts_encoded == first.embedded


def test_it_writes_nothing_either(make, folder: Path) -> None:
    with make() as library:
        library.add(folder)
        library.add(Document("by hand", id="note"))
        library._store.engine.dispose()
        before = (library.path / "carrel.db").read_bytes()
        library.add(folder)
        library.sync(folder)
        library.add(Document("by hand", id="note"))
        library._store.engine.dispose()
        assert (library.path / "carrel.db").read_bytes() == before


def test_another_library_object_finds_it_unchanged_too(make, folder: Path) -> None:
    with make() as library:
        library.add(folder)
        with make(library.path) as other:
            assert other.add(folder).embedded == 0
            assert other.encoder.texts_encoded == 0


@fixtures
@given(numbers=st.lists(st.integers(0, 11), min_size=1, max_size=8, unique=True), data=st.data())
def test_changing_a_paragraph_embeds_that_one(make, numbers: list[int], data) -> None:
    with make() as library:
        assert library.add_text(text_of(numbers), id="a").embedded == len(numbers)
        place = data.draw(st.integers(0, len(numbers) - 1))
        parts = [PARAGRAPHS[number] for number in numbers]
        parts[place] = parts[place].replace("night", "day", 1)
        report = library.add_text("\n\n".join(parts), id="a")
        assert (report.updated, report.embedded, report.chunks) == (("a",), 1, len(numbers))
        del parts[place]
        if parts:  # the last one has no blank line after it, and so may be another text than before
            assert library.add_text("\n\n".join(parts), id="a").embedded <= 1


@fixtures
@given(first=st.permutations(range(6)), second=st.permutations(range(6)))
def test_what_is_embedded_is_what_was_not_there(make, first: list[int], second: list[int]) -> None:
    with make() as library:
        library.add_text(text_of(first) + "\n\n", id="a")
        before = library.encoder.texts_encoded
        report = library.add_text(text_of(second) + "\n\n", id="b")
        assert report.embedded == library.encoder.texts_encoded - before == 0


def test_moving_files_embeds_nothing(make, folder: Path) -> None:
    with make() as library:
        library.sync(folder)
        (folder / "deep" / "er").mkdir(parents=True)
        for name in ("f0.txt", "f1.txt", "records.csv"):
            shutil.move(folder / name, folder / "deep" / "er" / name)
        report = library.sync(folder)
        assert report.embedded == 0
        assert len(report.added) == len(report.removed) >= 3
        assert all(check.ok for check in library.doctor())


def test_metadata_and_times_embed_nothing(make) -> None:
    document = Document(PARAGRAPHS[0], id="a", modified_at=1.0)
    with make() as library:
        library.add(document)
        changed = Document(PARAGRAPHS[0], id="a", metadata={"year": 1894}, source="elsewhere", modified_at=1.0)
        assert library.add(changed).updated == ("a",)
        assert library.document("a").metadata == {"year": 1894}
        assert library.encoder.texts_encoded == 1


def test_a_title_is_part_of_the_input(make) -> None:
    """The prefix is embedded with the text: a new title means new vectors."""
    with make() as library:
        library.add(Document(PARAGRAPHS[0], id="a", title="Pier"))
        assert library.add(Document(PARAGRAPHS[0], id="a", title="Mole")).embedded == 1
        assert library.search("Mole", retriever="dense")[0].prefix == "Mole"


def test_vectors_are_not_shared_between_tenants(make) -> None:
    """What one has embedded must not be told from how fast another's add is."""
    with make(tenant="a") as a, make(a.path, tenant="b") as b:
        assert a.add_text(PARAGRAPHS[0], id="x").embedded == 1
        assert b.add_text(PARAGRAPHS[0], id="x").embedded == 1
