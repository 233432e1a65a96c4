"""Leaving a run early: by cancellation, Ctrl-C or a clock. What is under way stops, and no reply is lost."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from carrel.agents import Ask, Budget, Happened, Journal, Steps, arun, flow, run_many
from carrel.asynchronous import stop_if_cancelled
from carrel.errors import BudgetSpentError, GenerationError
from carrel.generation.base import Generator
from carrel.testing import FakeGenerator, WordTokenizer
from carrel.types import Completion, Event, Prompt, TextEvent


@flow()
def _chain(name: str, steps: int) -> Steps[list[str]]:
    """So many asks in a row, each with what the one before was answered."""
    said = [name]
    for _ in range(steps):
        reply: Completion = yield Ask(Prompt(said[-1]))
        said.append(reply.text)
    return said


class Waiting(FakeGenerator):
    """Never replies, but looks whether anybody still waits."""

    def __init__(self) -> None:
        super().__init__("late")
        self.entered, self.stopped = threading.Event(), threading.Event()

    def complete(self, prompt: Prompt) -> Completion:
        self.entered.set()
        try:
            for _ in range(1000):
                stop_if_cancelled()
                time.sleep(0.01)
        finally:
            self.stopped.set()
        return super().complete(prompt)


class Native(Generator):
    """Its ``acomplete`` is its own."""

    name = "native"

    def __init__(self) -> None:
        self.loops: set[int] = set()

    @property
    def tokenizer(self) -> WordTokenizer:
        return WordTokenizer()

    def complete(self, prompt: Prompt) -> Completion:
        return Completion(f"{prompt.question} on a thread")

    async def acomplete(self, prompt: Prompt) -> Completion:  # type: ignore[override]
        self.loops.add(threading.get_ident())
        await asyncio.sleep(0)
        return Completion(f"{prompt.question}+")


# -- leaving --------------------------------------------------------------------------------------


async def test_cancelled_it_stops_the_generator_and_closes_the_flow() -> None:
    closed: list[bool] = []

    @flow()
    def waiting() -> Steps[None]:
        try:
            yield Ask(Prompt("q"))
        finally:
            closed.append(True)

    generator = Waiting()
    task = asyncio.create_task(arun(waiting(), generator=generator))
    await asyncio.to_thread(generator.entered.wait, 10)
    task.cancel()
    began = time.perf_counter()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - began < 2
    assert await asyncio.to_thread(generator.stopped.wait, 10) and closed == [True]


async def test_cancelled_it_cancels_a_native_call() -> None:
    cancelled: list[bool] = []

    class Endless(Native):
        async def acomplete(self, prompt: Prompt) -> Completion:  # type: ignore[override]
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            return Completion("")

    task = asyncio.create_task(arun(_chain("a", 1), generator=Endless()))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled == [True]


async def test_what_ends_after_the_cancellation_does_no_harm(tmp_path: Path) -> None:
    """A reply that comes when the journal is closed already is not written, and nothing breaks."""
    entered, leave, left = threading.Event(), threading.Event(), threading.Event()

    class Deaf(FakeGenerator):
        def complete(self, prompt: Prompt) -> Completion:
            entered.set()
            leave.wait(10)
            left.set()
            return Completion("too late")

    path = tmp_path / "journal"
    task = asyncio.create_task(arun(_chain("a", 1), generator=Deaf(), journal=path))
    await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    leave.set()
    assert await asyncio.to_thread(left.wait, 10)
    with Journal(path) as journal:
        assert len(journal) == 0


_INTERRUPTED = """
import signal, sys, time
from carrel.agents import Ask, flow, run
from carrel.asynchronous import stop_if_cancelled
from carrel.testing import FakeGenerator
from carrel.types import Completion, Prompt

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background

@flow()
def chain():
    for number in range(5):
        yield Ask(Prompt(str(number)))

class Waits(FakeGenerator):
    def complete(self, prompt):
        if prompt.question == "2":
            print("waiting", flush=True)
            while True:
                stop_if_cancelled()
                time.sleep(0.01)
        return Completion("well")

def main():
    run(chain(), generator=Waits(), journal=sys.argv[1])

if sys.argv[2] == "loop":
    import asyncio
    async def notebook():
        main()
    asyncio.new_event_loop().run_until_complete(notebook())  # asyncio.run would take the signal for itself
else:
    main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for other processes")
