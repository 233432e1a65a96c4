"""The library: the one object most users meet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

from carrel.asynchronous import AsyncLibrary
from carrel.errors import DocumentNotFoundError, InputError
from carrel.pipeline import Options, Pipeline, Trail
from carrel.types import (
    Answer,
    Citation,
    CitationsEvent,
    Completion,
    Context,
    Document,
    Event,
    FinishReason,
    IngestReport,
    Metadata,
    Passage,
    Prompt,
    SourcesEvent,
    TextEvent,
    Usage,
    UsageEvent,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from carrel.embeddings.base import ChunkEncoder
    from carrel.generation.base import Generator
    from carrel.pipeline import AskOptions, ContextOptions, SearchOptions
    from carrel.retrieval.doctor import Check
    from carrel.retrieval.filters import Where
    from carrel.retrieval.ingest import Source
    from carrel.retrieval.progress import ProgressCallback
    from carrel.retrieval.store.documents import DocumentInfo
    from carrel.retrieval.store.store import Durability, Scope
    from carrel.retrieval.trace import Trace
    from carrel.tokens import Tokenizer

FINISHED: FinishReason = "stop"


def open(  # noqa: A001 -- carrel.open reads as it should
    path: str | Path = ".carrel",
    *,
    tenant: str = "local",
    collection: str = "default",
    encoder: ChunkEncoder | None = None,
    read_only: bool = False,
    create: bool = True,
    durability: Durability = "normal",
) -> Library:
    """Open a library, making it when there is none.

    Parameters
    ----------
    path : the library's folder; it holds ``carrel.db``.
    tenant, collection : whose documents, and which set of them. Nothing reaches across.
    encoder : turns text into vectors; the shipped all-MiniLM-L6-v2 by default.
    read_only : never write.
    create : make the library when it is missing.
    durability : "normal" survives a crash of the process, "full" also a power loss.

    Raises
    ------
    StoreError : the library is missing, newer, damaged, busy or read-only. The text says what to do.
    """
    return Library(
        path,
        tenant=tenant,
        collection=collection,
        encoder=encoder,
        read_only=read_only,
        create=create,
        durability=durability,
    )


class Library(AsyncLibrary):
    """Documents to ask: add, search, assemble a context, answer with citations. Use it as a context manager."""

    def __init__(
        self,
        path: str | Path,
        *,
        tenant: str = "local",
        collection: str = "default",
        encoder: ChunkEncoder | None = None,
        read_only: bool = False,
        create: bool = True,
        durability: Durability = "normal",
    ) -> None:
        from carrel.embeddings.minilm import MiniLM
        from carrel.retrieval.store.store import Scope, Store

        for name, value in (("tenant", tenant), ("collection", collection)):
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"the {name} must be a name, not {value!r}")
        self.path, self.tenant, self.collection = Path(path), tenant, collection
        self.encoder: ChunkEncoder = encoder or MiniLM()
        self._store = Store(self.path, create=create, read_only=read_only, durability=durability)
        self._bind(Scope(0, tenant, collection))

    def _bind(self, scope: Scope) -> None:
        from carrel.retrieval.retrievers import Searcher

        self._bound = scope
        self._bound_pipeline = Pipeline(Searcher(self._store, scope, self.encoder))

    @property
    def _scope(self) -> Scope:
        """The collection; while nobody has made it, it is empty (id 0), and looked for again at each call."""
        if not self._bound.id:
            found = self._store.scope(self.tenant, self.collection, create=False)
            if found is not None:
                self._bind(found)
        return self._bound

    @property
    def _pipeline(self) -> Pipeline:
        _ = self._scope  # the collection may have been made meanwhile
        return self._bound_pipeline

    def _made(self) -> Scope:
        """The collection, made now if this is the first thing to be written to it."""
        if not self._scope.id:
            found = self._store.scope(self.tenant, self.collection, create=True)
            assert found is not None
            self._bind(found)
        return self._bound

    @property
    def tokenizer(self) -> Tokenizer:
        """Counts budgets when no generator is named: the shipped embedder's."""
        return self.encoder.tokenizer

    # -- adding and removing ------------------------------------------------------------------

    def add(
        self, sources: Source | Iterable[Source], *, dry_run: bool = False, progress: ProgressCallback | None = None
    ) -> IngestReport:
        """Add files, folders or Documents; what is unchanged since the last time costs nothing.

        A file that cannot be read is reported in ``skipped`` and never stops the rest. Work is committed
        every few seconds: after an interruption, the same call goes on where it stopped.

        Parameters
        ----------
        sources : a path, a Document, or an iterable mixing them.
        dry_run : only say what would be done.
        progress : called with IngestProgress as work goes on.
        """
        from carrel.retrieval.ingest import Ingest

        scope = self._scope if dry_run else self._made()
        return Ingest(self._store, scope, self.encoder, dry_run=dry_run, progress=progress).run(sources)

    def add_text(self, text: str, *, id: str, title: str = "", metadata: Metadata | None = None) -> IngestReport:  # noqa: A002
        """Add one text under an id of your choice, replacing the document that has it."""
        return self.add(Document(text=text, id=id, title=title, metadata=dict(metadata or {})))

    def sync(
        self, folder: str | Path, *, dry_run: bool = False, progress: ProgressCallback | None = None
    ) -> IngestReport:
        """Make the library hold a folder as it is now: add what is new or changed, remove what has gone."""
        from carrel.retrieval.sync import vanished

        root = Path(os.path.abspath(folder))
        if not root.is_dir():
            raise InputError(f"{root} is not a folder. To add a single file use: carrel add {root}")
        report = self.add(root, dry_run=dry_run, progress=progress)
        gone = vanished(self._store, self._scope, root, report)
        if gone and not dry_run:
            self._remove(gone)
        return replace(report, removed=(*report.removed, *gone))

    def remove(self, ids: str | Iterable[str], *, purge: bool = False) -> tuple[str, ...]:
        """Remove documents: text, vectors and index entries, in one transaction.

        Parameters
        ----------
        purge : also erase their bytes from the files (rewrites the database).

        Raises
        ------
        DocumentNotFoundError : an id is unknown; nothing is removed then.
        """
        wanted = [ids] if isinstance(ids, str) else list(ids)
        from carrel.retrieval.store import documents as stored

        with self._store.read() as connection:
            known = stored.known_hashes(connection, self._scope, wanted)
        for key in wanted:
            if key not in known:
                raise DocumentNotFoundError(f"no document has the id {key!r}. See them with: carrel list")
        removed = self._remove(wanted)
        if purge:
            self.purge()
        return removed

    def _remove(self, keys: Iterable[str]) -> tuple[str, ...]:
        from carrel.retrieval.sync import remove

        return remove(self._store, self._scope, list(keys))

    def purge(self) -> None:
        """Erase the bytes of everything that was removed: no file of the library holds them afterwards."""
        from carrel.retrieval.indexes.lexical import LexicalIndex

        if self._scope.id:
            with self._store.write() as connection:
                LexicalIndex(self._scope).rebuild(connection)
        self._store.erase_freed_pages()

    def reindex(self, *, progress: ProgressCallback | None = None) -> IngestReport:
        """Embed every document with the encoder that this library was opened with, then switch to it.

        The old vectors serve until the last new one is written; an interrupted run goes on where it stopped.
        """
        from carrel.retrieval.reindex import reindex

        return reindex(self._store, self._made(), self.encoder, progress)

    # -- asking -------------------------------------------------------------------------------

    def search(self, question: str, **options: Unpack[SearchOptions]) -> list[Passage]:
        """The passages that fit a question best, with every score they were given.

        Keywords: limit (10), where, retriever, cutoff, recency; see carrel.pipeline.SearchOptions.
        """
        return self._pipeline.search(question, Options(**options), Trail(self.tokenizer.name))

    def context(self, question: str, **options: Unpack[ContextOptions]) -> Context:
        """The passages for a question, rendered inside a token budget that is never exceeded.

        Keywords: those of ``search``, budget (1,000 tokens, headers and separators included) and order
        ("relevance", "sides" or "document"); see carrel.pipeline.ContextOptions.

        Raises
        ------
        EmptyQuestionError, BudgetError, FilterError
        """
        return self._pipeline.context(question, Options(**options), self.tokenizer, Trail(self.tokenizer.name))

    def ask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """Answer from the documents, with verified citations, or say that they do not answer.

        Keywords: those of ``context``, and generator, what writes the answer; by default the sentences
        that fit best are quoted.
        """
        generator, trail, context = self._prepare(question, options)
        completion = generator.complete(Prompt(context.question, context.passages))
        return self._answer(context, completion, trail)

    def stream(self, question: str, **options: Unpack[AskOptions]) -> Iterator[Event]:
        """The answer as events: sources, text, citations, usage, always in this order. Keywords as in ``ask``."""
        generator, trail, context = self._prepare(question, options)
        yield SourcesEvent(context)
        text: list[str] = []
        citations: tuple[Citation, ...] = ()
        usage, reason = Usage(), FINISHED
        for event in generator.stream(Prompt(context.question, context.passages)):
            if isinstance(event, TextEvent):
                text.append(event.text)
                yield event
            elif isinstance(event, CitationsEvent):
                citations = event.citations
            elif isinstance(event, UsageEvent):
                usage, reason = event.usage, event.finish_reason
        completion = Completion("".join(text), usage, reason, generator.name, citations)
        answer = self._answer(context, completion, trail)
        yield CitationsEvent(answer.citations)
        yield UsageEvent(answer.usage, answer.ledger, reason)

    def _prepare(self, question: str, options: AskOptions) -> tuple[Generator, Trail, Context]:
        chosen = options.get("generator")
        rest = cast("ContextOptions", {name: value for name, value in options.items() if name != "generator"})
        generator = chosen or self._extractive()
        trail = Trail(generator.tokenizer.name)
        return generator, trail, self._pipeline.context(question, Options(**rest), generator.tokenizer, trail)

    def _extractive(self) -> Generator:
        from carrel.embeddings.base import TextEncoder
        from carrel.generation.extractive import ExtractiveGenerator

        if not isinstance(self.encoder, TextEncoder):
            raise InputError(
                f"the built-in answerer needs a plain text encoder, not {self.encoder.name}. Name a generator."
            )
        return ExtractiveGenerator(self.encoder)

    def _answer(self, context: Context, completion: Completion, trail: Trail) -> Answer:
        from carrel.generation.citations import verified

        citations = verified(completion.citations, self.document, context)
        abstained = completion.finish_reason == "abstained"
        counted = "1 citation" if len(citations) == 1 else f"{len(citations)} citations"
        reason = "abstained: no sentence fits well enough" if abstained else f"{counted} verified"
        trail.add(
            "answer",
            len(context.passages),
            len(citations),
            reason,
            (completion.usage.prompt_tokens, completion.usage.completion_tokens),
            {"generator": completion.model, "confidence": completion.confidence},
        )
        return Answer(
            context.question,
            completion.text,
            () if abstained else citations,
            context,
            abstained,
            completion.confidence,
            completion.usage,
            trail.ledger(),
        )

    # -- looking ------------------------------------------------------------------------------

    def documents(self, *, where: Where | None = None) -> list[DocumentInfo]:
        """What the collection holds, without the texts."""
        from carrel.retrieval.store import documents as stored

        with self._store.read() as connection:
            return stored.list_documents(connection, self._scope, where)

    def document(self, id: str) -> Document:  # noqa: A002
        """A document with its exact text.

        Raises
        ------
        DocumentNotFoundError
        """
        from carrel.retrieval.store import documents as stored

        with self._store.read() as connection:
            found = stored.read_document(connection, self._scope, id)
        if found is None:
            raise DocumentNotFoundError(f"no document has the id {id!r}. See them with: carrel list")
        return found

    def why(self, document_id: str, question: str, **options: Unpack[ContextOptions]) -> Trace:
        """Follow one document through every stage for a question, and say where it fell out."""
        from carrel.retrieval.trace import trace

        return trace(self._pipeline, document_id, question, Options(**options), self.tokenizer)

    def doctor(self, *, repair: bool = False) -> list[Check]:
        """Check the library's files, encoder and indexes; with ``repair``, rebuild what is derived."""
        from carrel.retrieval.doctor import examine

        return examine(self._pipeline.searcher, repair=repair)

    def close(self) -> None:
        """Release the database. The library cannot be used afterwards."""
        self._store.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
