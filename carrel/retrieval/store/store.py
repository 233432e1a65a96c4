"""Opening the database, its transactions, and what can go wrong with it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Engine, create_engine, event, exc, insert, select, update

from carrel.errors import (
    InputError,
    StoreBusyError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreVersionError,
)
from carrel.retrieval.store import schema

DATABASE = "carrel.db"
BUSY_TIMEOUT_S = 10.0
Durability = Literal["normal", "full"]


@dataclass(frozen=True, slots=True)
class Scope:
    """A tenant's collection. Every query names one; there is no query without."""

    id: int
    tenant: str
    collection: str


class Store:
    """One SQLite database in WAL mode: many readers, one writer, in any number of processes.

    Parameters
    ----------
    folder : holds ``carrel.db``; created when ``create`` is true.
    read_only : open without the right to write.
    durability : "normal" survives any crash of the process; "full" also a power loss (one more sync a commit).
    busy_timeout_s : how long a writer waits for another before StoreBusyError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        create: bool = True,
        read_only: bool = False,
        durability: Durability = "normal",
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        if durability not in get_args(Durability):
            raise InputError(f"durability is one of {', '.join(get_args(Durability))}, not {durability!r}")
        self.folder, self.path = folder, folder / DATABASE
        self.read_only, self.durability, self.busy_timeout_s = read_only, durability, busy_timeout_s
        if not self.path.exists():
            self._prepare_folder(create)
        self.engine, self._closed = self._engine(), False
        self.attached: dict[str, object] = {}  # what is to live as long as the store
        self.before_closing: list[Callable[[], object]] = []
        try:
            with translated(self.path):
                self._check()
        except BaseException:  # nobody will hold the store to close it
            self.close()
            raise

    def _prepare_folder(self, create: bool) -> None:
        if not create or self.read_only:
            raise StoreNotFoundError(f"there is no library at {self.folder}. Make one with: carrel add FOLDER")
        if self.folder.exists() and not self.folder.is_dir():
            raise StoreError(f"{self.folder} is a file, but a library is a folder. Name another place.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreReadOnlyError(
                f"cannot make the folder {self.folder}: {error.strerror}. Name another place."
            ) from error

    def _engine(self) -> Engine:
        engine = create_engine("sqlite://", creator=self._connect, pool_size=8, max_overflow=24, poolclass=_pool())

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            writes = connection.get_execution_options().get("carrel_writes", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._uri(), uri=True, timeout=self.busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        pragmas = ["foreign_keys=ON", "temp_store=MEMORY", "cache_size=-16384", "mmap_size=1073741824"]
        if not self.read_only:
            pragmas += ["journal_mode=WAL", f"synchronous={'FULL' if self.durability == 'full' else 'NORMAL'}"]
        try:
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _uri(self) -> str:
        uri = self.path.resolve().as_uri()
        if not self.read_only:
            return f"{uri}?mode=rwc"
        # A database in WAL mode needs its side files even to be read; in a folder that nobody can
        # write to there are none and never will be.
        alone = not self.path.with_name(f"{DATABASE}-wal").exists() and not os.access(self.folder, os.W_OK)
        return f"{uri}?immutable=1" if alone else f"{uri}?mode=ro"

    def _check(self) -> None:
        with self.engine.connect() as connection:
            known = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name='meta'").first()
            version = None
            if known:
                version = connection.execute(
                    select(schema.meta.c.value).where(schema.meta.c.key == "schema_version")
                ).scalar()
        if version is None:
            if self.read_only:
                raise StoreCorruptError(f"{self.path} holds no library. Name another place.")
            self._create()
        elif not version.isdecimal():
            raise StoreCorruptError(f"{self.path} is damaged (schema version {version!r}). Restore a copy.")
        elif int(version) > schema.SCHEMA_VERSION:
            raise StoreVersionError(
                f"{self.path} was written by a newer Carrel (schema {version}; this one knows {schema.SCHEMA_VERSION})."
                " Upgrade with: pip install --upgrade carrel"
            )

    def _create(self) -> None:
        with self.write() as connection:
            if connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name='meta'").first():
                return  # another process made it in the meantime
            schema.metadata.create_all(connection)
            connection.execute(insert(schema.meta), [{"key": "schema_version", "value": str(schema.SCHEMA_VERSION)}])
            names = [table.name for table in (schema.collections, schema.documents, schema.chunks, schema.encoders)]
            connection.execute(insert(schema.counters), [{"name": name, "next": 1} for name in names])

    # -- transactions -------------------------------------------------------------------------

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: everything in it sees one state of the library."""
        self.check_open()
        with translated(self.path), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, derived: bool = False) -> Iterator[Connection]:
        """A write transaction: all of it happens, or nothing.

        What is ``derived`` can be made again after a power loss: no sync of the disk is waited for.
        """
        self.check_open()
        if self.read_only:
            raise StoreReadOnlyError(
                f"the library {self.folder} was opened read-only. Open it without read_only to change it."
            )
        with translated(self.path), self.engine.connect() as connection:
            connection.execution_options(carrel_writes=True)
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            relaxed = derived and self.durability == "full"
            if relaxed:
                raw.execute("PRAGMA synchronous=NORMAL")
            try:
                with connection.begin():
                    yield connection
            finally:
                if relaxed:
                    raw.execute("PRAGMA synchronous=FULL")

    def scope(self, tenant: str, collection: str, *, create: bool) -> Scope | None:
        """The tenant's collection; made when missing and ``create`` is true, else None."""
        query = select(schema.collections.c.id).where(
            schema.collections.c.tenant == tenant, schema.collections.c.name == collection
        )
        with self.read() as connection:
            found = connection.execute(query).scalar()
        if found is None and create:
            with self.write() as connection:
                found = connection.execute(query).scalar()
                if found is None:
                    found = allocate(connection, "collections", 1)
                    row = {"id": found, "tenant": tenant, "name": collection}
                    connection.execute(insert(schema.collections), [row])
        return None if found is None else Scope(found, tenant, collection)

    def erase_freed_pages(self) -> None:
        """Rewrite the file without the pages of removed content, and empty the log."""
        self.check_open()
        with translated(self.path), self.engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.execute("VACUUM")
            busy, _, _ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreBusyError(
                f"the log of {self.path} could not be emptied: another process is reading. Close it and purge again."
            )

    def check_open(self) -> None:
        """Raise StoreClosedError after ``close``."""
        if self._closed:
            raise StoreClosedError(
                f"the library {self.folder} was closed. Open it again with: carrel.open({str(self.folder)!r})"
            )

    def close(self) -> None:
        """Give back the connections, those in use when they are done; closing twice is fine."""
        while self.before_closing:
            self.before_closing.pop()()
        self._closed = True
        self.engine.dispose()


