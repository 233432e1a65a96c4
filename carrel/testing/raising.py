"""Expecting an error without importing a test framework."""

from __future__ import annotations

from collections.abc import Callable


def raised(error: type[BaseException], call: Callable[[], object]) -> BaseException:
    """The error of the given kind that ``call`` raises; any other passes through."""
    try:
        result = call()
    except error as caught:
        return caught
    raise AssertionError(f"{error.__name__} was not raised; the call returned {result!r}")
