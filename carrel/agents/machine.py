"""Runs a flow and all that it yields, without doing any of it: requests come out, replies go in."""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from carrel.agents.base import REQUESTS, Fit, Flow, Request, Step
from carrel.agents.trace import Trace
from carrel.errors import ContextOverflowError, InputError

R = TypeVar("R")
_Outcome = tuple[Any, BaseException | None]


class Node:
    """A flow that has begun: where it stands in the tree, and what it waits for."""

    __slots__ = ("many", "missing", "outcomes", "parent", "slot", "step", "steps", "trace")

    def __init__(self, steps: Generator[Any, Any, Any], trace: Trace, parent: Node | None, slot: int) -> None:
        self.steps, self.trace, self.parent, self.slot = steps, trace, parent, slot
        self.step = -1  # of what it has yielded
        self.many = False
        self.missing = 0
        self.outcomes: list[_Outcome] = []


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """A request that waits for its reply. ``path`` is its place in the flow, the same in every run."""

    path: str
    request: Request
    trace: Trace
    node: Node
    slot: int


class Machine(Generic[R]):
    """One flow with all that run inside it.

    ``due`` hands out requests, each once; ``give`` and ``fail`` take what became of them, in any order. Where a flow
    yielded a list, it goes on once all are settled, with the replies in their order, or with the first error.

    Parameters
    ----------
    clock : seconds, for the trace.
    """

    def __init__(self, flow: Flow[R], clock: Callable[[], float] = time.perf_counter) -> None:
        self.flow, self.clock = flow, clock
        self.trace = Trace("flow", flow.name, "", clock())
        self.done = False
        self.error: BaseException | None = None
        self.survived: list[BaseException] = []
        """Errors after which a flow that was told of them went on."""
        self._value: Any = None
        self._due: list[Due] = []
        self._open: dict[int, Node] = {}
        self._resume([(self._node(flow.begin(), self.trace, None, 0), (None, None))])

    @property
    def result(self) -> R:
        """What the flow returned; raises what it raised."""
        if self.error is not None:
            raise self.error
        assert self.done
        value: R = self._value
        return value

    def due(self) -> list[Due]:
        """The requests that have come up since the last call."""
        due, self._due = self._due, []
        return due

    def give(self, due: Due, reply: object) -> None:
        self._settle(due, (reply, None))

    def fail(self, due: Due, error: BaseException) -> None:
        self._settle(due, (None, error))

    def close(self) -> None:
        """Stop: every flow inside is closed, the innermost first; raises the first error of them, once all are."""
        errors: list[Exception] = []
        for node in reversed(list(self._open.values())):
            try:
                node.steps.close()
            except Exception as error:
                errors.append(error)
        self._open.clear()
        self._due.clear()
        if errors:
            raise errors[0]

    # -- going on -----------------------------------------------------------------------------

    def _node(self, steps: Generator[Any, Any, Any], trace: Trace, parent: Node | None, slot: int) -> Node:
        node = Node(steps, trace, parent, slot)
        self._open[id(node)] = node
        return node

    def _settle(self, due: Due, outcome: _Outcome) -> None:
        is_probe = isinstance(due.request, Fit) and isinstance(outcome[1], ContextOverflowError)
        due.trace.end(self.clock(), None if is_probe else outcome[1])  # a flow fits to learn whether there is room
        if is_probe:
            due.trace.note = f"{due.trace.note}: no room".removeprefix(": ")
        ready: list[tuple[Node, _Outcome]] = []
        self._deliver(due.node, due.slot, outcome, ready)
        self._resume(ready)

    def _resume(self, ready: Sequence[tuple[Node, _Outcome]]) -> None:
        """Let flows go on until each waits for a reply; a loop, not a recursion, however deep they are."""
        waiting = deque(ready)
        while waiting:
            node, (value, error) = waiting.popleft()
            further: list[tuple[Node, _Outcome]] = []
            try:
                yielded = node.steps.send(value) if error is None else node.steps.throw(error)
            except StopIteration as stop:
                self._finish(node, (stop.value, None), further)
            except Exception as failure:
                error = None
                self._finish(node, (None, failure), further)
            else:
                self._await(node, yielded, further)
            if error is not None:
                self.survived.append(error)
            waiting.extend(further)

    def _finish(self, node: Node, outcome: _Outcome, ready: list[tuple[Node, _Outcome]]) -> None:
        del self._open[id(node)]
        node.trace.end(self.clock(), outcome[1])
        if node.parent is None:
            self.done, (self._value, self.error) = True, outcome
        else:
            self._deliver(node.parent, node.slot, outcome, ready)

    def _deliver(self, node: Node, slot: int, outcome: _Outcome, ready: list[tuple[Node, _Outcome]]) -> None:
        """One thing that a flow waits for is there; it goes on once all are."""
        node.outcomes[slot] = outcome
        node.missing -= 1
        if node.missing:
            return
        error = next((error for _, error in node.outcomes if error is not None), None)
        values = [value for value, _ in node.outcomes]
        ready.append((node, (values if node.many else values[0], None) if error is None else (None, error)))

    def _await(self, node: Node, yielded: object, ready: list[tuple[Node, _Outcome]]) -> None:
        """Take what a flow yielded: requests become due, flows begin."""
        node.many = isinstance(yielded, (list, tuple))
        items: Sequence[Any] = yielded if isinstance(yielded, (list, tuple)) else [yielded]
        begun: set[int] = set()
        for item in items:
            if not _is_step(item) or id(item) in begun:
                ready.append((node, (None, InputError(_strange(node, item)))))
                return
            if inspect.isgenerator(item):
                begun.add(id(item))
        node.step += 1
        node.missing, node.outcomes = len(items), [(None, None)] * len(items)
        if not items:
            ready.append((node, ([], None)))
        for slot, item in enumerate(items):
            place = f"{node.step}.{slot}" if node.many else f"{node.step}"
            self._begin(node, item, f"{node.trace.path}/{place}".lstrip("/"), slot, ready)

    def _begin(self, node: Node, item: Step, path: str, slot: int, ready: list[tuple[Node, _Outcome]]) -> None:
        if isinstance(item, REQUESTS):
            trace = node.trace.child(type(item).__name__.lower(), "", path, self.clock())
            self._due.append(Due(path, item, trace, node, slot))
            return
        assert isinstance(item, Flow) or inspect.isgenerator(item)
        name, steps = (item.name, item.begin()) if isinstance(item, Flow) else (item.__name__, item)
        child = self._node(steps, node.trace.child("flow", name, path, self.clock()), node, slot)
        ready.append((child, (None, None)))


def _is_step(item: object) -> bool:
    if inspect.isgenerator(item):
        return inspect.getgeneratorstate(item) == inspect.GEN_CREATED
    return isinstance(item, (*REQUESTS, Flow))


def _strange(node: Node, item: object) -> str:
    if inspect.isgenerator(item):
        return f"the flow {node.trace.name} yielded the generator {item.__name__} a second time; call it anew for each"
    kinds = ", ".join(kind.__name__ for kind in REQUESTS)
    return f"the flow {node.trace.name} yielded {item!r:.80}. A flow yields {kinds}, flows, or a list of these"
