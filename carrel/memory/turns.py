"""What is written of a user's conversations, and read: turns, their vectors, and who is asked.

Every function takes the transaction and the user; none can reach another user's rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection

from carrel.embeddings.base import Vectors
from carrel.memory import tables
from carrel.memory.base import StoredTurn, Utterance
from carrel.retrieval.store.store import allocate

_COLUMNS = "id, session, speaker, text, said_at, importance"
_TURN = ", ".join(f"t.{name}" for name in _COLUMNS.split(", "))


@dataclass(frozen=True, slots=True)
class Owner:
    """A user of a tenant. Every query names one; there is no query without."""

    id: int
    tenant: str
    user: str


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation: how many turns it has, and when the first and the last were said (seconds since 1970)."""

    name: str
    turns: int
    first: float
    last: float


def find_owner(connection: Connection, tenant: str, user: str, *, made: bool = False) -> Owner | None:
    """The user, if anything was ever said by or to them; ``made`` says that the tables are known to be there."""
    if not made and not tables.exist(connection):
        return None
    query = "SELECT id FROM memory_users WHERE tenant=? AND user=?"
    found = connection.exec_driver_sql(query, (tenant, user)).scalar()
    return None if found is None else Owner(found, tenant, user)


def make_owner(connection: Connection, tenant: str, user: str) -> Owner:
    """The user, made when unknown; so are the tables."""
    tables.make(connection)
    found = find_owner(connection, tenant, user, made=True)
    if found is not None:
        return found
    new = allocate(connection, tables.users.name, 1)
    statement = "INSERT INTO memory_users (id, tenant, user, revision, forgotten) VALUES (?, ?, ?, 0, 0)"
    connection.exec_driver_sql(statement, (new, tenant, user))
    return Owner(new, tenant, user)


def state(connection: Connection, owner: Owner) -> tuple[int, int]:
    """The user's revision, and how often something was forgotten; (0, 0) for one who is not there."""
    query = "SELECT revision, forgotten FROM memory_users WHERE id=? AND tenant=? AND user=?"
    row = connection.exec_driver_sql(query, (owner.id, owner.tenant, owner.user)).first()
    return (0, 0) if row is None else (row[0], row[1])


def advance(connection: Connection, owner: Owner, *, forgotten: bool = False) -> int:
    """The user's next revision, which says that something was written, or removed."""
    statement = "UPDATE memory_users SET revision=revision+1, forgotten=forgotten+? WHERE id=? RETURNING revision"
    return int(connection.exec_driver_sql(statement, (int(forgotten), owner.id)).scalar_one())


# -- turns ------------------------------------------------------------------------------------


def insert(
    connection: Connection, owner: Owner, session: str, said: Sequence[Utterance], importances: Sequence[float]
) -> list[StoredTurn]:
    """Write turns in their order; each has its time by now. Those that name no session are of this one."""
    first = allocate(connection, tables.turns.name, len(said))
    written = [
        StoredTurn(first + place, each.session or session, each.speaker, each.text, _time_of(each), importance)
        for place, (each, importance) in enumerate(zip(said, importances, strict=True))
    ]
    rows = [(t.id, owner.id, t.session, t.speaker, t.text, t.said_at, t.importance) for t in written]
    statement = (
        "INSERT INTO memory_turns (id, user_id, session, speaker, text, said_at, importance, noted)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 0)"
    )
    connection.exec_driver_sql(statement, rows)
    advance(connection, owner)
    return written


def _time_of(said: Utterance) -> float:
    assert isinstance(said.said_at, float)
    return said.said_at


def by_id(connection: Connection, owner: Owner, ids: Iterable[int]) -> dict[int, StoredTurn]:
    """Those of the turns that are there."""
    # the plus keeps SQLite from going through all turns of the user
    query = f"SELECT {_COLUMNS} FROM memory_turns WHERE +user_id=? AND id IN (SELECT value FROM json_each(?))"
    rows = connection.exec_driver_sql(query, (owner.id, _list(ids)))
    return {row[0]: StoredTurn(*row) for row in rows}


