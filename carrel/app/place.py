"""The library that a command works on, and the names of its documents."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from carrel.app.console import note, shown
from carrel.app.options import make_encoder
from carrel.app.rendering import counted
from carrel.errors import DocumentNotFoundError, InputError, StoreNotFoundError
from carrel.inputs import library_folder

if TYPE_CHECKING:
    from carrel.library import Library

_DATABASE = "carrel.db"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a library is, whose documents of it are meant, and what turns text into vectors there."""

    path: Path
    tenant: str = "local"
    collection: str = "default"
    encoder: str | None = None

    @property
    def exists(self) -> bool:
        return (self.path / _DATABASE).exists()

    def to_read(self) -> Library:
        """Open it for questions: nothing is made, and nothing of it is written."""
        self._check()
        return self._open(read_only=True, create=False)

    def to_change(self) -> Library:
        """Open what is there."""
        self._check()
        return self._open(create=False)

    @contextmanager
    def to_fill(self, *, dry_run: bool = False) -> Iterator[Library]:
        """Open it, or make it; a dry run makes nothing."""
        if not dry_run:
            with self._open() as library:
                yield library
        elif self.exists:
            with self.to_read() as library:
                yield library
        else:
            with (
                tempfile.TemporaryDirectory(prefix="carrel-") as folder,
                replace(self, path=Path(folder))._open() as library,
            ):
                yield library

    def _open(self, *, read_only: bool = False, create: bool = True) -> Library:
        import carrel

        return carrel.open(
            self.path,
            tenant=self.tenant,
            collection=self.collection,
            encoder=make_encoder(self.encoder),
            read_only=read_only,
            create=create,
        )

    def _check(self) -> None:
        library_folder(self.path)
        if not self.exists:
            command = "carrel add FOLDER" if str(self.path) == ".carrel" else f"carrel add FOLDER --library {self.path}"
            raise StoreNotFoundError(f"there is no library at {self.path}. Make one with: {command}")

    def note_if_empty(self, library: Library) -> None:
        """Say it when nothing could be found because nothing is there."""
        if not library.documents():
            usual = (self.tenant, self.collection) == ("local", "default")
            which = "" if usual else f" in the collection {self.collection!r} of the tenant {self.tenant!r}"
            note(f"{self.path} holds no documents{which} yet. Add some with: carrel add FOLDER")


def resolve(library: Library, names: Sequence[str]) -> list[str]:
    """Ids of documents from what was typed: an id, or the path of a file, which stands for all it holds.

    Raises
    ------
    DocumentNotFoundError : nothing has this id, and nothing came from such a file.
    """
    found: dict[str, None] = {}
    for name in names:
        found.update(dict.fromkeys(_resolve_one(library, name)))
    return list(found)


def _resolve_one(library: Library, name: str) -> list[str]:
    from carrel.retrieval.reading import storable_path

    path = storable_path(os.path.normpath(os.path.abspath(name)) if name else name)
    name = storable_path(name)
    candidates = library.documents(where={"any": [{"id": [name, path]}, {"source": path}]})
    for exact in (name, path):
        if any(info.id == exact for info in candidates):
            return [exact]
    if not candidates:
        raise DocumentNotFoundError(
            f"no document has the id {name!r}, and none came from such a file. See them with: carrel list"
        )
    return [info.id for info in candidates]


def resolve_single(library: Library, name: str) -> str:
    """The one document that is meant.

    Raises
    ------
    InputError : the file holds several documents. DocumentNotFoundError : there is none.
    """
    found = resolve(library, [name])
    if len(found) > 1:
        raise InputError(f"{name} holds {counted(len(found), 'document')}. Name one of them, such as {shown(found[0])}")
    return found[0]
