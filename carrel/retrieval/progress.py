"""What an ingest tells of itself while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far an ingest has come.

    Documents are counted as they were given, a file as one whatever it holds, and as done when they are
    written, unchanged or skipped. ``documents_total`` is None where it cannot be known (an iterator).

    Bytes measure the work, also inside a document: a file has its size, a Document the length of its text. What
    turns out to need no work, being unchanged or skipped, leaves ``bytes_total``.
    """

    stage: str
    documents_done: int
    documents_total: int | None
    chunks_done: int
    tokens_done: int
    seconds: float
    current: str = ""
    bytes_done: int = 0
    bytes_total: int | None = None

    @property
    def documents_per_s(self) -> float:
        return self.documents_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def bytes_per_s(self) -> float:
        return self.bytes_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far, by bytes where they are known; None before anything is done."""
        for done, total in ((self.bytes_done, self.bytes_total), (self.documents_done, self.documents_total)):
            if total is not None:
                left = max(0, total - done)
                return left * self.seconds / done if done else None
        return None


ProgressCallback = Callable[[IngestProgress], None]
