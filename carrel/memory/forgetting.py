"""Forgetting: turns go with their vectors and with every note that was written from them, in one transaction."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from carrel.errors import InputError
from carrel.memory import notes as noted
from carrel.memory import turns as stored
from carrel.memory.turns import Owner
from carrel.memory.words import WORD
from carrel.retrieval.indexes.lexical import spaced

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What went: ids of turns and of the notes that rested on them. ``planned``: a dry run, nothing went."""

    turns: tuple[int, ...] = ()
    notes: tuple[int, ...] = ()
    planned: bool = False


def matching(connection: Connection, owner: Owner, text: str) -> list[int]:
    """Ids of the turns that hold the words of a text one after another.

    Whole words: "red car" is in "The RED, car!" and not in "red cars". Neither case nor accents count, nor what
    stands between two words, nor the speaker. Chinese and Japanese characters are words of their own.

    Raises
    ------
    InputError : the text has no words.
    """
    needle = plain_words(text)
    if needle == " ":
        raise InputError(f"nothing can match {text!r}: it has no words")
    return [id for id, _, said in stored.after(connection, owner, 0) if needle in plain_words(said)]  # noqa: A001


def plain_words(text: str) -> str:
    """The words of a text, between single spaces, so that words one after another are a part of it.

    Without case and accents; a space alone where there are none.
    """
    if not text.isascii():
        plain = unicodedata.normalize("NFKD", spaced(text))
        text = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = (part for word in WORD.findall(text.casefold()) for part in word.replace("’", "'").split("'"))
    return f" {' '.join(words)} ".replace("  ", " ")


def in_session(connection: Connection, owner: Owner, session: str) -> list[int]:
    """Ids of a session's turns."""
    query = "SELECT id FROM memory_turns WHERE user_id=? AND session=? ORDER BY id"
    return [row[0] for row in connection.exec_driver_sql(query, (owner.id, session))]


def forget(connection: Connection, owner: Owner, turns: Sequence[int]) -> Forgotten:
    """Remove turns and all that hangs on them. Turns are counted only if they were there."""
    present = sorted(stored.by_id(connection, owner, turns))
    if not present:
        return Forgotten()
    notes = noted.of_turns(connection, owner, present)
    noted.remove(connection, owner, notes)
    for batch in _batches(present):
        chosen = "IN (SELECT value FROM json_each(?))"
        connection.exec_driver_sql(
            f"DELETE FROM memory_vectors WHERE +user_id=? AND turn_id {chosen}", (owner.id, batch)
        )
        connection.exec_driver_sql(f"DELETE FROM memory_turns WHERE +user_id=? AND id {chosen}", (owner.id, batch))
    if stored.count(connection, owner):
        stored.advance(connection, owner, forgotten=True)
    else:  # the user's name is theirs, too
        for table, column in (("memory_embedded", "user_id"), ("memory_users", "id")):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE {column}=?", (owner.id,))
    return Forgotten(tuple(present), tuple(notes))


def _batches(ids: Sequence[int]) -> Iterator[str]:
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        yield json.dumps(ids[start : start + _ROWS_AT_ONCE])
