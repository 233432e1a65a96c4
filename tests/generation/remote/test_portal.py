"""Coroutines run for other threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator

import pytest

from carrel.generation.remote.portal import Portal, portal, waited


async def _double(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


def test_a_result_and_an_error_come_back() -> None:
    assert portal().call(_double(4)) == 8

    async def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        portal().call(fail())


def test_there_is_one_for_all_threads() -> None:
    found: list[Portal] = []
    threads = [threading.Thread(target=lambda: found.append(portal())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1


class Counting:
    """An endless iterator that knows whether it has ended."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    async def numbers(self) -> AsyncGenerator[int, None]:
        try:
            number = 0
            while True:
                yield number
                number += 1
                await asyncio.sleep(0.005)
        finally:
            await asyncio.sleep(0.01)  # closing takes a while, too
            self.ended.set()


def test_to_stop_reading_ends_it_before_one_goes_on() -> None:
    counting = Counting()
    items = portal().iterate(counting.numbers)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()  # type: ignore[attr-defined]
    assert counting.ended.is_set()


def test_an_error_comes_after_what_was_said() -> None:
    async def two() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("enough")

    items = portal().iterate(two)
    assert next(items) == 1
    with pytest.raises(ValueError, match="enough"):
        next(items)


def test_an_interrupted_thread_stops_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("carrel.generation.remote.portal.stop_if_cancelled", interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        portal().call(endless())
    assert stopped.wait(5) and time.monotonic() - started < 5


def test_to_stop_waiting_leaves_the_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    release = asyncio.Event()

    async def later() -> str:
        await release.wait()
        return "done"

    def interrupt() -> None:
        raise KeyboardInterrupt

    work = portal().submit(later())
    with monkeypatch.context() as patch:
        patch.setattr("carrel.generation.remote.portal.stop_if_cancelled", interrupt)
        with pytest.raises(KeyboardInterrupt):
            waited(work)
    portal().loop.call_soon_threadsafe(release.set)
    assert waited(work) == "done"
