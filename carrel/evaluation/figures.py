"""Drawing a figure into files that are the same, byte for byte, for the same results."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from carrel.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png")


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
