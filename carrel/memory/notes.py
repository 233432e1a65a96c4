"""Notes in the store: what was written about turns, and from which."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from carrel.memory import tables
from carrel.memory.base import Note, NoteKind, StoredTurn
from carrel.memory.turns import Owner, advance
from carrel.retrieval.store.store import allocate


def insert(connection: Connection, owner: Owner, notes: Sequence[Note]) -> list[Note]:
    """Write notes, whose ids are given here. A note of which a turn is gone by now is not written."""
    written: list[Note] = []
    for note in notes:
        present = "SELECT count(*) FROM memory_turns WHERE +user_id=? AND id IN (SELECT value FROM json_each(?))"
        values = (owner.id, json.dumps(note.turns))
        if connection.exec_driver_sql(present, values).scalar_one() < len(set(note.turns)):
            continue
        number = allocate(connection, tables.notes.name, 1)
        statement = (
            "INSERT INTO memory_notes (id, user_id, session, kind, subject, text, said_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        row = (number, owner.id, note.session, note.kind, note.subject, note.text, note.said_at)
        connection.exec_driver_sql(statement, row)
        pairs = [(number, turn) for turn in sorted(set(note.turns))]
        connection.exec_driver_sql("INSERT INTO memory_note_turns (note_id, turn_id) VALUES (?, ?)", pairs)
        written.append(Note(number, note.session, note.kind, note.text, note.turns, note.said_at, note.subject))
    if written:
        advance(connection, owner)
    return written


def select(
    connection: Connection,
    owner: Owner,
    kind: NoteKind | None = None,
    *,
    session: str | None = None,
    history: bool = False,
) -> list[Note]:
    """Notes by time; of the facts of a subject only the latest, unless their history is asked for."""
    query = (
        "SELECT n.id, n.session, n.kind, n.text, group_concat(l.turn_id), n.said_at, n.subject FROM memory_notes n"
        " JOIN memory_note_turns l ON l.note_id=n.id WHERE n.user_id=? GROUP BY n.id ORDER BY n.said_at, n.id"
    )
    rows = connection.exec_driver_sql(query, (owner.id,)).all()
    found = [Note(row[0], row[1], row[2], row[3], _ids(row[4]), row[5], row[6]) for row in rows]
    latest = {subject_key(note.subject): note.id for note in found if note.kind == "fact" and note.subject}
    return [
        note
        for note in found
        if (kind is None or note.kind == kind)
        and (session is None or note.session == session)
        and (history or latest.get(subject_key(note.subject), note.id) == note.id or note.kind != "fact")
    ]


def facts_key(connection: Connection, owner: Owner) -> tuple[int, int]:
    """Changes whenever the user's notes do: ids are never used again."""
    query = "SELECT coalesce(max(id), 0), count(*) FROM memory_notes WHERE user_id=?"
    row = connection.exec_driver_sql(query, (owner.id,)).one()
    return row[0], row[1]


def summaries(connection: Connection, owner: Owner, turns: Iterable[int]) -> list[Note]:
    """The summaries that were written from any of these turns, by time."""
    query = (
        "SELECT n.id, n.session, n.kind, n.text, group_concat(l.turn_id), n.said_at, n.subject FROM memory_notes n"
        " JOIN memory_note_turns l ON l.note_id=n.id WHERE +n.user_id=? AND n.kind='summary' AND n.id IN"
        " (SELECT note_id FROM memory_note_turns WHERE turn_id IN (SELECT value FROM json_each(?)))"
        " GROUP BY n.id ORDER BY n.said_at, n.id"
    )
    rows = connection.exec_driver_sql(query, (owner.id, json.dumps(list(turns)))).all()
    return [Note(row[0], row[1], row[2], row[3], _ids(row[4]), row[5], row[6]) for row in rows]


def subject_key(subject: str) -> str:
    """By which two facts are of the same subject: the words, whatever their case."""
    return " ".join(subject.casefold().split())


