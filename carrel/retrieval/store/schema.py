"""The tables. Ids come from ``counters`` and are never reused, so that an index can trust them forever."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 1

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

counters = Table(
    "counters",
    metadata,
    Column("name", String, primary_key=True),
    Column("next", Integer, nullable=False),
)

# A tenant is part of the key of its collections, and everything below hangs on a collection.
collections = Table(
    "collections",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("name", String, nullable=False),
    Column("encoder_id", ForeignKey("encoders.id")),
    UniqueConstraint("tenant", "name"),
)

encoders = Table(
    "encoders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("dimension", Integer, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("key", String, nullable=False),
    Column("content_hash", String, nullable=False),
    Column("title", String, nullable=False),
    Column("source", String, nullable=False),
    Column("media_type", String, nullable=False),
    Column("extractor", String, nullable=False),
    Column("characters", Integer, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("first_chunk", Integer, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("blocks", JSON, nullable=False),
    Column("pages", JSON, nullable=False),
    Column("modified_at", Float),
    Column("added_at", Float, nullable=False),
    UniqueConstraint("collection_id", "key"),
    Index("documents_by_source", "collection_id", "source"),
)

# The chunks of a document tile it: its text is theirs, joined in order, and stands nowhere else.
chunks = Table(
    "chunks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("document_id", ForeignKey("documents.id"), nullable=False, index=True),
    Column("ordinal", Integer, nullable=False),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("page", Integer),
    Column("prefix", Text, nullable=False),
    Column("text", Text, nullable=False),
)

# Several encoders side by side; several vectors a chunk.
vectors = Table(
    "vectors",
    metadata,
    Column("encoder_id", ForeignKey("encoders.id"), primary_key=True),
    Column("chunk_id", ForeignKey("chunks.id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("input_hash", String, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float32, little-endian
    Index("vectors_by_input", "encoder_id", "input_hash"),
    Index("vectors_by_chunk", "chunk_id"),  # without it each chunk that is deleted costs a look at every vector
)

# What a file looked like when it was last read, so that an unchanged one costs a stat.
files = Table(
    "files",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), primary_key=True),
    Column("path", String, primary_key=True),
    Column("size_bytes", Integer, nullable=False),
    Column("modified_at", Float, nullable=False),
    Column("content_hash", String, nullable=False),
    Column("extractor", String, nullable=False),
)

# The log that derived indexes follow: each row is a run of chunk ids that came or went. Old rows are dropped;
# the newest of a collection stays.
changes = Table(
    "changes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("kind", String, nullable=False),  # "add" or "remove"
    Column("first_chunk", Integer, nullable=False),
    Column("end_chunk", Integer, nullable=False),
    Index("changes_by_collection", "collection_id", "id"),
)

watermarks = Table(
    "watermarks",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("change_id", Integer, nullable=False),
)
