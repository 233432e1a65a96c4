"""What a flow would cost, before it runs: the flow itself, with replies of full length in place of a model's."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from carrel.agents.base import Ask, Call, Flow
from carrel.agents.desk import Desk
from carrel.agents.driver import DEFAULT_CONCURRENCY, check_concurrency
from carrel.agents.fitting import reply_room
from carrel.agents.machine import Due, Machine, Node
from carrel.agents.signatures import Result
from carrel.agents.trace import Trace, in_short
from carrel.errors import InputError
from carrel.types import Completion, Usage

if TYPE_CHECKING:
    from carrel.generation.base import Generator
    from carrel.library import Library

R = TypeVar("R")
_FILLER = "note "
_MOST_CALLS = 10_000


@dataclass(frozen=True, slots=True)
class Prices:
    """What a million tokens cost, of prompts and of replies, in any currency."""

    prompt: float
    reply: float


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a generator is: tokens a second of prompts and of replies, and the seconds that every call takes."""

    prompt_tokens_per_s: float
    reply_tokens_per_s: float
    call_s: float = 0.0

    def __post_init__(self) -> None:
        if not (self.prompt_tokens_per_s > 0 and self.reply_tokens_per_s > 0 and self.call_s >= 0):
            raise InputError(f"a speed has more than 0 tokens a second, and calls of 0 seconds or more, unlike {self}")

    def seconds(self, usage: Usage) -> float:
        reading = usage.prompt_tokens / self.prompt_tokens_per_s
        return self.call_s + reading + usage.completion_tokens / self.reply_tokens_per_s


@dataclass(frozen=True, slots=True)
class Plan:
    """About what a flow costs if nothing ends it early and every reply is as long as it may be.

    It is no bound: made-up replies quote nothing, and what real ones quote goes into the next prompts.

    Attributes
    ----------
    calls : of the generator; ``in_a_row`` of them wait for one another, which bounds what concurrency can gain.
    tokens_in, tokens_out : of all prompts and replies, counted by ``tokenizer``.
    cost : in the currency of the prices; None without them.
    seconds : at the speed given, with so many calls at once; None without a speed. Retrieval is not counted.
    trace : every step that is planned.
    """

    calls: int
    in_a_row: int
    tokens_in: int
    tokens_out: int
    tokenizer: str
    cost: float | None
    seconds: float | None
    trace: Trace

    def __str__(self) -> str:
        calls = f"{self.calls:,} call{'s' if self.calls != 1 else ''} ({self.in_a_row:,} in a row)"
        parts = [f"about {calls}", f"{self.tokens_in:,} tokens in", f"{self.tokens_out:,} out"]
        if self.cost is not None:
            parts.append(f"cost {self.cost:.4g}")
        if self.seconds is not None:
            parts.append(f"{self.seconds:.3g} s")
        return ", ".join(parts)


def plan(
    flow: Flow[R],
    *,
    generator: Generator | None = None,
    library: Library | None = None,
    mode: str = "",
    prices: Prices | None = None,
    speed: Speed | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
) -> Plan:
    """Go through a flow without asking a model: retrieval and counting are real, replies are made up.

    A made-up reply is the example that the flow gives, or a text of as many tokens as the reply may have. What a
    model would say is not known: a flow that would end early, or would ask for more, is planned on its longest way.

    Raises
    ------
    FlowError, InputError : what the flow itself raises; it asks for more than 10,000 replies.
    """
    if not isinstance(flow, Flow):
        raise InputError(f"a plan is made for a flow, such as chain_of_agents(question, document), not {flow!r:.80}")
    check_concurrency(concurrency)
    desk = Desk(generator, library, mode)
    planner = _Planner(desk, Machine(flow), speed, concurrency)
    try:
        planner.go()
    finally:
        planner.machine.close()
    planner.machine.result  # noqa: B018 -- raises what the flow failed with
    used = planner.usages
    tokens_in, tokens_out = sum(u.prompt_tokens for u in used), sum(u.completion_tokens for u in used)
    cost = None if prices is None else (tokens_in * prices.prompt + tokens_out * prices.reply) / 1e6
    return Plan(
        len(used), planner.deepest, tokens_in, tokens_out, desk.generator.tokenizer.name, cost,
        None if speed is None else planner.now, planner.machine.trace,
    )  # fmt: skip


