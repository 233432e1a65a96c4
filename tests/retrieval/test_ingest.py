"""Adding: what is skipped and why, what is planned, what an interruption leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from carrel.errors import InputError
from carrel.library import Library
from carrel.retrieval import ingest
from carrel.retrieval.chunking import ChunkingOptions
from carrel.retrieval.ingest import Ingest, IngestProgress
from carrel.retrieval.store import schema
from carrel.testing import HashEncoder
from carrel.types import Document

EXAMPLES = Path(__file__).parents[2] / "examples" / "library"


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library", encoder=HashEncoder(16)) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    return path


def counts(library: Library) -> dict[str, int]:
    with library._store.read() as connection:
        tables = (schema.documents, schema.chunks, schema.vectors, schema.files, schema.changes)
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables
        }


def ids(library: Library) -> list[str]:
    return [info.id for info in library.documents()]


def reasons(report) -> dict[str, str]:
    return {os.path.basename(skipped.id): skipped.reason for skipped in report.skipped}


BAD_FILES = {
    "empty.txt": (b"", "is empty"),
    "blank.md": (b" \n\t\n", "is empty"),
    "binary.txt": (bytes(range(256)) * 8, "binary|encoding|text"),
    "noise.dat": (b"\x00\x01\x02\xff" * 300, "binary"),
    "truncated.pdf": (b"%PDF-1.7\n1 0 obj\n<< /Type /Cat", "cannot be read|PDF"),
    "damaged.docx": (b"PK\x03\x04" + b"\x00" * 200, "cannot be read|damaged|ZIP"),
    "locked.docx": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "password"),
    "broken.json": (b'{"text": "never closed', "JSON"),
    "photo.png": (b"\x89PNG\r\n", "an image"),
}


def test_one_bad_file_never_stops_a_folder(library: Library, folder: Path) -> None:
    for name, (data, _) in BAD_FILES.items():
        (folder / name).write_bytes(data)
    for name in ("a.txt", "m.txt", "z.txt"):
        (folder / name).write_text(f"The lamp of {name} burns.")
    report = library.add(folder)
    assert report.added == tuple(str(folder / name) for name in ("a.txt", "m.txt", "z.txt"))
    found = reasons(report)
    assert set(found) == set(BAD_FILES)
    for name, (_, pattern) in BAD_FILES.items():
        assert re.search(pattern, found[name]), (name, found[name])
    assert ids(library) == list(report.added)
    again = library.add(folder)
    assert (again.added, again.updated, again.unchanged) == ((), (), report.added)
    assert reasons(again) == found


def test_a_broken_library_costs_only_the_files_that_need_it(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "z.txt"):
        (folder / name).write_text("lamp")
    shutil.copy(EXAMPLES / "minutes-2024-05-22.docx", folder / "m.docx")
    monkeypatch.setitem(sys.modules, "docx", None)
    report = library.add(folder)
    assert [os.path.basename(key) for key in report.added] == ["a.txt", "z.txt"]
    assert "cannot be read as docx: a library for it is missing or broken" in reasons(report)["m.docx"]
    monkeypatch.undo()
    assert report.added + library.add(folder).added == (
        str(folder / "a.txt"),
        str(folder / "z.txt"),
        str(folder / "m.docx"),
    )


@pytest.mark.parametrize("limit", [0, -1, float("nan"), "256", None, True])
def test_a_senseless_limit_of_size(library: Library, folder: Path, limit: Any) -> None:
    with pytest.raises(InputError, match="max_file_mb is the most megabytes a file may have, above 0, not"):
        library.add(folder, max_file_mb=limit)


def test_a_file_over_the_limit_is_skipped_and_the_rest_is_added(library: Library, folder: Path) -> None:
    (folder / "a.txt").write_text("lamp")
    (folder / "big.txt").write_text("rope " * 300)
    report = library.add(folder, max_file_mb=0.001)
    assert report.added == (str(folder / "a.txt"),)
    assert "To take it, raise the limit: max_file_mb=1" in reasons(report)["big.txt"]
    assert library.add(folder).added == (str(folder / "big.txt"),)
    assert len(library.sync(folder, max_file_mb=0.001).unchanged) == 2  # what is in costs no reading


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (Document("text"), "no id"),
        (Document("", id="a"), "no text"),
        (Document(" \n", id="a"), "no text"),
        (Document("a\0b", id="a"), "NUL"),
        (Document("text", id="\udc00"), "cannot be stored"),
        (Document("text", id="a", metadata={"n": float("nan")}), "cannot be stored"),
        (Document("text", id="a", metadata={"n": float("inf")}), "cannot be stored"),
        (Document("text", id="a", metadata={"d": date(2020, 1, 1)}), "cannot be stored"),  # type: ignore[dict-item]
        (Document("text", id="a", metadata={"t": "\ud800"}), "cannot be stored"),
        (Document("text", id="a", metadata={"l": ["\ud800"]}), "cannot be stored"),
    ],
)
def test_documents_that_cannot_be_stored_are_skipped_with_the_reason(library: Library, document, reason: str) -> None:
    report = library.add([Document("the lamp", id="before"), document, Document("the rope", id="after")])
    assert report.added == ("before", "after")
    assert [reason in skipped.reason for skipped in report.skipped] == [True]
    assert library.documents(where={"n": {"exists": False}})  # and no filter stumbles over it


BAD_TYPES = [
    Document(5, id="bad"),
    Document(None, id="bad"),
    Document(b"the lamp", id="bad"),
    Document("text", id=5),
    Document("text", id=["bad"]),
    Document("text", id="bad", title=None),
    Document("text", id="bad", source=Path("x")),
    Document("text", id="bad", modified_at="yesterday"),
    Document("text", id="bad", metadata=None),
    Document("text", id="bad", metadata={1: "x", "b": 2}),
    Document("text", id="bad", blocks=[(0, 4)]),
]


@pytest.mark.parametrize("bad", BAD_TYPES)
def test_a_document_of_wrong_types_fails_alone(library: Library, bad: Document) -> None:
    good = [Document("the lamp", id="before"), Document("the rope", id="after")]
    report = library.add([good[0], bad, good[1]])
    assert report.added == ("before", "after")
    assert [(skipped.id, skipped.reason[:4]) for skipped in report.skipped] == [(str(bad.id), "its ")]
    assert ids(library) == ["after", "before"]
    assert library.add(bad).skipped == report.skipped


def test_half_a_character_is_replaced_and_told(library: Library) -> None:
    document = Document("the lamp \ud800 and the rope \udcff", id="a", title="half \udfff")
    report = library.add([document, Document("the \ufffd of the lamp", id="whole")])
    assert (report.added, report.skipped) == (("a", "whole"), ())
    assert report.warnings == ("a: halves of characters (lone surrogates) stand in its text as \ufffd now",)
    stored = library.document("a")
    assert (stored.text, stored.title) == ("the lamp \ufffd and the rope \ufffd", "half \ufffd")
    again = library.add(document)
    assert (again.unchanged, again.warnings, again.embedded) == (("a",), (), 0)
    for passage in library.search("lamp rope"):
        assert passage.text == library.document(passage.document_id).text[passage.start : passage.end]


class BrokenError(Exception):
    """The caller's own."""


