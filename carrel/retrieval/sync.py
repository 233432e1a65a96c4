"""Removing documents, and finding those whose files have gone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import delete, select

from carrel.retrieval.indexes.lexical import LexicalIndex
from carrel.retrieval.store import documents as stored
from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope, Store
from carrel.types import IngestReport


def remove(store: Store, scope: Scope, keys: Sequence[str]) -> tuple[str, ...]:
    """Remove documents, their index entries and the records of files that hold none any more."""
    documents, files = schema.documents, schema.files
    with store.write() as connection:
        sources: set[str] = set()
        for batch in stored.batches(keys):
            query = select(documents.c.source).where(documents.c.collection_id == scope.id, documents.c.key.in_(batch))
            sources.update(connection.execute(query).scalars())
        removed = stored.remove_documents(connection, scope, keys)
        for source in sources:  # the next add reads the file again
            connection.execute(delete(files).where(files.c.collection_id == scope.id, files.c.path == source))
        LexicalIndex(scope).catch_up(connection)
    return tuple(removed)


def vanished(store: Store, scope: Scope, root: Path, report: IngestReport) -> list[str]:
    """Ids of documents that came from files under ``root`` which are no longer there, or no longer taken.

    What is there but could not be read this time, a file or a whole folder, keeps its documents.
    """
    table = schema.documents
    with store.read() as connection:
        query = select(table.c.key, table.c.source).where(table.c.collection_id == scope.id).order_by(table.c.key)
        rows = connection.execute(query).all()
    present = {*report.added, *report.updated, *report.unchanged, *report.removed}
    there = {source for key, source in rows if key in present}
    for skipped in report.skipped:  # a file, a part of one (path:line), or a folder
        there |= {skipped.id, skipped.id.rpartition(":")[0]}
    return [
        key
        for key, source in rows
        if key not in present and _under(source, root) and there.isdisjoint((source, *map(str, Path(source).parents)))
    ]


def _under(source: str, root: Path) -> bool:
    try:
        return Path(source).is_relative_to(root)
    except ValueError:
        return False