def allocate(connection: Connection, name: str, count: int) -> int:
    """Reserve ``count`` consecutive ids and return the first; an id is never given out twice."""
    row = schema.counters.c.name == name
    first: int = connection.execute(select(schema.counters.c.next).where(row)).scalar_one()
    connection.execute(update(schema.counters).where(row).values(next=first + count))
    return first


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Database errors as errors of ours, with what to do about them."""
    try:
        yield
    except UnicodeEncodeError as error:  # an id or a name that no database can hold
        raise InputError(f"{error.object!r:.100} is no valid text ({error.reason})") from error
    except (exc.DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        raise _translate(path, str(cause)) from error


def _translate(path: Path, message: str) -> StoreError:
    text = message.lower()
    if "locked" in text or "busy" in text:
        return StoreBusyError(f"another process is writing to {path}. Wait for it to finish and try again.")
    if "readonly" in text or "read-only" in text:
        return StoreReadOnlyError(f"{path} cannot be written to. Check its permissions, or copy the library elsewhere.")
    if "not a database" in text or "malformed" in text:
        return StoreCorruptError(
            f"{path} is damaged ({message}). Restore a copy, or remove the folder and add the documents again."
        )
    if "unable to open" in text:
        return StoreError(f"cannot open {path} ({message}). Check that the folder exists and can be written to.")
    if "full" in text:
        return StoreError(f"no space is left for {path}. Free some and run the same command again: it continues.")
    return StoreError(f"{path}: {message}")


def _pool() -> Any:
    from sqlalchemy.pool import QueuePool

    return QueuePool
