"""Work behind those who speak: a thread that lives while there is some, and tells what went wrong."""

from __future__ import annotations

import atexit
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from carrel.errors import StoreClosedError
from carrel.memory.turns import Owner

if TYPE_CHECKING:
    from carrel.retrieval.store.store import Store

_TRIES_AFTER_S = (0.5, 2.0, 8.0)  # what fails is tried again so often; then at the next turn
_WAIT_AT_EXIT_S = 10.0
_GATHER_S = 0.02  # after a turn: what follows it comes along, and whoever said it gets on first
_LINGER_S = 2.0  # without work, before the thread ends


class Background(ABC):
    """Does something for each user who has called for it, a batch at a time, on a thread of its own.

    What is to be done stands in the store alone: after a crash, whoever opens the memory next goes on with it.

    Attributes
    ----------
    failure : of the last batch, if it failed; it is tried again, a few times now and then at the next call.
    """

    name: ClassVar[str]

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failure: Exception | None = None
        self._changed = threading.Condition()
        self._waiting: dict[Owner, int] = {}  # how often each was called for
        self._thread: threading.Thread | None = None
        self._stopping, self._hurried = False, 0
        _running.add(self)

    @abstractmethod
    def work(self, owner: Owner) -> bool:
        """Do a batch for a user; True when it was the last."""

    def wake(self, owner: Owner) -> None:
        """Say that a user has something to be done, or may have."""
        if self.store.read_only:
            return
        with self._changed:
            self._waiting[owner] = self._waiting.get(owner, 0) + 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
            else:
                self._changed.notify_all()

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """While the block runs, nothing is put off: neither until more has come nor after a failure."""
        with self._changed:
            self._hurried += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._hurried -= 1

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return when all is done, or has failed (see ``failure``); False where the time was too short."""
        with self.hurried(), self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

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
                done = self.work(owner)
                self.failure, failures = None, 0
            except StoreClosedError:
                done = True
            except (
                Exception
            ) as error:  # whatever an encoder or a generator raises: it must not end the process's memory
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

    @property
    def is_hurried(self) -> bool:
        """Whether somebody waits for all of it."""
        return self._hurried > 0


_running: weakref.WeakSet[Background] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """End the threads before the interpreter does: what they run in must not be taken from under them."""
    for each in list(_running):
        each.stop()
