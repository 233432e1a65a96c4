"""Drivers: run a flow, or many side by side, against a generator and a library.

The logic is written once, on an event loop; ``run`` and ``run_many`` make a loop of their own. Replies are kept in the
journal before their flow goes on. Concurrent calls are bounded; an engine that batches what it is asked at the same
time (vLLM) is kept busy by as many flows as there are.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

from carrel.agents.base import Ask, Flow
from carrel.agents.budget import Budget, Purse
from carrel.agents.desk import Desk
from carrel.agents.journal import Journal
from carrel.agents.machine import Due, Machine
from carrel.agents.recording import Record
from carrel.agents.trace import Trace, in_short
from carrel.asynchronous import on_thread, stop_if_cancelled
from carrel.errors import BudgetSpentError, CarrelError, GenerationError, InputError
from carrel.generation import replies
from carrel.generation.base import Generator
from carrel.inputs import check_kind
from carrel.options import check_options
from carrel.types import Completion, Event, TextEvent, Usage

if TYPE_CHECKING:
    import os

    from typing_extensions import Unpack

    from carrel.agents.signatures import Tool
    from carrel.library import Library

R = TypeVar("R")
DEFAULT_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that happened in a run, for whoever watches: a step that ended, or a piece of a reply as it came.

    ``number`` is the flow's place among those of ``run_many``; ``event`` is None where a step ended.
    """

    number: int
    trace: Trace
    event: Event | None = None


Watch = Callable[[Happened], None]


@dataclass(frozen=True, slots=True)
class Run(Generic[R]):
    """What became of a flow.

    Attributes
    ----------
    trace : every step with its time and tokens; ``rich.print(run.trace.tree())`` shows it.
    usage : tokens that this run spent; replies from a journal cost nothing.
    error : what the flow failed with, or None.
    wall_clock_offset_s : to be added to the trace's clock for seconds since 1970.
    """

    trace: Trace
    usage: Usage
    error: BaseException | None = None
    wall_clock_offset_s: float = 0.0
    _value: Any = field(default=None, repr=False)

    @property
    def result(self) -> R:
        """What the flow returned; raises what it failed with."""
        if self.error is not None:
            raise self.error
        value: R = self._value
        return value


class RunOptions(TypedDict, total=False):
    """Keywords of ``run``, ``arun`` and ``run_many``.

    generator : answers what the flow asks; the embedded reader by default, offline.
    library : answers what it retrieves.
    mode : which models score and check: "fast", "balanced" or "thorough"; by default that of the library.
    concurrency : the most requests under way at once (8).
    budget : tokens, calls and seconds that may be spent, by all flows together.
    journal : a file that keeps every reply, so that the same run, begun again, asks for nothing twice. A library that
        has changed in between is an error; a flow with other arguments is another flow, and begins anew.
    watch : called with ``Happened`` as steps end, and as text comes in; that of a journal comes in one piece.
    tools : what may be called (carrel.agents.tools); by default those of the library.
    """

    generator: Generator | None
    library: Library | None
    mode: str
    concurrency: int
    budget: Budget | None
    journal: Journal | str | os.PathLike[str] | None
    watch: Watch | None
    tools: Iterable[Tool] | None


def run(flow: Flow[R], **options: Unpack[RunOptions]) -> Run[R]:
    """Run a flow to its end; raises what it fails with. ``run_many`` gives the trace and usage of one that failed, too.

    Keywords: generator, library, mode, concurrency, budget, journal, watch, tools; see carrel.agents.driver.RunOptions.

    Raises
    ------
    BudgetSpentError : the budget is spent. With a journal, the same run with a larger one goes on from there.
    JournalError : the journal is of no use, or the run goes another way than the one it was written by.
    """
    check_options("run", options, RunOptions)
    return _whole(_blocking(lambda: _drive([flow], options)))


def run_many(flows: Iterable[Flow[R]], **options: Unpack[RunOptions]) -> list[Run[R]]:
    """Run flows side by side, their requests taking turns; one that fails does not stop the others.

    Keywords as in ``run``; budget and concurrency are those of all flows together. Each Run has its own ``error``.
    """
    check_options("run_many", options, RunOptions)
    if isinstance(flows, Flow):
        raise InputError("run_many takes a list of flows; run takes one")
    return _blocking(lambda: _drive(list(flows), options))


