"""``kill -9`` at random moments while documents are added, replaced, removed and purged.

A worker process says on a pipe what it begins and what is done; after the kill the library must hold all
that was done, and of what was begun either the old or the new, never a part.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from carrel.library import Library
from carrel.testing import HashEncoder
from carrel.types import Document

KEYS = [f"d{number}" for number in range(16)]
DIMENSION = 16
TIME_LIMIT_S = 240

WORKER = """
import random, sys
from pathlib import Path
from carrel.library import Library
from carrel.retrieval import ingest
from carrel.testing import HashEncoder
sys.path.insert(0, sys.argv[4])
from test_kill import DIMENSION, KEYS, document

def say(*words):
    print(*words, flush=True)

ingest.CHUNKS_A_COMMIT = 8
commit = ingest.Ingest._commit
def commit_and_say(self, batch):
    commit(self, batch)
    say("committed", *(d.id for work in batch for d in work.documents))
ingest.Ingest._commit = commit_and_say

source, version = random.Random(int(sys.argv[2])), int(sys.argv[3])
with Library(Path(sys.argv[1]), encoder=HashEncoder(DIMENSION)) as library:
    say("ready")
    while True:
        version += 1
        say("add", version)
        library.add([document(key, version) for key in KEYS])
        say("done")
        gone = source.sample(KEYS, 5)
        say("remove", *gone)
        library.remove(gone, purge=source.random() < 0.3)
        say("done")
"""


def document(key: str, version: int) -> Document:
    """A few chunks of text that say which document and version they are of."""
    size = 1 + (int(key[1:]) + version) % 4
    paragraphs = [f"lamp {key} of version {version}, rope {number}. " * 16 for number in range(size)]
    return Document("\n\n".join(paragraphs), id=key, metadata={"version": version})


@dataclass
class Expected:
    """What the library may hold: for each document the versions it may be at (None: absent)."""

    sure: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(KEYS))
    adding: int | None = None
    removing: Sequence[str] = ()
    committed: set[str] = field(default_factory=set)

    def hear(self, line: str) -> None:
        word, *rest = line.split()
        if word == "add":
            self.adding, self.committed = int(rest[0]), set()
        elif word == "committed":
            self.committed |= set(rest)
        elif word == "remove":
            self.removing = rest
        elif word == "done":
            if self.adding is not None:
                self.sure = dict.fromkeys(KEYS, self.adding)
            for key in self.removing:
                self.sure[key] = None
            self.adding, self.removing = None, ()

    def check(self, found: dict[str, int | None]) -> None:
        for key in KEYS:
            allowed = {self.sure[key]}
            if self.adding is not None:
                allowed = {self.adding} if key in self.committed else {self.sure[key], self.adding}
            if key in self.removing:
                allowed = {self.sure[key], None}
            assert found[key] in allowed, (key, found[key], allowed)
        gone = {found[key] is None for key in self.removing}
        assert len(gone) <= 1, "half of a removal"
        self.sure, self.adding, self.removing = dict(found), None, ()


def examine(folder: Path) -> dict[str, int | None]:
    """Hold the library to be whole, and return the version of each document."""
    found: dict[str, int | None] = dict.fromkeys(KEYS)
    encoder = HashEncoder(DIMENSION)
    with Library(folder, encoder=encoder) as library:
        for info in library.documents():
            version = info.metadata["version"]
            assert isinstance(version, int)
            assert library.document(info.id) == document_as_stored(info.id, version)
            found[info.id] = version
        with library._store.write() as connection:
            run = connection.exec_driver_sql
            assert run("PRAGMA integrity_check").all() == [("ok",)]
            assert run("PRAGMA foreign_key_check").all() == []
            chunks = run("SELECT id, prefix, text FROM chunks ORDER BY id").all()
            assert run("SELECT sum(chunks) FROM documents").scalar() in (len(chunks), None)
            vectors = dict(row for row in run("SELECT chunk_id, vector FROM vectors").all())
            assert sorted(vectors) == [row[0] for row in chunks]
            texts = [f"{prefix}\n{text}" if prefix else text for _, prefix, text in chunks]
            expected = encoder.encode_queries(texts)
            for row, vector in zip(chunks, expected, strict=True):
                assert np.array_equal(np.frombuffer(vectors[row[0]], "<f4"), vector)
            if library._pipeline.searcher.lexical.exists(connection):
                table = library._pipeline.searcher.lexical.table
                run(f"INSERT INTO {table}({table}) VALUES ('integrity-check')")
                assert run(f"SELECT rowid, text FROM {table} ORDER BY rowid").all() == [
                    (row[0], row[2]) for row in chunks
                ]
            else:
                assert not chunks
        assert [check for check in library.doctor() if not check.ok] == []
        for key, version in found.items():
            hits = {passage.document_id for passage in library.search(key, limit=100, retriever="lexical")}
            assert hits == ({key} if version is not None else set())
    return found


def document_as_stored(key: str, version: int) -> Document:
    made = document(key, version)
    return Document(made.text, id=key, source=key, metadata=made.metadata)


def kill_at_random(folder: Path, kills: int, seed: int, longest_s: float = 0.25) -> tuple[int, int]:
    """Kill a worker so many times; returns how many kills met it at work, and how many left an add half done."""
    source, expected, started = random.Random(seed), Expected(), time.monotonic()
    at_work = between = 0
    for number in range(kills):
        version = max((v for v in expected.sure.values() if v is not None), default=0) + 1
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), str(seed + number), str(version), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert worker.stdout
        try:
            assert worker.stdout.readline() == "ready\n"
            time.sleep(source.random() * longest_s)
        finally:
            worker.kill()
            lines = worker.stdout.read().splitlines(keepends=True)
            worker.stdout.close()
            worker.wait()
        for line in lines:
            if line.endswith("\n"):
                expected.hear(line)
        at_work += expected.adding is not None or bool(expected.removing)
        was_adding = expected.adding
        found = examine(folder)
        between += was_adding is not None and was_adding in found.values() and set(found.values()) != {was_adding}
        expected.check(found)
        if number % 5 == 4:  # what was interrupted is completed by doing it again
            with Library(folder, encoder=HashEncoder(DIMENSION)) as library:
                library.add([document(key, version + 1000 * number) for key in KEYS])
            expected.sure = examine(folder)
            assert set(expected.sure.values()) == {version + 1000 * number}
        if time.monotonic() - started > TIME_LIMIT_S:
            pytest.fail(f"only {number + 1} of {kills} kills in {TIME_LIMIT_S} s")
    return at_work, between


def test_five_kills_lose_nothing(tmp_path: Path) -> None:
    at_work, _ = kill_at_random(tmp_path / "library", 5, seed=1)
    assert at_work >= 2


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    at_work, between = kill_at_random(tmp_path / "library", 100, seed=2026)
    assert at_work >= 50
    assert between >= 10, "no kill came between two commits of an add: nothing was tested"