@pytest.mark.parametrize("kind", ["documents", "paths"])
def test_what_an_iterator_gave_before_it_failed_is_kept(library: Library, folder: Path, kind: str) -> None:
    for name in ("one", "two"):
        (folder / f"{name}.txt").write_text(f"the lamp {name}")

    def failing() -> Iterator[Any]:
        for name in ("one", "two"):
            yield Document(f"the lamp {name}", id=name) if kind == "documents" else folder / f"{name}.txt"
        raise BrokenError("no more")

    with pytest.raises(BrokenError, match="no more"):
        library.add(failing())
    assert len(ids(library)) == 2
    assert {passage.text for passage in library.search("lamp")} == {"the lamp one", "the lamp two"}


def test_what_came_before_something_that_is_no_source_is_kept(library: Library) -> None:
    with pytest.raises(InputError, match="cannot add a int"):
        library.add([Document("the lamp", id="a"), 5])  # type: ignore[list-item]
    assert ids(library) == ["a"]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(library: Library, folder: Path) -> None:
    (folder / "a.txt").write_text("the lamp")
    (folder / "b.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    before = counts(library)
    planned = library.add(folder, dry_run=True)
    assert counts(library) == before
    assert planned.planned and planned.embedded == 0
    done = library.add(folder)
    assert not done.planned
    for field in ("added", "updated", "unchanged", "removed", "skipped", "chunks", "tokens"):
        assert getattr(planned, field) == getattr(done, field), field
    (folder / "a.txt").write_text("the rope burns")
    (folder / "b.jsonl").write_text('{"text": "one"}\n')
    before = counts(library)
    planned = library.add(folder, dry_run=True)
    assert counts(library) == before
    assert len(planned.updated) == len(planned.removed) == 1
    assert library.document(planned.updated[0]).text == "the lamp"
    done = library.add(folder)
    assert (planned.updated, planned.removed) == (done.updated, done.removed)


def test_of_two_documents_with_one_id_the_first_counts(library: Library) -> None:
    report = library.add([Document("first", id="a"), Document("second", id="a")])
    assert report.added == ("a",)
    assert "same id" in report.skipped[0].reason
    assert library.document("a").text == "first"
    assert library.add_text("second", id="a").updated == ("a",)
    assert library.document("a").text == "second"


def test_a_file_named_twice_is_read_once(library: Library, folder: Path) -> None:
    (folder / "a.txt").write_text("the lamp")
    report = library.add([folder, folder / "a.txt", str(folder / ".." / "files" / "a.txt")])
    assert report.added == (str(folder / "a.txt"),)
    assert ids(library) == [str(folder / "a.txt")]


def test_a_file_of_several_documents_and_then_of_fewer(library: Library, folder: Path) -> None:
    path = folder / "records.jsonl"

    def write(*texts: str) -> None:
        path.write_text("".join(json.dumps({"id": text, "text": f"{text} burns"}) + "\n" for text in texts))

    write("lamp", "rope", "gull")
    assert len(library.add(path).added) == 3
    write("lamp", "gull")
    report = library.add(path)
    assert (len(report.added), len(report.unchanged), len(report.removed)) == (0, 2, 1)
    assert len(ids(library)) == 2
    assert library.search("rope", retriever="lexical") == []
    write("lamp", "crab")
    report = library.add(path)
    assert (len(report.added), len(report.unchanged), len(report.removed)) == (1, 1, 1)


def test_a_file_of_which_a_part_cannot_be_read_loses_nothing(library: Library, folder: Path) -> None:
    path = folder / "records.jsonl"
    path.write_text('{"id": "a", "text": "lamp"}\n{"id": "b", "text": "rope"}\n')
    library.add(path)
    path.write_text('{"id": "a", "text": "lamp"}\n{"id": "b", "text": "rop')
    for run in (library.add, library.sync):
        report = run(path if run == library.add else folder)
        assert len(report.skipped) == 1 and "JSON" in report.skipped[0].reason
        assert report.removed == ()
        assert len(ids(library)) == 2
    path.write_text('{"id": "a", "text": "lamp"}\n')
    assert len(library.add(path).removed) == 1


def test_paths_and_documents_mixed_in_any_iterable(library: Library, folder: Path) -> None:
    (folder / "a.txt").write_text("the lamp")
    (folder / "sub").mkdir()
    (folder / "sub" / "b.md").write_text("# The rope")

    def sources() -> Iterator[Any]:
        yield Document("one", id="1")
        yield folder / "a.txt"
        yield str(folder / "sub")
        yield Document("two", id="2")

    report = library.add(sources())
    assert report.added == ("1", str(folder / "a.txt"), str(folder / "sub" / "b.md"), "2")


@pytest.mark.parametrize("source", [3, [b"bytes"], [None], [["nested"]]])
def test_other_things_are_refused(library: Library, source: Any) -> None:
    with pytest.raises((InputError, TypeError)):
        library.add(source)


def test_a_path_that_is_not_there_is_named(library: Library, folder: Path) -> None:
    with pytest.raises(InputError, match="none"):
        library.add(folder / "none")


def test_a_removed_document_is_added_again_when_its_file_is(library: Library, folder: Path) -> None:
    (folder / "a.txt").write_text("the lamp")
    (key,) = library.add(folder).added
    library.remove(key)
    assert library.add(folder).added == (key,)


TEXTS = {f"d{n}": "\n\n".join(f"Paragraph {m} of {n}: the lamp burns all night." for m in range(20)) for n in range(12)}


@pytest.mark.parametrize("stop_after", range(8))
def test_an_interruption_leaves_whole_documents_and_a_rerun_goes_on(
    tmp_path: Path, monkeypatch, stop_after: int
) -> None:
    monkeypatch.setattr(ingest, "CHUNKS_A_COMMIT", 6)
    encoder = HashEncoder(16)
    documents = [Document(text, id=key) for key, text in TEXTS.items()]
    calls: list[IngestProgress] = []

    def stop(progress: IngestProgress) -> None:
        calls.append(progress)
        if len(calls) > stop_after:
            raise KeyboardInterrupt

    with Library(tmp_path, encoder=encoder) as library:
        with pytest.raises(KeyboardInterrupt):
            library.add(documents, progress=stop)
        kept = ids(library)
        assert len(kept) == 3 * ((stop_after + 1) // 2)  # three documents a commit, told of before and after
        for key in kept:
            assert library.document(key).text == TEXTS[key]
        assert all(check.ok for check in library.doctor())
        before = encoder.texts_encoded
        report = library.add(documents)
        assert report.unchanged == tuple(sorted(kept, key=list(TEXTS).index))
        assert len(report.added) == len(TEXTS) - len(kept)
        assert encoder.texts_encoded - before == report.embedded
        assert {key: library.document(key).text for key in ids(library)} == TEXTS
        assert all(check.ok for check in library.doctor())


def test_progress_rises_to_the_whole(library: Library, folder: Path) -> None:
    for number in range(5):
        (folder / f"{number}.txt").write_text("the lamp burns. " * 10)
    told: list[IngestProgress] = []
    report = library.add(folder, progress=told.append)
    assert [p.documents_done for p in told] == sorted(p.documents_done for p in told)
    assert told[-1].documents_done == told[-1].documents_total == 5
    assert told[-1].tokens_done == report.tokens
    assert told[-1].seconds_left == pytest.approx(0)
    assert told[-1].documents_per_s > 0
    assert told[0].stage == "listing" and told[0].seconds_left is None


def test_progress_goes_on_inside_a_long_document(library: Library, folder: Path) -> None:
    (folder / "a.txt").write_text("the rope. " * 10)
    (folder / "b.txt").write_text(
        "\n\n".join(f"Paragraph {n}: " + "the lamp burns all night. " * 20 for n in range(400))
    )
    told: list[IngestProgress] = []
    report = library.add(folder, progress=told.append)
    assert report.chunks > 200
    inside = [at for at in told if at.stage == "embedding" and at.documents_done < 2 and at.bytes_done]
    assert len(inside) >= 3
    assert all(at.current == str(folder / "b.txt") and at.seconds_left for at in inside)
    done = [at.bytes_done for at in told]
    assert done == sorted(done)
    assert told[-1].bytes_done == told[-1].bytes_total == sum(path.stat().st_size for path in folder.iterdir())
    assert told[-1].bytes_per_s > 0


def test_what_needs_no_work_leaves_the_total(library: Library, folder: Path) -> None:
    (folder / "a.txt").write_text("the rope. " * 1_000)
    library.add(folder)
    (folder / "b.txt").write_text("the lamp. " * 10)
    (folder / "c.txt").write_bytes(b"\0" * 5_000)
    told: list[IngestProgress] = []
    library.add([folder, Document("the dune", id="d")], progress=told.append)
    assert (told[-1].bytes_done, told[-1].bytes_total) == (108, 108)
    assert (told[-1].documents_done, told[-1].documents_total) == (4, 4)
    library.add(iter([folder]), progress=told.append)
    assert told[-1].bytes_total is None


class English(HashEncoder):
    languages = frozenset({"English"})


GERMAN = (
    "Die Lampe brennt die ganze Nacht, und das Seil ist nicht in dem Hafen, sondern auf der Brücke mit den Möwen. " * 3
)


def test_a_language_that_the_encoder_does_not_know_is_mentioned_once(tmp_path: Path) -> None:
    with Library(tmp_path, encoder=English()) as library:
        report = library.add(
            [Document(GERMAN, id="de1"), Document(GERMAN + "!", id="de2"), Document("The lamp burns.", id="en")]
        )
        assert len(report.added) == 3
        (warning,) = report.warnings
        assert warning.startswith("2 documents in German (such as de1): hash knows English")
        assert "open the library from Python: carrel.open(path, encoder=...)" in warning
        assert library.add_text("The lamp. " * 30, id="x").warnings == ()


def test_the_language_of_code_and_tables_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.py").write_text(f"# {GERMAN}")
    (tmp_path / "files" / "b.csv").write_text(f"a,b\n{GERMAN.replace(',', ' ')},1\n")
    with Library(tmp_path / "library", encoder=English()) as library:
        assert library.add(tmp_path / "files").warnings == ()


class ShortWindow(HashEncoder):
    def __init__(self) -> None:
        super().__init__(16)
        self.window, self.max_chunk_tokens = 20, 64


def test_text_beyond_the_window_is_mentioned(tmp_path: Path) -> None:
    with Library(tmp_path, encoder=ShortWindow()) as library:
        report = library.add_text("word " * 50, id="a")
        assert "a: 1 chunks are longer than the window of hash (20 tokens)" in report.warnings[0]


def test_the_encoders_cap_is_kept_by_an_ingest(tmp_path: Path) -> None:
    encoder = HashEncoder(16)
    encoder.max_chunk_tokens = 40
    with Library(tmp_path, encoder=encoder) as library:
        library.add([Document("word " * 1000, id="a"), Document("x" * 5000, id="b"), Document("a. " * 400, id="c")])
        with library._store.read() as connection:
            assert connection.execute(select(func.max(schema.chunks.c.tokens))).scalar_one() <= 40


def test_an_ingest_of_nothing_is_an_empty_report(library: Library, folder: Path) -> None:
    for source in ([], folder):
        report = library.add(source)
        assert (report.added, report.skipped, report.chunks) == ((), (), 0)
    assert report.tokenizer == library.encoder.tokenizer.name


def test_identical_files_share_their_vectors(library: Library) -> None:
    library.add(Document("the lamp burns", id="a"))
    assert library.add(Document("the lamp burns", id="b")).embedded == 0
    library.remove("a")
    assert [passage.document_id for passage in library.search("lamp")] == ["b"]


def test_identical_chunks_of_a_first_batch_are_embedded_once(library: Library) -> None:
    encoder = library.encoder
    assert isinstance(encoder, HashEncoder)
    table = "name,year\n" + "pier,1894\n" * 2000
    twins = [Document("the lamp burns", id=key) for key in "abc"]
    report = library.add([*twins, Document("the lamp burns", id="d", title="Lamp"), Document(table, id="t")])
    assert len(report.added) == 5
    assert report.embedded == encoder.texts_encoded < report.chunks
    assert library.add([*twins, Document("the lamp burns", id="e", title="Lamp")]).embedded == 0
    assert {p.document_id for p in library.search("the lamp burns", retriever="dense", limit=5)} == set("abcde")
    assert all(check.ok for check in library.doctor())
    with library._store.read() as connection:
        rows = connection.execute(select(schema.vectors.c.input_hash, schema.vectors.c.vector)).all()
    assert (
        len({row.input_hash for row in rows}) == len({(row.input_hash, row.vector) for row in rows}) == report.embedded
    )


def test_a_document_given_by_hand_is_none_of_the_file_it_names(library: Library, folder: Path) -> None:
    path = folder / "a.txt"
    path.write_text("the lamp")
    note = Document("the rope", id="note", source=str(path))
    library.add([path, note])
    path.write_text("the gull")
    report = library.add(path)
    assert (report.updated, report.removed) == ((str(path),), ())
    again = library.add([path, replace(note, text="the crab")])
    assert (again.unchanged, again.updated, again.skipped) == ((str(path),), ("note",), ())


def test_the_run_uses_the_options_it_is_given(library: Library) -> None:
    library.add_text("made", id="first")
    run = Ingest(library._store, library._scope, library.encoder, options=ChunkingOptions(32, 64, 0, 8))
    assert run.run(Document("one two three four. " * 40, id="a")).chunks > 3