async def arun(flow: Flow[R], **options: Unpack[RunOptions]) -> Run[R]:
    """``run`` on the event loop of the caller; cancelled, it cancels what is under way and loses no reply."""
    check_options("arun", options, RunOptions)
    return _whole(await _drive([flow], options))


def _whole(runs: list[Run[R]]) -> Run[R]:
    """The one run, if it did not fail."""
    (done,) = runs
    if done.error is not None:
        raise done.error
    return done


def _blocking(begin: Callable[[], Coroutine[Any, Any, list[Run[R]]]]) -> list[Run[R]]:
    """Run on an event loop of its own; in a notebook, which has one, on another thread."""
    if not _in_a_loop():  # asked first, so that what a run raises has no other error behind it
        return asyncio.run(begin())
    begun: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = []

    async def drive() -> list[Run[R]]:
        begun.append((asyncio.get_running_loop(), asyncio.current_task()))
        return await begin()

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(copy_context().run, lambda: asyncio.run(drive()))
        try:
            return future.result()
        except KeyboardInterrupt:  # came to this thread; the run is on the other
            for loop, task in begun:
                if task is not None and not future.done():
                    loop.call_soon_threadsafe(task.cancel)
            raise


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def check_concurrency(concurrency: object) -> None:
    """Raise InputError for what is no number of requests."""
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InputError(f"concurrency is a number of requests, 1 or more, not {concurrency!r}")


async def _drive(flows: Sequence[Flow[R]], options: RunOptions) -> list[Run[R]]:
    for flow in flows:
        if not isinstance(flow, Flow):
            raise InputError(f"a driver runs flows, such as chain_of_agents(question, document), not {flow!r:.80}")
    concurrency, budget = options.get("concurrency", DEFAULT_CONCURRENCY), options.get("budget")
    check_concurrency(concurrency)
    check_kind("a budget", budget, Budget)
    desk = Desk(options.get("generator"), options.get("library"), options.get("mode", ""), options.get("tools"))
    with ExitStack() as stack:
        journal = options.get("journal")
        if journal is not None and not isinstance(journal, Journal):
            journal = stack.enter_context(Journal(journal))
        record = Record(journal, flows, desk)
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="carrel-flow")
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        watch = options.get("watch")
        return await _Driver(flows, desk, concurrency, Purse(budget or Budget()), record, watch, pool).all()


