"""Figures: what a configuration finds against the tokens it spends, with confidence bands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from carrel.errors import InputError
from carrel.evaluation.configurations import NO_RETRIEVER
from carrel.evaluation.figures import INK, frame, write_figure
from carrel.evaluation.results import Evaluation
from carrel.evaluation.scoring import CONTEXT_METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA3377", "#E69F00", "#332288", "#56B4E9")  # Okabe-Ito, Tol
_LineStyle = str | tuple[int, tuple[float, ...]]
_STYLES: tuple[_LineStyle, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)))  # the second and third time round the colours
_BASELINE_COLOUR = "#7A7A7A"
_LABEL_GAP = 0.052  # of the height of a panel


@dataclass(frozen=True, slots=True)
class _Curve:
    """One configuration in one panel: arrays of shape (points,)."""

    name: str
    colour: str
    style: _LineStyle
    tokens: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def plot(
    evaluation: Evaluation, path: str | os.PathLike[str], *, metrics: Sequence[str] | None = None
) -> tuple[Path, ...]:
    """Draw recall against the mean tokens used, one line a configuration, and write it.

    Parameters
    ----------
    evaluation
        The results.
    path
        Where to write, ``.svg`` or ``.png``; without a suffix both are written. The same results give the
        same bytes.
    metrics
        Metrics of contexts, one panel each. None takes answer recall, or recall of gold spans where no
        question has a findable answer, and recall of gold documents.

    Returns
    -------
    tuple of Path
        The files written.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    InputError
        Another suffix, an unknown metric, or nothing that was scored.
    """
    panels = _panels(evaluation, metrics)
    size = (0.6 + 6.4 * len(panels), 5.4)
    return write_figure(path, size, lambda figure: _draw(figure, evaluation, panels), dpi=200)


def _panels(evaluation: Evaluation, metrics: Sequence[str] | None) -> list[str]:
    if metrics is None:
        first = "answer" if evaluation.is_scored("answer") else "span_recall"
        metrics = [metric for metric in (first, "gold_recall") if evaluation.is_scored(metric)]
    unknown = [metric for metric in metrics if metric not in CONTEXT_METRICS]
    if unknown:
        raise InputError(f"There is no metric {unknown[0]!r} to plot. There are: {', '.join(CONTEXT_METRICS)}.")
    if not metrics or not all(evaluation.is_scored(metric) for metric in metrics):
        raise InputError("There is nothing to plot: no question has the gold evidence that the metric needs.")
    return list(metrics)


def _curves(evaluation: Evaluation, metric: str) -> list[_Curve]:
    """Collect the curves of a panel; a budget at which a configuration returns nothing has no point."""
    curves = []
    methods = 0
    for name, result in evaluation.results.items():
        colour, style = _BASELINE_COLOUR, _STYLES[1]
        if result.options.get("retriever") != NO_RETRIEVER:
            colour = _COLOURS[methods % len(_COLOURS)]
            style = _STYLES[methods // len(_COLOURS) % len(_STYLES)]
            methods += 1
        points = []
        for budget in evaluation.budgets:
            interval = evaluation.interval(name, metric, budget)
            scored = ~np.isnan(evaluation.values(name, metric, budget))
            tokens = float(evaluation.values(name, "tokens", budget)[scored].mean())
            if interval is not None and tokens >= 1:
                points.append((tokens, interval.mean, interval.low, interval.high))
        if points:
            curves.append(_Curve(name, colour, style, *np.array(points).T))
    return curves


def _draw(figure: Figure, evaluation: Evaluation, panels: Sequence[str]) -> None:
    manifest = evaluation.manifest
    for column, metric in enumerate(panels, start=1):
        _draw_panel(figure.add_subplot(1, len(panels), column), evaluation, metric)
    width = figure.get_figwidth()
    figure.subplots_adjust(left=0.75 / width, right=1 - 1.15 / width, bottom=0.15, top=0.85, wspace=0.36)
    title = f"{manifest.dataset}: {len(evaluation.questions):,} questions over {manifest.documents:,} documents"
    figure.text(0.75 / width, 0.94, title, fontsize=13, fontweight="bold", color=INK)
    note = f"Bands: 95 % bootstrap intervals over questions. Ring: spends no more. Tokens: {manifest.tokenizer}."
    figure.text(0.75 / width, 0.025, note, fontsize=8, color="#666666")


def _draw_panel(axes: Axes, evaluation: Evaluation, metric: str) -> None:
    curves = _curves(evaluation, metric)
    for curve in curves:
        is_baseline = curve.colour == _BASELINE_COLOUR
        axes.fill_between(curve.tokens, curve.low, curve.high, color=curve.colour, alpha=0.13, linewidth=0)
        axes.plot(
            curve.tokens,
            curve.mean,
            color=curve.colour,
            linestyle=curve.style,
            linewidth=1.5 if is_baseline else 1.9,
            marker="o",
            markersize=3.5,
            zorder=2 if is_baseline else 3,
        )
    ticks = {float(budget): f"{budget:,}" for budget in evaluation.budgets}
    frame(axes, f"{CONTEXT_METRICS[metric]}", "mean tokens of context", ticks, 1.02)
    axes.set_xlim(right=max(evaluation.budgets) * 1.06)
    _label(axes, curves)


def _label(axes: Axes, curves: Sequence[_Curve]) -> None:
    """Write each name beside the panel in its line's colour, near the line's end and clear of the others."""
    if not curves:
        return
    right = max(float(curve.tokens[-1]) for curve in curves)
    curves = sorted(curves, key=lambda curve: (float(curve.mean[-1]), float(curve.mean.mean())))
    ends = np.array([(curve.mean[-1] + 0.02) / 1.04 for curve in curves])  # share of the panel's height
    places = spread(ends, _LABEL_GAP, 0.02, 0.98)
    for curve, place in zip(curves, places, strict=True):
        reaches_edge = curve.tokens[-1] > 0.8 * right
        arrow = {"arrowstyle": "-", "color": curve.colour, "linewidth": 0.7, "alpha": 0.6, "relpos": (0, 0.5)}
        if not reaches_edge:  # it never spends more: an open ring where it ends, and no line across the panel
            axes.scatter(curve.tokens[-1:], curve.mean[-1:], s=64, facecolors="none", edgecolors=curve.colour, zorder=4)
        axes.annotate(
            curve.name,
            xy=(float(curve.tokens[-1]), float(curve.mean[-1])),
            xycoords="data",
            xytext=(1.035, float(place)),
            textcoords="axes fraction",
            va="center",
            fontsize=9.5,
            color=curve.colour,
            annotation_clip=False,
            arrowprops=arrow if reaches_edge else None,
        )


def spread(places: NDArray[np.float64], gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Move places on a line as little as need be so that neighbours are ``gap`` apart, in their old order.

    Parameters
    ----------
    places
        Where each label would like to be, shape (n,).
    gap
        The least distance; made smaller when ``low`` to ``high`` cannot hold all.
    low, high
        The ends of the line.

    Returns
    -------
    NDArray
        New places, shape (n,). Least squares among places in this order (pool adjacent violators).
    """
    count = places.size
    if count > 1:
        gap = min(gap, (high - low) / (count - 1))
    order = np.argsort(places, kind="stable")
    shifts = gap * np.arange(count)
    pools: list[tuple[float, int]] = []  # mean and size of runs that move together
    for wanted in places[order] - shifts:
        mean, size = float(wanted), 1
        while pools and pools[-1][0] > mean:
            last, members = pools.pop()
            mean, size = (mean * size + last * members) / (size + members), size + members
        pools.append((mean, size))
    spaced = np.concatenate([np.full(size, mean) for mean, size in pools]) if pools else np.empty(0)
    moved = np.empty(count)
    moved[order] = np.clip(spaced, low, high - gap * max(0, count - 1)) + shifts
    return moved
