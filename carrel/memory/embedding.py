"""Vectors for turns, made behind those who speak: a thread that lives while there are turns without one."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Connection

from carrel.embeddings.base import ChunkEncoder, TextEncoder, Vectors, digest, unit
from carrel.errors import InputError, StoreClosedError
from carrel.memory import turns as stored
from carrel.memory.base import StoredTurn
from carrel.memory.turns import Owner
from carrel.memory.words import embedded_text
from carrel.retrieval.store.store import allocate
from carrel.types import Chunk, Document

if TYPE_CHECKING:
    from carrel.retrieval.store.store import Store

_TURNS_A_BATCH = 32
_GATHER_S = 0.02  # after a turn: what follows it comes along, and whoever said it gets on first
_LINGER_S = 2.0  # without work, before the thread ends
_TRIES_AFTER_S = (0.5, 2.0, 8.0)  # a batch that fails is tried again so often; then at the next turn
_WAIT_AT_EXIT_S = 10.0
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


def checked(encoder: ChunkEncoder, vectors: Vectors, count: int) -> Vectors:
    """The vectors, if they are as many and as long as they must be."""
    if vectors.shape != (count, encoder.dimension) or not np.isfinite(vectors).all():
        raise InputError(
            f"the encoder {encoder.name} gave vectors of shape {vectors.shape} for {count} texts, or some that are no"
            f" numbers; ({count}, {encoder.dimension}) was wanted. Open the memory with another encoder."
        )
    return vectors


class Embedder:
    """Embeds the turns of a library's users behind the calls that observe them, in batches, the oldest first.

    What is to be done stands in the store alone: after a crash, whoever opens the memory next goes on with it.

    Attributes
    ----------
    writing : held by whoever writes to the store in this process, so that nobody waits by polling.
    """

    def __init__(self, store: Store, encoder: ChunkEncoder) -> None:
        self.store, self.encoder = store, encoder
        self.fingerprint = turn_fingerprint(encoder)
        self.writing = threading.RLock()
        self.failure: Exception | None = None
        self._changed = threading.Condition()
        self._waiting: dict[Owner, int] = {}  # how often each was called for
        self._thread: threading.Thread | None = None
        self._stopping, self._hurried = False, 0
        _running.add(self)

    def wake(self, owner: Owner) -> None:
        """Say that a user has turns without vectors, or may have."""
        if self.store.read_only:
            return
        with self._changed:
            self._waiting[owner] = self._waiting.get(owner, 0) + 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="carrel-memory-embedder", daemon=True)
                self._thread.start()
            else:
                self._changed.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return when all is embedded, or has failed (see ``failure``); False where the time was too short."""
        with self._changed:
            self._hurried += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._waiting, timeout_s)
            finally:
                self._hurried -= 1

    def stop(self, timeout_s: float | None = _WAIT_AT_EXIT_S) -> None:
        """End after the batch that is being embedded; the next ``wake`` begins anew where it stopped."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            if self._thread is not threading.current_thread():
                self._changed.wait_for(lambda: self._thread is None, timeout_s)
            self._stopping = False

    def _run(self) -> None:
        failures = 0
        while (waiting := self._next()) is not None:
            owner, calls = waiting
            try:
                done = self._embed_some(owner)
                self.failure, failures = None, 0
            except StoreClosedError:
                done = True
            except Exception as error:  # whatever a user's encoder raises: it must not end the process's memory
                self.failure, done = error, failures == len(_TRIES_AFTER_S)
                if not done:
                    self._pause(_TRIES_AFTER_S[failures])
                failures = 0 if done else failures + 1
            with self._changed:
                if done and self._waiting.get(owner) == calls:  # else turns came meanwhile
                    del self._waiting[owner]
                    self._changed.notify_all()

    def _next(self) -> tuple[Owner, int] | None:
        """A user who waits; None, and no thread any more, where there has been none for a while."""
        with self._changed:
            if not self._waiting:
                self._changed.wait_for(lambda: self._waiting or self._stopping, _LINGER_S)
            if self._waiting and not self._hurried:
                self._pause(_GATHER_S)
            if self._waiting and not self._stopping:
                return next(iter(self._waiting.items()))
            self._waiting.clear()
            self._thread = None
            self._changed.notify_all()
            return None

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._hurried, seconds)

    def _embed_some(self, owner: Owner) -> bool:
        """Embed a batch; True when it was the last."""
        with self.store.read() as connection:
            known = stored.encoder_id(connection, self.fingerprint)
            turns = stored.pending(connection, owner, known, _TURNS_A_BATCH)
        if turns:
            vectors = embed(self.encoder, turns)
            with self.writing, self.store.write() as connection:
                known = adopt(connection, self.fingerprint, self.encoder)
                stored.insert_vectors(connection, owner, known, [turn.id for turn in turns], vectors)
                if len(turns) < _TURNS_A_BATCH:
                    stored.drop_outdated_vectors(connection, owner, known)
        return len(turns) < _TURNS_A_BATCH


def adopt(connection: Connection, fingerprint: str, encoder: ChunkEncoder) -> int:
    """Id of the encoder in the store, which learns of it now at the latest."""
    found = stored.encoder_id(connection, fingerprint)
    if found is None:
        found = allocate(connection, "encoders", 1)
        statement = "INSERT INTO encoders (id, fingerprint, name, dimension) VALUES (?, ?, ?, ?)"
        connection.exec_driver_sql(statement, (found, fingerprint, encoder.name, encoder.dimension))
    return found


_running: weakref.WeakSet[Embedder] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """End the threads before the interpreter does: what they run in must not be taken from under them."""
    for embedder in list(_running):
        embedder.stop()
