"""The report's figures, as SVG with fixed ids and no date, so that equal results give equal files."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from metrics import HEADLINE, NAMES
from registry import VARIANTS, all_budgets_of
from results import CARREL, FAST, Results

COLOURS = dict(
    zip(
        (variant.key for variant in VARIANTS),
        ("#0b6e4f", "#74b49b", "#d1495b", "#edae49", "#30638e", "#7fa8c9", "#8d5a97", "#777777"),
        strict=True,
    )
)
LABELS = {variant.key: variant.label for variant in VARIANTS}
mpl.rcParams.update({"svg.hashsalt": "carrel", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def save(path: Path) -> None:
    """Write the current figure and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close()


def recall_against_tokens(results: Results, pairs: list[tuple[str, str]], path: Path) -> None:
    """Draw one panel a (corpus, question set): a line over the budgets, a hollow point at the own default."""
    columns = min(4, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3.1 * columns, 2.6 * rows), squeeze=False)
    panels = list(grid.flat)
    for axes, (corpus, name) in zip(panels, pairs, strict=False):
        recall_panel(axes, results, corpus, name)
    for axes in panels[len(pairs) :]:
        axes.set_visible(False)
    lines = {line.get_label(): line for axes in panels[: len(pairs)] for line in axes.get_lines()}
    shown = {LABELS[key]: line for key in LABELS if (line := lines.get(LABELS[key]))}
    figure.legend(shown.values(), shown.keys(), loc="lower center", ncols=len(shown), frameon=False)
    figure.tight_layout(rect=(0, 0.3 / (2.6 * rows), 1, 1))
    save(path)


def recall_panel(axes: Axes, results: Results, corpus: str, name: str) -> None:
    """Draw every variant's headline score against the tokens of its contexts."""
    metric = HEADLINE[name]
    for variant in results.variants:
        key = variant.key
        at = [
            (results.mean(key, corpus, name, str(b), "tokens"), results.mean(key, corpus, name, str(b), metric))
            for b in all_budgets_of(name)
        ]
        known = [point for point in at if None not in point]
        if not known:
            continue
        width = 2.4 if key == CARREL else 1.2
        axes.plot(*zip(*known, strict=True), color=COLOURS[key], label=variant.label, linewidth=width, marker=".")
        tokens = results.mean(key, corpus, name, "default", "tokens")
        axes.plot(
            [tokens], [results.mean(key, corpus, name, "default", metric)],
            color=COLOURS[key], marker="o", fillstyle="none", linestyle="none",
        )  # fmt: skip
    axes.set_title(name)
    axes.set_xlabel("tokens")
    axes.set_ylabel(NAMES[metric])
    token_axis(axes, 6000)


def token_axis(axes: Axes, last: int) -> None:
    """Make the horizontal axis one of tokens, on a log scale."""
    axes.set_xscale("log")
    axes.set_xticks([100, 200, 500, 1000, 2000, 5000], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(80, last)


READER_PANELS = (("squad", "squad"), ("nq", "nq"), ("whole", "squad"), ("musique", "musique"), ("spans", "spans"))
READER_LINES = (
    (CARREL, "{}", "Carrel", "#0b6e4f", "-", "o"),
    (CARREL, "ablations/no_prune/{}", "not pruned", "#0b6e4f", ":", "s"),
    (FAST, "{}", "fast: retrieval alone", "#74b49b", "-", "o"),
)


def reader_recall(results: Results, path: Path) -> bool:
    """Draw what the reader adds: Carrel, not pruned, fast, and at each budget the best peer; False without results."""
    pairs = [pair for pair in READER_PANELS if results.question_set(CARREL, *pair)]
    if not pairs:
        return False
    columns = min(3, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3.3 * columns, 2.7 * rows), squeeze=False)
    panels = list(grid.flat)
    for axes, (corpus, name) in zip(panels, pairs, strict=False):
        reader_panel(axes, results, corpus, name)
    for axes in panels[len(pairs) :]:
        axes.set_visible(False)
    lines = {line.get_label(): line for axes in panels[: len(pairs)] for line in axes.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="lower center", ncols=len(lines), frameon=False)
    figure.tight_layout(rect=(0, 0.3 / (2.7 * rows), 1, 1))
    save(path)
    return True


def reader_panel(axes: Axes, results: Results, corpus: str, name: str) -> None:
    """Draw the lines of one question set."""
    metric = HEADLINE[name]
    budgets = [str(budget) for budget in all_budgets_of(name)]
    for key, pattern, label, colour, line, marker in READER_LINES:
        places = [pattern.format(budget) for budget in budgets]
        draw(axes, results, [(key, place) for place in places], corpus, name, label, colour, line, marker)
    best = [(results.best_peer(corpus, name, budget, metric), budget) for budget in budgets]
    known = [(key, budget) for key, budget in best if key is not None]
    draw(axes, results, known, corpus, name, "best peer at each budget", "#777777", "--", "^")
    axes.set_title(f"{name}, whole collection" if corpus == "whole" else name)
    axes.set_xlabel("tokens of context")
    axes.set_ylabel(NAMES[metric])
    token_axis(axes, 2500)


def draw(
    axes: Axes,
    results: Results,
    places: list[tuple[str, str]],
    corpus: str,
    name: str,
    label: str,
    colour: str,
    line: str,
    marker: str,
) -> None:
    """Draw one line through the (variant, place in its results) that were measured."""
    points = [
        [results.mean(key, corpus, name, place, field) for field in ("tokens", HEADLINE[name])] for key, place in places
    ]
    known = [point for point in points if None not in point]
    if known:
        axes.plot(*zip(*known, strict=True), color=colour, linestyle=line, marker=marker, markersize=4, label=label)


def bars(results: Results, task: str, field: str, label: str, path: Path) -> bool:
    """Draw a horizontal bar a variant: the median, with a line from the least to the greatest."""
    measured = {v.key: values for v in results.variants if (values := results.rounds(task, v.key, field))}
    if not measured:
        return False
    keys = list(reversed(measured))
    medians = [median(measured[key]) for key in keys]
    below = [m - min(measured[key]) for key, m in zip(keys, medians, strict=True)]
    above = [max(measured[key]) - m for key, m in zip(keys, medians, strict=True)]
    plt.figure(figsize=(6, 0.38 * len(keys) + 0.7))
    colours = [COLOURS[key] for key in keys]
    plt.barh([LABELS[key] for key in keys], medians, xerr=[below, above], color=colours, capsize=2)
    plt.xlabel(label)
    save(path)
    return True
