"""Where a library keeps the adapters that were trained on its documents, and how they go with their documents.

::

    adapters/3/<hash of a document's id>/<its content>-<base model>-<recipe>/   one adapter, as peft keeps it
    adapters/3/merged/<of which>/                                               several as one
    adapters/.partial/                                                          what is being written or deleted

3 is the collection's number, which belongs to one tenant. All of it happens inside a write transaction of the store,
so there is one writer at a time, in all processes, and an adapter is never kept for a text that has gone. A folder
gets its name, and loses it, in one step: what a killed process leaves is in ``.partial``, where nobody reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sqlalchemy import Connection, select

from carrel.errors import StoreError
from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope

FOLDER, PARTIAL, MERGED = "adapters", ".partial", "merged"
PROVENANCE = "carrel.json"


def root_of(connection: Connection) -> Path:
    """The library's folder of adapters, which need not be there."""
    for _, name, file in connection.exec_driver_sql("PRAGMA database_list"):
        if name == "main":
            return Path(file).parent / FOLDER
    raise StoreError("the store has no file")


def folder_of(root: Path, scope: Scope, document_id: str) -> Path:
    """Where the adapters of a document are. Its id may be any text, so the name is a hash."""
    digest = hashlib.blake2b(document_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return root / str(scope.id) / digest


def merged_folder(root: Path, scope: Scope) -> Path:
    """Where sets of a collection's adapters are, each merged to one."""
    return root / str(scope.id) / MERGED


def partial(root: Path) -> Path:
    """A new folder to write in; what others left unfinished there is deleted. Call it inside a write transaction."""
    empty(root)
    made = root / PARTIAL / uuid.uuid4().hex
    made.mkdir(parents=True)
    return made


def publish(made: Path, place: Path) -> None:
    """Give a finished folder its name, in place of what has it."""
    for file in made.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    drop(made.parent.parent, [place])
    place.parent.mkdir(parents=True, exist_ok=True)
    made.replace(place)


def drop(root: Path, places: Iterable[Path]) -> None:
    """Delete folders; each is gone for all readers in one step.

    Raises
    ------
    StoreError : one cannot be deleted. The transaction then fails, and what was to go with it stays.
    """
    for place in places:
        if not place.exists():
            continue
        away = root / PARTIAL / uuid.uuid4().hex
        try:
            away.parent.mkdir(parents=True, exist_ok=True)
            place.replace(away)
            shutil.rmtree(away)
        except OSError as error:
            raise StoreError(
                f"cannot delete the adapters in {place}: {error.strerror}. Make the folder writable and try again."
            ) from error


def empty(root: Path) -> None:
    """Delete what was left unfinished."""
    if (root / PARTIAL).is_dir():
        shutil.rmtree(root / PARTIAL, ignore_errors=True)


def remove(connection: Connection, scope: Scope, document_ids: Sequence[str]) -> None:
    """Delete all adapters of documents, and all sets that any of them is merged into."""
    root = root_of(connection)
    if not (root / str(scope.id)).is_dir():
        return
    drop(root, [folder_of(root, scope, one) for one in document_ids])
    remove_merged(root, scope, document_ids)


def remove_merged(root: Path, scope: Scope, document_ids: Sequence[str]) -> None:
    """Delete the sets that any of some documents is merged into, and the damaged ones."""
    gone = set(document_ids)
    members = {place: _documents(place) for place in _merged(root, scope)}
    drop(root, [place for place, known in members.items() if not known or not gone.isdisjoint(known)])


def shrink_merged(root: Path, scope: Scope, most_bytes: int, kept: Path) -> None:
    """Delete merged sets until they take no more than so many bytes, those first that were used longest ago."""
    found = []
    for place in _merged(root, scope):
        files = [file.stat() for file in place.iterdir() if file.is_file()]
        if place != kept:
            found.append((max((file.st_mtime for file in files), default=0.0), place, sum(f.st_size for f in files)))
    total = sum(size for _, _, size in found) + sum(file.stat().st_size for file in kept.iterdir())
    for _, place, size in sorted(found):
        if total <= most_bytes:
            break
        drop(root, [place])
        total -= size


def sweep(connection: Connection) -> int:
    """Delete every adapter of no document as it is now, in all collections; how many went.

    There are none, unless somebody copied files or an older Carrel removed documents.
    """
    root = root_of(connection)
    if not root.is_dir():
        return 0
    empty(root)
    wanted: set[Path] = set()
    rows = connection.execute(select(schema.collections)).all()
    scopes = {row.id: Scope(row.id, row.tenant, row.name) for row in rows}
    table = schema.documents
    hashes: dict[Path, str] = {}
    for row in connection.execute(select(table.c.collection_id, table.c.key, table.c.content_hash)):
        hashes[folder_of(root, scopes[row.collection_id], row.key)] = row.content_hash
        wanted.add(folder_of(root, scopes[row.collection_id], row.key))
    going = [folder for folder in _folders(root) if folder not in wanted and folder.name != MERGED]
    for folder, content in hashes.items():
        going += [each for each in _children(folder) if not each.name.startswith(f"{content}-")]
    for scope in scopes.values():
        known = {one for one in hashes if one.parent.name == str(scope.id)}
        for place in _merged(root, scope):
            members = [folder_of(root, scope, one) for one in _documents(place)]
            if not members or not known.issuperset(members):
                going.append(place)
    drop(root, going)
    return len(going)


def _folders(root: Path) -> Iterator[Path]:
    """Of all documents and merged sets, in every collection."""
    for collection in _children(root):
        if collection.name != PARTIAL:
            yield from _children(collection)


def _merged(root: Path, scope: Scope) -> list[Path]:
    return _children(merged_folder(root, scope))


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _documents(place: Path) -> list[str]:
    """The documents of a merged set; of a damaged one none are known."""
    try:
        found = json.loads((place / PROVENANCE).read_text(encoding="utf-8"))["documents"]
        return [str(one) for one in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []
