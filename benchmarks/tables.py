"""Tables in Markdown, and numbers as they stand in them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

Row = Sequence[str]


def table(head: Row, rows: Sequence[Row], *, words: bool = False) -> str:
    """Return a Markdown table; columns after the first are right-aligned unless they hold words."""
    lines = [head, ["---", *["---" if words else "---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def score(value: float | None) -> str:
    """Show a share of one, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Show the median and, where there are several rounds, the least and the greatest."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