def select(
    connection: Connection,
    owner: Owner,
    *,
    session: str | None = None,
    since: float | None = None,
    before: float | None = None,
    last: int | None = None,
) -> list[StoredTurn]:
    """Turns in the order of time, then of observation; with ``last``, only so many from the end."""
    query, parameters = f"SELECT {_COLUMNS} FROM memory_turns WHERE user_id=?", [owner.id]
    for condition, value in ((" AND session=?", session), (" AND said_at>=?", since), (" AND said_at<?", before)):
        if value is not None:
            query, parameters = query + condition, [*parameters, value]  # type: ignore[list-item]
    if last is None:
        found = connection.exec_driver_sql(f"{query} ORDER BY said_at, id", tuple(parameters)).all()
    else:
        end = f"{query} ORDER BY said_at DESC, id DESC LIMIT ?"
        found = connection.exec_driver_sql(end, (*parameters, max(0, last))).all()[::-1]
    return [StoredTurn(*row) for row in found]


def around(connection: Connection, owner: Owner, turn: StoredTurn, reach: int) -> list[StoredTurn]:
    """The turn with its neighbours in its session, in the order of time."""
    found: list[StoredTurn] = [turn]
    for order, sign in (("DESC", "<"), ("ASC", ">")):
        query = (
            f"SELECT {_COLUMNS} FROM memory_turns WHERE user_id=? AND session=? AND (said_at, id) {sign} (?, ?)"
            f" ORDER BY said_at {order}, id {order} LIMIT ?"
        )
        values = (owner.id, turn.session, turn.said_at, turn.id, max(0, reach))
        rows = [StoredTurn(*row) for row in connection.exec_driver_sql(query, values)]
        found = [*rows[::-1], *found] if order == "DESC" else [*found, *rows]
    return found


def after(connection: Connection, owner: Owner, id: int) -> Iterable[tuple[int, float, str]]:  # noqa: A002
    """(id, said_at, text) of the turns observed after one, in the order of their ids."""
    query = "SELECT id, said_at, text FROM memory_turns WHERE user_id=? AND id>? ORDER BY id"
    return ((row[0], row[1], row[2]) for row in connection.exec_driver_sql(query, (owner.id, id)))


def ids(connection: Connection, owner: Owner) -> list[int]:
    """Of every turn, ascending."""
    rows = connection.exec_driver_sql("SELECT id FROM memory_turns WHERE user_id=? ORDER BY id", (owner.id,))
    return [row[0] for row in rows]


def span(connection: Connection, owner: Owner) -> tuple[float, float] | None:
    """When the first and the last turn were said."""
    ends = "(SELECT min(said_at) FROM memory_turns WHERE user_id=?1), (SELECT max(said_at) FROM memory_turns"
    row = connection.exec_driver_sql(f"SELECT {ends} WHERE user_id=?1)", (owner.id,)).one()
    return None if row[0] is None else (row[0], row[1])


def count(connection: Connection, owner: Owner) -> int:
    """How many turns there are."""
    query = "SELECT count(*) FROM memory_turns WHERE user_id=?"
    return int(connection.exec_driver_sql(query, (owner.id,)).scalar_one())


def sessions(connection: Connection, owner: Owner) -> list[Session]:
    """The conversations, by when they began."""
    query = (
        "SELECT session, count(*), min(said_at), max(said_at) FROM memory_turns WHERE user_id=?"
        " GROUP BY session ORDER BY 3, 1"
    )
    return [Session(*row) for row in connection.exec_driver_sql(query, (owner.id,))]


# -- vectors ----------------------------------------------------------------------------------


def encoder_id(connection: Connection, fingerprint: str) -> int | None:
    """The encoder as the store knows it."""
    return connection.exec_driver_sql("SELECT id FROM encoders WHERE fingerprint=?", (fingerprint,)).scalar()


_PENDING = (
    "FROM memory_turns t LEFT JOIN memory_vectors v ON v.turn_id=t.id AND v.encoder_id=?2"
    " WHERE t.user_id=?1 AND t.id > coalesce("
    "(SELECT up_to FROM memory_embedded WHERE user_id=?1 AND encoder_id=?2), 0) AND v.turn_id IS NULL"
)


def pending(connection: Connection, owner: Owner, encoder: int | None, limit: int) -> list[StoredTurn]:
    """The first turns without a vector of this encoder, in the order of their ids."""
    values = (owner.id, -1 if encoder is None else encoder, limit)
    rows = connection.exec_driver_sql(f"SELECT {_TURN} {_PENDING} ORDER BY t.id LIMIT ?3", values)
    return [StoredTurn(*row) for row in rows]


