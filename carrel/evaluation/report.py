"""Results for people: a table for the terminal, Markdown, and (in `plots`) figures.

In every column the best mean is marked, and with it every row that a paired bootstrap cannot tell from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from carrel.evaluation.metrics import percentiles
from carrel.evaluation.plots import plot
from carrel.evaluation.results import Evaluation
from carrel.evaluation.scoring import CONTEXT_METRICS, ranking_metrics

__all__ = ["markdown", "plot", "table"]

_NOT_SCORED = "-"
_ALL = tuple(metric for metric in CONTEXT_METRICS if metric not in ("tokens", "seconds"))
_HEADLINES = ("answer", "gold_recall", "span_recall", "span_iou")
_FOOTNOTE = (
    "± half of the 95 % bootstrap interval over questions. Bold: the best of a column, "
    "and what a paired bootstrap cannot tell from it."
)
_LATENCY = (
    "Latency in milliseconds, one question at a time "
    "(what the reader has read for the search it does not read again for the contexts)"
)


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    is_best: bool = False


@dataclass(frozen=True, slots=True)
class _Section:
    """A table: a title, the column titles after the first, and a row of cells for each configuration."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[_Cell, ...]], ...]


def table(evaluation: Evaluation) -> Group:
    """Draw the main results for a terminal, as something that `rich.console.Console.print` takes.

    Recall at every budget, the tokens used, the ranking and the latency; what no question asks for is
    left out.
    """
    parts: list[Table | Text] = [Text(_headline(evaluation), style="bold")]
    for section in _sections(evaluation, _HEADLINES):
        parts += [Text(f"\n{section.title}", style="italic"), _rich_table(section)]
    return Group(*parts, Text(f"\n{_FOOTNOTE}", style="dim"))


def markdown(evaluation: Evaluation) -> str:
    """Write all results as Markdown, with where they come from."""
    parts = [f"## {_headline(evaluation)}", _provenance(evaluation)]
    parts += [_markdown_table(section) for section in _sections(evaluation, _ALL)]
    return "\n\n".join([*parts, _FOOTNOTE]) + "\n"


def _headline(evaluation: Evaluation) -> str:
    manifest = evaluation.manifest
    return f"{manifest.dataset}: {len(evaluation.questions):,} questions over {manifest.documents:,} documents"


def _provenance(evaluation: Evaluation) -> str:
    manifest = evaluation.manifest
    encoders = sorted({str(library.get("encoder", "")) for library in manifest.libraries.values()})
    versions = ", ".join(f"{package} {version}" for package, version in manifest.versions.items())
    return (
        f"Measured {manifest.date} on {manifest.platform} with {manifest.cpu_count} CPUs; {versions}. "
        f"Tokens counted with `{manifest.tokenizer}`; encoder `{'`, `'.join(encoders)}`; seed {manifest.seed}."
    )


def _sections(evaluation: Evaluation, metrics: Sequence[str]) -> list[_Section]:
    sections = [_budget_section(evaluation, metric) for metric in metrics if evaluation.is_scored(metric)]
    sections.append(_tokens_section(evaluation))
    ranking = [metric for metric in ranking_metrics(evaluation.k_values) if metric != "search_seconds"]
    scored = [metric for metric in ranking if evaluation.is_scored(metric)]
    if scored:
        sections.append(_ranking_section(evaluation, scored))
    if len(evaluation.corpora) > 1:
        sections += _corpus_sections(evaluation)
    sections.append(_latency_section(evaluation))
    return sections


def _budget_section(evaluation: Evaluation, metric: str) -> _Section:
    columns = [_score_column(evaluation, metric, budget) for budget in evaluation.budgets]
    titles = tuple(f"{budget:,}" for budget in evaluation.budgets)
    return _section(evaluation, f"{CONTEXT_METRICS[metric]}, by token budget", titles, columns)


def _ranking_section(evaluation: Evaluation, metrics: Sequence[str]) -> _Section:
    titles = ranking_metrics(evaluation.k_values)
    columns = [_score_column(evaluation, metric, None) for metric in metrics]
    return _section(evaluation, "Ranking of gold documents", tuple(titles[metric] for metric in metrics), columns)


