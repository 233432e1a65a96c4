"""Plans: what a flow would cost is what it costs, if every reply is as long as it may be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import Ask, Fit, Prices, Read, Speed, Steps, flow, plan, run
from carrel.agents.chain_of_agents import chain_of_agents
from carrel.agents.fitting import reply_room
from carrel.agents.replying import ask_in_form, read_number
from carrel.errors import InputError
from carrel.testing import FakeGenerator
from carrel.types import Completion, Document, Passage, Prompt, Usage

TEXT = "\n".join(f"Paragraph {number} tells of the harbour, and of the ships in it." for number in range(60))


class FullLength(FakeGenerator):
    """Replies as long as they may be."""

    def __init__(self, window: int, example: str = "") -> None:
        super().__init__(self.reply, context_window=window)
        self.example = example

    def reply(self, prompt: Prompt) -> Completion:
        assert self.context_window is not None
        tokens = reply_room(prompt, self.context_window)
        usage = Usage(self.prompt_tokens(prompt), tokens, 0, "words")
        return Completion(self.example if prompt.kind == "choice" else "note " * (tokens - 1) + "note", usage)


# A tree is an ask (its most tokens), or a list of steps; a step is a tree or a tuple of trees side by side.
_TREES = st.recursive(
    st.integers(1, 30),
    lambda inner: st.lists(st.one_of(inner, st.lists(inner, max_size=3).map(tuple)), max_size=3),
    max_leaves=12,
)


@flow()
def _tree(tree: Any) -> Steps[None]:
    if isinstance(tree, int):
        yield Fit(Prompt("q"), (Passage("d", 0, 1, "x"),))
        yield Ask(Prompt("w " * tree, max_tokens=tree))
        return
    for step in tree:
        if isinstance(step, tuple):
            yield [_tree(each) for each in step]
        else:
            yield _tree(step)


def _in_a_row(tree: Any) -> int:
    """The oracle: steps one after another add up, of those side by side the longest counts."""
    if isinstance(tree, int):
        return 1
    return sum(max(map(_in_a_row, step), default=0) if isinstance(step, tuple) else _in_a_row(step) for step in tree)


def _asks(tree: Any) -> list[int]:
    if isinstance(tree, int):
        return [tree]
    return [ask for step in tree for ask in _asks(list(step) if isinstance(step, tuple) else step)]


@given(_TREES, st.integers(1, 4), st.none() | st.builds(Speed, st.just(100.0), st.floats(1, 50), st.floats(0, 2)))
def test_calls_in_a_row_are_the_longest_way(tree: Any, concurrency: int, speed: Speed | None) -> None:
    planned = plan(_tree(tree), generator=FakeGenerator(""), speed=speed, concurrency=concurrency)
    assert planned.in_a_row == _in_a_row(tree)
    assert planned.calls == len(_asks(tree))
    assert planned.tokens_in == planned.tokens_out == sum(_asks(tree))


@given(_TREES, st.integers(1, 4))
def test_seconds_lie_between_the_longest_way_and_all_calls(tree: Any, concurrency: int) -> None:
    speed = Speed(1e9, 1e9, call_s=1.0)
    seconds = plan(_tree(tree), generator=FakeGenerator(""), speed=speed, concurrency=concurrency).seconds
    calls, longest = len(_asks(tree)), _in_a_row(tree)
    assert seconds is not None
    assert max(longest, calls / concurrency) - 0.01 <= seconds <= longest + calls / concurrency + 0.01


@pytest.mark.parametrize("direction", ["forwards", "backwards", "both"])
@pytest.mark.parametrize("window", [500, 900])
def test_a_run_with_replies_of_full_length_costs_what_was_planned(direction: Any, window: int) -> None:
    made = chain_of_agents("What of the ships?", Document(TEXT, "d"), direction=direction, notes_tokens=40)
    planned = plan(made, generator=FakeGenerator("", context_window=window))
    generator = FullLength(window, "1")
    done = run(made, generator=generator)
    assert planned.calls == len(generator.prompts) > 2
    assert (planned.tokens_in, planned.tokens_out) == (done.usage.prompt_tokens, done.usage.completion_tokens)
    assert [node.path for node in planned.trace.asks] == [node.path for node in done.trace.asks]
    if direction == "both":
        assert planned.in_a_row * 2 - 4 <= planned.calls <= planned.in_a_row * 2


def test_an_example_takes_the_place_of_a_reply() -> None:
    @flow()
    def choosing() -> Steps[int]:
        number = yield from ask_in_form(Prompt("which?", kind="choice", max_tokens=16), read_number(3), example="2")
        if number == 2:
            yield Ask(Prompt("and why?", max_tokens=4))
        return number

    planned = plan(choosing(), generator=FakeGenerator(""))
    assert (planned.calls, planned.in_a_row, planned.tokens_out) == (2, 2, 20)


def test_what_it_costs_and_how_long_it_takes() -> None:
    @flow()
    def four() -> Steps[None]:
        yield [Ask(Prompt("w " * 100, max_tokens=10)) for _ in range(4)]

    planned = plan(
        four(),
        generator=FakeGenerator(""),
        prices=Prices(2.0, 10.0),
        speed=Speed(100.0, 10.0, call_s=0.5),
        concurrency=2,
    )
    assert planned.cost == pytest.approx((400 * 2 + 40 * 10) / 1e6)
    assert planned.seconds == pytest.approx(2 * (0.5 + 1.0 + 1.0))
    assert str(planned) == "about 4 calls (1 in a row), 400 tokens in, 40 out, cost 0.0012, 5 s"
    assert planned.tokenizer == "words"
    plain = plan(four(), generator=FakeGenerator(""))
    assert plain.cost is None and plain.seconds is None and str(plain).endswith("40 out")


def test_the_generator_is_not_asked() -> None:
    generator = FakeGenerator([])
    assert plan(_tree([1, (2, 3)]), generator=generator).calls == 3
    assert generator.prompts == []


def test_a_generators_own_most_bounds_its_replies() -> None:
    generator = FakeGenerator("")
    generator.max_tokens = 7  # type: ignore[attr-defined]
    assert plan(_tree([5, 30]), generator=generator).tokens_out == 5 + 7


def test_what_the_flow_fails_with_is_raised() -> None:
    @flow()
    def reading() -> Steps[None]:
        yield Ask(Prompt("q"))
        yield Read("document")

    with pytest.raises(InputError, match="read a document"):
        plan(reading(), generator=FakeGenerator(""))


def test_a_flow_without_an_end_is_an_error() -> None:
    @flow()
    def endless() -> Steps[None]:
        while True:
            yield [Ask(Prompt("q", max_tokens=1))] * 500

    with pytest.raises(InputError, match="more than 10,000 replies"):
        plan(endless(), generator=FakeGenerator(""))


@pytest.mark.parametrize("concurrency", [0, -1, True, 1.5])
def test_a_plan_for_no_calls_at_once_is_an_error(concurrency: Any) -> None:
    with pytest.raises(InputError, match="concurrency is a number of requests, 1 or more"):
        plan(_tree(3), generator=FakeGenerator(), concurrency=concurrency)


def test_what_cannot_be_planned_is_said() -> None:
    with pytest.raises(InputError, match="a plan is made for a flow"):
        plan(_tree, generator=FakeGenerator())  # type: ignore[arg-type]
    for slow in ((0, 60), (3000, -1), (3000, 60, -1)):
        with pytest.raises(InputError, match="more than 0 tokens a second"):
            Speed(*slow)


def test_the_steps_of_a_plan_are_named() -> None:
    planned = plan(_tree(3), generator=FakeGenerator(context_window=100))
    assert [step.note for step in planned.trace.children] == ["1 passage", "answer: w w w"]
