"""The contract between the measurement and a system: set up, ingest, search, save, load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpora import Document
    from counting import TokenCounter


@dataclass(frozen=True)
class Piece:
    """A retrieved piece of text and where it came from.

    `start` is its offset in the text handed over, where the system tells it.
    """

    document_id: str
    text: str
    start: int | None = None


@dataclass(frozen=True)
class FilledContext:
    """What would stand in front of a model: the text, its pieces and its tokens."""

    text: str
    pieces: tuple[Piece, ...]
    tokens: int


@dataclass(frozen=True)
class Reply:
    """What a system that answers by itself says: short answers, the surest first; none when it abstains."""

    answers: tuple[str, ...]
    abstained: bool


class System(ABC):
    """One system in one documented set-up.

    A fresh process makes one instance and calls `setup`, then either `prepare_ingest` and `ingest` (and perhaps
    `save`), or `load`.
    """

    takes_title = False
    """Whether a document's title is handed over on its own rather than as the text's first line."""

    def __init__(self, variant: str, model: Path, store: Path) -> None:
        """Remember the variant, the embedding model's folder and the folder for the saved index."""
        self.variant = variant
        self.model = model
        self.store = store

    @abstractmethod
    def setup(self) -> None:
        """Import what searching needs and load the model."""

    def prepare_ingest(self) -> None:  # noqa: B027 - optional
        """Import and build what only ingesting needs."""

    @abstractmethod
    def ingest(self, documents: Sequence[Document]) -> None:
        """Split, embed and index the documents until they can be searched."""

    @abstractmethod
    def chunks(self) -> list[str]:
        """Return the text of every chunk, as embedded."""

    @abstractmethod
    def search(self, question: str, limit: int | None = None) -> list[Piece]:
        """Return ranked pieces; without a limit as many as the system returns by default."""

    @abstractmethod
    def save(self) -> None:
        """Write the index to the store folder."""

    @abstractmethod
    def load(self) -> None:
        """Read the index from the store folder and make it ready to search."""

    def default_queries(self) -> dict[str, Callable[[str], Any]]:
        """Return the calls whose latency is measured; the first is the default retrieval."""
        return {"search": self.search}

    def default_context(self, question: str, counter: TokenCounter) -> FilledContext:
        """Return what the system gives to a model when no budget is named."""
        return join(self.search(question), counter)

    def contexts(
        self, question: str, budgets: Sequence[int], depth: int, counter: TokenCounter
    ) -> dict[int, FilledContext]:
        """Return one context for each token budget, filled from one ranked list."""
        ranked = self.search(question, depth)
        return {budget: fill(ranked, budget, counter) for budget in budgets}

    def rankings(self, question: str, depth: int) -> dict[str, list[Piece]]:
        """Return further rankings to be scored, by name; Carrel's only, so that peers are asked for nothing more."""
        return {}

    def ablations(
        self, question: str, budgets: Sequence[int], counter: TokenCounter
    ) -> dict[str, dict[int, FilledContext]]:
        """Return contexts with one stage left out, by name and budget."""
        return {}

    def replies(self, question: str) -> dict[str, Reply]:
        """Return answers that need no other model, by the name of the way of asking."""
        return {}

    def mode_queries(self) -> dict[str, Callable[[str], Any]]:
        """Return the calls timed in the comparison of Carrel's modes."""
        return {}

    def handed_over(self, document: Document) -> str:
        """Return the text that this system indexes for a document."""
        if self.takes_title or not document.title:
            return document.text
        return f"{document.title}\n{document.text}"


def fill(ranked: Sequence[Piece], budget: int, counter: TokenCounter) -> FilledContext:
    """Take pieces whole in rank order, cut the first that does not fit, then stop."""
    taken: list[Piece] = []
    left = budget
    for piece in ranked:
        tokens = counter.count(piece.text)
        if tokens > left:
            if left > 0:
                taken.append(replace(piece, text=counter.cut(piece.text, left)))
            break
        taken.append(piece)
        left -= tokens
    return join(taken, counter)


def join(pieces: Sequence[Piece], counter: TokenCounter) -> FilledContext:
    """Return the pieces as one context; separators between them are not counted."""
    tokens = sum(counter.count(piece.text) for piece in pieces)
    return FilledContext("\n\n".join(piece.text for piece in pieces), tuple(pieces), tokens)
