"""Work behind those who speak: a thread that lives while there is some, and tells what went wrong."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from carrel.errors import StoreClosedError
from carrel.memory.turns import Owner

if TYPE_CHECKING:
    from carrel.retrieval.store.store import Store

_TRIES_AFTER_S = (0.5, 2.0, 8.0)  # what fails is tried again so often; then at the next turn
_WAIT_AT_EXIT_S = 10.0
_GATHER_S = 0.02  # after a turn: what follows it comes along, and whoever said it gets on first
_LINGER_S = 2.0  # without work, before the thread ends


@dataclass(slots=True)
class _Waiting:
    """A user whose batches are to be done: how often they were called for, how often one failed, and when the next is
    due."""

    calls: int = 1
    failures: int = 0
    due: float = 0.0


class Background(ABC):
    """Does something for each user who has called for it, a batch at a time, on a thread of its own.

    The users take turns, a batch each, and one whose batches fail waits without holding up another. What is to be done
    stands in the store alone: after a crash, whoever opens the memory next goes on with it.

    Attributes
    ----------
    failures : of each user's last batch, if it failed; it is tried again, a few times now and then at the next call.
    """

    name: ClassVar[str]

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failures: dict[Owner, Exception] = {}
        self._changed = threading.Condition()
        self._waiting: dict[Owner, _Waiting] = {}  # in the order in which they are served
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._hurried: Counter[Owner] = Counter()
        _running.add(self)

    @abstractmethod
    def work(self, owner: Owner) -> bool:
        """Do a batch for a user; True when it was the last."""

    def wake(self, owner: Owner) -> None:
        """Say that a user has something to be done, or may have."""
        if self.store.read_only:
            return
        with self._changed:
            if owner in self._waiting:
                self._waiting[owner].calls += 1
            else:
                self._waiting[owner] = _Waiting()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
            else:
                self._changed.notify_all()

    @contextmanager
    def hurried(self, owner: Owner) -> Iterator[None]:
        """While the block runs, nothing of a user is put off: neither until more has come nor after a failure."""
        with self._changed:
            self._hurried[owner] += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._hurried[owner] -= 1
                self._hurried += Counter()  # without those that are at zero

    def wait(self, owner: Owner, timeout_s: float | None = None) -> bool:
        """Return when all of a user is done, or has failed (see ``failures``); False where the time was too short."""
        with self.hurried(owner), self._changed:
            return self._changed.wait_for(lambda: owner not in self._waiting, timeout_s)

    def stop(self, timeout_s: float | None = _WAIT_AT_EXIT_S) -> None:
        """End after the batch that is being done; the next ``wake`` begins anew where it stopped."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            if self._thread is not threading.current_thread():
                self._changed.wait_for(lambda: self._thread is None, timeout_s)
            self._stopping = False

    def _run(self) -> None:
        while (next_one := self._next()) is not None:
            owner, calls = next_one
            failure: Exception | None = None
            try:
                done = self.work(owner)
            except StoreClosedError:
                done = True
            except Exception as error:  # whatever an encoder or a generator raises must not end a process's memory
                failure, done = error, False
            with self._changed:
                self._worked(owner, calls, done, failure)

    def _worked(self, owner: Owner, calls: int, done: bool, failure: Exception | None) -> None:
        waiting = self._waiting.pop(owner, None)
        if failure is None:
            self.failures.pop(owner, None)
        else:
            self.failures[owner] = failure
        if waiting is None:  # it was stopped
            return
        waiting.failures = 0 if failure is None else waiting.failures + 1
        given_up = waiting.failures > len(_TRIES_AFTER_S)
        if (done or given_up) and waiting.calls == calls:  # else turns came meanwhile
            self._changed.notify_all()
            return
        if failure is not None:
            waiting.failures = 0 if given_up else waiting.failures
            waiting.due = time.monotonic() + _TRIES_AFTER_S[max(0, waiting.failures - 1)]
        self._waiting[owner] = waiting  # behind the others

    def _next(self) -> tuple[Owner, int] | None:
        """A user whose batch is due; None, and no thread any more, where there has been none for a while."""
        with self._changed:
            if not self._waiting:
                self._changed.wait_for(lambda: self._waiting or self._stopping, _LINGER_S)
            if self._waiting and not self._hurried:
                self._changed.wait_for(lambda: self._stopping or self._hurried, _GATHER_S)
            while self._waiting and not self._stopping:
                now = time.monotonic()
                for owner, waiting in self._waiting.items():
                    if waiting.due <= now or owner in self._hurried:
                        return owner, waiting.calls
                self._changed.wait(min(waiting.due for waiting in self._waiting.values()) - now)
            self._waiting.clear()
            self._thread = None
            self._changed.notify_all()
            return None

    def is_hurried(self, owner: Owner) -> bool:
        """Whether somebody waits for all of a user's."""
        return owner in self._hurried


_running: weakref.WeakSet[Background] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """End the threads before the interpreter does: what they run in must not be taken from under them."""
    for each in list(_running):
        each.stop()
