"""Removing documents, erasing what is left of them, and finding those whose files have gone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy import select

from carrel.asynchronous import stop_if_cancelled
from carrel.errors import DocumentNotFoundError
from carrel.inputs import check_progress
from carrel.retrieval.indexes.base import shorten_log
from carrel.retrieval.indexes.lexical import LexicalIndex
from carrel.retrieval.loaders import made_by_loader
from carrel.retrieval.progress import IngestProgress, ProgressCallback
from carrel.retrieval.store import adapters, files, schema
from carrel.retrieval.store import documents as stored
from carrel.retrieval.store.store import Scope, Store
from carrel.types import IngestReport

CHUNKS_A_REMOVAL = 20_000  # about a second
_PAUSE_S = 0.1  # between transactions: what waits for its turn to write looks ten times a second


def remove(
    store: Store,
    scope: Scope,
    keys: Sequence[str],
    *,
    known_only: bool = False,
    progress: ProgressCallback | None = None,
) -> tuple[str, ...]:
    """Remove documents, their index entries and the records of files that hold none any more.

    A removal of many chunks is several transactions, so that other processes can write in between. Each document
    is in or out whole.

    Raises
    ------
    DocumentNotFoundError : an id is unknown, and ``known_only`` says that it may not be; nothing is removed then.
    """
    check_progress(progress)
    started = time.perf_counter()
    with store.read() as connection:
        chunks = stored.chunk_counts(connection, scope, keys)
    for key in keys if known_only else ():
        if key not in chunks:
            raise DocumentNotFoundError(f"no document has the id {key!r}. See them with: carrel list")
    removed: list[str] = []
    done = 0
    for number, part in enumerate(_parts(chunks)):
        stop_if_cancelled()
        if number:
            time.sleep(_PAUSE_S)
        removed += _remove_part(store, scope, part)
        done += sum(chunks[key] for key in part)
        if progress:
            seconds = time.perf_counter() - started
            progress(IngestProgress("removing", len(removed), len(chunks), done, 0, seconds, part[-1]))
    return tuple(removed)


def _parts(chunks: Mapping[str, int]) -> Iterator[list[str]]:
    """The ids, as many at once as one transaction takes."""
    part: list[str] = []
    room = CHUNKS_A_REMOVAL
    for key, count in chunks.items():
        if part and count > room:
            yield part
            part, room = [], CHUNKS_A_REMOVAL
        part.append(key)
        room -= count
    if part:
        yield part


def _remove_part(store: Store, scope: Scope, keys: Sequence[str]) -> list[str]:
    documents = schema.documents
    with store.write() as connection:
        sources: set[str] = set()
        for batch in stored.batches(keys):
            query = select(documents.c.source).where(documents.c.collection_id == scope.id, documents.c.key.in_(batch))
            sources.update(connection.execute(query).scalars())
        removed = stored.remove_documents(connection, scope, keys)
        files.forget(connection, scope, sources)
        LexicalIndex(scope).catch_up(connection)
        shorten_log(connection, scope)
    return removed


def purge(store: Store) -> None:
    """Erase the bytes of all that was removed, in every collection of every tenant: the file is theirs together.

    A word index keeps removed words until it is made again; the pages that this frees go when the file is rewritten.
    """
    table = schema.collections
    with store.write() as connection:
        for row in connection.execute(select(table.c.id, table.c.tenant, table.c.name).order_by(table.c.id)).all():
            LexicalIndex(Scope(row.id, row.tenant, row.name)).rebuild(connection)
        adapters.sweep(connection)
    store.erase_freed_pages()


def vanished(store: Store, scope: Scope, root: Path, report: IngestReport) -> list[str]:
    """Ids of documents that came from files under ``root`` which are no longer there, or no longer taken.

    What is there but could not be read this time, a file or a whole folder, keeps its documents. A document
    that was given by hand stays, whatever it names as its source.
    """
    table = schema.documents
    columns = (table.c.key, table.c.source, table.c.extractor)
    with store.read() as connection:
        query = select(*columns).where(table.c.collection_id == scope.id).order_by(table.c.key)
        found = connection.execute(query).all()
    rows = [(row.key, row.source) for row in found if made_by_loader(row.extractor)]
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
