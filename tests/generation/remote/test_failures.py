"""What failures mean, and when they are tried again."""

from __future__ import annotations

import random
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import ContextOverflowError, GenerationError, RateLimitError
from carrel.generation.remote.failures import Backoff, FailedReplyError, message_of, of_status, retry_after_s

AGAIN = FailedReplyError(RateLimitError("later"), again=True)


@given(st.integers(0, 6), st.integers(0, 10))
def test_waits_double_at_random_and_end(retries: int, seed: int) -> None:
    backoff = Backoff(retries, chance=random.Random(seed))
    waits = []
    while (wait := backoff.wait_s(AGAIN, 1000.0)) is not None:
        waits.append(wait)
    assert len(waits) == retries
    assert all(0 <= wait <= min(8.0, 0.5 * 2**index) for index, wait in enumerate(waits))


def test_no_wait_outlasts_the_deadline() -> None:
    named = FailedReplyError(RateLimitError("later"), again=True, wait_s=5.0)
    assert Backoff(3).wait_s(named, 4.9) is None
    assert Backoff(3).wait_s(named, 5.1) == 5.0
    assert Backoff(3).wait_s(FailedReplyError(GenerationError("no")), 100) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after-ms": "nan"}, None),
    ],
)
def test_what_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_a_date_is_seconds_from_now() -> None:
    found = retry_after_s({"retry-after": formatdate(time.time() + 30, usegmt=True)})
    assert found is not None and 25 < found <= 31


@given(st.binary(max_size=200))
def test_whatever_a_server_says_is_one_short_line(body: bytes) -> None:
    said = message_of(body)
    assert "\n" not in said and len(said) <= 301


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "too  fast"}}', "too fast"),
        (b'{"error": "down"}', "down"),
        (b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', "field required"),
        (b'{"message": "no"}', "no"),
        (b"<html><h1>502</h1>Bad\ngateway</html>", "502 Bad gateway"),
        (b"", ""),
        (b'{"object": "error"}', '{"object": "error"}'),
    ],
)
def test_what_it_says_is_found(body: bytes, said: str) -> None:
    assert message_of(body) == said


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 4096 tokens",
        "the request exceeds the available context size, try increasing it",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048, exceeds the model maximum",
    ],
)
def test_servers_say_in_many_ways_that_a_prompt_is_too_long(said: str) -> None:
    assert isinstance(of_status("x", 400, {}, said.encode()).error, ContextOverflowError)
