"""Carrel: `carrel.open`, `add`, `context`, with its defaults or in the fast mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from systems.base import FilledContext, Piece, Reply, System

if TYPE_CHECKING:
    from corpora import Document
    from counting import TokenCounter


class CarrelSystem(System):
    """The library a user gets from `carrel.open(folder)`; the folder is the saved index.

    The variant `fast` opens it with `mode="fast"`, the variant `default` with nothing.
    """

    takes_title = True

    @property
    def _reads(self) -> bool:
        """Whether the reader reads what was found."""
        return self.variant != "fast"

    def _open(self) -> None:
        self._library = self._carrel.open(self.store, **({} if self._reads else {"mode": "fast"}))

    def setup(self) -> None:
        """Import Carrel; its models are loaded by the first call that needs them."""
        import carrel

        self._carrel = carrel

    def ingest(self, documents: Sequence[Document]) -> None:
        """Add the documents; they are on disk when this returns."""
        self._open()
        report = self._library.add([self._carrel.Document(id=d.id, title=d.title, text=d.text) for d in documents])
        if report.skipped:
            raise RuntimeError(f"{len(report.skipped)} documents were skipped: {report.skipped[:3]}")

    def chunks(self) -> list[str]:
        """Return nothing: chunk texts are not part of the public surface."""
        return []

    def search(self, question: str, limit: int | None = None) -> list[Piece]:
        """Return ranked passages."""
        passages = self._library.search(question, limit=limit) if limit else self._library.search(question)
        return [piece for passage in passages for piece in pieces_of(passage)]

    def default_queries(self) -> dict[str, Callable[[str], Any]]:
        """Measure the context that goes to a model, and the plain search beside it."""
        return {"context": self._library.context, "search": self.search}

    def default_context(self, question: str, counter: TokenCounter) -> FilledContext:
        """Return the rendered context at the default budget."""
        return rendered(self._library.context(question), counter)

    def contexts(
        self, question: str, budgets: Sequence[int], depth: int, counter: TokenCounter
    ) -> dict[int, FilledContext]:
        """Return the rendered context at each budget; headers and separators count."""
        return {b: rendered(self._library.context(question, budget=b), counter) for b in budgets}

    def rankings(self, question: str, depth: int) -> dict[str, list[Piece]]:
        """Return the search itself, and beside it the cosine of the vectors alone."""
        dense = self._library.search(question, limit=depth, retriever="dense", mode="fast")
        return {
            "search": self.search(question, depth),
            "dense": [piece for passage in dense for piece in pieces_of(passage)],
        }

    def ablations(
        self, question: str, budgets: Sequence[int], counter: TokenCounter
    ) -> dict[str, dict[int, FilledContext]]:
        """Return the contexts of reranked passages that are not pruned."""
        if not self._reads:
            return {}
        return {
            "no_prune": {
                b: rendered(self._library.context(question, budget=b, pruner="none"), counter) for b in budgets
            }
        }

    def replies(self, question: str) -> dict[str, Reply]:
        """Return the reader's answer, and the one that it gives when it may not abstain."""
        if not self._reads:
            return {}  # the fast mode quotes whole sentences
        from carrel.generation.reader import ReaderGenerator

        always = ReaderGenerator(tokenizer=self._library.tokenizer, threshold=0.0)
        found = {"ask": self._library.ask(question), "always": self._library.ask(question, generator=always)}
        return {
            name: Reply(tuple(short.text for short in answer.answers), answer.abstained)
            for name, answer in found.items()
        }

    def mode_queries(self) -> dict[str, Callable[[str], Any]]:
        """Measure asking, the context and the search; where the reader reads, also asking with the best 100 read."""
        queries = {"ask": self._library.ask, "context": self._library.context, "search": self.search}
        if self._reads:
            queries["thorough"] = partial(self._library.ask, mode="thorough")
        return queries

    def save(self) -> None:
        """Close the library; everything is in its folder already."""
        self._library.close()

    def load(self) -> None:
        """Open the library's folder."""
        self._open()


def rendered(context: Any, counter: TokenCounter) -> FilledContext:  # noqa: ANN401 - a carrel.Context
    """Return what is scored: the rendered text, all of its tokens, and the source spans in it."""
    pieces = tuple(piece for passage in context.passages for piece in pieces_of(passage))
    return FilledContext(context.text, pieces, counter.count(context.text))


def pieces_of(passage: Any) -> Iterator[Piece]:  # noqa: ANN401 - a carrel.Passage
    """Yield a passage's source spans: the whole passage, or only the parts that pruning kept."""
    kept = getattr(passage, "kept", None)
    if kept is None:
        yield Piece(passage.document_id, passage.text, passage.start)
        return
    for span in kept:
        start, end = (span.start, span.end) if hasattr(span, "start") else span
        yield Piece(passage.document_id, passage.text[start - passage.start : end - passage.start], start)
