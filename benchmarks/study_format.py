"""Tables and numbers of docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from carrel.evaluation.bootstrap import Interval


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def points(interval: Interval) -> str:
    """A mean with half its interval, in per cent."""
    return f"{100 * interval.mean:.1f} ±{100 * interval.half_width:.1f}"


def signed(interval: Interval) -> str:
    """A difference in points, bold where its interval leaves zero out."""
    text = f"{number(interval.mean)} [{number(interval.low)}, {number(interval.high)}]"
    return f"**{text}**" if interval.excludes_zero else text


def number(share: float) -> str:
    """Points with a sign; a true minus, and no minus before zero."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def listed(items: Iterable[str]) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last
