"""The tables of conversation memory, made in a library's database when something is first said to it.

A library without them has no memory, and one that has them opens in any Carrel of its schema version. Ids come from
``counters`` and are never used again. What is said stands in ``memory_turns`` alone; all else hangs on its ids.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# A user of a tenant. ``revision`` grows with all that is written of the user, ``forgotten`` when something is removed:
# so every process can tell in one look whether its index is behind.
users = Table(
    "memory_users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("user", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("forgotten", Integer, nullable=False),
    UniqueConstraint("tenant", "user"),
)

turns = Table(
    "memory_turns",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user_id", Integer, nullable=False),
    Column("session", String, nullable=False),
    Column("speaker", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("said_at", Float, nullable=False),
    Column("importance", Float, nullable=False),
    Column("noted", Integer, nullable=False),  # 1 once a generator has read it for notes, 2 where it gave none
    Index("memory_turns_by_user", "user_id"),
    Index("memory_turns_by_time", "user_id", "said_at"),
    Index("memory_turns_by_session", "user_id", "session", "said_at"),
)

# One vector a turn and encoder; several encoders side by side. ``revision`` is the user's when it was written.
vectors = Table(
    "memory_vectors",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user_id", Integer, nullable=False),
    Column("encoder_id", Integer, nullable=False),
    Column("turn_id", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float32, little-endian
    UniqueConstraint("turn_id", "encoder_id"),
    Index("memory_vectors_by_revision", "user_id", "encoder_id", "revision"),
)

# Every turn up to this one has its vector.
embedded = Table(
    "memory_embedded",
    metadata,
    Column("user_id", Integer, primary_key=True),
    Column("encoder_id", Integer, primary_key=True),
    Column("up_to", Integer, nullable=False),
)

notes = Table(
    "memory_notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user_id", Integer, nullable=False),
    Column("session", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("said_at", Float, nullable=False),
    Index("memory_notes_by_user", "user_id"),
)

note_turns = Table(
    "memory_note_turns",
    metadata,
    Column("note_id", Integer, primary_key=True),
    Column("turn_id", Integer, primary_key=True),
    Index("memory_note_turns_by_turn", "turn_id"),
)

_COUNTED = (users, turns, notes)


def exist(connection: Connection) -> bool:
    """Whether anything was ever said to this library."""
    query = "SELECT 1 FROM sqlite_master WHERE type='table' AND name=?"
    return connection.exec_driver_sql(query, (turns.name,)).first() is not None


def make(connection: Connection) -> None:
    """Make the tables where they are missing."""
    if exist(connection):
        return
    metadata.create_all(connection)
    rows = [(table.name,) for table in _COUNTED]
    connection.exec_driver_sql("INSERT OR IGNORE INTO counters (name, next) VALUES (?, 1)", rows)
