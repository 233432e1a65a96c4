"""What an ingest tells of itself while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far an ingest has come.

    Documents are counted as they were given, a file as one whatever it holds, and as done when they are
    written, unchanged or skipped. ``documents_total`` is None where it cannot be known (an iterator).
    """

    stage: str
    documents_done: int
    documents_total: int | None
    chunks_done: int
    tokens_done: int
    seconds: float
    current: str = ""

    @property
    def documents_per_s(self) -> float:
        return self.documents_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_per_s(self) -> float:
        return self.tokens_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        if self.documents_total is None or not self.documents_done:
            return None
        return (self.documents_total - self.documents_done) / self.documents_per_s


ProgressCallback = Callable[[IngestProgress], None]
