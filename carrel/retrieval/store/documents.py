"""What is written to the store and read from it: documents, chunks, vectors, the change log.

Every function takes the transaction and the scope; none can reach outside the scope.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, select, update

from carrel.embeddings.base import ChunkEncoder, Vectors
from carrel.errors import EncoderMismatchError
from carrel.retrieval.filters import Where, compile_filter
from carrel.retrieval.store import adapters, schema
from carrel.retrieval.store.store import Scope, allocate
from carrel.types import Block, Chunk, Document, Metadata

_PARAMETERS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """What a library knows of a document, without its text."""

    id: str
    title: str
    source: str
    media_type: str
    characters: int
    chunks: int
    added_at: float
    modified_at: float | None
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document ready to be written: its chunks, and for each the hash of its encoder input and its vectors."""

    document: Document
    content_hash: str
    chunks: Sequence[Chunk]
    input_hashes: Sequence[str]
    vectors: Sequence[Vectors]


def content_hash(document: Document) -> str:
    """Hash of all that a document is; equal hashes need no new work."""
    parts = asdict(document)
    del parts["modified_at"]
    data = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Lists short enough for the parameters of one statement."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == _PARAMETERS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


# -- encoders ---------------------------------------------------------------------------------


# Made once: every question asks this, and making a statement costs more than running it.
_ENCODER = (
    select(schema.encoders)
    .join(schema.collections, schema.collections.c.encoder_id == schema.encoders.c.id)
    .where(schema.collections.c.id == bindparam("collection"))
)


def collection_encoder(connection: Connection, scope: Scope) -> Row[Any] | None:
    """Row (id, fingerprint, name, dimension) of the encoder that a collection was indexed with."""
    return connection.execute(_ENCODER, {"collection": scope.id}).first()


def check_encoder(connection: Connection, scope: Scope, encoder: ChunkEncoder) -> int | None:
    """Id of the encoder in the store; None when the collection is still empty.

    Raises
    ------
    EncoderMismatchError : the collection was indexed with another encoder.
    """
    row = collection_encoder(connection, scope)
    if row is None:
        return None
    if row.fingerprint != encoder.fingerprint:
        raise EncoderMismatchError(
            f"the collection {scope.collection!r} was indexed with {row.name} ({row.dimension} dimensions, fingerprint"
            f" {row.fingerprint[:12]}), but was opened with {encoder.name} ({encoder.dimension} dimensions, fingerprint"
            f" {encoder.fingerprint[:12]}). Open it with the first, or index it anew with: carrel reindex"
        )
    return int(row.id)


def adopt_encoder(connection: Connection, scope: Scope, encoder: ChunkEncoder) -> int:
    """Make the encoder the collection's own and return its id."""
    row = schema.encoders.c.fingerprint == encoder.fingerprint
    found = connection.execute(select(schema.encoders.c.id).where(row)).scalar()
    if found is None:
        found = allocate(connection, "encoders", 1)
        values = {"id": found, "fingerprint": encoder.fingerprint, "name": encoder.name, "dimension": encoder.dimension}
        connection.execute(insert(schema.encoders), [values])
    connection.execute(update(schema.collections).where(schema.collections.c.id == scope.id).values(encoder_id=found))
    return found


# -- writing ----------------------------------------------------------------------------------


def insert_documents(connection: Connection, scope: Scope, encoder_id: int, items: Sequence[Prepared]) -> None:
    """Write documents with their chunks and vectors, replacing those with the same id."""
    if not items:
        return
    remove_documents(connection, scope, [item.document.id for item in items])
    count = sum(len(item.chunks) for item in items)
    document_id = allocate(connection, "documents", len(items))
    first_chunk = chunk_id = allocate(connection, "chunks", count)
    rows: dict[str, list[dict[str, object]]] = {"documents": [], "chunks": [], "vectors": []}
    for item in items:
        rows["documents"].append(_document_row(item, scope, document_id, chunk_id))
        for chunk, input_hash, vectors in zip(item.chunks, item.input_hashes, item.vectors, strict=True):
            rows["chunks"].append(_chunk_row(chunk, scope, document_id, chunk_id))
            rows["vectors"] += vector_rows(encoder_id, chunk_id, input_hash, vectors)
            chunk_id += 1
        document_id += 1
    for table in (schema.documents, schema.chunks, schema.vectors):
        if rows[table.name]:
            connection.execute(insert(table), rows[table.name])
    log_change(connection, scope, "add", first_chunk, first_chunk + count)