class _Planner:
    """Plays a run in a time of its own: calls end in the order in which they would."""

    def __init__(self, desk: Desk, machine: Machine[Any], speed: Speed | None, concurrency: int) -> None:
        self.desk, self.machine, self.speed, self.concurrency = desk, machine, speed, concurrency
        self.usages: list[Usage] = []
        self.now = 0.0
        self.deepest = 0
        self._filler = ""
        self._before: dict[tuple[Node, int], int] = {}  # calls in a row before a step of a flow
        self._within: dict[Node, int] = {}  # and up to the end of all that a flow has asked

    def go(self) -> None:
        waiting = deque(self.machine.due())
        under_way: list[tuple[float, int, Due, Completion, int]] = []
        order = itertools.count()
        while waiting or under_way:
            while waiting and len(under_way) < self.concurrency:
                due = waiting.popleft()
                due.trace.note = in_short(due.request)
                depth = self._calls_before(due.node) + 1
                if not isinstance(due.request, Ask):
                    self._answer(due)
                    waiting.extendleft(reversed(self.machine.due()))
                    continue
                completion = self._completion(due.request)
                seconds = self.speed.seconds(completion.usage) if self.speed else 1.0
                heapq.heappush(under_way, (self.now + seconds, next(order), due, completion, depth))
            if under_way:
                self.now, _, due, completion, depth = heapq.heappop(under_way)
                self._ended(due, depth)
                due.trace.tokens_in = completion.usage.prompt_tokens
                due.trace.tokens_out = completion.usage.completion_tokens
                self.machine.give(due, completion)
                waiting.extend(self.machine.due())

    def _calls_before(self, node: Node) -> int:
        """How many calls wait for one another before the step at which a flow stands."""
        nodes = [node]
        while (nodes[-1], nodes[-1].step) not in self._before and nodes[-1].parent is not None:
            nodes.append(nodes[-1].parent)
        before = 0
        for each in reversed(nodes):
            key = each, each.step
            before = self._before.setdefault(key, max(before, self._within.get(each, 0)))
        return before

    def _ended(self, due: Due, depth: int) -> None:
        self.deepest = max(self.deepest, depth)
        node: Node | None = due.node
        while node is not None:
            self._within[node] = max(depth, self._within.get(node, 0))
            node = node.parent

    def _answer(self, due: Due) -> None:
        if isinstance(due.request, Call):  # a tool may do more than say something
            self.machine.give(due, Result(self._text(due.request.tokens)))
            return
        try:
            reply = self.desk.perform(due.request)
        except Exception as error:
            self.machine.fail(due, error)
        else:
            self.machine.give(due, reply)

    def _completion(self, ask: Ask) -> Completion:
        """A reply as long as it may be, or the one that the flow gives as an example."""
        if len(self.usages) >= _MOST_CALLS:
            raise InputError(f"the flow asks for more than {_MOST_CALLS:,} replies: it may not end")
        generator, prompt = self.desk.generator, ask.prompt
        most = getattr(generator, "max_tokens", None)
        room = reply_room(prompt, generator.context_window or 4 * 512)
        tokens = room if most is None else min(room, most)
        text = ask.example or self._text(tokens)
        usage = Usage(generator.prompt_tokens(prompt), tokens, 0, generator.tokenizer.name)
        self.usages.append(usage)
        return Completion(text, usage, model="plan")

    def _text(self, tokens: int) -> str:
        """A text of so many tokens."""
        tokenizer = self.desk.generator.tokenizer
        if len(self._filler) < tokens * len(_FILLER):
            self._filler = _FILLER * tokens
        return tokenizer.truncate(self._filler, tokens)
