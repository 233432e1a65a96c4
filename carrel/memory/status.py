"""How a memory stands: what of it is still to be done in the background, and what went wrong there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrel.memory import notes as noted
from carrel.memory import turns as stored
from carrel.memory.turns import Owner

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from carrel.memory.embedding import Embedder
    from carrel.memory.writing import NoteWriter


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """How a memory stands: its turns, those still without a vector, its notes, and what went wrong behind it."""

    turns: int
    sessions: int
    unembedded: int
    notes: int
    unread: int = 0  # turns that the generator has not read for notes
    failure: str = ""
    refused: int = 0  # turns that the encoder could not embed, or of which the generator gave no notes


def status_of(connection: Connection, owner: Owner, embedder: Embedder, writer: NoteWriter | None) -> MemoryStatus:
    """The status of one user's memory; nothing in it is of another."""
    encoder = stored.encoder_id(connection, embedder.fingerprint)
    unembeddable, unnoted = stored.refused(connection, owner, encoder), noted.refused(connection, owner)
    failed = [behind.failures[owner] for behind in (embedder, writer) if behind and owner in behind.failures]
    failures = [f"{type(failure).__name__}: {failure}" for failure in failed]
    failures += _refused(unembeddable, embedder.refused.get(owner, {}), unnoted)
    return MemoryStatus(
        stored.count(connection, owner),
        len(stored.sessions(connection, owner)),
        stored.pending_count(connection, owner, encoder),
        len(noted.select(connection, owner, history=True)),
        noted.unread(connection, owner) if writer is not None else 0,
        "; ".join(failures),
        len(unembeddable) + unnoted,
    )


def _refused(unembeddable: Sequence[int], reasons: dict[int, Exception], unnoted: int) -> Iterator[str]:
    if unembeddable:
        turn = next((turn for turn in unembeddable if turn in reasons), unembeddable[0])
        why = f": {reasons[turn]}" if turn in reasons else ""
        yield (
            f"{_turns(len(unembeddable))} could not be embedded, to be found by words alone: turn {turn}{why}"
        )
    if unnoted:
        yield f"the generator gave no notes of {_turns(unnoted)}"


def _turns(count: int) -> str:
    return f"{count} turn{'s' if count != 1 else ''}"
