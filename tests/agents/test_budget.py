"""Budgets: what is allowed is never exceeded, and what is left can be used."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import Ask, Budget, Fit, Steps, flow, run, run_many
from carrel.agents.budget import Purse
from carrel.errors import BudgetSpentError, GenerationError, InputError
from carrel.testing import FakeGenerator
from carrel.types import Completion, Passage, Prompt, Usage


@flow()
def _asking(shapes: list[list[tuple[int, int]]]) -> Steps[int]:
    """Lists of asks one after another, each with its words and its most tokens; how many were answered."""
    answered = 0
    for shape in shapes:
        replies = yield [Ask(Prompt("w " * words, max_tokens=most)) for words, most in shape]
        answered += len(replies)
    return answered


@flow()
def _stubborn() -> Steps[list[str]]:
    """Goes on with what it can when the money is gone."""
    said = []
    for _ in range(3):
        try:
            reply: Completion = yield Ask(Prompt("w", max_tokens=4))
            said.append(reply.text)
        except BudgetSpentError as error:
            said.append(str(error))
    yield Fit(Prompt("q"), (Passage("d", 0, 1, "x"),))
    return said


class Metered(FakeGenerator):
    """Replies of any length up to the most; knows what it was paid."""

    def __init__(self, lengths: list[int]) -> None:
        super().__init__(self.reply)  # type: ignore[arg-type]
        self.lengths, self.spent = lengths, 0

    def reply(self, prompt: Prompt) -> str:
        assert prompt.max_tokens is not None
        count = self.lengths[len(self.prompts) % len(self.lengths)] % (prompt.max_tokens + 1)
        if self.lengths[0] == 13 and count == 3:
            raise GenerationError("at times")
        self.spent += self.prompt_tokens(prompt) + count
        return "r " * count


_shapes = st.lists(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 20)), min_size=1, max_size=4), max_size=4)


@given(
    st.lists(_shapes, min_size=1, max_size=3), st.integers(1, 150), st.integers(1, 9) | st.none(),
    st.lists(st.integers(0, 20), min_size=1), st.integers(1, 5),
)  # fmt: skip
def test_tokens_and_calls_are_never_exceeded(
    flows: list[list[list[tuple[int, int]]]], tokens: int, calls: int | None, lengths: list[int], concurrency: int
) -> None:
    generator = Metered(lengths)
    budget = Budget(tokens=tokens, calls=calls)
    done = run_many([_asking(shapes) for shapes in flows], generator=generator, budget=budget, concurrency=concurrency)
    assert generator.spent <= tokens
    assert calls is None or len(generator.prompts) <= calls
    for each, shapes in zip(done, flows, strict=True):
        if each.error is None:
            assert each.result == sum(map(len, shapes))
        else:
            assert isinstance(each.error, (BudgetSpentError, GenerationError))


@given(_shapes, st.integers(1, 4))
def test_a_budget_of_just_what_is_needed_is_enough(shapes: list[list[tuple[int, int]]], concurrency: int) -> None:
    needed = sum(words + most for shape in shapes for words, most in shape)
    calls = sum(map(len, shapes))
    budget = Budget(tokens=max(1, needed), calls=max(1, calls))
    done = run(_asking(shapes), generator=Metered([20]), budget=budget, concurrency=concurrency)
    assert done.result == calls


def test_a_call_waits_where_those_under_way_may_leave_enough() -> None:
    """Two of eleven tokens at most do not fit at once; each takes two."""
    generator = FakeGenerator("r")
    done = run(_asking([[(1, 10), (1, 10)]]), generator=generator, budget=Budget(tokens=13), concurrency=2)
    assert done.result == 2 and done.usage.total_tokens == 4


def test_what_is_left_and_what_is_wanted_is_said() -> None:
    with pytest.raises(BudgetSpentError, match="of a budget of 12 tokens 10 are left; the next call may take 11"):
        run(_asking([[(1, 10)], [(1, 10)]]), generator=FakeGenerator("r"), budget=Budget(tokens=12))
    with pytest.raises(BudgetSpentError, match="the budget of 1 call is spent"):
        run(_asking([[(1, 1)], [(1, 1)]]), generator=FakeGenerator("r"), budget=Budget(calls=1))


def test_a_flow_may_go_on_without_money() -> None:
    done = run(_stubborn(), generator=FakeGenerator("r"), budget=Budget(calls=2))
    assert done.result == ["r", "r", "the budget of 2 calls is spent, with 4 tokens"]


def test_time_that_is_spent_ends_the_next_call() -> None:
    def slow(_: Prompt) -> str:
        time.sleep(0.2)
        return "r"

    began = time.perf_counter()
    with pytest.raises(BudgetSpentError, match=r"0\.05 seconds is spent"):
        run(_asking([[(1, 1)], [(1, 1)]]), generator=FakeGenerator(slow), budget=Budget(seconds=0.05))
    assert time.perf_counter() - began < 5


def test_a_larger_budget_goes_on_with_the_journal(tmp_path: Path) -> None:
    first, second = FakeGenerator("r r"), FakeGenerator("r r")
    made = _asking([[(1, 2)]] * 6)
    with pytest.raises(BudgetSpentError):
        run(made, generator=first, budget=Budget(tokens=10), journal=tmp_path / "j")
    done = run(made, generator=second, budget=Budget(tokens=9), journal=tmp_path / "j")
    assert (len(first.prompts), len(second.prompts), done.result) == (3, 3, 6)
    assert done.usage.total_tokens == 9


def test_a_failed_call_is_counted_as_it_was_reserved() -> None:
    purse, generator, call = Purse(Budget(tokens=20)), FakeGenerator(""), object()
    assert purse.reserve(call, Prompt("a b", max_tokens=5), generator)
    purse.settle(call, None)
    assert (purse.tokens, purse.calls) == (7, 1)
    assert purse.reserve(call, Prompt("a b", max_tokens=5), generator)
    purse.settle(call, Completion("", Usage(2, 1)))
    assert (purse.tokens, purse.calls) == (10, 2)


def test_the_most_of_a_reply_is_the_least_of_its_bounds() -> None:
    generator = FakeGenerator("", context_window=400)
    for prompt, own, needed in [
        (Prompt("a"), None, 101), (Prompt("a"), 30, 31), (Prompt("a", max_tokens=7), 30, 8), (Prompt("a"), 0, 101),
    ]:  # fmt: skip
        purse, call = Purse(Budget(tokens=1000)), object()
        generator.max_tokens = own  # type: ignore[attr-defined]
        purse.reserve(call, prompt, generator)
        purse.settle(call, None)
        assert purse.tokens == needed


@pytest.mark.parametrize("bound", [0, -1, True, "ten", float("nan")])
@pytest.mark.parametrize("name", ["tokens", "calls", "seconds"])
def test_a_bound_is_a_number_above_nothing(name: str, bound: object) -> None:
    with pytest.raises(InputError, match=f"a budget's {name}"):
        Budget(**{name: bound})  # type: ignore[arg-type]
