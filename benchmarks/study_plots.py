"""The figures of the study, as SVG with fixed ids and no date, so that equal results give equal files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from study_adaptive import FIXED, Study
from study_results import Table

from carrel.evaluation.plots import spread

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, GREY, FAINT = "#222222", "#757575", "#E3E3E3"
BLUE, SKY, ORANGE, GREEN, PURPLE = "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#AA3377"  # Okabe-Ito, Tol
KIND_COLOURS = {"dense": ORANGE, "fused": BLUE, "relevance": GREEN}
LINES = {
    "first": (GREY, ":", "", 1.4),
    "lexical": (GREEN, "-", "^", 1.4),
    "dense": (ORANGE, "-", "s", 1.4),
    "rank_fused": (PURPLE, "-", "D", 1.4),
    "fast": (SKY, "-", "o", 1.8),
    "adaptive": (BLUE, "--", "o", 1.4),
    "default": (BLUE, "-", "o", 2.4),
}
"""Colour, line, marker and width; later ones are drawn above."""
TICKS = (64, 250, 1000, 4000)
mpl.rcParams.update({"svg.hashsalt": "carrel", "font.family": "DejaVu Sans", "font.size": 9.5})


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    plt.close(figure)


def style(axes: Axes) -> None:
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#999999")
    axes.tick_params(length=0, colors=INK, labelsize=8.5)


def recall(panels: Sequence[tuple[str, str, str, Table]], path: Path) -> None:
    """Draw one panel a (title, set, metric, results): what is found against the mean tokens used."""
    rows = -(-len(panels) // 2)
    figure, grid = plt.subplots(rows, 2, figsize=(9.2, 3.15 * rows), squeeze=False)
    for axes, (title, corpus, metric, table) in zip(grid.flat, panels, strict=False):
        recall_panel(axes, table, corpus, metric)
        axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("mean tokens of context (log scale)")
    figure.subplots_adjust(left=0.06, right=0.9, top=1 - 0.32 / (3.15 * rows), bottom=0.55 / (3.15 * rows))
    figure.subplots_adjust(wspace=0.4, hspace=0.33)
    save(figure, path)


def recall_panel(axes: Axes, table: Table, corpus: str, metric: str) -> None:
    evaluation = table.evaluation.select(corpus)
    ends = {}
    for name, (colour, line, marker, width) in LINES.items():
        if name not in evaluation.configurations:
            continue
        tokens = np.array(table.tokens[name][corpus])
        means = np.array([np.nanmean(evaluation.values(name, metric, budget)) for budget in evaluation.budgets])
        low, high = band(table, corpus, name, metric)
        if name in ("default", "fast"):
            axes.fill_between(tokens, low, high, color=colour, alpha=0.12, linewidth=0)
        fill = "white" if name == "adaptive" else colour
        axes.plot(tokens, means, color=colour, linestyle=line, linewidth=width, marker=marker, markersize=3.5, mfc=fill)
        ends[name] = (float(tokens[-1]), float(means[-1]))
    style(axes)
    axes.set_xscale("log", base=2)
    axes.set_xlim(45, 4400)
    axes.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
    axes.set_xticks([], minor=True)
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    label(axes, ends)


def band(table: Table, corpus: str, name: str, metric: str) -> tuple[list[float], list[float]]:
    evaluation = table.evaluation.select(corpus)
    found = [evaluation.interval(name, metric, budget, resamples=1000) for budget in evaluation.budgets]
    known = [interval for interval in found if interval is not None]
    return [interval.low for interval in known], [interval.high for interval in known]


def label(axes: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """Write the names in their colours beside the ends of the lines; adaptive-k ends inside the panel."""
    names = sorted((name for name in ends if name != "adaptive"), key=lambda name: ends[name][1])
    places = spread(np.array([(ends[name][1] + 0.02) / 1.04 for name in names]), 0.088, 0.02, 0.98)
    for name, place in zip(names, places, strict=True):
        colour = LINES[name][0]
        axes.annotate(
            name,
            xy=ends[name],
            xytext=(1.05, float(place)),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colour,
            fontweight="bold" if name == "default" else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "relpos": (0, 0.5)},
        )
    if "adaptive" not in ends:
        return
    axes.annotate(
        "adaptive",
        xy=ends["adaptive"],
        xytext=(4, -9),
        textcoords="offset points",
        va="top",
        fontsize=9,
        color=BLUE,
        style="italic",
    )


def curves(studies: Sequence[Study], path: Path) -> None:
    """Draw fixed k and adaptive-k against mean tokens, and in the last panel where the largest drop falls."""
    rows = -(-(len(studies) + 1) // 2)
    figure, grid = plt.subplots(rows, 2, figsize=(9.2, 3.15 * rows), squeeze=False)
    panels = list(grid.flat)
    for axes, study in zip(panels, studies, strict=False):
        curve_panel(axes, study)
    drops_panel(panels[len(studies)], studies)
    for axes in panels[len(studies) + 1 :]:
        axes.set_visible(False)
    figure.subplots_adjust(left=0.075, right=0.97, top=1 - 0.32 / (3.15 * rows), bottom=0.55 / (3.15 * rows))
    figure.subplots_adjust(wspace=0.27, hspace=0.5)
    save(figure, path)


def curve_panel(axes: Axes, study: Study) -> None:
    fixed = study.points([f"fixed {k}" for k in FIXED])
    axes.plot(fixed[:, 0], fixed[:, 1], color=GREY, linewidth=1.6, marker="o", markersize=4, zorder=2)
    for k, (tokens, mean) in zip(FIXED, fixed, strict=True):
        axes.annotate(str(k), (tokens, mean), (0, -13), textcoords="offset points", ha="center", fontsize=8, color=GREY)
    for head, colour, marker in ((False, BLUE, "s"), (True, ORANGE, "^")):
        names = study.adaptive(head=head)
        if names:
            points = study.points(names)
            axes.plot(*points.T, color=colour, linestyle="none", marker=marker, markersize=5, zorder=3)
            for index in (0, len(names) - 1):
                name = names[index].split(",")[0].removeprefix("buffer ")
                axes.annotate(
                    f"+{name}", points[index], (0, 6), textcoords="offset points", ha="center", fontsize=8, color=colour
                )
    if study.thresholds():
        axes.plot(
            *study.points(study.thresholds()).T, color=GREEN, linestyle="none", marker="D", markersize=4, zorder=3
        )
    axes.set_title(study.title, loc="left", fontsize=10.5, color=INK)
    style(axes)
    axes.set_xscale("log", base=2)
    ticks = [100, 250, 500, 1000, 2000, 4000]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("mean tokens of context (log scale)", fontsize=8.5, labelpad=1)
    low, high = float(fixed[:, 1].min()), float(fixed[:, 1].max())
    low = min(low, float(study.points(study.adaptive())[:, 1].min()))
    height = max(high - low, 0.05)
    axes.set_ylim(low - 0.16 * height, high + 0.12 * height)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    notes = [("fixed k", GREY), ("adaptive-k, +buffer", BLUE)]
    notes += [("the same, best 5 % skipped", ORANGE)] if study.has_head else []
    notes += [("relevance of at least 0.02 to 0.5", GREEN)] if study.thresholds() else []
    for line, (text, colour) in enumerate(notes):
        place = 0.06 + 0.085 * (len(notes) - 1 - line)
        axes.text(0.98, place, text, transform=axes.transAxes, ha="right", color=colour)


def drops_panel(axes: Axes, studies: Sequence[Study]) -> None:
    """Draw for each set the share of questions whose largest drop is after rank 1, 2, 3 and so on."""
    groups = (("1", 1, 1), ("2", 2, 2), ("3-5", 3, 5), ("6-20", 6, 20), (">20", 21, 10_000))
    shades = (BLUE, "#4A97C9", "#8FC0E0", "#C9DFEE", "#E8E8E8")
    for row, study in enumerate(studies):
        left = 0.0
        for (name, first, last), shade in zip(groups, shades, strict=True):
            share = float(((study.ranks >= first) & (study.ranks <= last)).mean())
            axes.barh(row, share, left=left, color=shade, height=0.66, edgecolor="white", linewidth=0.8)
            middle = left + share / 2
            if share >= 0.08:
                ink = "white" if shade == BLUE else INK
                axes.text(middle, row, f"{100 * share:.0f} %", ha="center", va="center", fontsize=8, color=ink)
            if row == 0 and share >= 0.05:
                axes.text(middle, -0.47, name, ha="center", va="bottom", fontsize=8.5, color=GREY)
            left += share
    axes.set_title("Where the largest drop is: after rank ...", loc="left", fontsize=10.5, color=INK, pad=12)
    axes.set_yticks(range(len(studies)), [study.short.replace(", ", ",\n") for study in studies])
    axes.set_ylim(len(studies) - 0.5, -0.8)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, colors=INK, labelsize=8.5)


def gains(pairs: Sequence[Sequence[Study]], path: Path) -> None:
    """Draw adaptive-k less fixed k at equal mean tokens against the buffer, with intervals; one panel a set."""
    rows = -(-len(pairs) // 2)
    figure, grid = plt.subplots(rows, 2, figsize=(9.2, 2.7 * rows), squeeze=False, sharey=True)
    panels = list(grid.flat)
    for axes, studies in zip(panels, pairs, strict=False):
        gain_panel(axes, studies)
    for axes in panels[len(pairs) :]:
        axes.set_visible(False)
    figure.subplots_adjust(left=0.08, right=0.97, top=1 - 0.32 / (2.7 * rows), bottom=0.55 / (2.7 * rows))
    figure.subplots_adjust(wspace=0.12, hspace=0.5)
    save(figure, path)


def gain_panel(axes: Axes, studies: Sequence[Study]) -> None:
    axes.axhline(0, color=INK, linewidth=0.9, zorder=1)
    series = [(study, head) for study in studies for head in (False, True) if study.adaptive(head=head)]
    for index, (study, head) in enumerate(series):
        colour = KIND_COLOURS[study.content["kind"]]
        shift = 0.16 * (index - (len(series) - 1) / 2)
        for place, name in enumerate(study.adaptive(head=head)):
            found = study.compare(name)
            if found is None:
                continue
            gap = found.difference
            x = place + shift
            axes.plot([x, x], [100 * gap.low, 100 * gap.high], color=colour, linewidth=1.3)
            marker = "^" if head else "o"
            fill = colour if gap.excludes_zero else "white"
            axes.plot(x, 100 * gap.mean, marker=marker, color=colour, mfc=fill, markersize=5.5, zorder=3)
    buffers = [name.removeprefix("buffer ") for name in studies[0].adaptive()]
    axes.set_xticks(range(len(buffers)), [f"+{buffer}" for buffer in buffers])
    axes.set_title(studies[0].title, loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel("buffer", fontsize=8.5, labelpad=1)
    style(axes)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.0f}" if value else "0")
    shown = {"dense": "dense scores", "fused": "fused scores", "relevance": "relevance"}
    notes = [(shown[kind], KIND_COLOURS[kind]) for kind in dict.fromkeys(str(s.content["kind"]) for s in studies)]
    notes += [("triangles: best 5 % skipped", GREY)] if len(series) > len(studies) else []
    for line, (text, colour) in enumerate(notes):
        axes.text(0.99, 0.05 + 0.1 * (len(notes) - 1 - line), text, transform=axes.transAxes, ha="right", color=colour)
