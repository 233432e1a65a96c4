"""Changing the embedding model of a collection, while the old one serves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from carrel.asynchronous import stop_if_cancelled
from carrel.embeddings.base import ChunkEncoder, Vectors
from carrel.inputs import check_progress
from carrel.retrieval.ingest import CHUNKS_A_COMMIT
from carrel.retrieval.progress import IngestProgress, ProgressCallback
from carrel.retrieval.slices import encode_in_slices
from carrel.retrieval.store import documents as stored
from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope, Store, allocate
from carrel.tokens import Tokenizer
from carrel.types import Chunk, Document, IngestReport

_Item = tuple[Row[Any, Any, Any], Document, list[Chunk]]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Documents without vectors of the new encoder: some of them, how many there are, and how long they are."""

    some: Sequence[Row[Any, Any, Any]]
    documents: int
    characters: int


def reindex(store: Store, scope: Scope, encoder: ChunkEncoder, progress: ProgressCallback | None) -> IngestReport:
    """Embed every document with ``encoder``; the switch and the removal of the old vectors are one transaction.

    The tokens of each chunk are counted anew with the encoder's tokenizer: budgets rest on them.
    """
    check_progress(progress)
    encoder_id = _register(store, encoder)
    at = _Progress(progress)
    while True:
        batch, waiting = _next(store, scope, encoder_id)
        if not batch:
            if _switch(store, scope, encoder, encoder_id, _recount(store, scope, encoder.tokenizer)):
                break
            continue  # a document was added meanwhile
        vectors = at.encode(encoder, batch, waiting)
        stop_if_cancelled()
        with store.write() as connection:
            for (row, document, chunks), found in zip(batch, vectors, strict=True):
                if stored.document_row_id(connection, scope, row.key) != row.id:
                    continue  # replaced or removed meanwhile
                rows = []
                for offset, (chunk, vector) in enumerate(zip(chunks, found, strict=True)):
                    chunk_id = row.first_chunk + offset
                    rows += stored.vector_rows(encoder_id, chunk_id, encoder.input_hash(document, chunk), vector)
                connection.execute(insert(schema.vectors).prefix_with("OR REPLACE"), rows)  # another run may be at it
                at.chunks += len(chunks)
                at.tokens += sum(chunk.tokens for chunk in chunks)
        at.written(batch, waiting)
    return IngestReport(
        chunks=at.chunks,
        embedded=at.chunks,
        tokens=at.tokens,
        tokenizer=encoder.tokenizer.name,
        seconds=time.perf_counter() - at.started,
    )


class _Progress:
    """What was written, and telling of it, also while a batch is embedded."""

    def __init__(self, callback: ProgressCallback | None) -> None:
        self.callback = callback
        self.started = time.perf_counter()
        self.documents = self.chunks = self.tokens = self.characters = 0

    def encode(self, encoder: ChunkEncoder, batch: Sequence[_Item], waiting: _Waiting) -> list[list[Vectors]]:
        characters = sum(len(document.text) for _, document, _ in batch)
        total = sum(len(chunks) for _, _, chunks in batch)

        def told(chunks: int, document: Document) -> None:
            self._tell(waiting, characters * chunks // total, document.id)

        return list(encode_in_slices(encoder, [(document, chunks) for _, document, chunks in batch], told))

    def written(self, batch: Sequence[_Item], waiting: _Waiting) -> None:
        characters = sum(len(document.text) for _, document, _ in batch)
        self.documents += len(batch)
        self.characters += characters
        left = _Waiting((), waiting.documents - len(batch), waiting.characters - characters)
        self._tell(left)

    def _tell(self, waiting: _Waiting, under_way: int = 0, current: str = "") -> None:
        stop_if_cancelled()
        if self.callback:
            at = IngestProgress(
                stage="reindexing",
                documents_done=self.documents,
                documents_total=self.documents + waiting.documents,
                chunks_done=self.chunks,
                tokens_done=self.tokens,
                seconds=time.perf_counter() - self.started,
                current=current,
                bytes_done=self.characters + under_way,
                bytes_total=self.characters + waiting.characters,
            )
            self.callback(at)


def _register(store: Store, encoder: ChunkEncoder) -> int:
    table = schema.encoders
    with store.write() as connection:
        found = connection.execute(select(table.c.id).where(table.c.fingerprint == encoder.fingerprint)).scalar()
        if found is None:
            found = allocate(connection, "encoders", 1)
            row = {
                "id": found,
                "fingerprint": encoder.fingerprint,
                "name": encoder.name,
                "dimension": encoder.dimension,
            }
            connection.execute(insert(table), [row])
    return int(found)


def _next(store: Store, scope: Scope, encoder_id: int) -> tuple[list[_Item], _Waiting]:
    """The next documents to embed, with their rows and chunks, and all that wait."""
    batch: list[_Item] = []
    with store.read() as connection:
        waiting = _waiting(connection, scope, encoder_id)
        for row in waiting.some:
            document = stored.read_document(connection, scope, row.key)
            if document is not None:
                batch.append((row, document, stored.read_chunks(connection, scope, row.id)))
            if sum(len(chunks) for _, _, chunks in batch) >= CHUNKS_A_COMMIT:
                break
    return batch, waiting


def _waiting(connection: Connection, scope: Scope, encoder_id: int) -> _Waiting:
    documents, vectors = schema.documents, schema.vectors
    have = select(vectors.c.chunk_id).where(
        vectors.c.encoder_id == encoder_id, vectors.c.chunk_id == documents.c.first_chunk
    )
    without = (documents.c.collection_id == scope.id) & ~have.exists()
    query = (
        select(documents.c.id, documents.c.key, documents.c.first_chunk)
        .where(without)
        .order_by(documents.c.id)
        .limit(64)
    )
    sums = select(func.count(), func.coalesce(func.sum(documents.c.characters), 0)).select_from(documents)
    count, characters = connection.execute(sums.where(without)).one()
    return _Waiting(connection.execute(query).all(), count, characters)


def _recount(store: Store, scope: Scope, tokenizer: Tokenizer) -> dict[int, int]:
    """The tokens of the chunks that this tokenizer counts otherwise than the store says, by chunk id."""
    table = schema.chunks
    query = select(table.c.id, table.c.text, table.c.tokens).where(table.c.collection_id == scope.id)
    with store.read() as connection:
        counted = ((row.id, row.tokens, tokenizer.count(row.text)) for row in connection.execute(query))
        return {chunk_id: tokens for chunk_id, before, tokens in counted if tokens != before}


def _switch(store: Store, scope: Scope, encoder: ChunkEncoder, encoder_id: int, recounted: Mapping[int, int]) -> bool:
    """Make the new encoder the collection's own; False, and nothing done, while a document waits for its vectors."""
    vectors, chunks = schema.vectors, schema.chunks
    with store.write() as connection:
        if _waiting(connection, scope, encoder_id).documents:
            return False
        stored.adopt_encoder(connection, scope, encoder)
        if recounted:
            one = update(chunks).where(chunks.c.id == bindparam("chunk")).values(tokens=bindparam("count"))
            connection.execute(one, [{"chunk": chunk, "count": count} for chunk, count in recounted.items()])
        own = select(chunks.c.id).where(chunks.c.collection_id == scope.id)
        connection.execute(delete(vectors).where(vectors.c.encoder_id != encoder_id, vectors.c.chunk_id.in_(own)))
    return True