@pytest.mark.parametrize("where", ["script", "loop"])
def test_ctrl_c_ends_the_run_at_once_and_keeps_its_journal(tmp_path: Path, where: str) -> None:
    path = tmp_path / "journal"
    command = [sys.executable, "-c", _INTERRUPTED, str(path), where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "waiting\n"
            time.sleep(0.1)
            began = time.perf_counter()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
            assert time.perf_counter() - began < 8, "loose: the machine may be busy"
        finally:
            process.kill()
    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    with Journal(path) as journal:
        assert len(journal) == 2


def test_time_runs_out_for_what_is_under_way() -> None:
    generator = Waiting()
    began = time.perf_counter()
    (done,) = run_many([_chain("a", 1)], generator=generator, budget=Budget(seconds=0.1))
    assert "0.1 seconds is spent" in str(done.error)
    assert time.perf_counter() - began < 5 and generator.stopped.wait(10)


# -- what must not be lost, or go on ----------------------------------------------------------------


async def test_a_reply_that_is_there_is_kept_whoever_cancels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was paid for: cancelled while it is written down, the run waits for that."""
    keeping, keep = threading.Event(), Journal.keep

    def slowly(journal: Journal, *arguments: Any) -> None:
        keeping.set()
        time.sleep(0.2)
        keep(journal, *arguments)

    class Quick(Native):
        async def acomplete(self, prompt: Prompt) -> Completion:  # type: ignore[override]
            return Completion("well")

    monkeypatch.setattr(Journal, "keep", slowly)
    task = asyncio.create_task(arun(_chain("a", 1), generator=Quick(), journal=tmp_path / "j"))
    await asyncio.to_thread(keeping.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with Journal(tmp_path / "j") as journal:
        assert len(journal) == 1


async def test_cancelled_a_stream_is_read_no_further() -> None:
    heard: list[Happened] = []
    begun, closed = threading.Event(), threading.Event()

    class Endless(FakeGenerator):
        def stream(self, prompt: Prompt) -> Iterator[Event]:
            try:
                for _ in range(2000):
                    begun.set()
                    time.sleep(0.005)
                    yield TextEvent("on ")
            finally:
                closed.set()

    @flow()
    def aloud() -> Steps[None]:
        yield Ask(Prompt("q"), stream=True)

    task = asyncio.create_task(arun(aloud(), generator=Endless(), watch=heard.append))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(closed.wait, 3), "the model would be paid for a reply that nobody reads"
    count = len(heard)
    await asyncio.sleep(0.05)
    assert len(heard) == count


async def test_an_error_on_the_way_out_does_not_replace_the_cancellation() -> None:
    closed: list[str] = []

    @flow()
    def stubborn(name: str) -> Steps[None]:
        try:
            yield Ask(Prompt(name))
        finally:
            closed.append(name)
            raise RuntimeError("in the way")

    @flow()
    def both() -> Steps[None]:
        yield [stubborn("a"), stubborn("b")]

    generator = Waiting()
    task = asyncio.create_task(arun(both(), generator=generator))
    await asyncio.to_thread(generator.entered.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(closed) == ["a", "b"]


def test_a_call_that_cancels_itself_fails_alone() -> None:
    class Fickle(Native):
        async def acomplete(self, prompt: Prompt) -> Completion:  # type: ignore[override]
            if prompt.question == "bad":
                raise asyncio.CancelledError
            return Completion("well")

    good, bad = run_many([_chain("a", 1), _chain("bad", 1)], generator=Fickle())
    assert good.result == ["a", "well"]
    with pytest.raises(GenerationError, match="native cancelled its own call"):
        _ = bad.result


def test_what_fails_while_it_is_stopped_is_no_complaint_of_asyncio(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Native):
        async def acomplete(self, prompt: Prompt) -> Completion:  # type: ignore[override]
            try:
                await asyncio.sleep(60)
            finally:
                raise ConnectionError("hung up")

    async def leave() -> None:
        task = asyncio.create_task(arun(_chain("a", 1), generator=Failing()))
        await asyncio.sleep(0.05)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_when_time_is_up_each_flow_has_an_error_of_its_own_that_says_what_was_spent() -> None:
    class Half(Waiting):
        def complete(self, prompt: Prompt) -> Completion:
            return Completion("r") if prompt.question == "a" else super().complete(prompt)

    one, two = run_many([_chain("a", 2), _chain("b", 1)], generator=Half(), budget=Budget(seconds=0.3))
    assert isinstance(one.error, BudgetSpentError) and isinstance(two.error, BudgetSpentError)
    assert one.error is not two.error
    assert "0.3 seconds is spent, with 3 calls and " in f"{two.error}"
    assert one.usage.total_tokens == 2