class _Driver(Generic[R]):
    """The machines of a run, and what is under way for them."""

    def __init__(
        self,
        flows: Sequence[Flow[R]],
        desk: Desk,
        concurrency: int,
        purse: Purse,
        record: Record,
        watch: Watch | None,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.desk, self.concurrency, self.purse, self.record, self.pool = desk, concurrency, purse, record, pool
        self.watch = watch
        self.machines = [Machine(flow) for flow in flows]
        self.usages = [Usage(tokenizer=desk.generator.tokenizer.name) for _ in flows]
        self.waiting: deque[tuple[int, Due]] = deque()
        self.running: dict[asyncio.Task[Any], tuple[int, Due]] = {}

    async def all(self) -> list[Run[R]]:
        self._collect(range(len(self.machines)))
        try:
            while self.waiting or self.running:
                self._dispatch()
                if self.running:
                    await self._settled()
        finally:
            await self._stop()
        offset = time.time() - time.perf_counter()
        return [
            Run(machine.trace, usage, machine.error, offset, None if machine.error is not None else machine.result)
            for machine, usage in zip(self.machines, self.usages, strict=True)
        ]

    def _collect(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            for due in self.machines[number].due():
                due.trace.note = in_short(due.request)
                self.waiting.append((number, due))

    def _dispatch(self) -> None:
        """Begin what waits, in the order it came, as far as there is room and money for it."""
        while self.waiting and len(self.running) < self.concurrency:
            number, due = self.waiting[0]
            due.trace.began = self.machines[number].clock()  # to wait for its turn is no part of it
            try:
                if self._replayed(number, due):
                    continue
                if not self._affordable(due):
                    return  # until what is under way has come in
            except Exception as error:
                self.waiting.popleft()
                self._end(number, due, error=error)
                continue
            self.waiting.popleft()
            self.running[asyncio.ensure_future(self._perform(number, due))] = (number, due)

    def _replayed(self, number: int, due: Due) -> bool:
        """Answer from the journal where it can."""
        found, reply = self.record.find(number, due)
        if found:
            self.waiting.popleft()
            due.trace.replayed = True
            if isinstance(reply, CarrelError):
                self._end(number, due, error=reply)
                return True
            if isinstance(due.request, Ask) and due.request.stream and reply.text:  # whoever watches waits for it
                self._tell(Happened(number, due.trace, TextEvent(reply.text)))
            self._end(number, due, reply)
        return found

    def _affordable(self, due: Due) -> bool:
        if not isinstance(due.request, Ask):
            return True
        return self.purse.reserve(due, due.request.prompt, self.desk.generator)

    async def _settled(self) -> None:
        """Wait for the next replies; what is under way when time is up is stopped."""
        done, _ = await asyncio.wait(
            self.running, timeout=self.purse.seconds_left(), return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            stopped = list(self.running.values())
            await self._cancelled()
            for number, due in stopped:
                self._end(number, due, error=self.purse.out_of_time())
        for task in [task for task in self.running if task in done]:  # in the order they were begun
            number, due = self.running.pop(task)
            own = GenerationError(f"{self.desk.generator.name} cancelled its own call")
            error = own if task.cancelled() else task.exception()
            self._end(number, due, task.result() if error is None else None, error)

    def _end(self, number: int, due: Due, reply: Any = None, error: BaseException | None = None) -> None:
        if isinstance(reply, Completion):
            due.trace.tokens_in, due.trace.tokens_out = reply.usage.prompt_tokens, reply.usage.completion_tokens
            if not due.trace.replayed:
                self.usages[number] = _added(self.usages[number], reply.usage)
        self.purse.settle(due, reply)
        machine = self.machines[number]
        if error is None:
            machine.give(due, reply)
        else:
            self.record.failed(number, due, error)
            machine.fail(due, error)
        self.record.survived(number, machine.survived)
        machine.survived.clear()
        self._tell(Happened(number, due.trace))
        self._collect([number])

    async def _perform(self, number: int, due: Due) -> Any:
        """The reply to a request, in the journal already."""
        request, generator = due.request, self.desk.generator
        is_streamed = isinstance(request, Ask) and request.stream and self.watch is not None
        is_native = type(generator).acomplete is not Generator.acomplete
        if isinstance(request, Ask) and is_native and not is_streamed:
            reply: Any = await replies.acomplete(generator, request.prompt)
            if self.record.journal is not None:
                keeping = on_thread(functools.partial(self.record.keep, number, due, reply), self.pool)
                await _to_its_end(asyncio.ensure_future(keeping))
            return reply
        loop = asyncio.get_running_loop()

        def call() -> Any:
            if not isinstance(request, Ask):
                found = self.desk.perform(request)
            elif is_streamed:
                found = self._streamed(number, due, loop)
            else:
                found = replies.complete(generator, request.prompt)
            self.record.keep(number, due, found)
            return found

        return await on_thread(call, self.pool)

    def _streamed(self, number: int, due: Due, loop: asyncio.AbstractEventLoop) -> Completion:
        """A reply whose pieces are passed on as they come."""
        assert isinstance(due.request, Ask)
        whole = Completion("")
        for event in replies.stream(self.desk.generator, due.request.prompt):
            if isinstance(event, TextEvent):
                stop_if_cancelled()  # nobody watches any more, and the model must not go on
                loop.call_soon_threadsafe(self._tell, Happened(number, due.trace, event))
            else:
                whole = event
        return whole

    def _tell(self, happened: Happened) -> None:
        if self.watch is not None:
            self.watch(happened)

    async def _cancelled(self) -> None:
        """Cancel what is under way, and wait until it has stopped."""
        for task in self.running:
            task.cancel()
        if self.running:
            await asyncio.wait(self.running)
        for task in self.running:
            _ = task.cancelled() or task.exception()  # looked at, else asyncio complains
        self.running.clear()

    async def _stop(self) -> None:
        """Cancel what is still under way, and close every flow. The error that ends the run is not replaced."""
        try:
            await self._cancelled()
        finally:
            for machine in self.machines:
                with suppress(Exception):
                    machine.close()


async def _to_its_end(task: asyncio.Task[Any]) -> None:
    """Await a task; whoever is cancelled meanwhile still waits for it."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _added(sum: Usage, more: Usage) -> Usage:
    return Usage(
        sum.prompt_tokens + more.prompt_tokens,
        sum.completion_tokens + more.completion_tokens,
        sum.cached_tokens + more.cached_tokens,
        more.tokenizer or sum.tokenizer,
    )


__all__ = ["BudgetSpentError", "Happened", "Run", "arun", "run", "run_many"]