def _corpus_sections(evaluation: Evaluation) -> list[_Section]:
    """Show the sets of a collection side by side at the middle budget."""
    budget = evaluation.budgets[len(evaluation.budgets) // 2]
    parts = {corpus: evaluation.select(corpus) for corpus in evaluation.corpora}
    sections = []
    for metric in ("answer", "all_support", "span_recall"):
        scored = {corpus: part for corpus, part in parts.items() if part.is_scored(metric)}
        if len(scored) > 1:
            columns = [_score_column(part, metric, budget) for part in scored.values()]
            title = f"{CONTEXT_METRICS[metric]} at {budget:,} tokens, by question set"
            sections.append(_section(evaluation, title, tuple(scored), columns))
    return sections


def _tokens_section(evaluation: Evaluation) -> _Section:
    columns = [
        [_Cell(f"{np.mean(evaluation.values(name, 'tokens', budget)):,.0f}") for name in evaluation.configurations]
        for budget in evaluation.budgets
    ]
    titles = tuple(f"{budget:,}" for budget in evaluation.budgets)
    return _section(evaluation, "Mean tokens used, by token budget", titles, columns)


def _latency_section(evaluation: Evaluation) -> _Section:
    """Show the latency of searches, and of contexts at the middle budget, in milliseconds."""
    budget = evaluation.budgets[len(evaluation.budgets) // 2]
    columns: list[list[_Cell]] = []
    titles: list[str] = []
    for what, metric, at in (("search", "search_seconds", None), (f"context {budget:,}", "seconds", budget)):
        found = [percentiles(evaluation.values(name, metric, at)) for name in evaluation.configurations]
        for point in found[0]:
            titles.append(f"{what} p{point:g}")
            columns.append([_Cell(f"{1000 * values[point]:.1f}") for values in found])
    return _section(evaluation, _LATENCY, tuple(titles), columns)


def _section(
    evaluation: Evaluation, title: str, titles: tuple[str, ...], columns: Sequence[Sequence[_Cell]]
) -> _Section:
    rows = tuple(zip(evaluation.configurations, zip(*columns, strict=True), strict=True))
    return _Section(title, titles, rows)


def _score_column(evaluation: Evaluation, metric: str, budget: int | None) -> list[_Cell]:
    """Return a cell for each configuration, the best and its equals marked."""
    names = evaluation.configurations
    intervals = {name: evaluation.interval(name, metric, budget) for name in names}
    means = {name: interval.mean for name, interval in intervals.items() if interval is not None}
    best = max(means, key=means.__getitem__, default=None)
    cells = []
    for name in names:
        interval = intervals[name]
        if interval is None or best is None:
            cells.append(_Cell(_NOT_SCORED))
            continue
        lag = evaluation.difference(name, best, metric, budget)
        is_best = len(names) > 1 and (name == best or (lag is not None and not lag.excludes_zero))
        cells.append(_Cell(f"{interval.mean:.3f} ±{interval.half_width:.3f}", is_best))
    return cells


def _rich_table(section: _Section) -> Table:
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    drawn.add_column("configuration", no_wrap=True)
    for column in section.columns:
        widest = max(len(word) for word in column.split())  # in a narrow terminal intervals go below means
        drawn.add_column(column, justify="right", min_width=widest)
    for name, cells in section.rows:
        drawn.add_row(Text(name), *(Text(cell.text, style="bold" if cell.is_best else "") for cell in cells))
    return drawn


def _markdown_table(section: _Section) -> str:
    lines = [
        f"| configuration | {' | '.join(section.columns)} |",
        f"|---|{'---:|' * len(section.columns)}",
    ]
    for name, cells in section.rows:
        marked = (f"**{cell.text}**" if cell.is_best else cell.text for cell in cells)
        lines.append(f"| {name} | {' | '.join(marked)} |")
    return f"### {section.title}\n\n" + "\n".join(lines)
