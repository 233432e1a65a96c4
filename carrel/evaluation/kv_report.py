"""The results of `carrel eval-kv` for people: a table for the terminal and a figure. Needs no torch."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from carrel.errors import InputError
from carrel.evaluation.figures import INK, frame, write_figure
from carrel.evaluation.kv_results import DENSE, Figures, KVEvaluation, Row, Share, shown_budget
from carrel.evaluation.plots import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = (
    "method", "budget", "right, %", "less dense", "keys read", "memory", "of dense", "read, s", "x dense",
    "first token, ms", "x dense",
)  # fmt: skip
_KEYS, _TIMES = (0, 1), (7, 8, 9, 10)  # the columns that every table begins with, and those of times
_LAYOUTS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((2, 3, 4, 5, 6, *_TIMES),), ((2, 3, 4, 5, 6), _TIMES), ((2, 4, 5, 6), (3, *_TIMES)), ((2, 3), (4, 5, 6), _TIMES),
    ((2, 4), (5, 6)), ((2,),),
)  # fmt: skip
"""Columns of the tables below one another, for narrower and narrower terminals; the last two leave some out."""
_NARROW = "More figures ({what}) are shown where the terminal is wider, and with --json."
_FOOTNOTE = (
    "Right: share of the questions, with Wilson's 95 % interval, wider where contexts differ. Less dense: difference on"
    " the same questions, in points, with a bootstrap interval over contexts (over questions, of a single one). Keys"
    " read: of the context, by a question's last token. Memory: of one context before a question, buffers, masks and"
    " bounds included; what is only masked stays in it. Times: medians over contexts, and against dense in the same"
    " contexts."
)
_WIDE = 10_000
_BUSY = "The machine was busy ({load:.1f} processes at work on {cpus} CPUs): the times say little."
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA3377", "#E69F00", "#332288", "#56B4E9")  # Okabe-Ito, Tol
_LineStyle = str | tuple[int, tuple[float, ...]]
_STYLES: tuple[tuple[_LineStyle, str], ...] = (("-", "o"), ((0, (5, 1.5)), "s"), ((0, (1, 1)), "^"))
"""Line and marker of the first, second and third time round the colours."""
_Style = tuple[str, tuple[_LineStyle, str]]
_GREY = "#7A7A7A"
_LABEL_GAP = 0.043  # of the height of a panel


def table(found: KVEvaluation, width: int | None = None) -> Group:
    """All rows for a terminal, a table for each length.

    In ``width`` characters (None: any number) a length takes several tables where one does not fit, and in very few
    only the main columns are shown. Method, budget and right answers always are.
    """
    rows = {
        length: [(row.method, shown_budget(row.budget), *_cells(found.figures(row))) for row in found.of(length)]
        for length in found.lengths
    }
    layout = next((each for each in _LAYOUTS if width is None or _width(rows, each) <= width), _LAYOUTS[-1])
    parts: list[Table | Text] = [Text(headline(found), style="bold")]
    for length, cells in rows.items():
        parts.append(Text(f"\nContexts of {length:,} tokens", style="italic"))
        for number, columns in enumerate(layout):
            parts += [Text()] * (number > 0) + [_drawn(cells, columns)]
    shown = {*_KEYS, *(column for columns in layout for column in columns)}
    missing = [name for column, name in enumerate(_COLUMNS) if column not in shown]
    told = [_NARROW.format(what="; ".join(missing))] if missing else []
    return Group(*parts, *(Text(f"\n{note}", style="dim") for note in told + notes(found)))


def _drawn(cells: Sequence[Sequence[str]], columns: Sequence[int]) -> Table:
    """One table of some columns. In less than it needs, only the names of methods are broken."""
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column in (*_KEYS, *columns):
        name = column == 0
        drawn.add_column(
            _COLUMNS[column], justify="left" if name else "right", no_wrap=not name, overflow="fold" if name else "crop"
        )
    for row in cells:
        drawn.add_row(*(row[column] for column in (*_KEYS, *columns)))
    return drawn


def _width(rows: Mapping[int, Sequence[Sequence[str]]], layout: Sequence[Sequence[int]]) -> int:
    """Characters of the widest table."""
    console = Console(width=_WIDE, file=io.StringIO())
    drawn = (_drawn(cells, columns) for cells in rows.values() for columns in layout)
    return max((Measurement.get(console, console.options, each).maximum for each in drawn), default=0)


def headline(found: KVEvaluation) -> str:
    """What was asked of which model."""
    made = found.manifest
    cut = ", cut short" if made.interrupted else ""
    return (
        f"{made.model}: look-up in {made.task}, {made.contexts} contexts of each length, {made.questions} questions"
        f" about each{cut}"
    )


def notes(found: KVEvaluation) -> list[str]:
    """What a reader of the table should know."""
    told = [_FOOTNOTE]
    reasons: dict[str, list[str]] = {}
    for method, reason in found.manifest.left_out.items():
        reasons.setdefault(reason, []).append(method)
    told += [f"Left out: {', '.join(names)}. {reason}" for reason, names in reasons.items()]
    load, cpus = found.manifest.machine.get("load"), found.manifest.machine.get("cpus")
    if isinstance(load, float) and isinstance(cpus, int) and load > max(1.5, 0.75 * cpus):
        told.append(_BUSY.format(load=load, cpus=cpus))
    return told


def shown_share(share: Share) -> str:
    """Percent with its interval."""
    return f"{100 * share.mean:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def shown_bytes(size: float) -> str:
    """In a unit that leaves few digits."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:,.2f} {unit}"
    return f"{size / 1e3:,.1f} kB"


