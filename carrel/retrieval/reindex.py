"""Changing the embedding model of a collection, while the old one serves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from carrel.embeddings.base import ChunkEncoder
from carrel.retrieval.ingest import CHUNKS_A_COMMIT
from carrel.retrieval.progress import IngestProgress, ProgressCallback
from carrel.retrieval.store import documents as stored
from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope, Store, allocate
from carrel.types import Chunk, Document, IngestReport

_Item = tuple[Row[Any, Any, Any], Document, list[Chunk]]


def reindex(store: Store, scope: Scope, encoder: ChunkEncoder, progress: ProgressCallback | None) -> IngestReport:
    """Embed every document with ``encoder``; the switch and the removal of the old vectors are one transaction."""
    started = time.perf_counter()
    encoder_id = _register(store, encoder)
    embedded = tokens = done = 0
    while True:
        batch, total = _next(store, scope, encoder_id)
        if not batch:
            if _switch(store, scope, encoder, encoder_id):
                break
            continue  # a document was added meanwhile
        vectors = encoder.encode_many([(document, chunks) for _, document, chunks in batch])
        with store.write() as connection:
            for (row, document, chunks), found in zip(batch, vectors, strict=True):
                if stored.document_row_id(connection, scope, row.key) != row.id:
                    continue  # replaced or removed meanwhile
                rows = []
                for offset, (chunk, vector) in enumerate(zip(chunks, found, strict=True)):
                    chunk_id = row.first_chunk + offset
                    rows += stored.vector_rows(encoder_id, chunk_id, encoder.input_hash(document, chunk), vector)
                connection.execute(insert(schema.vectors).prefix_with("OR REPLACE"), rows)  # another run may be at it
                embedded += len(chunks)
                tokens += sum(chunk.tokens for chunk in chunks)
        done += len(batch)
        if progress:
            progress(
                IngestProgress(
                    "reindexing", done, done + total - len(batch), embedded, tokens, time.perf_counter() - started
                )
            )
    return IngestReport(
        chunks=embedded,
        embedded=embedded,
        tokens=tokens,
        tokenizer=encoder.tokenizer.name,
        seconds=time.perf_counter() - started,
    )


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


def _next(store: Store, scope: Scope, encoder_id: int) -> tuple[list[_Item], int]:
    """The next documents to embed, with their rows and chunks, and how many are waiting in all."""
    batch: list[_Item] = []
    with store.read() as connection:
        todo, total = _waiting(connection, scope, encoder_id)
        for row in todo:
            document = stored.read_document(connection, scope, row.key)
            if document is not None:
                batch.append((row, document, stored.read_chunks(connection, scope, row.id)))
            if sum(len(chunks) for _, _, chunks in batch) >= CHUNKS_A_COMMIT:
                break
    return batch, total


def _waiting(connection: Connection, scope: Scope, encoder_id: int) -> tuple[Sequence[Row[Any, Any, Any]], int]:
    """Documents that have no vectors of this encoder yet: some of them, and how many there are."""
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
    total = connection.execute(select(func.count()).select_from(documents).where(without)).scalar_one()
    return connection.execute(query).all(), total


def _switch(store: Store, scope: Scope, encoder: ChunkEncoder, encoder_id: int) -> bool:
    """Make the new encoder the collection's own; False, and nothing done, while a document waits for its vectors."""
    vectors, chunks = schema.vectors, schema.chunks
    with store.write() as connection:
        if _waiting(connection, scope, encoder_id)[1]:
            return False
        stored.adopt_encoder(connection, scope, encoder)
        own = select(chunks.c.id).where(chunks.c.collection_id == scope.id)
        connection.execute(delete(vectors).where(vectors.c.encoder_id != encoder_id, vectors.c.chunk_id.in_(own)))
    return True
