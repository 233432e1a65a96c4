"""Progress on stderr: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from carrel.app.console import note, stderr
from carrel.app.rendering import counted

if TYPE_CHECKING:
    from carrel.retrieval.progress import IngestProgress, ProgressCallback

SECONDS_BETWEEN_LINES = 3.0
Told = Callable[[str, int, int | None, str], None]
"""Called with what is done, steps done, steps in all, and further figures."""


@contextmanager
def shown_progress(quiet: bool) -> Iterator[Told]:
    """Where to tell progress, while the block runs."""
    console = stderr()
    if quiet:
        yield _nothing
    elif console.is_terminal and not console.is_dumb_terminal:
        said, figures = (TextColumn(shown, markup=False) for shown in ("{task.description}", "{task.fields[figures]}"))
        with Progress(SpinnerColumn(), said, BarColumn(24), figures, console=console, transient=True) as bar:
            task = bar.add_task("opening", total=None, figures="")

            def tell(what: str, done: int, total: int | None, figures: str) -> None:
                bar.update(task, description=what, completed=done, total=total, figures=figures)

            yield tell
    else:
        yield _Lines().tell


def _nothing(what: str, done: int, total: int | None, figures: str) -> None:
    """Tell nobody."""


class _Lines:
    """Plain lines, not too many."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def tell(self, what: str, done: int, total: int | None, figures: str) -> None:
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            note(f"{what}: {figures}" if figures else what)


@contextmanager
def ingest_progress(quiet: bool) -> Iterator[ProgressCallback]:
    """A callback for add, sync and reindex."""
    with shown_progress(quiet) as tell:

        def callback(at: IngestProgress) -> None:
            total = at.documents_total
            if total is not None and total < at.documents_done:  # one file can hold many documents
                total = None
            if at.bytes_total is None:
                tell(at.stage, at.documents_done, total, _figures(at, total))
            else:
                tell(at.stage, at.bytes_done, at.bytes_total, _figures(at, total))

        yield callback


def _figures(at: IngestProgress, total: int | None) -> str:
    done = counted(at.documents_done, "document")
    parts = [done if total is None else f"{at.documents_done:,} of {counted(total, 'document')}"]
    if at.seconds < 1 or at.documents_done == total:
        return parts[0]
    if at.bytes_done:
        if at.bytes_total:
            parts.append(f"{100 * at.bytes_done // at.bytes_total} %")
        parts.append(f"{_size(at.bytes_per_s)}/s")
    elif at.bytes_total is None and at.documents_done:
        parts.append(f"{at.documents_per_s:,.0f}/s")
    if at.seconds_left is not None:
        parts.append(f"{_duration(at.seconds_left)} left")
    return ", ".join(parts)


def _size(length: float) -> str:
    return f"{length / 1e6:,.1f} MB" if length >= 1e6 else f"{length / 1e3:,.0f} kB"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
