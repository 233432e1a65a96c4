"""What a run may spend: tokens, calls and seconds, over all its flows together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrel.agents.fitting import reply_room
from carrel.errors import BudgetSpentError, InputError
from carrel.types import Completion, Prompt

if TYPE_CHECKING:
    from carrel.generation.base import Generator


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a run may spend; None sets no bound.

    Parameters
    ----------
    tokens : of prompts and replies together. No call is made that could go beyond it, if replies keep to the most
        tokens that the prompt or the generator names.
    calls : of the generator.
    seconds : from the beginning of the run; what is under way then is stopped.

    Raises
    ------
    InputError : a bound is not above 0.
    """

    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "calls", "seconds"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
                raise InputError(f"a budget's {name} is a number above 0, or None for no bound, not {value!r}")


class Purse:
    """A budget as it is spent: a call is paid for in advance at its most, and settled when it has ended."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.tokens, self.calls = 0, 0
        self._reserved: dict[int, int] = {}
        self._began = time.monotonic()

    def seconds_left(self) -> float | None:
        if self.budget.seconds is None:
            return None
        return max(0.0, self._began + self.budget.seconds - time.monotonic())

    def reserve(self, call: object, prompt: Prompt, generator: Generator) -> bool:
        """Pay for a call in advance; False where it may become affordable once those under way are settled.

        Raises
        ------
        BudgetSpentError : it never will.
        """
        if self.seconds_left() == 0:
            raise self.out_of_time()
        if self.budget.calls is not None and self.calls >= self.budget.calls:
            raise BudgetSpentError(f"the budget of {_calls(self.budget.calls)} is spent, with {self.tokens:,} tokens")
        needed = 0
        if self.budget.tokens is not None:
            needed = generator.prompt_tokens(prompt) + _most_reply(prompt, generator)
            if self.tokens + sum(self._reserved.values()) + needed > self.budget.tokens:
                if self._reserved:
                    return False
                most = self.budget.tokens
                raise BudgetSpentError(
                    f"of a budget of {most:,} tokens {most - self.tokens:,} are left; the next call may take {needed:,}"
                )
        self._reserved[id(call)] = needed
        self.calls += 1
        return True

    def settle(self, call: object, reply: object) -> None:
        """A call has ended: what it took in truth is what it costs; one that failed is counted as reserved."""
        reserved = self._reserved.pop(id(call), None)
        if reserved is not None:
            self.tokens += reply.usage.total_tokens if isinstance(reply, Completion) else reserved

    def out_of_time(self) -> BudgetSpentError:
        spent = f"{self.calls:,} calls and {self.tokens:,} tokens"
        return BudgetSpentError(f"the budget of {self.budget.seconds:g} seconds is spent, with {spent}")


def _most_reply(prompt: Prompt, generator: Generator) -> int:
    """The most tokens of a reply: of the prompt or the generator, whichever is fewer."""
    bounds = [bound for bound in (prompt.max_tokens, getattr(generator, "max_tokens", None)) if bound]
    return min(bounds) if bounds else reply_room(prompt, generator.context_window or 4 * 512)


def _calls(count: int) -> str:
    return f"{count:,} call{'s' if count != 1 else ''}"