def _document_row(item: Prepared, scope: Scope, document_id: int, first_chunk: int) -> dict[str, object]:
    document = item.document
    return {
        "id": document_id,
        "collection_id": scope.id,
        "key": document.id,
        "content_hash": item.content_hash,
        "title": document.title,
        "source": document.source or document.id,
        "media_type": document.media_type,
        "extractor": document.extractor,
        "characters": len(document.text),
        "chunks": len(item.chunks),
        "first_chunk": first_chunk,
        "metadata": dict(document.metadata),
        "blocks": [[b.start, b.end, b.kind, b.level, b.header, b.joined] for b in document.blocks],
        "pages": list(document.pages),
        "modified_at": document.modified_at,
        "added_at": time.time(),
    }


def _chunk_row(chunk: Chunk, scope: Scope, document_id: int, chunk_id: int) -> dict[str, object]:
    return {
        "id": chunk_id,
        "collection_id": scope.id,
        "document_id": document_id,
        "ordinal": chunk.ordinal,
        "start": chunk.start,
        "end": chunk.end,
        "tokens": chunk.tokens,
        "page": chunk.page,
        "prefix": chunk.prefix,
        "text": chunk.text,
    }


def vector_rows(encoder_id: int, chunk_id: int, input_hash: str, vectors: Vectors) -> list[dict[str, object]]:
    """Rows of the vectors table for one chunk."""
    return [
        {
            "encoder_id": encoder_id,
            "chunk_id": chunk_id,
            "ordinal": ordinal,
            "input_hash": input_hash,
            "vector": np.ascontiguousarray(vector, "<f4").tobytes(),
        }
        for ordinal, vector in enumerate(vectors)
    ]


def log_change(connection: Connection, scope: Scope, kind: str, first_chunk: int, end_chunk: int) -> None:
    """Tell the derived indexes that a run of chunk ids came or went."""
    row = {"collection_id": scope.id, "kind": kind, "first_chunk": first_chunk, "end_chunk": end_chunk}
    connection.execute(insert(schema.changes), [row])


def remove_documents(connection: Connection, scope: Scope, keys: Sequence[str]) -> list[str]:
    """Remove documents with all that hangs on them, adapters too; returns the ids that were there."""
    removed: list[str] = []
    table = schema.documents
    columns = (table.c.id, table.c.key, table.c.first_chunk, table.c.chunks)
    for batch in batches(keys):
        query = select(*columns).where(table.c.collection_id == scope.id, table.c.key.in_(batch)).order_by(table.c.id)
        found = connection.execute(query).all()
        if found and not removed:
            _index_vectors(connection)
        for first, end in _runs([(row.first_chunk, row.first_chunk + row.chunks) for row in found]):
            connection.execute(delete(schema.vectors).where(_between(schema.vectors.c.chunk_id, first, end)))
            connection.execute(delete(schema.chunks).where(_between(schema.chunks.c.id, first, end)))
            log_change(connection, scope, "remove", first, end)
        connection.execute(delete(table).where(table.c.id.in_([row.id for row in found])))
        removed += [row.key for row in found]
    adapters.remove(connection, scope, removed)
    return removed


