"""From sources to the store: what changed is read, chunked, embedded and committed in small transactions."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from carrel.embeddings.base import ChunkEncoder, Vectors
from carrel.embeddings.language import mismatch
from carrel.errors import DocumentError, InputError
from carrel.retrieval.chunking import ChunkingOptions, chunk_document
from carrel.retrieval.indexes.lexical import LexicalIndex
from carrel.retrieval.loaders import load_bytes, loader_for
from carrel.retrieval.progress import IngestProgress, ProgressCallback
from carrel.retrieval.store import documents as stored
from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope, Store
from carrel.retrieval.walk import FoundFile, walk
from carrel.types import Chunk, Document, IngestReport, Skipped

CHUNKS_A_COMMIT = 256
Source = str | Path | Document


@dataclass(slots=True)
class _FileRead:
    """A file whose documents are on their way; its record is written with the last of them."""

    path: str
    size_bytes: int
    modified_at: float
    content_hash: str
    extractor: str


@dataclass(slots=True)
class _Work:
    """One unit of a transaction: the new documents of one source, and what else changes with them."""

    documents: list[Document] = field(default_factory=list)
    file: _FileRead | None = None
    whole_file: bool = True  # every document of the file was read, so others of that source are gone


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
    entries, or not at all. A run that is stopped, by Ctrl-C or by force, is continued by running it again:
    what was committed is found unchanged and skipped.
    """

    def __init__(
        self,
        store: Store,
        scope: Scope,
        encoder: ChunkEncoder,
        *,
        options: ChunkingOptions | None = None,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.store, self.scope, self.encoder = store, scope, encoder
        self.options = options or _chunking(encoder.max_chunk_tokens)
        self.dry_run, self.progress = dry_run, progress
        self.lexical = LexicalIndex(scope)
        self.outcome = _Outcome()
        self.started = time.perf_counter()
        self.total: int | None = None
        self.done = 0
        self._seen: set[str] = set()
        self._languages: dict[str, list[str]] = {}

    # -- what to add --------------------------------------------------------------------------

    def run(self, sources: Source | Iterable[Source]) -> IngestReport:
        """Add every source; returns what was added, updated, unchanged and skipped."""
        with self.store.read() as connection:
            stored.check_encoder(connection, self.scope, self.encoder)
        batch: list[_Work] = []
        pending = 0
        try:
            for work in self._works(sources):
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
        return self.report()

    def report(self) -> IngestReport:
        """What has been done so far."""
        outcome = self.outcome
        known = " and ".join(sorted(self.encoder.languages))
        warnings = [
            f"{len(ids)} document{'s' if len(ids) > 1 else ''} in {language} (such as {ids[0]}):"
            f" {self.encoder.name} knows {known}, so searches in them rest on their words alone."
            " Open the library with an encoder for that language: carrel.open(path, encoder=...)"
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
        if isinstance(sources, (str, Path, Document)):
            sources = [sources]
        if isinstance(sources, Sequence):
            self.total = sum(isinstance(source, Document) for source in sources)
        for kind, group in groupby(sources, _kind):
            if kind == "document":
                yield from (_Work([source]) for source in group if isinstance(source, Document))
            else:
                yield from self._files(
                    [Path(source).absolute() for source in group if not isinstance(source, Document)]
                )

    def _files(self, paths: Sequence[Path]) -> Iterator[_Work]:
        self._tell("listing")
        found: list[FoundFile] = []
        for item in walk([Path(os.path.normpath(path)) for path in paths]):
            if isinstance(item, Skipped):
                self.outcome.skipped.append(item)
            else:
                found.append(item)
        if self.total is not None:
            self.total += len(found)
        for file in found:
            read = list(self._file(file))
            yield from read
            if not read:
                self._settled(file.path)

    def _file(self, file: FoundFile) -> Iterator[_Work]:
        """The documents of a file, or nothing when it is as it was."""
        path = file.path.encode("utf-8", "backslashreplace").decode()  # as loaders name it: a name may be no valid text
        with self.store.read() as connection:
            known = connection.execute(
                select(schema.files).where(schema.files.c.collection_id == self.scope.id, schema.files.c.path == path)
            ).first()
        if (
            known
            and known.size_bytes == file.size_bytes
            and known.modified_at == file.modified_at
            and _current(known.extractor)
        ):
            self._unchanged_file(path)
            return
        try:
            data = Path(file.path).read_bytes()
            content_hash = hashlib.blake2b(data, digest_size=16).hexdigest()
            loader = loader_for(path, data)
            extractor = f"{loader.name}/{loader.version}"
            record = _FileRead(path, file.size_bytes, file.modified_at, content_hash, extractor)
            if known and known.content_hash == content_hash and known.extractor == extractor:
                self._unchanged_file(path)
                self._touch(record)
                return
            work = _Work(file=record)
            for item in load_bytes(data, path):
                if isinstance(item, Skipped):
                    self.outcome.skipped.append(item)
                    work.whole_file = False
                else:
                    work.documents.append(replace(item, modified_at=item.modified_at or file.modified_at))
            yield work
        except DocumentError as error:
            self.outcome.skipped.append(Skipped(path, str(error)))
        except OSError as error:
            self.outcome.skipped.append(Skipped(path, f"cannot be read: {error.strerror or error}"))

    def _unchanged_file(self, path: str) -> None:
        with self.store.read() as connection:
            keys = stored.keys_of_source(connection, self.scope, path)
        self.outcome.unchanged += keys
        self._seen.update(keys)

    def _touch(self, record: _FileRead) -> None:
        if not self.dry_run:
            with self.store.write() as connection:
                self._record(connection, record)

    # -- what of it is new --------------------------------------------------------------------

    def _changed(self, work: _Work) -> _Work | None:
        """The work without its unchanged documents; None when nothing is left to write."""
        fresh: list[Document] = []
        for document in work.documents:
            problem = _problem(document)
            if document.id in self._seen:
                problem = "another document of this run has the same id"
            if problem:
                self.outcome.skipped.append(Skipped(document.id or document.title or "(no id)", problem))
                continue
            self._seen.add(document.id)
            fresh.append(document)
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
        if not changed and work.file is None:
            self._settled(fresh[0].id if fresh else "")
            return None
        return replace(work, documents=changed)

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
            self.done += len(batch)
            self._tell("planning")
            return
        self._tell("embedding", documents[0].id if documents else "")
        prepared = self._embed(chunked)
        with self.store.write() as connection:
            encoder_id = stored.check_encoder(connection, self.scope, self.encoder)
            if encoder_id is None:
                encoder_id = stored.adopt_encoder(connection, self.scope, self.encoder)
            stored.insert_documents(connection, self.scope, encoder_id, prepared)
            for work in batch:
                self._finish_file(connection, work)
            self.lexical.catch_up(connection)
        self.done += len(batch)
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
        language = mismatch(document.text, self.encoder.languages)
        if language:
            self._languages.setdefault(language, []).append(document.id)
        return chunks

    def _embed(self, items: Sequence[tuple[Document, list[Chunk]]]) -> list[stored.Prepared]:
        """Vectors for all chunks; those whose encoder input was embedded before are taken from the store."""
        hashes = [[self.encoder.input_hash(document, chunk) for chunk in chunks] for document, chunks in items]
        known: dict[str, Vectors] = {}
        with self.store.read() as connection:
            encoder_id = stored.check_encoder(connection, self.scope, self.encoder)
            if encoder_id is not None:
                flat = [value for row in hashes for value in row]
                known = stored.reusable_vectors(connection, self.scope, encoder_id, flat)
        todo: list[tuple[Document, list[Chunk]]] = []
        wanted: list[str] = []
        for (document, chunks), row in zip(items, hashes, strict=True):
            missing = [(chunk, value) for chunk, value in zip(chunks, row, strict=True) if value not in known]
            todo.append((document, [chunk for chunk, _ in missing]))
            wanted += [value for _, value in missing]
        encoded = [vectors for document in self.encoder.encode_many(todo) for vectors in document]
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
            self._record(connection, work.file)

    def _gone(self, connection: Connection, work: _Work) -> list[str]:
        if work.file is None or not work.whole_file:
            return []
        return [key for key in stored.keys_of_source(connection, self.scope, work.file.path) if key not in self._seen]

    def _record(self, connection: Connection, record: _FileRead) -> None:
        table = schema.files
        connection.execute(delete(table).where(table.c.collection_id == self.scope.id, table.c.path == record.path))
        row = {
            "collection_id": self.scope.id,
            "path": record.path,
            "size_bytes": record.size_bytes,
            "modified_at": record.modified_at,
            "content_hash": record.content_hash,
            "extractor": record.extractor,
        }
        connection.execute(insert(table), [row])

    # -- progress -----------------------------------------------------------------------------

    def _settled(self, current: str) -> None:
        """A source that needs no writing is done with."""
        self.done += 1
        self._tell("reading", current)

    def _tell(self, stage: str, current: str = "") -> None:
        if self.progress:
            outcome = self.outcome
            seconds = time.perf_counter() - self.started
            self.progress(
                IngestProgress(stage, self.done, self.total, outcome.chunks, outcome.tokens, seconds, current)
            )


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


def _problem(document: Document) -> str | None:
    """Why a document cannot be added, or None."""
    if not document.id:
        return "it has no id: give Document(id=...) a name that is unique in the collection"
    if not document.text.strip():
        return "it holds no text"
    if "\x00" in document.text:
        return "its text holds NUL characters, so it is probably not text"
    try:
        for text in (document.id, document.text, document.title, document.source):
            text.encode("utf-8")
        json.dumps(dict(document.metadata), ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError) as error:  # halves of surrogate pairs, dates, NaN
        return f"it cannot be stored: {error}"
    return None


def _current(extractor: str) -> bool:
    """Whether the loader that read a file is still the one that would."""
    from carrel.retrieval.loaders import LOADERS

    return any(f"{loader.name}/{loader.version}" == extractor for loader in LOADERS)
