"""The results of `carrel eval-memory` for people: tables for the terminal and a figure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from carrel.errors import InputError
from carrel.evaluation.bootstrap import Interval
from carrel.evaluation.dialogues import ADVERSARIAL
from carrel.evaluation.figures import FAINT, INK, write_figure
from carrel.evaluation.memory import ALL, BASELINES, CARREL, MemoryEvaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FOOTNOTE = (
    "Percent of the evidence turns that are in the memory's text; beside it, in points, the gain over the best baseline"
    " of the kind, with its paired 95 % bootstrap interval. All systems fill the same budget, as rendered."
)
_COLOURS = ("#0072B2", "#56B4E9", "#777777", "#999999", "#BBBBBB", "#D9D9D9")


def scopes(found: MemoryEvaluation) -> list[tuple[str, MemoryEvaluation]]:
    """What is shown: first the dialogues on which nothing was fitted, then all, where the two differ."""
    rest = found.of(fitted=False)
    if not found.fitted:
        return [("", found)]
    fitted = ", ".join(found.fitted)
    shown = [(f"Without {fitted}, on which Carrel's weights were fitted", rest)] if rest.asked else []
    return [*shown, (f"All dialogues, {fitted} included" if rest.asked else f"Fitted on: {fitted}", found)]


def table(found: MemoryEvaluation) -> Group:
    """A table for each scope: a system a row, a kind of question a column; and how often Carrel abstains."""
    parts: list[Table | Text] = []
    for title, scope in scopes(found):
        if title:
            parts.append(Text(f"\n{title}", style="bold"))
        parts += [_drawn(scope), Text(abstention(scope))]
    return Group(*parts, Text(f"\n{_FOOTNOTE} Budget: {found.budget} tokens of {found.tokenizer}.", style="dim"))


def _drawn(found: MemoryEvaluation) -> Table:
    kinds = [kind for kind in (*found.kinds, ALL) if found.recall(CARREL, kind) is not None]
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    drawn.add_column("memory")
    for kind in kinds:
        count = int(np.isfinite(found.shares(CARREL, kind)).sum())
        drawn.add_column(f"{kind}\n{count} questions", justify="right")
    best = {kind: found.best_baseline(kind) for kind in kinds}
    for system in found.systems:
        cells = [percent(found.recall(system, kind)) for kind in kinds]
        if system not in BASELINES:
            cells = [f"{cell}\n{points(found.gain(system, kind))}" for cell, kind in zip(cells, kinds, strict=True)]
        else:
            cells = [f"{cell} *" if best[kind] == system else cell for cell, kind in zip(cells, kinds, strict=True)]
        drawn.add_row(system, *cells, style="bold" if system == CARREL else "")
    return drawn


def abstention(found: MemoryEvaluation) -> str:
    """How often nothing is answered, of questions without and with an answer."""
    without, rest = found.abstained(adversarial=True), found.abstained(adversarial=False)
    told = [f"{percent(rest, interval=True)} of the questions that have an answer"] if rest else []
    if without:
        told.insert(0, f"{percent(without, interval=True)} of the {ADVERSARIAL} questions")
    return f"Abstains on {' and on '.join(told)}."


def percent(value: Interval | None, *, interval: bool = False) -> str:
    """A share as 87.2, or as 87.2 % [84.1, 90.0]."""
    if value is None:
        return ""
    if not interval:
        return f"{100 * value.mean:.1f}"
    return f"{100 * value.mean:.1f} % [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def points(value: Interval | None) -> str:
    """A difference as +21.4 [+16.9, +26.0]."""
    if value is None:
        return ""
    return f"{100 * value.mean:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"


def plot(found: MemoryEvaluation, path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Draw the shares of evidence, a group of bars for each kind of question, and write the figure.

    Of dialogues that were not fitted on, where there are any. Without a suffix both .svg and .png are written.

    Raises
    ------
    MissingDependencyError : matplotlib is not installed. InputError : another suffix, or nothing to draw.
    """
    title, scope = scopes(found)[0]
    kinds = [kind for kind in (*scope.kinds, ALL) if scope.recall(CARREL, kind) is not None]
    if not kinds:
        raise InputError("There is nothing to plot: no question has evidence.")

    def draw(figure: Figure) -> None:
        _draw(figure.subplots(), scope, kinds)
        figure.text(0.065, 0.94, f"Evidence within {found.budget} tokens of memory", fontsize=12, color=INK)
        names = ", ".join(sorted({each.dialogue for each in scope.asked}))
        note = f"Percent of evidence turns; lines: 95 % intervals. Dialogues: {names}." if title else "95 % intervals."
        figure.text(0.065, 0.02, note, fontsize=8, color="#666666")
        figure.subplots_adjust(left=0.065, right=0.985, top=0.84, bottom=0.17)

    return write_figure(path, (9.2, 4.2), draw, dpi=150)


def _draw(axes: Axes, found: MemoryEvaluation, kinds: list[str]) -> None:
    width = 0.8 / len(found.systems)
    for number, system in enumerate(found.systems):
        values = [found.recall(system, kind) for kind in kinds]
        means = [100 * value.mean if value else 0.0 for value in values]
        ends = [
            [100 * (value.mean - value.low) if value else 0.0 for value in values],
            [100 * (value.high - value.mean) if value else 0.0 for value in values],
        ]
        places = np.arange(len(kinds)) + (number - (len(found.systems) - 1) / 2) * width
        colour = _COLOURS[min(len(_COLOURS) - 1, number if system not in BASELINES else number + 1)]
        axes.bar(places, means, width * 0.92, color=colour, label=system)
        axes.errorbar(places, means, yerr=ends, fmt="none", ecolor="#333333", elinewidth=0.8)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, colors=INK)
    axes.legend(frameon=False, ncols=len(found.systems), fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
