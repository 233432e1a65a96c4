"""One event loop on a thread of its own, which all requests of a process share.

So there is one way to talk to a server, asynchronous, and every call can be stopped at any moment, whoever waits:
a thread, a task of another loop, or Ctrl-C.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYetError
from contextlib import aclosing
from typing import Any, TypeVar

from carrel.asynchronous import stop_if_cancelled

T = TypeVar("T")
_LOOK_S = 0.05  # how often a waiting thread looks whether the task that awaits it was cancelled
_MOST_S = 2.0  # that a reader who stops early waits for the connection to be closed
_END = object()


class Portal:
    """Runs coroutines for other threads."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.process = os.getpid()
        threading.Thread(target=self._run, name="carrel-requests", daemon=True).start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result; an interruption of the waiting thread stops the work."""
        future = self.submit(work)
        try:
            return waited(future)
        finally:
            future.cancel()

    def iterate(self, make: Callable[[], AsyncGenerator[T, None]]) -> Iterator[T]:
        """The items of an asynchronous iterator; to stop reading stops it, and waits until it has stopped."""
        items: queue.SimpleQueue[object] = queue.SimpleQueue()
        begun, ended = threading.Event(), threading.Event()

        async def pump() -> None:
            begun.set()
            try:
                async with aclosing(make()) as source:
                    async for item in source:
                        items.put(item)
            finally:
                ended.set()

        future = self.submit(pump())
        future.add_done_callback(lambda _: items.put(_END))
        try:
            while True:
                try:
                    item = items.get(timeout=_LOOK_S)
                except queue.Empty:
                    stop_if_cancelled()
                    continue
                if item is _END:
                    future.result()
                    return
                yield item  # type: ignore[misc]
        finally:
            future.cancel()
            if begun.is_set():
                ended.wait(_MOST_S)


def waited(future: Future[T]) -> T:
    """The result of work that goes on elsewhere; an interruption of the waiting thread leaves the work alone."""
    try:
        while True:
            try:
                return future.result(_LOOK_S)
            except NotYetError:
                if future.done():  # or it has raised such an error itself
                    return future.result()
                stop_if_cancelled()
    except CancelledError as error:
        raise asyncio.CancelledError from error


_lock = threading.Lock()
_portal: Portal | None = None


def portal() -> Portal:
    """The process's own; a forked child makes another, as threads do not survive a fork."""
    global _portal
    with _lock:
        if _portal is None or _portal.process != os.getpid():
            _portal = Portal()
        return _portal