def _cells(figures: Figures) -> list[str]:
    less = figures.difference
    return [
        shown_share(figures.right),
        "" if less is None else f"{100 * less.mean:+.1f} [{100 * less.low:+.1f}, {100 * less.high:+.1f}]",
        f"{100 * figures.keys:.1f} %",
        shown_bytes(figures.bytes),
        "" if figures.bytes_share is None else f"{100 * figures.bytes_share:.1f} %",
        f"{figures.read_s:.3f}",
        _times(figures.read_ratio),
        f"{figures.first_ms:.2f}",
        _times(figures.first_ratio),
    ]


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


# -- the figure ------------------------------------------------------------------------------------


def plot(
    found: KVEvaluation, path: str | os.PathLike[str], *, lengths: Sequence[int] | None = None
) -> tuple[Path, ...]:
    """Draw accuracy against budget, a panel for each length and a line for each method, and write it.

    Parameters
    ----------
    found : the results.
    path : where to write, ``.svg`` or ``.png``; without a suffix both. The same results give the same bytes.
    lengths : those to draw; by default all that were measured at some budget.

    Returns
    -------
    The files written.

    Raises
    ------
    MissingDependencyError : matplotlib is not installed.
    InputError : another suffix, or nothing to draw.
    """
    panels = [
        length for length in found.lengths
        if (lengths is None or length in lengths) and any(row.budget is not None for row in found.of(length))
    ]  # fmt: skip
    if not panels:
        raise InputError("There is nothing to plot: no method with a budget was measured.")
    size = (0.7 + 6.4 * len(panels), 5.6)
    return write_figure(path, size, lambda figure: _draw(figure, found, panels), dpi=160)


def _draw(figure: Figure, found: KVEvaluation, panels: Sequence[int]) -> None:
    styles = _styles(found)
    for column, length in enumerate(panels, start=1):
        _draw_panel(figure.add_subplot(1, len(panels), column), found, length, styles)
    width = figure.get_figwidth()
    figure.subplots_adjust(left=0.75 / width, right=1 - 1.5 / width, bottom=0.15, top=0.85, wspace=0.45)
    figure.text(0.75 / width, 0.94, f"{found.manifest.model}: answers found", fontsize=13, fontweight="bold", color=INK)
    note = f"Bands: 95 % intervals. {found.manifest.contexts} contexts, {found.manifest.questions} questions each."
    figure.text(0.75 / width, 0.025, note, fontsize=8, color="#666666")


def _styles(found: KVEvaluation) -> Mapping[str, _Style]:
    """A colour and a line for each method with a budget, the same in every panel; random is grey."""
    names = list(dict.fromkeys(row.method for row in found.rows if row.budget is not None and row.method != "random"))
    made: dict[str, _Style] = {"random": (_GREY, _STYLES[1])}
    for number, name in enumerate(names):
        made[name] = _COLOURS[number % len(_COLOURS)], _STYLES[number // len(_COLOURS) % len(_STYLES)]
    return made


def _draw_panel(axes: Axes, found: KVEvaluation, length: int, styles: Mapping[str, _Style]) -> None:
    rows: dict[str, list[Row]] = {}
    for row in found.of(length):
        if row.budget is not None:
            rows.setdefault(row.method, []).append(row)
    budgets = sorted({float(row.budget or 0) for each in rows.values() for row in each}, reverse=True)
    ends: list[tuple[float, str, str]] = []
    for name, each in rows.items():
        colour, (line, marker) = styles[name]
        shares = [found.figures(row).right for row in each]
        places, means = [float(row.budget or 0) for row in each], [share.mean for share in shares]
        axes.fill_between(
            places, [s.low for s in shares], [s.high for s in shares], color=colour, alpha=0.06, linewidth=0
        )
        axes.plot(places, means, color=colour, linestyle=line, linewidth=1.7, marker=marker, markersize=4)
        ends.append((means[-1], name, colour))
    _draw_whole(axes, found, length)
    _frame(axes, length, budgets)
    _label(axes, ends)


def _draw_whole(axes: Axes, found: KVEvaluation, length: int) -> None:
    """What reads all keys: dense as a line, the others as points, with the names of those that are equal together."""
    names: dict[float, list[str]] = {}
    for row in found.of(length):
        if row.budget is None and row.method != DENSE:
            names.setdefault(round(found.figures(row).right.mean, 2), []).append(row.method)
    for mean, equal in names.items():
        axes.plot([1.0], [mean], color=INK, marker="D", markersize=4, linestyle="")
        axes.annotate(
            ", ".join(equal), (1.0, mean), xytext=(-4, -13), textcoords="offset points", fontsize=9, color=INK
        )
    dense = found.dense(length)
    if dense is not None:
        whole = found.figures(dense).right.mean
        axes.axhline(whole, color=INK, linewidth=1.1, zorder=1)
        axes.annotate(DENSE, (1.0, whole), xytext=(-4, 4), textcoords="offset points", fontsize=9, color=INK)


def _frame(axes: Axes, length: int, budgets: Sequence[float]) -> None:
    ticks = {tick: "all" if tick == 1 else shown_budget(tick) for tick in sorted({1.0, *budgets}, reverse=True)}
    frame(axes, f"Contexts of {length:,} tokens", "share of the keys kept or read", ticks, 1.06)
    axes.set_xlim(1.12, min(budgets) / 1.06)


def _label(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write each name beside the panel, near the line's end and clear of the others."""
    ends = sorted(ends)
    places = spread(np.array([(mean + 0.02) / 1.08 for mean, _, _ in ends]), _LABEL_GAP, 0.01, 0.99)
    for (mean, name, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name, xy=(1.0, (mean + 0.02) / 1.08), xycoords="axes fraction", xytext=(1.045, float(place)),
            textcoords="axes fraction", va="center", fontsize=9, color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "relpos": (0, 0.5)},
        )  # fmt: skip
