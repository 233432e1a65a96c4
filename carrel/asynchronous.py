"""The async face of a library: each call is the synchronous one on a thread, so the logic is written once."""

from __future__ import annotations

import asyncio
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