def _runs(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges with those that follow on each other joined."""
    runs: list[tuple[int, int]] = []
    for first, end in ranges:
        if runs and runs[-1][1] == first:
            first = runs.pop()[0]
        runs.append((first, end))
    return runs


def _index_vectors(connection: Connection) -> None:
    """Make the index that removing needs, in a library that was made before there was one."""
    for index in schema.vectors.indexes:
        if index.name == "vectors_by_chunk":
            index.create(connection, checkfirst=True)


def _between(column: ColumnElement[Any], first: int, end: int) -> ColumnElement[bool]:
    return (column >= first) & (column < end)


# -- reading ----------------------------------------------------------------------------------


def known_hashes(connection: Connection, scope: Scope, keys: Sequence[str]) -> dict[str, str]:
    """Content hashes of the documents among ``keys`` that are in the library."""
    table = schema.documents
    found: dict[str, str] = {}
    for batch in batches(keys):
        query = select(table.c.key, table.c.content_hash).where(
            table.c.collection_id == scope.id, table.c.key.in_(batch)
        )
        found.update((row.key, row.content_hash) for row in connection.execute(query))
    return found


def chunk_counts(connection: Connection, scope: Scope, keys: Iterable[str]) -> dict[str, int]:
    """How many chunks each of the documents among ``keys`` has that are in the library."""
    table = schema.documents
    found: dict[str, int] = {}
    for batch in batches(keys):
        query = select(table.c.key, table.c.chunks).where(table.c.collection_id == scope.id, table.c.key.in_(batch))
        found.update((row.key, row.chunks) for row in connection.execute(query))
    return found


def extractors_of_source(connection: Connection, scope: Scope, source: str) -> dict[str, str]:
    """Ids of the documents with this source, each with the extractor of its text."""
    table = schema.documents
    query = select(table.c.key, table.c.extractor).where(table.c.collection_id == scope.id, table.c.source == source)
    return {row.key: row.extractor for row in connection.execute(query)}


def reusable_vectors(
    connection: Connection, scope: Scope, encoder_id: int, hashes: Sequence[str]
) -> dict[str, Vectors]:
    """Vectors already computed in this collection for these encoder inputs."""
    found: dict[str, dict[int, bytes]] = {}
    table = schema.vectors
    for batch in batches(dict.fromkeys(hashes)):
        query = (
            select(table.c.input_hash, table.c.ordinal, table.c.vector)
            .join(schema.chunks, schema.chunks.c.id == table.c.chunk_id)
            .where(
                table.c.encoder_id == encoder_id,
                table.c.input_hash.in_(batch),
                schema.chunks.c.collection_id == scope.id,
            )
        )
        for row in connection.execute(query):
            found.setdefault(row.input_hash, {})[row.ordinal] = row.vector
    return {
        key: np.stack([np.frombuffer(vectors[ordinal], "<f4") for ordinal in sorted(vectors)])
        for key, vectors in found.items()
    }


def list_documents(connection: Connection, scope: Scope, where: Where | None = None) -> list[DocumentInfo]:
    """The documents that pass the filter, by id."""
    table = schema.documents
    query = select(table).where(table.c.collection_id == scope.id, compile_filter(where)).order_by(table.c.key)
    return [
        DocumentInfo(
            row.key,
            row.title,
            row.source,
            row.media_type,
            row.characters,
            row.chunks,
            row.added_at,
            row.modified_at,
            row.metadata,
        )
        for row in connection.execute(query)
    ]


def read_document(connection: Connection, scope: Scope, key: str) -> Document | None:
    """A document with its exact text, rebuilt from its chunks; None when there is none."""
    table = schema.documents
    row = connection.execute(select(table).where(table.c.collection_id == scope.id, table.c.key == key)).first()
    if row is None:
        return None
    return Document(
        text="".join(chunk.text for chunk in read_chunks(connection, scope, row.id)),
        id=row.key,
        title=row.title,
        source=row.source,
        metadata=row.metadata,
        media_type=row.media_type,
        extractor=row.extractor,
        blocks=tuple(Block(*block) for block in row.blocks),
        pages=tuple(row.pages),
        modified_at=row.modified_at,
    )


def document_row_id(connection: Connection, scope: Scope, key: str) -> int | None:
    """The key that chunks know a document by; None when there is none."""
    table = schema.documents
    query = select(table.c.id).where(table.c.collection_id == scope.id, table.c.key == key)
    return connection.execute(query).scalar()


def read_chunks(connection: Connection, scope: Scope, document_id: int) -> list[Chunk]:
    """The chunks of a document, in order."""
    table = schema.chunks
    query = (
        select(table)
        .where(table.c.document_id == document_id, table.c.collection_id == scope.id)
        .order_by(table.c.ordinal)
    )
    return [
        Chunk(row.ordinal, row.start, row.end, row.text, row.prefix, row.tokens, row.page)
        for row in connection.execute(query)
    ]


def chunk_ids(connection: Connection, scope: Scope, where: Where | None) -> list[int]:
    """Ids of the chunks whose documents pass the filter, ascending."""
    query = (
        select(schema.chunks.c.id)
        .join(schema.documents, schema.documents.c.id == schema.chunks.c.document_id)
        .where(schema.chunks.c.collection_id == scope.id, compile_filter(where))
        .order_by(schema.chunks.c.id)
    )
    return list(connection.execute(query).scalars())


def counts(connection: Connection, scope: Scope) -> Mapping[str, int]:
    """How many documents, chunks and vectors a collection holds."""
    chunks = schema.chunks
    vectors = (
        select(func.count(func.distinct(schema.vectors.c.chunk_id)))
        .join(chunks, chunks.c.id == schema.vectors.c.chunk_id)
        .join(schema.collections, schema.collections.c.id == chunks.c.collection_id)
        .where(chunks.c.collection_id == scope.id, schema.vectors.c.encoder_id == schema.collections.c.encoder_id)
    )
    return {
        "documents": connection.execute(
            select(func.count()).select_from(schema.documents).where(schema.documents.c.collection_id == scope.id)
        ).scalar_one(),
        "chunks": connection.execute(
            select(func.count()).select_from(chunks).where(chunks.c.collection_id == scope.id)
        ).scalar_one(),
        "vectors": connection.execute(vectors).scalar_one(),
    }
