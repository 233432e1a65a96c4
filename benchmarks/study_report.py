"""The page docs/evaluation.md and its figures, from the results alone: every figure in the text is computed here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study_adaptive import KINDS, Study
from study_adaptive_report import adaptive_sections
from study_format import listed, markdown, points, signed
from study_results import Table, read_json
from study_text import CAPTIONS, INTRODUCTION, LIMITS, METHOD, OWN_DATA, SETS_MEASURED

from carrel.evaluation.bootstrap import Interval

SETS = ("squad", "nq", "musique", "hotpotqa", "spans", "scifact")
HEADLINE = {
    "squad": "answer",
    "nq": "answer",
    "musique": "all_support",
    "hotpotqa": "all_support",
    "spans": "span_recall",
    "scifact": "gold_recall",
    "qmsum": "span_recall",
    "squality": "gold_recall",
}
NAMES = {
    "answer": "answer recall",
    "all_support": "all supporting documents",
    "span_recall": "recall of gold span tokens",
    "gold_recall": "recall of gold documents",
}
RETRIEVERS = ("fast", ("dense", "lexical", "rank_fused"))
READING = ("default", ("fast", "no_rerank", "no_prune", "thorough"))
"""What is compared: one row beside others."""
RANKED = ("first", "fast", "dense", "lexical", "rank_fused", "default", "thorough")
COMPARED_AT = (128, 250, 500, 1000)


def write_report(results: Path, docs: Path) -> int:
    """Write the page and the figures."""
    tables = {path.stem: Table.read(path) for path in sorted(results.glob("*.json")) if "adaptive" not in path.name}
    studies = read_studies(results)
    if not tables:
        sys.stderr.write(f"there are no results in {results}\n")
        return 1
    from study_plots import curves, gains, recall

    alone = [(name, name, tables[name]) for name in SETS if name in tables]
    whole = [(name, name, tables["whole"]) for name in HEADLINE] if "whole" in tables else []
    assets = docs / "assets"
    recall([(f"{s}: {NAMES[HEADLINE[s]]}", s, HEADLINE[s], t) for _, s, t in alone], assets / "evaluation-alone.svg")
    if whole:
        panels = [(f"{s}: {NAMES[HEADLINE[s]]}", s, HEADLINE[s], t) for _, s, t in whole]
        recall(panels, assets / "evaluation-whole.svg")
    for kind in KINDS:
        mine = [study for study in studies if study.content["kind"] == kind]
        if mine:
            curves(mine, assets / f"evaluation-adaptive-{kind}.svg")
    if studies:
        gains(pairs(studies), assets / "evaluation-adaptive-gain.svg")
    page = "\n\n".join(part for part in sections(tables, studies, read_savings(results)) if part) + "\n"
    (docs / "evaluation.md").write_text(page, encoding="utf-8")
    sys.stdout.write(f"written: {docs / 'evaluation.md'}\n")
    return 0


def read_studies(results: Path) -> list[Study]:
    """The studies of adaptive-k, those of one set alone first."""
    found = []
    for name in ("squad", "nq", "whole"):
        for kind in KINDS:
            path = results / f"adaptive-{name}-{kind}.json"
            if path.exists():
                found += [Study(content) for content in read_json(path)["studies"]]
    return found


def read_savings(results: Path) -> dict[str, Any]:
    """What each cutoff saves over the whole collection, where that has been measured."""
    path = results / "adaptive-whole-relevance.json"
    savings: dict[str, Any] = read_json(path)["savings"] if path.exists() else {}
    return savings


def pairs(studies: Sequence[Study]) -> list[list[Study]]:
    """The studies of each set together, one for each kind of score."""
    return [[study for study in studies if study.title == title] for title in dict.fromkeys(s.title for s in studies)]


def sections(tables: dict[str, Table], studies: Sequence[Study], savings: dict[str, Any]) -> Iterable[str]:
    yield "# Evaluation"
    yield INTRODUCTION
    yield from (OWN_DATA, METHOD, SETS_MEASURED, sets_table(tables))
    alone = {name: tables[name] for name in SETS if name in tables}
    yield "## Each set alone"
    yield "![Recall against tokens, each set alone](assets/evaluation-alone.svg)"
    yield CAPTIONS["recall"]
    for name, table in alone.items():
        yield score_table(table, name)
    yield ranking_table(alone)
    yield from comparisons([(table, name) for name, table in alone.items()], "each set alone")
    if "whole" in tables:
        table = tables["whole"]
        corpora = [name for name in HEADLINE if name in table.evaluation.corpora]
        yield "## The whole collection"
        yield CAPTIONS["whole"].format(documents=f"{table.evaluation.manifest.documents:,}")
        yield "![Recall against tokens, the whole collection](assets/evaluation-whole.svg)"
        for name in corpora:
            yield score_table(table, name)
        yield ranking_table({name: table for name in corpora})
        yield from comparisons([(table, name) for name in corpora], "the whole collection")
    if studies:
        yield from adaptive_sections(studies, savings)
    yield "## Limits"
    yield f"{LIMITS}\n{chance_text(tables)}".rstrip()
    yield "## Where the figures come from"
    yield provenance(tables)


def sets_table(tables: dict[str, Table]) -> str:
    rows = []
    for name in HEADLINE:
        table = tables.get(name) or tables.get("whole")
        if table is None or name not in table.evaluation.corpora:
            continue
        alone = f"{table.evaluation.manifest.documents:,}" if name in tables else "only in the whole"
        asked = len(table.evaluation.select(name).questions)
        rows.append((f"`{name}`", alone, f"{asked:,}", NAMES[HEADLINE[name]]))
    return markdown(("Set", "Documents", "Questions asked", "Measured by"), rows)


def score_table(table: Table, corpus: str) -> str:
    """The headline score of every configuration at every budget."""
    evaluation, metric = table.evaluation.select(corpus), HEADLINE[corpus]
    columns = [score_column(table, corpus, metric, budget) for budget in evaluation.budgets]
    rows = [(name, *cells) for name, cells in zip(evaluation.configurations, zip(*columns, strict=True), strict=True)]
    title = f"**{corpus}: {NAMES[metric]}, per cent, by token budget**"
    return f"{title}\n\n" + markdown(("", *(f"{budget:,}" for budget in evaluation.budgets)), rows)


def score_column(table: Table, corpus: str, metric: str, budget: int | None) -> list[str]:
    evaluation = table.evaluation.select(corpus)
    found = {name: evaluation.interval(name, metric, budget) for name in evaluation.configurations}
    best = max(found, key=lambda name: -1.0 if found[name] is None else found[name].mean)  # type: ignore[union-attr]
    cells = []
    for name, interval in found.items():
        lag = evaluation.difference(name, best, metric, budget)
        text = "–" if interval is None else points(interval)
        equal = name == best or (lag is not None and not lag.excludes_zero)
        cells.append(f"**{text}**" if equal else text)
    return cells


def ranking_table(tables: dict[str, Table]) -> str:
    """nDCG@10 of every row that ranks differently; a dash where a row was not measured."""
    names = [name for name in RANKED if any(name in table.evaluation.configurations for table in tables.values())]
    columns = []
    for corpus, table in tables.items():
        cells = dict(zip(table.evaluation.configurations, score_column(table, corpus, "ndcg@10", None), strict=True))
        columns.append([cells.get(name, "–") for name in names])
    rows = [(name, *cells) for name, cells in zip(names, zip(*columns, strict=True), strict=True)]
    title = "**nDCG@10 of the ranking, times 100** (before any budget; a document stands at its best passage)"
    return f"{title}\n\n" + markdown(("", *tables), rows)


Parts = Sequence[tuple[Table, str]]


def comparisons(parts: Parts, where: str) -> Iterable[str]:
    """What the reader adds, and how the mix of scores does beside each retriever."""
    for title, (base, others), caption in (
        (f"### What the reader adds, {where}", READING, CAPTIONS["reading"]),
        (f"### Retrieval alone, {where}", RETRIEVERS, CAPTIONS["retrievers"]),
    ):
        known = [other for other in others if any(is_compared(table, base, other) for table, _ in parts)]
        if known:
            yield title
            yield f"{caption}\n\n{difference_text(parts, base, known)}"
            yield difference_table(parts, base, known)


def is_compared(table: Table, base: str, other: str) -> bool:
    return {base, other} <= set(table.evaluation.configurations)


def difference_table(parts: Parts, base: str, others: Sequence[str]) -> str:
    rows = []
    for table, corpus in parts:
        for other in others:
            if is_compared(table, base, other):
                found = [difference(table, corpus, base, other, budget) for budget in COMPARED_AT]
                rows.append((corpus, other, *(signed(interval) for interval in found)))
    title = f"**`{base}` less the other, in points** (paired 95 % intervals; bold where zero is outside)"
    return f"{title}\n\n" + markdown(("Set", "Other", *(f"{budget:,}" for budget in COMPARED_AT)), rows)


def difference(table: Table, corpus: str, base: str, other: str, budget: int) -> Interval:
    interval = table.evaluation.select(corpus).difference(base, other, HEADLINE[corpus], budget)
    assert interval is not None
    return interval


def difference_text(parts: Parts, base: str, others: Sequence[str]) -> str:
    """How often one row is ahead of each other, behind or level, and every place where it is behind."""
    lines = []
    for other in others:
        found = {
            (corpus, budget): difference(table, corpus, base, other, budget)
            for table, corpus in parts
            if is_compared(table, base, other)
            for budget in COMPARED_AT
        }
        ahead = [place for place, interval in found.items() if interval.low > 0]
        behind = [place for place, interval in found.items() if interval.high < 0]
        line = f"- Against `{other}`: better in {len(ahead)} of {len(found)} comparisons, worse in {len(behind)}, "
        line += f"not told apart in {len(found) - len(ahead) - len(behind)}."
        if behind:
            line += " Worse on " + listed(f"{corpus} at {budget:,}" for corpus, budget in behind) + "."
        lines.append(line)
    budgets = listed(f"{budget:,}" for budget in COMPARED_AT)
    return "\n".join([f"`{base}` at {budgets} tokens:\n", *lines])


def chance_text(tables: dict[str, Table]) -> str:
    """How often an answer is found outside the gold documents."""
    parts = []
    for name in ("squad", "nq"):
        if name in tables:
            evaluation = tables[name].evaluation
            row = "default" if "default" in evaluation.configurations else "fast"
            found = [float(np.nanmean(evaluation.values(row, m, 1000))) for m in ("answer", "answer_in_gold")]
            parts.append(f"{100 * (found[0] - found[1]):.1f} points on {name}")
    return (
        "- An answer counts wherever it stands in the context, also outside the gold document: by chance, or because "
        f"another document answers the question, too. At 1,000 tokens that is {listed(parts)} of Carrel's recall."
        if parts
        else ""
    )


def provenance(tables: dict[str, Table]) -> str:
    manifest = next(iter(tables.values())).evaluation.manifest
    versions = ", ".join(f"{package} {version}" for package, version in manifest.versions.items())
    days = sorted({table.evaluation.manifest.date[:10] for table in tables.values()})
    return (
        f"Measured {listed(days)} with {versions}. Tokens counted with `{manifest.tokenizer}`; seed {manifest.seed}. "
        "The scores of every question are in `benchmarks/results/evaluation/`. This page is written from them by "
        "`python benchmarks/study.py --report`."
    )