def pending_count(connection: Connection, owner: Owner, encoder: int | None) -> int:
    """How many turns have no vector of this encoder."""
    values = (owner.id, -1 if encoder is None else encoder)
    return int(connection.exec_driver_sql(f"SELECT count(*) {_PENDING}", values).scalar_one())


_REFUSED = (
    "FROM memory_turns t WHERE t.user_id=?1 AND t.id <="
    " (SELECT up_to FROM memory_embedded WHERE user_id=?1 AND encoder_id=?2)"
    " AND NOT EXISTS (SELECT 1 FROM memory_vectors v WHERE v.turn_id=t.id AND v.encoder_id=?2)"
)


def refused(connection: Connection, owner: Owner, encoder: int | None) -> list[int]:
    """Ids of the turns that the encoder could not embed, ascending."""
    values = (owner.id, -1 if encoder is None else encoder)
    return [row[0] for row in connection.exec_driver_sql(f"SELECT t.id {_REFUSED} ORDER BY t.id", values)]


def retry_refused(connection: Connection, owner: Owner, encoder: int) -> None:
    """Have the turns that the encoder could not embed tried once more."""
    first = connection.exec_driver_sql(f"SELECT min(t.id) {_REFUSED}", (owner.id, encoder)).scalar()
    if first is not None:
        statement = "UPDATE memory_embedded SET up_to=? WHERE user_id=? AND encoder_id=?"
        connection.exec_driver_sql(statement, (first - 1, owner.id, encoder))


def insert_vectors(
    connection: Connection, owner: Owner, encoder: int, of: Sequence[int], vectors: Vectors, up_to: int
) -> None:
    """Write vectors, one for each turn that is still there; every turn until ``up_to`` has been tried."""
    revision = advance(connection, owner)
    rows = [
        (revision, encoder, np.ascontiguousarray(vector, "<f4").tobytes(), owner.id, turn)
        for turn, vector in zip(of, vectors, strict=True)
    ]
    statement = (
        "INSERT OR REPLACE INTO memory_vectors (user_id, revision, encoder_id, turn_id, vector)"
        " SELECT user_id, ?, ?, id, ? FROM memory_turns WHERE user_id=? AND id=?"
    )
    if rows:
        connection.exec_driver_sql(statement, rows)
    mark = "INSERT INTO memory_embedded (user_id, encoder_id, up_to) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET up_to="
    connection.exec_driver_sql(f"{mark}max(up_to, excluded.up_to)", (owner.id, encoder, up_to))


def drop_outdated_vectors(connection: Connection, owner: Owner, encoder: int) -> None:
    """Remove the vectors of encoders that nobody has kept up to date since this one has them all."""
    last = connection.exec_driver_sql("SELECT max(id) FROM memory_turns WHERE user_id=?", (owner.id,)).scalar() or 0
    query = "SELECT encoder_id FROM memory_embedded WHERE user_id=? AND encoder_id<>? AND up_to<?"
    for row in connection.exec_driver_sql(query, (owner.id, encoder, last)).all():
        for table in ("memory_vectors", "memory_embedded"):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE user_id=? AND encoder_id=?", (owner.id, row[0]))


def vectors_since(connection: Connection, owner: Owner, encoder: int, revision: int) -> Any:
    """Rows (turn id, bytes) of the vectors written after a revision."""
    query = (
        "SELECT turn_id, vector FROM memory_vectors WHERE user_id=? AND encoder_id=? AND revision>? ORDER BY revision"
    )
    return connection.exec_driver_sql(query, (owner.id, encoder, revision))


def vectors_of(
    connection: Connection, owner: Owner, encoder: int, turns: Iterable[int], dimension: int
) -> tuple[list[int], Vectors]:
    """The turns among these that have a vector, and the vectors: (turns, dimension)."""
    query = (
        "SELECT turn_id, vector FROM memory_vectors WHERE +user_id=? AND encoder_id=?"
        " AND turn_id IN (SELECT value FROM json_each(?))"
    )
    rows = connection.exec_driver_sql(query, (owner.id, encoder, _list(turns))).all()
    joined = np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(len(rows), dimension)
    return [row[0] for row in rows], joined


def _list(ids: Iterable[int]) -> str:
    return json.dumps([int(id) for id in ids])
