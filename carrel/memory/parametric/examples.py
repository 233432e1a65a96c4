"""What an adapter learns from, as tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens to learn from; those before ``first`` are only read.

    ``is_open``: what is asked for stands in them. ``asked``: from where to where the question stands, (0, 0) in a text.
    """

    ids: tuple[int, ...]
    first: int
    is_open: bool = False
    asked: tuple[int, int] = (0, 0)
