"""The interpreter of flows: whatever the order in which replies come, the result is that of the plain recursion."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import Ask, Read, Steps, flow
from carrel.agents.machine import Due, Machine
from carrel.errors import GenerationError, InputError
from carrel.types import Prompt


def _drain(machine: Machine[Any], seed: int = 0, failing: frozenset[str] = frozenset()) -> list[str]:
    """Settle all that comes up, in an order of chance; the paths of it."""
    chance, waiting, paths = random.Random(seed), machine.due(), []
    while waiting:
        due = waiting.pop(chance.randrange(len(waiting)))
        paths.append(due.path)
        if due.path in failing:
            machine.fail(due, GenerationError(f"no {due.path}"))
        else:
            machine.give(due, _reply(due))
        waiting += machine.due()
    return paths


def _reply(due: Due) -> str:
    assert isinstance(due.request, Ask)
    return f"<{due.request.prompt.question}>"


def _ask(question: str) -> Ask:
    return Ask(Prompt(question))


# -- trees of chance, beside a plain recursion ----------------------------------------------------

# A flow is a list of steps; a step is ("one", item) or ("many", items); an item is a name or a flow, named or not.
_ITEM = st.deferred(lambda: st.one_of(st.sampled_from("abcdef"), st.tuples(st.booleans(), _FLOW)))
_STEP = st.one_of(
    st.tuples(st.just("one"), _ITEM),
    st.tuples(st.just("many"), st.lists(_ITEM, max_size=3)),
)
_FLOW = st.deferred(lambda: st.tuples(st.booleans(), st.lists(_STEP, max_size=3)))


@flow()
def _tree(tree: Any) -> Steps[Any]:
    return (yield from _steps(tree))


def _steps(tree: Any) -> Steps[Any]:
    catches, steps = tree
    out: list[Any] = []
    for kind, content in steps:
        try:
            out.append((yield _step(content)) if kind == "one" else (yield [_step(item) for item in content]))
        except GenerationError as error:
            if not catches:
                raise
            out.append(f"caught {error}")
    return out


def _step(item: Any) -> Any:
    if isinstance(item, str):
        return _ask(item)
    is_named, tree = item
    return _tree(tree) if is_named else _steps(tree)


def _plain(tree: Any, path: str, failing: frozenset[str], paths: list[str]) -> Any:
    """The oracle: depth first, one thing after another; of several errors the first is raised once all are there."""
    catches, steps = tree
    out: list[Any] = []
    for number, (kind, content) in enumerate(steps):
        items = [content] if kind == "one" else content
        values, errors = [], []
        for slot, item in enumerate(items):
            place = f"{path}/{number}" + (f".{slot}" if kind == "many" else "")
            try:
                if isinstance(item, str):
                    paths.append(place.lstrip("/"))
                    if paths[-1] in failing:
                        raise GenerationError(f"no {paths[-1]}")
                    values.append(f"<{item}>")
                else:
                    values.append(_plain(item[1], place, failing, paths))
            except GenerationError as error:
                errors.append(error)
        if errors and not catches:
            raise errors[0]
        if errors:
            out.append(f"caught {errors[0]}")
        else:
            out.append(values[0] if kind == "one" else values)
    return out


def _outcome(call: Any) -> Any:
    try:
        return call()
    except GenerationError as error:
        return f"raised {error}"


@given(_FLOW, st.integers(0, 10**6), st.data())
def test_any_order_of_replies_gives_what_the_plain_recursion_gives(tree: Any, seed: int, data: st.DataObject) -> None:
    every: list[str] = []
    _outcome(lambda: _plain(tree, "", frozenset(), every))
    failing = frozenset(data.draw(st.lists(st.sampled_from(every), max_size=3)) if every else [])
    expected_paths: list[str] = []
    expected = _outcome(lambda: _plain(tree, "", failing, expected_paths))
    machine = Machine(_tree(tree))
    paths = _drain(machine, seed, failing)
    assert machine.done
    assert _outcome(lambda: machine.result) == expected
    assert sorted(paths) == sorted(expected_paths) and len(set(paths)) == len(paths)
    assert {node.path for node in machine.trace.asks} == set(expected_paths)
    assert all(node.ended is not None for node in machine.trace.walk())


def test_errors_after_which_a_flow_went_on_are_known() -> None:
    """Those that it caught, once it has yielded or returned; not those that ended it."""
    ask = _ask("q")

    def flow_of(catches: bool, more: bool) -> Any:
        return [(catches, [("one", "a")] + [("one", "b")] * more)]

    for catches, more in [(True, True), (True, False), (False, True)]:
        machine: Machine[Any] = Machine(_tree((False, [("one", (False, each)) for each in flow_of(catches, more)])))
        (due,) = machine.due()
        error = GenerationError("no")
        machine.fail(due, error)
        assert machine.survived == ([error] if catches else [])
        assert machine.done is not (catches and more)
    machine = Machine(_yielding([ask, _ask("r")]))
    first, second = machine.due()
    machine.fail(first, GenerationError("no"))
    machine.give(second, "r")
    assert machine.survived == [] and isinstance(machine.error, GenerationError)


# -- what a flow may yield ------------------------------------------------------------------------


@flow()
def _yielding(item: Any) -> Steps[Any]:
    return (yield item)


def test_a_list_has_its_replies_in_its_order() -> None:
    machine = Machine(_yielding([_ask("a"), _ask("b"), _ask("c")]))
    a, b, c = machine.due()
    machine.give(c, 3)
    machine.give(a, 1)
    assert not machine.done
    machine.give(b, 2)
    assert machine.result == [1, 2, 3]


def test_each_request_is_handed_out_once() -> None:
    machine = Machine(_yielding([_ask("a"), _ask("b")]))
    assert [due.path for due in machine.due()] == ["0.0", "0.1"]
    assert machine.due() == []


@pytest.mark.parametrize(("given", "expected"), [([], []), ((), [])])
def test_nothing_is_answered_with_nothing(given: Any, expected: Any) -> None:
    machine = Machine(_yielding(given))
    assert machine.done and machine.result == expected


def test_a_list_of_one_is_answered_with_a_list() -> None:
    machine = Machine(_yielding([_ask("a")]))
    _drain(machine)
    assert machine.result == ["<a>"]


@pytest.mark.parametrize("strange", ["a text", None, 7, Prompt("q"), [_ask("a"), "x"], [[_ask("a")]], iter([1]), Ask])
def test_what_is_no_step_is_an_error_in_the_flow(strange: Any) -> None:
    @flow()
    def careful() -> Steps[str]:
        try:
            yield strange
        except InputError as error:
            reply: str = yield _ask("after")
            return f"{reply} {error}"
        return "not reached"

    machine = Machine(careful())
    assert _drain(machine) == ["0"], "a step that was none has no number"
    assert machine.result.startswith("<after> the flow careful yielded ")
    assert "A flow yields Ask, Retrieve" in machine.result


def test_a_strange_yield_that_is_not_caught_ends_the_flow() -> None:
    machine = Machine(_yielding("text"))
    assert machine.done and machine.due() == []
    with pytest.raises(InputError, match="yielded 'text'"):
        _ = machine.result


def test_a_generator_cannot_be_yielded_twice() -> None:
    def once() -> Steps[str]:
        return (yield _ask("a"))

    shared = once()
    machine = Machine(_yielding([shared, shared]))
    with pytest.raises(InputError, match="the generator once a second time"):
        _ = machine.result

    @flow()
    def again() -> Steps[Any]:
        steps = once()
        yield steps
        return (yield steps)

    machine = Machine(again())
    _drain(machine)
    with pytest.raises(InputError, match="second time"):
        _ = machine.result


# -- errors ---------------------------------------------------------------------------------------


def test_an_error_is_thrown_once_all_of_the_list_are_settled() -> None:
    seen: list[str] = []

    @flow()
    def careful() -> Steps[str]:
        try:
            yield [_ask("a"), _ask("b"), _ask("c")]
        except GenerationError as error:
            seen.append(str(error))
        return (yield _ask("later"))

    machine = Machine(careful())
    a, b, c = machine.due()
    machine.fail(c, GenerationError("third"))
    machine.fail(b, GenerationError("second"))
    assert seen == []
    machine.give(a, "fine")
    assert seen == ["second"], "the first of the list, not the first in time"
    (later,) = machine.due()
    assert later.path == "1"
    machine.give(later, "on")
    assert machine.result == "on"


def test_an_error_of_an_inner_flow_comes_out_where_it_was_yielded() -> None:
    def inner() -> Steps[None]:
        yield _ask("inside")
        raise KeyError("own")

    @flow()
    def outer() -> Steps[str]:
        try:
            yield [_ask("beside"), inner()]
        except KeyError as error:
            return f"caught {error}"
        return "not reached"

    machine = Machine(outer())
    _drain(machine)
    assert machine.result == "caught 'own'"
    assert [node.error for node in machine.trace.walk()] == ["", "", "KeyError: 'own'", ""]


class _FalseError(Exception):
    def __bool__(self) -> bool:
        return False


def test_an_error_that_is_false_is_an_error() -> None:
    machine = Machine(_yielding(_ask("a")))
    machine.fail(machine.due()[0], _FalseError())
    with pytest.raises(_FalseError):
        _ = machine.result


def test_an_error_before_the_first_step_is_kept_for_the_result() -> None:
    @flow()
    def early() -> Steps[None]:
        raise InputError("nothing to read")
        yield

    with pytest.raises(InputError, match="nothing to read"):
        _ = Machine(early()).result


# -- closing, depth and time ----------------------------------------------------------------------


def test_to_close_runs_every_finally_the_innermost_first() -> None:
    closed: list[str] = []

    def inner(name: str) -> Steps[None]:
        try:
            yield _ask(name)
        finally:
            closed.append(name)

    @flow()
    def outer() -> Steps[None]:
        try:
            yield [inner("a"), inner("b")]
        finally:
            closed.append("outer")

    machine = Machine(outer())
    machine.close()
    assert closed == ["b", "a", "outer"] and machine.due() == [] and not machine.done
    machine.close()
    assert len(closed) == 3


def test_one_that_fails_as_it_is_closed_leaves_none_open() -> None:
    closed: list[str] = []

    def stubborn() -> Iterator[Any]:
        try:
            yield _ask("a")
        finally:
            yield _ask("more")

    @flow()
    def outer() -> Steps[None]:
        try:
            yield [stubborn()]
        finally:
            closed.append("outer")

    machine = Machine(outer())
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        machine.close()
    assert closed == ["outer"]


def test_flows_may_be_nested_deeper_than_the_stack() -> None:
    @flow()
    def nested(depth: int) -> Steps[int]:
        if not depth:
            yield _ask("bottom")
            return 0
        below: int = yield nested(depth - 1)
        return below + 1

    machine = Machine(nested(3000))
    assert _drain(machine) == ["/".join("0" * 3001)]
    assert machine.result == 3000
    assert len(machine.trace.asks) == 1
    failing = Machine(nested(3000))
    failing.fail(failing.due()[0], GenerationError("no"))
    with pytest.raises(GenerationError):
        _ = failing.result
    Machine(nested(3000)).close()


def test_many_steps_without_a_request_end() -> None:
    @flow()
    def idle() -> Steps[int]:
        for _ in range(20_000):
            yield []
        return 1

    assert Machine(idle()).result == 1


def test_the_trace_has_the_times_of_the_clock() -> None:
    now = iter(range(100))
    machine = Machine(_yielding([_ask("a"), Read("d")]), clock=lambda: float(next(now)))
    ask, read = machine.due()
    machine.give(read, "doc")
    machine.give(ask, "said")
    assert [(node.kind, node.began, node.ended) for node in machine.trace.walk()] == [
        ("flow", 0, 5), ("ask", 1, 4), ("read", 2, 3),
    ]  # fmt: skip
