"""From sources to the store: what changed is read, chunked, embedded and committed in small transactions."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from carrel.asynchronous import stop_if_cancelled
from carrel.embeddings.base import ChunkEncoder, Vectors
from carrel.embeddings.language import mismatch
from carrel.errors import DocumentError, InputError
from carrel.inputs import check_flag, check_progress, check_source, well_formed
from carrel.retrieval.chunking import ChunkingOptions, chunk_document
from carrel.retrieval.indexes.base import shorten_log
from carrel.retrieval.indexes.lexical import LexicalIndex
from carrel.retrieval.loaders import made_by_loader
from carrel.retrieval.progress import IngestProgress, ProgressCallback
from carrel.retrieval.reading import read_file, storable_path
from carrel.retrieval.slices import encode_in_slices
from carrel.retrieval.storable import storable
from carrel.retrieval.store import documents as stored
from carrel.retrieval.store import files
from carrel.retrieval.store.files import FileRecord
from carrel.retrieval.store.store import Scope, Store
from carrel.retrieval.walk import MAX_FILE_MB, FoundFile, walk
from carrel.types import Chunk, Document, IngestReport, Skipped

CHUNKS_A_COMMIT = 256
_NOT_PROSE = ("text/x-source", "text/csv", "text/tab-separated-values")  # their language is not judged
Source = str | Path | Document


@dataclass(slots=True)
class _Work:
    """One unit of a transaction: the new documents of one source, and what else changes with them."""

    documents: list[Document] = field(default_factory=list)
    file: FileRecord | None = None  # written with the last of its documents
    whole_file: bool = True  # every document of the file was read, so others of that source are gone
    size_bytes: int = 0  # of the file or the text, for progress


@dataclass(slots=True)
class _Outcome:
    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    chunks: int = 0
    embedded: int = 0
    tokens: int = 0


class Ingest:
    """One run of adding documents to a collection.

    Every transaction leaves the library whole: a document is in with all its chunks, vectors and index
    entries, or not at all. A run that is stopped, by Ctrl-C, by force or because its task was cancelled, is
    continued by running it again: what was committed is found unchanged and skipped.
    """

    def __init__(
        self,
        store: Store,
        scope: Scope,
        encoder: ChunkEncoder,
        *,
        options: ChunkingOptions | None = None,
        dry_run: bool = False,
        max_file_mb: float = MAX_FILE_MB,
        progress: ProgressCallback | None = None,
    ) -> None:
        if isinstance(max_file_mb, bool) or not isinstance(max_file_mb, (int, float)) or not max_file_mb > 0:
            raise InputError(f"max_file_mb is the most megabytes a file may have, above 0, not {max_file_mb!r}")
        check_flag("dry_run", dry_run)
        check_progress(progress)
        self.store, self.scope, self.encoder = store, scope, encoder
        self.options = options or _chunking(encoder.max_chunk_tokens)
        self.dry_run, self.max_file_mb, self.progress = dry_run, max_file_mb, progress
        self.lexical = LexicalIndex(scope)
        self.outcome = _Outcome()
        self.started = time.perf_counter()
        self.total: int | None = None
        self.done = 0
        self.bytes_total: int | None = None
        self.bytes_done = 0
        self._failure: Exception | None = None  # of the caller's iterator
        self._seen: set[str] = set()
        self._languages: dict[str, list[str]] = {}

    # -- what to add --------------------------------------------------------------------------

    def run(self, sources: Source | Iterable[Source]) -> IngestReport:
        """Add every source; returns what was added, updated, unchanged and skipped.

        An iterator that raises ends the run: what it gave is added, then its exception is raised.
        """
        with self.store.read() as connection:
            stored.check_encoder(connection, self.scope, self.encoder)
        batch: list[_Work] = []
        pending = 0
        try:
            for work in self._works(sources):
                stop_if_cancelled()
                prepared = self._changed(work)
                if prepared is None:
                    continue
                batch.append(prepared)
                pending += sum(max(1, len(document.text) // 450) for document in prepared.documents)
                if pending >= CHUNKS_A_COMMIT:
                    written, batch, pending = batch, [], 0
                    self._commit(written)
        except InputError:  # of a source further on: what came before it is not lost
            self._commit(batch)
            raise
        self._commit(batch)
        if self._failure is not None:
            raise self._failure
        return self.report()

    def report(self) -> IngestReport:
        """What has been done so far."""
        outcome = self.outcome
        known = " and ".join(sorted(self.encoder.languages))
        warnings = [
            f"{len(ids)} document{'s' if len(ids) > 1 else ''} in {language} (such as {ids[0]}):"
            f" {self.encoder.name} knows {known}, so searches in them rest on their words alone."
            " To embed them with another model, open the library from Python: carrel.open(path, encoder=...)"
            for language, ids in sorted(self._languages.items())
        ]
        return IngestReport(
            added=tuple(outcome.added),
            updated=tuple(outcome.updated),
            unchanged=tuple(outcome.unchanged),
            removed=tuple(outcome.removed),
            skipped=tuple(outcome.skipped),
            warnings=(*outcome.warnings, *warnings),
            chunks=outcome.chunks,
            embedded=outcome.embedded,
            tokens=outcome.tokens,
            tokenizer=self.encoder.tokenizer.name,
            seconds=time.perf_counter() - self.started,
            planned=self.dry_run,
        )

    def _works(self, sources: Source | Iterable[Source]) -> Iterator[_Work]:
        """Files and documents, in the order given; neighbouring paths are walked together."""
        if isinstance(sources, (str, Path, Document, bytes)) or not isinstance(sources, Iterable):
            sources = [sources]
        if isinstance(sources, Sequence):
            self.total = sum(isinstance(source, Document) for source in sources)
            self.bytes_total = sum(_size(source) for source in sources if isinstance(source, Document))
        for kind, group in groupby(self._given(sources), _kind):
            if kind == "document":
                yield from (
                    _Work([source], size_bytes=_size(source)) for source in group if isinstance(source, Document)
                )
            else:
                yield from self._files([check_source("a source", source).absolute() for source in group])

    def _given(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The sources until the iterator fails; what it raised is kept."""
        try:
            yield from sources
        except Exception as error:
            self._failure = error

    def _files(self, paths: Sequence[Path]) -> Iterator[_Work]:
        self._tell("listing")
        found: list[FoundFile] = []
        for item in walk([Path(os.path.normpath(path)) for path in paths]):
            if isinstance(item, Skipped):
                self.outcome.skipped.append(item)
            else:
                found.append(item)
        if self.total is not None and self.bytes_total is not None:
            self.total += len(found)
            self.bytes_total += sum(file.size_bytes for file in found)
        for file in found:
            work = self._file(file)
            if work is None:
                self._settled(file.path, file.size_bytes)
            else:
                yield work

    def _file(self, file: FoundFile) -> _Work | None:
        """The documents of a file; None when it is as it was, or cannot be read."""
        path = storable_path(file.path)
        with self.store.read() as connection:
            known = files.recorded(connection, self.scope, path)
        reading = read_file(file, known, self.max_file_mb)
        self.outcome.skipped += reading.skipped
        self.outcome.warnings += reading.warnings
        if reading.unchanged:
            self._unchanged_file(path, reading.record)
        elif reading.record is not None:
            return _Work(reading.documents, reading.record, not reading.skipped, file.size_bytes)
        return None

    def _unchanged_file(self, path: str, touched: FileRecord | None) -> None:
        with self.store.read() as connection:
            keys = self._of_file(connection, path)
        self.outcome.unchanged += keys
        self._seen.update(keys)
        if touched is not None and not self.dry_run:
            with self.store.write() as connection:
                files.record(connection, self.scope, touched)

    def _of_file(self, connection: Connection, path: str) -> list[str]:
        """Ids of the documents that were read from a file; one given by hand may name it as its source too."""
        extractors = stored.extractors_of_source(connection, self.scope, path)
        return [key for key, extractor in extractors.items() if made_by_loader(extractor)]

    # -- what of it is new --------------------------------------------------------------------

    def _changed(self, work: _Work) -> _Work | None:
        """The work without its unchanged documents; None when nothing is left to write."""
        fresh: list[Document] = []
        for document in work.documents:
            try:
                fresh.append(self._storable(document))
            except DocumentError as error:
                name = document.id or document.title or "(no id)"
                self.outcome.skipped.append(Skipped(well_formed(str(name)), str(error)))
        with self.store.read() as connection:
            known = stored.known_hashes(connection, self.scope, [document.id for document in fresh])
        changed: list[Document] = []
        for document in fresh:
            before = known.get(document.id)
            if before is None:
                self.outcome.added.append(document.id)
            elif before == stored.content_hash(document):
                self.outcome.unchanged.append(document.id)
                continue
            else:
                self.outcome.updated.append(document.id)
            changed.append(document)
            if "\ufffd" in document.text and document not in work.documents:
                self.outcome.warnings.append(
                    f"{document.id}: halves of characters (lone surrogates) stand in its text as \ufffd now"
                )
        if not changed and work.file is None:
            self._settled(fresh[0].id if fresh else "", work.size_bytes)
            return None
        return replace(work, documents=changed)

    def _storable(self, document: Document) -> Document:
        """The document as it can be stored; its id is taken for the rest of the run."""
        document = storable(document)
        if document.id in self._seen:
            raise DocumentError("another document of this run has the same id")
        self._seen.add(document.id)
        return document

    # -- writing ------------------------------------------------------------------------------

    def _commit(self, batch: Sequence[_Work]) -> None:
        """Chunk and embed the documents of a batch and write it in one transaction."""
        if not batch:
            return
        documents = [document for work in batch for document in work.documents]
        chunked = [(document, self._chunk(document)) for document in documents]
        if self.dry_run:
            with self.store.read() as connection:
                self.outcome.removed += [key for work in batch for key in self._gone(connection, work)]
            self._done(batch)
            self._tell("planning")
            return
        self._tell("embedding", documents[0].id if documents else "")
        prepared = self._embed(chunked, sum(work.size_bytes for work in batch))
        stop_if_cancelled()
        with self.store.write() as connection:
            encoder_id = stored.check_encoder(connection, self.scope, self.encoder)
            if encoder_id is None:
                encoder_id = stored.adopt_encoder(connection, self.scope, self.encoder)
            stored.insert_documents(connection, self.scope, encoder_id, prepared)
            for work in batch:
                self._finish_file(connection, work)
            self.lexical.catch_up(connection)
            shorten_log(connection, self.scope)
        self._done(batch)
        self._tell("embedding", documents[-1].id if documents else "")

    def _chunk(self, document: Document) -> list[Chunk]:
        chunks = chunk_document(document, self.encoder.tokenizer, self.options)
        self.outcome.chunks += len(chunks)
        self.outcome.tokens += sum(chunk.tokens for chunk in chunks)
        over = [chunk for chunk in chunks if chunk.tokens + 2 > self.encoder.window]
        if over:
            self.outcome.warnings.append(
                f"{document.id}: {len(over)} chunks are longer than the window of {self.encoder.name}"
                f" ({self.encoder.window} tokens) and were embedded in parts"
            )
        language = mismatch(document.text, self.encoder.languages) if document.media_type not in _NOT_PROSE else None
        if language:
            self._languages.setdefault(language, []).append(document.id)
        return chunks

    def _embed(self, items: Sequence[tuple[Document, list[Chunk]]], size_bytes: int) -> list[stored.Prepared]:
        """Vectors for all chunks: each encoder input is embedded once, and those in the store not again."""
        hashes = [[self.encoder.input_hash(document, chunk) for chunk in chunks] for document, chunks in items]
        known: dict[str, Vectors] = {}
        with self.store.read() as connection:
            encoder_id = stored.check_encoder(connection, self.scope, self.encoder)
            if encoder_id is not None:
                flat = [value for row in hashes for value in row]
                known = stored.reusable_vectors(connection, self.scope, encoder_id, flat)
        todo: list[tuple[Document, list[Chunk]]] = []
        wanted: dict[str, None] = {}  # in order; an input that comes twice is encoded once
        for (document, chunks), row in zip(items, hashes, strict=True):
            missing: dict[str, Chunk] = {}
            for chunk, value in zip(chunks, row, strict=True):
                if value not in known and value not in wanted:
                    missing.setdefault(value, chunk)
            todo.append((document, list(missing.values())))
            wanted.update(dict.fromkeys(missing))

        def told(chunks: int, document: Document) -> None:
            self._tell("embedding", document.id, bytes_under_way=size_bytes * chunks // len(wanted))

        encoded = [vectors for document in encode_in_slices(self.encoder, todo, told) for vectors in document]
        self.outcome.embedded += len(encoded)
        known.update(zip(wanted, (np.atleast_2d(vectors) for vectors in encoded), strict=True))
        return [
            stored.Prepared(document, stored.content_hash(document), chunks, row, [known[value] for value in row])
            for (document, chunks), row in zip(items, hashes, strict=True)
        ]

    def _finish_file(self, connection: Connection, work: _Work) -> None:
        """Remove the documents that a file no longer holds, and record how it was read."""
        self.outcome.removed += stored.remove_documents(connection, self.scope, self._gone(connection, work))
        if work.file is not None and work.whole_file:
            files.record(connection, self.scope, work.file)

    def _gone(self, connection: Connection, work: _Work) -> list[str]:
        if work.file is None or not work.whole_file:
            return []
        return [key for key in self._of_file(connection, work.file.path) if key not in self._seen]

    # -- progress -----------------------------------------------------------------------------

    def _settled(self, current: str, size_bytes: int) -> None:
        """A source that needs no writing is done with."""
        self.done += 1
        if self.bytes_total is not None:
            self.bytes_total -= size_bytes
        self._tell("reading", current)

    def _done(self, batch: Sequence[_Work]) -> None:
        self.done += len(batch)
        self.bytes_done += sum(work.size_bytes for work in batch)

    def _tell(self, stage: str, current: str = "", *, bytes_under_way: int = 0) -> None:
        stop_if_cancelled()
        if self.progress:
            outcome = self.outcome
            at = IngestProgress(
                stage=stage,
                documents_done=self.done,
                documents_total=self.total,
                chunks_done=outcome.chunks,
                tokens_done=outcome.tokens,
                seconds=time.perf_counter() - self.started,
                current=current,
                bytes_done=self.bytes_done + bytes_under_way,
                bytes_total=self.bytes_total,
            )
            self.progress(at)


def _size(document: Document) -> int:
    return len(document.text) if isinstance(document.text, str) else 0


def _chunking(max_tokens: int) -> ChunkingOptions:
    """The usual lengths, shorter for an encoder that takes less: what is joined must fit under the cap too."""
    usual = ChunkingOptions()
    return replace(usual, target_tokens=min(usual.target_tokens, max_tokens // 2), max_tokens=max_tokens)


def _kind(source: object) -> str:
    if isinstance(source, Document):
        return "document"
    if isinstance(source, (str, Path)):
        return "path"
    raise InputError(f"cannot add a {type(source).__name__}: give paths, Documents, or an iterable of them")
