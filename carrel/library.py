"""The library: the one object most users meet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from carrel.asynchronous import streaming_twin, twin
from carrel.embeddings.base import ChunkEncoder
from carrel.errors import DocumentNotFoundError, InputError
from carrel.inputs import check_kind, check_source, check_text, check_texts, library_folder
from carrel.modes import DEFAULT_MODE, make_mode
from carrel.options import AskOptions, ContextOptions, Options, SearchOptions, check_options
from carrel.pipeline import Pipeline, Trail
from carrel.retrieval.walk import MAX_FILE_MB
from carrel.tokens import Tokenizer, shipped_tokenizer
from carrel.types import (
    Answer,
    Context,
    Document,
    Event,
    IngestReport,
    Metadata,
    Passage,
)

if TYPE_CHECKING:
    from datetime import tzinfo

    from typing_extensions import Unpack

    from carrel.agents.tools import Notes, Tool
    from carrel.generation.base import Generator
    from carrel.generation.preparing import Asked
    from carrel.memory.conversation import ConversationMemory
    from carrel.retrieval.doctor import Check
    from carrel.retrieval.filters import Where
    from carrel.retrieval.indexes.choice import VectorSearch
    from carrel.retrieval.ingest import Source
    from carrel.retrieval.progress import ProgressCallback
    from carrel.retrieval.store.documents import DocumentInfo
    from carrel.retrieval.store.store import Durability, Scope
    from carrel.retrieval.trace import Trace


def open(  # noqa: A001 -- carrel.open reads as it should
    path: str | Path = ".carrel",
    *,
    tenant: str = "local",
    collection: str = "default",
    encoder: ChunkEncoder | str | None = None,
    tokenizer: Tokenizer | None = None,
    read_only: bool = False,
    create: bool = True,
    durability: Durability = "normal",
    mode: str = DEFAULT_MODE,
    vectors: str | VectorSearch = "float32",
) -> Library:
    """Open a library, making it when there is none.

    Parameters
    ----------
    path : the library's folder; it holds ``carrel.db``.
    tenant, collection : whose documents, and which set of them. Nothing reaches across.
    encoder : turns text into vectors; the shipped all-MiniLM-L6-v2 by default. A text names one: a folder, or the
        address of a server with its model (carrel.embeddings.choose.encoder_of).
    tokenizer : counts budgets where no generator is named, whatever the encoder; all-MiniLM-L6-v2's by default.
    read_only : never write.
    create : make the library when it is missing.
    durability : "normal" survives a crash of the process, "full" also a power loss.
    mode : what a call does that names none: "fast" (no reader), "balanced" or "thorough".
    vectors : as what they are held in memory to be searched: "float32", "int8", "binary", or a VectorSearch.

    Raises
    ------
    StoreError : the library is missing, newer, damaged, busy or read-only. The text says what to do.
    InputError : a parameter is of no use, such as the address of a server for a path.
    """
    return Library(
        path,
        tenant=tenant,
        collection=collection,
        encoder=encoder,
        tokenizer=tokenizer,
        read_only=read_only,
        create=create,
        durability=durability,
        mode=mode,
        vectors=vectors,
    )


class Library:
    """Documents to ask: add, search, assemble a context, answer with citations. Use it as a context manager."""

    def __init__(
        self,
        path: str | Path,
        *,
        tenant: str = "local",
        collection: str = "default",
        encoder: ChunkEncoder | str | None = None,
        tokenizer: Tokenizer | None = None,
        read_only: bool = False,
        create: bool = True,
        durability: Durability = "normal",
        mode: str = DEFAULT_MODE,
        vectors: str | VectorSearch = "float32",
    ) -> None:
        from carrel.embeddings.choose import encoder_of
        from carrel.retrieval.indexes.choice import vector_search
        from carrel.retrieval.store.store import Scope, Store

        for name, value in (("tenant", tenant), ("collection", collection)):
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"the {name} must be a name, not {value!r}")
        self.path, self.tenant, self.collection = library_folder(path), tenant, collection
        self.mode = make_mode(mode).name
        encoder = encoder_of(encoder) if isinstance(encoder, str) else encoder
        check_kind("an encoder", encoder, ChunkEncoder)
        check_kind("a tokenizer", tokenizer, Tokenizer)
        self.encoder: ChunkEncoder = encoder or encoder_of("shipped")
        self.tokenizer: Tokenizer = tokenizer or shipped_tokenizer()
        self._vectors = vector_search(vectors, self.encoder)
        self._store = Store(self.path, create=create, read_only=read_only, durability=durability)
        self._bind(Scope(0, tenant, collection))

    def _bind(self, scope: Scope) -> None:
        from carrel.retrieval.retrievers import Searcher

        self._bound = scope
        self._bound_pipeline = Pipeline(Searcher(self._store, scope, self.encoder, self._vectors))

    @property
    def _scope(self) -> Scope:
        """The collection; while nobody has made it, it is empty (id 0), and looked for again at each call."""
        self._store.check_open()
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

    # -- adding and removing ------------------------------------------------------------------

    def add(
        self,
        sources: Source | Iterable[Source],
        *,
        dry_run: bool = False,
        max_file_mb: float = MAX_FILE_MB,
        progress: ProgressCallback | None = None,
    ) -> IngestReport:
        """Add files, folders or Documents; what is unchanged since the last time costs nothing.

        A file that cannot be read is reported in ``skipped`` and never stops the rest. Work is committed
        every few seconds: after an interruption, the same call goes on where it stopped.

        Parameters
        ----------
        sources : a path, a Document, or an iterable mixing them.
        dry_run : only say what would be done.
        max_file_mb : a larger file is skipped, unread (megabytes of 1,000,000 bytes).
        progress : called with IngestProgress as work goes on.
        """
        from carrel.retrieval.ingest import Ingest

        scope = self._scope if dry_run else self._made()
        run = Ingest(self._store, scope, self.encoder, dry_run=dry_run, max_file_mb=max_file_mb, progress=progress)
        return run.run(sources)

    def add_text(self, text: str, *, id: str, title: str = "", metadata: Metadata | None = None) -> IngestReport:  # noqa: A002
        """Add one text under an id of your choice, replacing the document that has it."""
        for what, value in (("the text of a document", text), ("its id", id), ("its title", title)):
            check_text(what, value)
        check_kind("metadata", metadata, Mapping)
        return self.add(Document(text=text, id=id, title=title, metadata=dict(metadata or {})))

    def sync(
        self,
        folder: str | Path,
        *,
        dry_run: bool = False,
        max_file_mb: float = MAX_FILE_MB,
        progress: ProgressCallback | None = None,
    ) -> IngestReport:
        """Make the library hold a folder as it is now: add what is new or changed, remove what has gone.

        Only documents that were read from its files go with them; one given by hand stays. Keywords as in ``add``.
        """
        from carrel.retrieval.sync import remove, vanished

        root = Path(os.path.abspath(check_source("the folder to follow", folder)))
        if not root.is_dir():
            raise InputError(f"{root} is not a folder. To add a single file use: carrel add {root}")
        report = self.add(root, dry_run=dry_run, max_file_mb=max_file_mb, progress=progress)
        gone = vanished(self._store, self._scope, root, report)
        if gone and not dry_run:
            remove(self._store, self._scope, gone, progress=progress)
        return replace(report, removed=(*report.removed, *gone))

    def remove(
        self, ids: str | Iterable[str], *, purge: bool = False, progress: ProgressCallback | None = None
    ) -> tuple[str, ...]:
        """Remove documents: text, vectors and index entries; many in several transactions, each document in one.

        Parameters
        ----------
        purge : also erase their bytes from the files (rewrites the database).
        progress : called with IngestProgress as work goes on.

        Raises
        ------
        DocumentNotFoundError : an id is unknown; nothing is removed then.
        """
        from carrel.retrieval.sync import remove

        wanted = [ids] if isinstance(ids, str) else check_texts("the ids", "an id", ids)
        removed = remove(self._store, self._scope, wanted, known_only=True, progress=progress)
        if purge:
            self.purge()
        return removed

    def purge(self) -> None:
        """Erase the bytes of all that was removed, by whomever: no file of the library holds them afterwards.

        It works on the whole file, every tenant's and collection's part of it.
        """
        from carrel.retrieval.sync import purge

        purge(self._store)

    def reindex(self, *, progress: ProgressCallback | None = None) -> IngestReport:
        """Embed every document with the encoder that this library was opened with, then switch to it.

        The old vectors serve until the last new one is written; an interrupted run goes on where it stopped.
        """
        from carrel.retrieval.reindex import reindex

        return reindex(self._store, self._made(), self.encoder, progress)

    # -- asking -------------------------------------------------------------------------------

    def _options(self, chosen: ContextOptions | SearchOptions) -> Options:
        options = Options(**chosen)
        return options if options.mode else replace(options, mode=self.mode)

    def search(self, question: str, **options: Unpack[SearchOptions]) -> list[Passage]:
        """The passages that fit a question best, with every score they were given.

        Keywords: limit (10), where, retriever, cutoff, recency, mode, reranker; see carrel.options.SearchOptions.
        """
        check_options("search", options, SearchOptions)
        return self._pipeline.search(question, self._options(options), Trail(self.tokenizer))

    def context(self, question: str, **options: Unpack[ContextOptions]) -> Context:
        """The passages for a question, rendered inside a token budget that is never exceeded.

        Keywords: those of ``search``, budget (1,000 tokens, headers and separators included), order
        ("relevance", "sides" or "document") and pruner; see carrel.options.ContextOptions.

        Raises
        ------
        EmptyQuestionError, BudgetError, FilterError
        """
        check_options("context", options, ContextOptions)
        return self._pipeline.context(question, self._options(options), Trail(self.tokenizer))

    def ask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """Answer from the documents, with verified citations, or say that they do not answer.

        Keywords: those of ``context``; generator, what writes the answer (by default the reader finds it and its
        sentence is quoted); history, the turns before this question (see ``Answer.turns``); memory, what is known
        of the user (see ``memory``), which then keeps question and answer unless remember is False.
        """
        check_options("ask", options, AskOptions)
        return self._asked(question, options).answer()

    def stream(self, question: str, **options: Unpack[AskOptions]) -> Iterator[Event]:
        """The answer as events: sources, text, citations, usage, always in this order. Keywords as in ``ask``.

        The text is passed on as it comes, before its citations are checked. Between its pieces come the marks of
        each sentence that is finished, where a generator writes marks and cites nothing itself.
        """
        check_options("stream", options, AskOptions)
        yield from self._asked(question, options).stream()

    def _asked(self, question: str, options: AskOptions) -> Asked:
        """What ``ask`` and ``stream`` begin with."""
        from carrel.generation.preparing import passage_options, prepare

        return prepare(self, self._pipeline, question, options, self._options(passage_options(options)))

    def memory(
        self, *, user: str, session: str = "default", generator: Generator | None = None,
        zone: str | tzinfo | None = None,
    ) -> ConversationMemory:  # fmt: skip
        """The memory of a user's conversations, in this library's file; it lasts as long as the library is open.

        Parameters
        ----------
        user, session : whose memory, and which conversation. No user reaches another's, nor another tenant's.
        generator : rewrites follow-up questions and writes notes in the background; needless.
        zone : the user's time zone, such as "Europe/Zurich"; that of this machine by default.
        """
        from carrel.memory.conversation import ConversationMemory
        from carrel.memory.store import stream_of

        stream, own = stream_of(self._store, self.encoder), self.tokenizer
        whose = {"tenant": self.tenant, "user": user, "session": session, "zone": zone}
        return ConversationMemory(stream, own, generator=generator, **whose)  # type: ignore[arg-type]

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
            found = stored.read_document(connection, self._scope, check_text("an id", id))
        if found is None:
            raise DocumentNotFoundError(f"no document has the id {id!r}. See them with: carrel list")
        return found

    def as_tools(
        self, *, budget: int = 1000, notes: Notes | None = None, memory: ConversationMemory | None = None
    ) -> tuple[Tool, ...]:
        """Search, read, list, remember and recall, for whatever calls functions; keywords: carrel.agents.tools."""
        from carrel.agents.tools import library_tools

        return library_tools(self, budget=budget, notes=notes, memory=memory)

    def why(self, document_id: str, question: str, **options: Unpack[ContextOptions]) -> Trace:
        """Follow one document through every stage for a question, and say where it fell out."""
        from carrel.retrieval.trace import trace

        check_options("why", options, ContextOptions)
        check_text("an id", document_id)
        return trace(self._pipeline, document_id, question, self._options(options), self.tokenizer)

    def doctor(self, *, repair: bool = False) -> list[Check]:
        """Check the library's files, encoder and indexes; with ``repair``, rebuild what is derived."""
        from carrel.retrieval.doctor import examine

        return examine(self._pipeline.searcher, repair=repair)

    def close(self) -> None:
        """Release the database. The library cannot be used afterwards; closing it again does nothing."""
        self._store.close()

    def __enter__(self) -> Library:
        self._store.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the same without blocking the event loop -----------------------------------------------

    aadd = twin(add)
    aadd_text = twin(add_text)
    async_folder = twin(sync)  # the rule would make it a keyword of Python
    aremove = twin(remove)
    apurge, areindex = twin(purge), twin(reindex)
    asearch = twin(search)
    acontext = twin(context)
    aask = twin(ask)
    astream = streaming_twin(stream)
    adocuments, adocument = twin(documents), twin(document)
    amemory, awhy = twin(memory), twin(why)
    adoctor = twin(doctor)
    aclose, __aenter__, __aexit__ = twin(close), twin(__enter__), twin(__exit__)
