"""Whether a call is tried again, and what its next try leaves out."""

from __future__ import annotations

import asyncio
import time

from carrel.errors import ContextOverflowError, GenerationError, RateLimitError
from carrel.generation.remote.failures import FailedReplyError
from carrel.generation.remote.tries import Tries

LATER = FailedReplyError(RateLimitError("later"), again=True, wait_s=0.0)


def refusing(field: str) -> FailedReplyError:
    return FailedReplyError(GenerationError(f"Unsupported parameter: '{field}'"))


async def goes_on(tries: Tries, failed: FailedReplyError) -> bool:
    """Whether there is a next try; if there is none, the error is the failure's."""
    try:
        await tries.wait(failed)
    except GenerationError as error:
        if error is not failed.error or error.__cause__ is not failed:
            raise
        return False
    return True


async def test_what_may_pass_is_tried_as_often_as_was_asked() -> None:
    tries = Tries(60, 2, set())
    assert [await goes_on(tries, LATER) for _ in range(4)] == [True, True, False, False]


async def test_a_wait_is_kept_to_unless_it_outlasts_the_time() -> None:
    started = time.monotonic()
    assert await goes_on(Tries(60, 1, set()), FailedReplyError(RateLimitError("later"), again=True, wait_s=0.1))
    assert time.monotonic() - started >= 0.09
    assert not await goes_on(Tries(0.05, 1, set()), FailedReplyError(RateLimitError("later"), again=True, wait_s=0.1))


async def test_what_will_not_pass_is_not_tried_again() -> None:
    for error in (ContextOverflowError("the seed of the prompt is too long"), GenerationError("no")):
        assert not await goes_on(Tries(60, 5, set()), FailedReplyError(error))


async def test_a_refused_field_costs_no_try_and_is_named_once() -> None:
    refused: set[str] = set()
    tries = Tries(60, 0, refused)
    assert await goes_on(tries, refusing("seed")) and refused == {"seed"}
    assert await goes_on(tries, refusing("max_tokens")) and refused == {"seed", "max_tokens"}
    assert not await goes_on(tries, refusing("seed"))  # left out, and still refused
    assert not await goes_on(Tries(60, 0, refused), refusing("seed"))


async def test_a_field_that_another_call_learnt_of_is_left_out_of_this_one() -> None:
    refused: set[str] = set()
    first, second = Tries(60, 0, refused), Tries(60, 0, refused)
    assert await asyncio.gather(goes_on(first, refusing("seed")), goes_on(second, refusing("seed"))) == [True, True]
