"""What files looked like when they were last read, so that an unchanged one costs a stat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, insert, select, update

from carrel.retrieval.store import schema
from carrel.retrieval.store.documents import batches
from carrel.retrieval.store.store import Scope


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as it was read: its size and time, a hash of its bytes, and the loader that read it (name/version)."""

    path: str
    size_bytes: int
    modified_at: float
    content_hash: str
    extractor: str


def recorded(connection: Connection, scope: Scope, path: str) -> FileRecord | None:
    """The file as it was last read; None when it was not."""
    table = schema.files
    query = select(table).where(table.c.collection_id == scope.id, table.c.path == path)
    row = connection.execute(query).first()
    if row is None:
        return None
    return FileRecord(row.path, row.size_bytes, row.modified_at, row.content_hash, row.extractor)


def record(connection: Connection, scope: Scope, file: FileRecord) -> None:
    """Keep how a file was read, in place of what was known of it. Its documents follow when its time has changed."""
    before = recorded(connection, scope, file.path)
    if before is not None and before.modified_at != file.modified_at:
        _follow(connection, scope, file, before.modified_at)
    forget(connection, scope, [file.path])
    connection.execute(insert(schema.files), [{"collection_id": scope.id, **asdict(file)}])


def _follow(connection: Connection, scope: Scope, file: FileRecord, before: float) -> None:
    """Give the documents of a file its new time.

    A document that names the file as its source, but has another extractor or a time of its own, keeps its time.
    """
    table = schema.documents
    own = (table.c.source == file.path, table.c.extractor == file.extractor, table.c.modified_at == before)
    query = update(table).where(table.c.collection_id == scope.id, *own)
    connection.execute(query.values(modified_at=file.modified_at))


def forget(connection: Connection, scope: Scope, paths: Iterable[str]) -> None:
    """Drop what is known of files, so that the next add reads them."""
    table = schema.files
    for batch in batches(paths):
        connection.execute(delete(table).where(table.c.collection_id == scope.id, table.c.path.in_(batch)))
