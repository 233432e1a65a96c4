"""Figures of an ingest, told as it goes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from carrel.app import progress
from carrel.retrieval.progress import IngestProgress


def _at(done: int, total: int | None, seconds: float, bytes_done: int = 0, bytes_total: int | None = None) -> str:
    at = IngestProgress("embedding", done, total, 0, 0, seconds, "", bytes_done, bytes_total)
    return progress._figures(at, total)


def test_figures_are_of_the_text_where_its_length_is_known() -> None:
    assert _at(0, 1, 10.0, 250_000, 1_000_000) == "0 of 1 document, 25 %, 25 kB/s, 30 s left"
    assert _at(2, 23, 10.0, 50_000_000, 100_000_000) == "2 of 23 documents, 50 %, 5.0 MB/s, 10 s left"
    assert _at(12, 23, 4.0, 0, 1_000) == "12 of 23 documents"
    assert _at(5, None, 10.0, 1_000_000) == "5 documents, 100 kB/s"


def test_figures_of_documents_alone() -> None:
    assert _at(20, 30, 10.0) == "20 of 30 documents, 2/s, 5 s left"
    assert _at(1, 1, 0.1, 5, 5) == "1 of 1 document"
    assert _at(0, 4, 3.0) == "0 of 4 documents"


def test_the_bar_follows_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int | None, str]] = []
    monkeypatch.setattr(progress, "_nothing", lambda *figures: told.append(figures))
    with progress.ingest_progress(quiet=True) as callback:
        callback(IngestProgress("embedding", 0, 1, 9, 9, 0.5, "a", 25, 100))
        callback(IngestProgress("reindexing", 3, 9, 9, 9, 0.5))
    assert [(done, total) for _, done, total, _ in told] == [(25, 100), (3, 9)]


def test_brackets_in_names_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, _environ={"TERM": "xterm"})
    monkeypatch.setattr(progress, "stderr", lambda: console)
    with progress.shown_progress(quiet=False) as tell:
        tell("reading [/b] notes[1].txt", 1, 2, "[/i] half")
    assert "reading [/b] notes[1].txt" in screen.getvalue() and "[/i] half" in screen.getvalue()
