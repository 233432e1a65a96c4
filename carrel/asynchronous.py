"""The async face of a library: each call is the synchronous one on a thread, so the logic is written once."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Executor
from contextvars import ContextVar, copy_context
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Concatenate

    from typing_extensions import ParamSpec, TypeVar

    Own = TypeVar("Own")
    P = ParamSpec("P")
    R = TypeVar("R")


_LOOK_S = 0.05  # how often a waiting thread looks whether the task that awaits it was cancelled
_MOST_S = 2.0  # that a reader who stops early waits for the rest to stop
_CANCELLED: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)


def stop_if_cancelled() -> None:
    """Raise CancelledError on a thread whose awaiting task was cancelled. Work that takes long calls it as it goes."""
    cancelled = _CANCELLED.get()
    if cancelled is not None and cancelled.is_set():
        raise asyncio.CancelledError


async def on_thread(call: Callable[[], R], pool: Executor | None = None) -> R:
    """Make a call on a thread of a pool (by default the event loop's), where ``stop_if_cancelled`` knows its task.

    Cancelled, it returns at once; the thread ends at its next ``stop_if_cancelled``.
    """
    cancelled = threading.Event()
    own = copy_context()

    def run() -> R:
        _CANCELLED.set(cancelled)
        return call()

    try:
        return await asyncio.get_running_loop().run_in_executor(pool, own.run, run)
    finally:  # when there is a result already, nobody looks
        cancelled.set()


def twin(method: Callable[Concatenate[Own, P], R]) -> Callable[Concatenate[Own, P], Coroutine[Any, Any, R]]:
    """A method that does not block the event loop and takes what ``method`` takes.

    Cancelled, it returns at once; its thread ends at the next ``stop_if_cancelled``.
    """
    name = method.__name__

    @wraps(method)
    async def run(library: Own, /, *arguments: P.args, **keywords: P.kwargs) -> R:
        def call() -> R:
            result: R = getattr(library, name)(*arguments, **keywords)
            return result

        return await on_thread(call)

    run.__doc__ = f"``{name}`` on a thread."
    vars(run).pop("__isabstractmethod__", None)  # whoever writes the method has its twin
    return run


def streaming_twin(
    method: Callable[Concatenate[Own, P], Iterator[R]],
) -> Callable[Concatenate[Own, P], AsyncIterator[R]]:
    """The same for a generator; to stop early stops it."""
    name = method.__name__

    @wraps(method)
    async def run(library: Own, /, *arguments: P.args, **keywords: P.kwargs) -> AsyncIterator[R]:
        items: Iterator[R] = getattr(library, name)(*arguments, **keywords)
        busy = threading.Lock()  # a generator that is running cannot be closed
        cancelled = threading.Event()

        def advance() -> R | None:
            _CANCELLED.set(cancelled)  # in the thread's own copy of the context
            with busy:
                return next(items, None)

        def close() -> None:
            with busy:
                if isinstance(items, Generator):
                    items.close()

        try:
            while (item := await asyncio.to_thread(advance)) is not None:
                yield item
        finally:
            cancelled.set()
            if busy.locked():  # cancelled in the middle of an item: closed as soon as that one has come
                asyncio.get_running_loop().run_in_executor(None, close)
            else:
                close()

    run.__doc__ = f"``{name}``, each item produced on a thread; stopping early stops it."
    return run


def handed_over(make: Callable[[], Iterator[R]]) -> Iterator[R]:
    """The items of an iterator that runs on a thread of its own, as fast as it can, whoever reads them, and when.

    For what holds a lock while it runs. To stop reading stops it after the item that it is at.
    """
    items: queue.SimpleQueue[tuple[R | None, BaseException | None] | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def run() -> None:
        _CANCELLED.set(stopped)
        try:
            with contextlib.closing(_as_generator(make())) as source:
                for item in source:
                    items.put((item, None))
                    if stopped.is_set():
                        return
        except BaseException as error:  # raised where the items are read
            items.put((None, error))
        finally:
            items.put(None)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="carrel-stream", daemon=True)
    thread.start()
    try:
        while True:
            try:
                found = items.get(timeout=_LOOK_S)
            except queue.Empty:
                stop_if_cancelled()
                continue
            if found is None:
                return
            item, error = found
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join(_MOST_S)


def _as_generator(items: Iterator[R]) -> Generator[R, None, None]:
    yield from items