def of_turns(connection: Connection, owner: Owner, turns: Iterable[int]) -> list[int]:
    """Ids of the notes that were written from any of these turns, or of what was read together with one of them.

    Who writes a fact of one turn has read the whole stretch, and may have put into it what another turn says; a
    stretch is what its summary is of.
    """
    stretch = (
        "SELECT other.turn_id FROM memory_note_turns other WHERE other.note_id IN"
        " (SELECT note_id FROM memory_note_turns WHERE turn_id IN (SELECT value FROM json_each(?)))"
    )
    query = (
        "SELECT DISTINCT n.id FROM memory_note_turns l JOIN memory_notes n ON n.id=l.note_id"
        f" WHERE n.user_id=? AND l.turn_id IN ({stretch}) ORDER BY n.id"
    )
    return [row[0] for row in connection.exec_driver_sql(query, (owner.id, json.dumps(list(turns))))]


def remove(connection: Connection, owner: Owner, notes: Iterable[int]) -> None:
    """Remove notes; the turns they were written from are to be read again."""
    chosen = "(SELECT id FROM memory_notes WHERE user_id=? AND id IN (SELECT value FROM json_each(?)))"
    values = (owner.id, json.dumps(list(notes)))
    turns = f"SELECT turn_id FROM memory_note_turns WHERE note_id IN {chosen}"
    connection.exec_driver_sql(f"UPDATE memory_turns SET noted=0 WHERE id IN ({turns})", values)
    connection.exec_driver_sql(f"DELETE FROM memory_note_turns WHERE note_id IN {chosen}", values)
    connection.exec_driver_sql(f"DELETE FROM memory_notes WHERE id IN {chosen}", values)


def _ids(joined: str) -> tuple[int, ...]:
    return tuple(sorted(int(part) for part in joined.split(",")))


# -- which turns a generator has read ---------------------------------------------------------


def unread_sessions(connection: Connection, owner: Owner) -> list[tuple[str, int, float]]:
    """(session, unread turns, when the last of them was said), that with the oldest first."""
    query = (
        "SELECT session, count(*), max(said_at) FROM memory_turns WHERE user_id=? AND noted=0"
        " GROUP BY session ORDER BY min(id)"
    )
    return [(row[0], row[1], row[2]) for row in connection.exec_driver_sql(query, (owner.id,))]


def unread_turns(connection: Connection, owner: Owner, session: str, limit: int) -> list[StoredTurn]:
    """The first unread turns of a session, in the order of time."""
    query = (
        "SELECT id, session, speaker, text, said_at, importance FROM memory_turns"
        " WHERE user_id=? AND session=? AND noted=0 ORDER BY said_at, id LIMIT ?"
    )
    return [StoredTurn(*row) for row in connection.exec_driver_sql(query, (owner.id, session, limit))]


def unread(connection: Connection, owner: Owner, turns: Iterable[int] | None = None) -> int:
    """How many turns, of some or of all, no generator has read."""
    query = "SELECT count(*) FROM memory_turns WHERE user_id=? AND noted=0"
    if turns is None:
        return int(connection.exec_driver_sql(query, (owner.id,)).scalar_one())
    query = query.replace("user_id", "+user_id") + " AND id IN (SELECT value FROM json_each(?))"
    return int(connection.exec_driver_sql(query, (owner.id, json.dumps(list(turns)))).scalar_one())


def mark_read(connection: Connection, owner: Owner, turns: Iterable[int], *, refused: bool = False) -> None:
    """Say that a generator has read these turns, or gave no notes of them however it was asked."""
    statement = "UPDATE memory_turns SET noted=? WHERE +user_id=? AND id IN (SELECT value FROM json_each(?))"
    connection.exec_driver_sql(statement, (2 if refused else 1, owner.id, json.dumps(list(turns))))


def refused(connection: Connection, owner: Owner) -> int:
    """Of how many turns a generator gave no notes however it was asked."""
    query = "SELECT count(*) FROM memory_turns WHERE user_id=? AND noted=2"
    return int(connection.exec_driver_sql(query, (owner.id,)).scalar_one())
