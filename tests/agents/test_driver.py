"""Drivers: all of them give the same, as fast as they may, and can be left at any moment."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import pytest

from carrel.agents import Ask, Embed, Fit, Happened, Read, Steps, arun, flow, run, run_many
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
    assert notes == ["1 passage", "1 text", "some-id", f"answer: {'long ' * 20:.39}…"]
    assert "give the driver a library=" in [node.error for node in done.trace.walk()][3]


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


def test_to_wait_for_its_turn_is_no_part_of_a_step() -> None:
    done = run(_side_by_side(4), generator=Slow(0.05), concurrency=1)
    steps = done.trace.asks
    for before, after in pairwise(steps):
        assert before.ended is not None and after.began >= before.ended
    assert sum(step.seconds for step in steps) <= done.trace.seconds


async def test_what_a_notebook_has_set_is_set_for_the_generator() -> None:
    """Context variables: the current span of a tracer, say."""
    current: ContextVar[str] = ContextVar("current", default="none")
    current.set("mine")
    assert run(_chain("a", 1), generator=FakeGenerator(lambda _: current.get())).result == ["a", "mine"]
