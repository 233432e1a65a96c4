"""Drivers: all of them give the same, as fast as they may, and can be left at any moment."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carrel.agents import Ask, Budget, Embed, Fit, Happened, Journal, Read, Steps, arun, flow, run, run_many
from carrel.asynchronous import stop_if_cancelled
from carrel.errors import GenerationError, InputError
from carrel.generation.base import Generator
from carrel.testing import FakeGenerator, WordTokenizer
from carrel.types import Completion, Passage, Prompt, TextEvent


@flow()
def _chain(name: str, steps: int) -> Steps[list[str]]:
    """So many asks in a row, each with what the one before was answered."""
    said = [name]
    for _ in range(steps):
        reply: Completion = yield Ask(Prompt(said[-1]))
        said.append(reply.text)
    return said


@flow()
def _side_by_side(count: int) -> Steps[list[str]]:
    replies: list[Completion] = yield [Ask(Prompt(str(number))) for number in range(count)]
    return [reply.text for reply in replies]


@flow()
def _careless(name: str) -> Steps[str]:
    yield Ask(Prompt(name))
    raise ValueError(f"{name} went wrong")


@flow()
def _streaming() -> Steps[str]:
    first, second = yield [Ask(Prompt("aloud"), stream=True), Ask(Prompt("in one"))]
    return f"{first.text}|{second.text}"


def _echo() -> FakeGenerator:
    return FakeGenerator(lambda prompt: f"{prompt.question}+")


class Slow(FakeGenerator):
    """Counts how many calls are inside it at once."""

    def __init__(self, seconds: float = 0.01) -> None:
        super().__init__("well")
        self.seconds, self.inside, self.most = seconds, 0, 0
        self._lock = threading.Lock()

    def complete(self, prompt: Prompt) -> Completion:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(self.seconds)
        with self._lock:
            self.inside -= 1
        return super().complete(prompt)


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


# -- one result, whoever drives -------------------------------------------------------------------


def test_all_drivers_give_the_same() -> None:
    expected = ["x", "x+", "x++", "x+++"]
    blocking = run(_chain("x", 3), generator=_echo())
    many = run_many([_chain("x", 3)], generator=_echo())[0]
    on_loop = asyncio.run(arun(_chain("x", 3), generator=_echo()))
    for done in (blocking, many, on_loop):
        assert done.result == expected and done.error is None
        assert done.usage == blocking.usage
        assert [node.path for node in done.trace.asks] == ["0", "1", "2"]
    assert blocking.usage.completion_tokens == 1 + 2 + 3 + 3  # "x+" has two tokens, "x++" three


async def test_run_works_inside_a_running_loop() -> None:
    assert run(_chain("x", 2), generator=_echo()).result == ["x", "x+", "x++"]


def test_a_generator_with_a_native_acomplete_is_awaited() -> None:
    generator = Native()
    assert run(_chain("x", 2), generator=generator).result == ["x", "x+", "x++"]
    assert generator.loops == {threading.get_ident()}


def test_usage_is_that_of_each_flow() -> None:
    one, two = run_many([_side_by_side(2), _side_by_side(3)], generator=FakeGenerator("a b"))
    assert (one.usage.completion_tokens, two.usage.completion_tokens) == (4, 6)
    assert (one.usage.prompt_tokens, two.usage.prompt_tokens, two.usage.tokenizer) == (2, 3, "words")


# -- side by side ---------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_calls_at_once_than_allowed(concurrency: int) -> None:
    generator = Slow()
    assert run(_side_by_side(9), generator=generator, concurrency=concurrency).result == ["well"] * 9
    assert generator.most == concurrency


def test_native_calls_are_bounded_too() -> None:
    class Crowded(Native):
        inside = most = 0

        async def acomplete(self, prompt: Prompt) -> Completion:  # type: ignore[override]
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0.01)
            self.inside -= 1
            return Completion("well")

    generator = Crowded()
    assert run(_side_by_side(9), generator=generator, concurrency=3).result == ["well"] * 9
    assert generator.most == 3


def test_many_flows_share_the_concurrency() -> None:
    generator = Slow()
    run_many([_chain(str(number), 2) for number in range(6)], generator=generator, concurrency=4)
    assert generator.most == 4


def test_flows_take_turns() -> None:
    generator = _echo()
    run_many([_chain("a", 3), _chain("b", 3)], generator=generator, concurrency=1)
    assert [prompt.question for prompt in generator.prompts] == ["a", "b", "a+", "b+", "a++", "b++"]


def test_one_that_fails_leaves_the_others() -> None:
    good, own, asked = run_many(
        [_chain("a", 2), _careless("b"), _chain("bad", 2)],
        generator=FakeGenerator(lambda p: 1 / 0 if p.question == "bad" else f"{p.question}+"),  # type: ignore[arg-type, return-value]
    )
    assert good.result == ["a", "a+", "a++"]
    assert isinstance(own.error, ValueError)
    with pytest.raises(GenerationError, match="ZeroDivisionError"):
        _ = asked.result
    with pytest.raises(ValueError, match="b went wrong"):
        run(_careless("b"), generator=_echo())


def test_no_flows_are_no_runs() -> None:
    assert run_many([], generator=_echo()) == []


# -- what cannot be run ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: run(_chain, generator=_echo()), "a driver runs flows"),  # type: ignore[arg-type]
        (lambda: run_many(_chain("a", 1), generator=_echo()), "a list of flows"),  # type: ignore[arg-type]
        (lambda: run(_chain("a", 1), generator=_echo(), concurrency=0), "concurrency"),
        (lambda: run(_chain("a", 1), generator=_echo(), concurrency=True), "concurrency"),
        (lambda: run(_chain("a", 1), generator=_echo(), budget=100), "a budget"),  # type: ignore[arg-type]
        (lambda: run(_chain("a", 1), generator="gpt"), "a generator"),  # type: ignore[arg-type]
        (lambda: run(_chain("a", 1), generator=_echo(), mode="quick"), "quick"),
    ],
)
def test_what_cannot_be_run_is_said(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()


# -- watching -------------------------------------------------------------------------------------


def test_text_comes_in_order_before_its_step_ends() -> None:
    seen: list[Happened] = []
    done = run(_streaming(), generator=FakeGenerator("one two three"), watch=seen.append)
    assert done.result == "one two three|one two three"
    aloud = [each for each in seen if each.trace.path == "0.0"]
    assert [each.event.text for each in aloud[:-1] if isinstance(each.event, TextEvent)] == ["one", " two", " three"]
    assert aloud[-1].event is None and len(aloud) == 4
    assert [each.event for each in seen if each.trace.path == "0.1"] == [None]
    assert {each.number for each in seen} == {0}
    assert done.trace.asks[0].tokens_out == 3


def test_a_native_generator_is_heard_too() -> None:
    seen: list[Happened] = []
    done = run(_streaming(), generator=Native(), watch=seen.append)
    assert done.result == "aloud on a thread|in one+"
    assert [each.event for each in seen if each.event is not None] == [TextEvent("aloud on a thread")]


def test_nothing_is_streamed_where_nobody_watches() -> None:
    class Unstreamed(FakeGenerator):
        def stream(self, prompt: Prompt) -> Any:
            raise AssertionError

    assert run(_streaming(), generator=Unstreamed("quiet")).result == "quiet|quiet"


def test_steps_of_many_flows_are_told_apart() -> None:
    seen: list[Happened] = []
    run_many([_chain("a", 1), _chain("b", 2)], generator=_echo(), watch=seen.append)
    assert sorted((each.number, each.trace.path) for each in seen) == [(0, "0"), (1, "0"), (1, "1")]
    assert {each.trace.note for each in seen} == {"answer: a", "answer: b", "answer: b+"}


def test_an_error_of_the_watcher_ends_the_run() -> None:
    def watch(_: Happened) -> None:
        raise KeyError("watching")

    with pytest.raises(KeyError, match="watching"):
        run(_chain("a", 5), generator=_echo(), watch=watch)


def test_requests_are_noted_in_a_few_words() -> None:
    @flow()
    def several() -> Steps[None]:
        yield Fit(Prompt("q"), (Passage("d", 0, 1, "x"),))
        yield Embed(("text",))
        try:
            yield Read("some-id")
        except InputError:
            yield Ask(Prompt("long  " * 20))

    done = run(several(), generator=FakeGenerator("a"), mode="fast")
    notes = [node.note for node in done.trace.walk()][1:]
    assert notes == ["1 passages", "", "some-id", f"answer: {'long ' * 20:.39}…"]
    assert "give the driver a library=" in [node.error for node in done.trace.walk()][3]


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
import sys, time
from carrel.agents import Ask, flow, run
from carrel.asynchronous import stop_if_cancelled
from carrel.testing import FakeGenerator
from carrel.types import Completion, Prompt

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


# -- what it costs --------------------------------------------------------------------------------


def test_a_call_costs_little() -> None:
    """Loose, for a busy machine: measured well below a millisecond a call on an idle one."""
    generator = FakeGenerator("a")
    best = min(_seconds(generator) for _ in range(3))
    assert best / 400 < 0.005


def _seconds(generator: FakeGenerator) -> float:
    began = time.perf_counter()
    run_many([_side_by_side(100), _chain("a", 100), _side_by_side(100), _side_by_side(100)], generator=generator)
    return time.perf_counter() - began


def test_time_runs_out_for_what_is_under_way() -> None:
    generator = Waiting()
    began = time.perf_counter()
    (done,) = run_many([_chain("a", 1)], generator=generator, budget=Budget(seconds=0.1))
    assert "0.1 seconds is spent" in str(done.error)
    assert time.perf_counter() - began < 5 and generator.stopped.wait(10)
