"""Drawing a figure into files that are the same, byte for byte, for the same results."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from carrel.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png")
INK, FAINT = "#222222", "#D9D9D9"


def write_figure(
    path: str | os.PathLike[str], size: tuple[float, float], draw: Callable[[Figure], None], *, dpi: int
) -> tuple[Path, ...]:
    """Draw and write a figure.

    Parameters
    ----------
    path : ``.svg`` or ``.png``; without a suffix both are written. size : in inches. dpi : of a PNG.

    Raises
    ------
    InputError : another suffix. MissingDependencyError : matplotlib is not installed.
    """
    target = Path(path)
    if target.suffix not in ("", *FORMATS):
        raise InputError(f"A plot is written as {' or '.join(FORMATS)}, not {target.suffix!r}.")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(package="matplotlib", extra="eval", purpose="Plotting results") from error
    files = (target,) if target.suffix else tuple(target.with_name(target.name + suffix) for suffix in FORMATS)
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "carrel"}):
        figure = Figure(figsize=size, facecolor="white")
        draw(figure)
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(file, dpi=dpi, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files


def frame(axes: Axes, title: str, across: str, ticks: Mapping[float, str], top: float) -> None:
    """A panel of shares from 0 to 100 % over a log scale, with no more lines than reading it takes.

    Parameters
    ----------
    across : what the horizontal axis is. ticks : its labels, by their places. top : of the panel, a little above 1.
    """
    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"{across} (log scale)", color=INK)
    axes.set_ylim(-0.02, top)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1], ["0", "20 %", "40 %", "60 %", "80 %", "100 %"])
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#999999")
    axes.tick_params(length=0, colors=INK)
