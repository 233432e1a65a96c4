"""Vectors for turns, made behind those who speak: a thread that lives while there are turns without one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from sqlalchemy import Connection

from carrel.embeddings.base import ChunkEncoder, TextEncoder, Vectors, digest, unit
from carrel.errors import (
    AuthenticationError,
    GenerationTimeoutError,
    InputError,
    RateLimitError,
    ServerConnectionError,
)
from carrel.memory import turns as stored
from carrel.memory.background import Background
from carrel.memory.base import StoredTurn
from carrel.memory.turns import Owner
from carrel.memory.words import embedded_text
from carrel.retrieval.store.store import allocate
from carrel.types import Chunk, Document

if TYPE_CHECKING:
    from carrel.retrieval.store.store import Store

_TURNS_A_BATCH = 32
_AGAIN_AFTER_S = (0.05, 0.2)  # a turn that fails by itself, before it is given up
_TRY_AGAIN_AFTER_S = 60.0  # those that were given up, where somebody waits
_PASSING = (OSError, RateLimitError, GenerationTimeoutError, ServerConnectionError, AuthenticationError)
_TEXT_VERSION = "turns/1"  # of what carrel.memory.words.embedded_text makes


def turn_fingerprint(encoder: ChunkEncoder) -> str:
    """Changes whenever the vectors of turns would: with the encoder, and with the text that is made of a turn."""
    return digest(encoder.fingerprint, _TEXT_VERSION)


def embed(encoder: ChunkEncoder, turns: Sequence[StoredTurn]) -> Vectors:
    """(turns, dimension), unit length. An encoder that reads documents is given each turn as one; of several vectors
    of a turn the mean is taken."""
    texts = [embedded_text(turn.speaker, turn.text) for turn in turns]
    if isinstance(encoder, TextEncoder):
        return checked(encoder, encoder.encode_texts(texts), len(texts))
    items = [(Document(text, id="turn"), [_whole(encoder, text)]) for text in texts]
    rows = [vectors[0].mean(axis=0) for vectors in encoder.encode_many(items)]
    return checked(encoder, unit(np.stack(rows)), len(texts))


def _whole(encoder: ChunkEncoder, text: str) -> Chunk:
    return Chunk(0, 0, len(text), text, "", encoder.tokenizer.count(text), None)


def embed_each(encoder: ChunkEncoder, turns: Sequence[StoredTurn]) -> tuple[Vectors, dict[int, Exception]]:
    """The same turn by turn, of those that can be embedded; and why the others cannot, by their ids.

    Raises
    ------
    Exception : of the encoder, where it cannot embed a plain word either, or cannot be reached: then it is not the
        text.
    """
    rows: list[Vectors] = []
    refused: dict[int, Exception] = {}
    for turn in turns:
        try:
            rows.append(_insisting(encoder, turn))
        except _PASSING:
            raise
        except Exception as error:
            embed(encoder, [replace(turn, text="word", speaker="user")])
            refused[turn.id] = error
    return np.concatenate(rows) if rows else np.empty((0, encoder.dimension), np.float32), refused


def _insisting(encoder: ChunkEncoder, turn: StoredTurn) -> Vectors:
    for pause_s in _AGAIN_AFTER_S:
        try:
            return embed(encoder, [turn])
        except _PASSING:
            raise
        except Exception:
            time.sleep(pause_s)
    return embed(encoder, [turn])


def checked(encoder: ChunkEncoder, vectors: Vectors, count: int) -> Vectors:
    """The vectors, if they are as many and as long as they must be."""
    if vectors.shape != (count, encoder.dimension) or not np.isfinite(vectors).all():
        raise InputError(
            f"the encoder {encoder.name} gave vectors of shape {vectors.shape} for {count} texts, or some that are no"
            f" numbers; ({count}, {encoder.dimension}) was wanted. Open the memory with another encoder."
        )
    return vectors


class Embedder(Background):
    """Embeds the turns of a library's users behind the calls that observe them, in batches, the oldest first.

    Attributes
    ----------
    writing : held by whoever writes to the store in this process, so that nobody waits by polling.
    refused : why the encoder could not embed some turns of each user, by their ids, as far as this process met them.
        They have no vector and are found by their words alone, and are tried again when a process first needs the
        user's memory, and when somebody waits.
    """

    name: ClassVar[str] = "carrel-memory-embedder"

    def __init__(self, store: Store, encoder: ChunkEncoder) -> None:
        super().__init__(store)
        self.encoder, self.fingerprint = encoder, turn_fingerprint(encoder)
        self.writing = threading.RLock()
        self.refused: dict[Owner, dict[int, Exception]] = {}
        self._tried_at: dict[Owner, float] = {}

    def work(self, owner: Owner) -> bool:
        """Embed a batch; True when it was the last."""
        if owner not in self._tried_at:
            self.try_again(owner)
        with self.store.read() as connection:
            known = stored.encoder_id(connection, self.fingerprint)
            turns = stored.pending(connection, owner, known, _TURNS_A_BATCH)
        if turns:
            vectors, refused = self._vectors(owner, turns)
            embedded = [turn.id for turn in turns if turn.id not in refused]
            with self.writing, self.store.write(derived=True) as connection:
                known = adopt(connection, self.fingerprint, self.encoder)
                stored.insert_vectors(connection, owner, known, embedded, vectors, turns[-1].id)
                if len(turns) < _TURNS_A_BATCH:
                    stored.drop_outdated_vectors(connection, owner, known)
        return len(turns) < _TURNS_A_BATCH

    def try_again(self, owner: Owner) -> None:
        """Have the turns that could not be embedded tried once more; not where that has just been done."""
        if time.monotonic() - self._tried_at.get(owner, -_TRY_AGAIN_AFTER_S) < _TRY_AGAIN_AFTER_S:
            return
        self._tried_at[owner] = time.monotonic()
        self.refused.pop(owner, None)
        with self.store.read() as connection:
            known = stored.encoder_id(connection, self.fingerprint)
            if known is None or not stored.refused(connection, owner, known):
                return
        with self.writing, self.store.write(derived=True) as connection:
            stored.retry_refused(connection, owner, known)

    def _vectors(self, owner: Owner, turns: Sequence[StoredTurn]) -> tuple[Vectors, dict[int, Exception]]:
        """Of a batch; a text that the encoder cannot embed does not hold up the others."""
        try:
            return embed(self.encoder, turns), {}
        except Exception:
            if owner not in self.failures:  # the first time: it may pass
                raise
            vectors, refused = embed_each(self.encoder, turns)
            self.refused.setdefault(owner, {}).update(refused)
            return vectors, refused


def adopt(connection: Connection, fingerprint: str, encoder: ChunkEncoder) -> int:
    """Id of the encoder in the store, which learns of it now at the latest."""
    found = stored.encoder_id(connection, fingerprint)
    if found is None:
        found = allocate(connection, "encoders", 1)
        statement = "INSERT INTO encoders (id, fingerprint, name, dimension) VALUES (?, ?, ?, ?)"
        connection.exec_driver_sql(statement, (found, fingerprint, encoder.name, encoder.dimension))
    return found
