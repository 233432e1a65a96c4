"""The page docs/evaluation.md and its figures, from the results alone: every figure in the text is computed here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from study_adaptive import KINDS, METRICS, SKIP_HEAD, Comparison, Study
from study_results import Table, read_json
from study_text import CAPTIONS, INTRODUCTION, LIMITS, METHOD, OWN_DATA, SETS_MEASURED, WHY

from carrel.evaluation.bootstrap import Interval
from carrel.evaluation.results import Scores

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
OTHERS = ("dense", "lexical", "rank_fused")
COMPARED_AT = (250, 500, 1000)


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
    page = "\n\n".join(part for part in sections(tables, studies) if part) + "\n"
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


def pairs(studies: Sequence[Study]) -> list[list[Study]]:
    """The studies of each set together, one for each kind of score."""
    return [[study for study in studies if study.title == title] for title in dict.fromkeys(s.title for s in studies)]


def sections(tables: dict[str, Table], studies: Sequence[Study]) -> Iterable[str]:
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
    yield "### Is the default the right one?"
    yield difference_text([(table, name) for name, table in alone.items()])
    yield difference_table([(table, name) for name, table in alone.items()])
    if "whole" in tables:
        table = tables["whole"]
        corpora = [name for name in HEADLINE if name in table.evaluation.corpora]
        yield "## The whole collection"
        yield CAPTIONS["whole"].format(documents=f"{table.evaluation.manifest.documents:,}")
        yield "![Recall against tokens, the whole collection](assets/evaluation-whole.svg)"
        for name in corpora:
            yield score_table(table, name)
        yield ranking_table({name: table for name in corpora})
        yield difference_text([(table, name) for name in corpora])
        yield difference_table([(table, name) for name in corpora])
    if studies:
        yield from adaptive_sections(studies)
    yield "## Limits"
    yield f"{LIMITS}\n{chance_text(tables)}".rstrip()
    yield "## Where the figures come from"
    yield provenance(tables)


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
    names = ("first", "default", *OTHERS)
    columns = []
    for corpus, table in tables.items():
        cells = score_column(table, corpus, "ndcg@10", None)
        columns.append([cells[table.evaluation.configurations.index(name)] for name in names])
    rows = [(name, *cells) for name, cells in zip(names, zip(*columns, strict=True), strict=True)]
    title = "**nDCG@10 of the ranking, times 100** (before any budget; a document stands at its best passage)"
    return f"{title}\n\n" + markdown(("", *tables), rows)


def difference_table(parts: Sequence[tuple[Table, str]]) -> str:
    rows = []
    for table, corpus in parts:
        for other in OTHERS:
            found = [difference(table, corpus, other, budget) for budget in COMPARED_AT]
            rows.append((corpus, other, *(signed(interval) for interval in found)))
    title = "**Default less the other, in points** (paired 95 % intervals; bold where zero is outside)"
    return f"{title}\n\n" + markdown(("Set", "Other", *(f"{budget:,}" for budget in COMPARED_AT)), rows)


def difference(table: Table, corpus: str, other: str, budget: int) -> Interval:
    interval = table.evaluation.select(corpus).difference("default", other, HEADLINE[corpus], budget)
    assert interval is not None
    return interval


def difference_text(parts: Sequence[tuple[Table, str]]) -> str:
    """How often the default is ahead, behind or level, and every place where it is behind."""
    lines = []
    for other in OTHERS:
        found = {(c, budget): difference(table, c, other, budget) for table, c in parts for budget in COMPARED_AT}
        ahead = [place for place, interval in found.items() if interval.low > 0]
        behind = [place for place, interval in found.items() if interval.high < 0]
        line = f"- Against `{other}`: better in {len(ahead)} of {len(found)} comparisons, worse in {len(behind)}, "
        line += f"not told apart in {len(found) - len(ahead) - len(behind)}."
        if behind:
            line += " Worse on " + listed(f"{corpus} at {budget:,}" for corpus, budget in behind) + "."
        lines.append(line)
    budgets = listed(f"{budget:,}" for budget in COMPARED_AT)
    return "\n".join([f"The default (`fused`) beside each other retriever, at {budgets} tokens:\n", *lines])


def listed(items: Iterable[str]) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def adaptive_sections(studies: Sequence[Study]) -> Iterable[str]:
    yield "## Adaptive-k beside a fixed k"
    yield CAPTIONS["adaptive"]
    yield verdict(studies)
    yield "![Adaptive-k less fixed k at equal tokens](assets/evaluation-adaptive-gain.svg)"
    yield CAPTIONS["gain"]
    yield gain_table(studies)
    yield "The curves, with the scores of the default (fused) and of dense retrieval:"
    yield "![Recall against tokens on fused scores](assets/evaluation-adaptive-fused.svg)"
    yield "![Recall against tokens on dense scores](assets/evaluation-adaptive-dense.svg)"
    yield paper_table(studies)
    yield "### Why"
    yield why_text(studies)
    yield why_table(studies)


def all_comparisons(studies: Sequence[Study], head: bool) -> list[tuple[Study, Comparison]]:
    return [(study, found) for study in studies for found in study.comparisons(head=head)]


def verdict(studies: Sequence[Study]) -> str:
    """Wins, ties and losses, counted."""
    lines = []
    for head in (False, True):
        found = all_comparisons(studies, head)
        if not found:
            continue
        wins = [(s, c) for s, c in found if c.difference.low > 0]
        losses = [(s, c) for s, c in found if c.difference.high < 0]
        what = f"With the best {100 * SKIP_HEAD:g} % skipped (musique)" if head else "With no head skipped"
        line = f"- {what}: adaptive-k wins {len(wins)} of {len(found)} comparisons, loses {len(losses)}, "
        line += f"ties {len(found) - len(wins) - len(losses)}."
        for name, some in (("Wins", wins), ("Losses", losses)):
            if some:
                line += f" {name}: " + "; ".join(grouped(some)) + "."
        lines.append(line)
    return "\n".join(lines)


def grouped(found: Sequence[tuple[Study, Comparison]]) -> list[str]:
    """One text a study: its buffers and the range of the differences."""
    texts = []
    for study in dict.fromkeys((s.title, str(s.content["kind"])) for s, _ in found):
        mine = [c for s, c in found if (s.title, s.content["kind"]) == study]
        means = [c.difference.mean for c in mine]
        buffers = listed("+" + c.name.split(",")[0].removeprefix("buffer ") for c in mine)
        span = number(means[0]) if len(means) == 1 else f"{number(min(means))} to {number(max(means))}"
        texts.append(f"{study[0]}, {study[1]} scores, buffer {buffers} ({span} points)")
    return texts


def gain_table(studies: Sequence[Study]) -> str:
    rows = []
    for study in studies:
        for head in (False, True):
            found = list(study.comparisons(head=head))
            if found:
                name = study.title + (f", best {100 * SKIP_HEAD:g} % skipped" if head else "")
                rows.append((name, str(study.content["kind"]), *(signed(c.difference) for c in found)))
    buffers = [name.removeprefix("buffer ") for name in studies[0].adaptive()]
    title = "**Adaptive-k less fixed k at equal mean tokens, in points, by buffer**"
    return f"{title}\n\n" + markdown(("Questions", "Scores", *(f"+{buffer}" for buffer in buffers)), rows)


def paper_table(studies: Sequence[Study]) -> str:
    rows = []
    for study in studies:
        found = study.compare("buffer 5")
        if found is None:
            continue
        ideal = study.content["oracle"]
        rows.append(
            (
                study.title,
                str(study.content["kind"]),
                f"{found.passages:.1f}",
                f"{found.tokens:,.0f}",
                f"{100 * found.recall:.1f}",
                f"{found.equal_k:.1f}",
                f"{100 * found.fixed_recall:.1f}",
                f"{100 * ideal['recall']:.1f} at {ideal['tokens']:,.0f}",
            )
        )
    header = ("Questions", "Scores", "Passages", "Tokens", "Recall", "Equal fixed k", "Its recall", "Ideal choice")
    title = "**The paper's setting (buffer 5), the fixed k that spends the same, and an ideal choice**"
    return f"{title}\n\n{markdown(header, rows)}\n\n{CAPTIONS['ideal']}"


def why_text(studies: Sequence[Study]) -> str:
    first = np.array([(study.ranks == 1).mean() for study in studies])
    correlations = [correlation(study) for study in studies]
    factoid = [study for study in studies if METRICS[study.content["corpus"]] == "answer"]
    ratio = np.median([np.median(study.gaps("gap") / np.maximum(study.gaps("second"), 1e-4)) for study in studies])
    enough = np.array([(study.needed() == 1).sum() / np.isfinite(study.needed()).sum() for study in factoid])
    return WHY.format(
        first_low=f"{100 * first.min():.0f}",
        first_high=f"{100 * first.max():.0f}",
        ratio=f"{ratio:.1f}",
        low=f"{min(correlations):.2f}".replace("-", "−"),
        high=f"{max(correlations):.2f}".replace("-", "−"),
        enough_low=f"{100 * enough.min():.0f}",
        enough_high=f"{100 * enough.max():.0f}",
    )


def correlation(study: Study) -> float:
    """Spearman's rank correlation of where the drop is and how many passages were needed, where any fixed k did."""
    needed = study.needed()
    known = np.isfinite(needed)
    if np.unique(study.ranks[known]).size < 2 or np.unique(needed[known]).size < 2:
        return 0.0  # one of them never changes, so it says nothing about the other
    return float(np.corrcoef(middle_ranks(study.ranks[known]), middle_ranks(needed[known]))[0, 1])


def middle_ranks(values: Scores) -> Scores:
    """The rank of each value, ties sharing the middle of theirs."""
    ordered = np.sort(values)
    first, last = np.searchsorted(ordered, values, side="left"), np.searchsorted(ordered, values, side="right")
    return np.asarray((first + last - 1) / 2, dtype=np.float64)


def why_table(studies: Sequence[Study]) -> str:
    rows = []
    for study in studies:
        ranks, needed = study.ranks, study.needed()
        one, more = ranks[needed == 1], ranks[needed > 1]
        rows.append(
            (
                study.title,
                str(study.content["kind"]),
                f"{100 * (ranks == 1).mean():.0f} %",
                f"{100 * (ranks > 20).mean():.0f} %",
                f"{np.median(study.gaps('gap')):.3f}",
                f"{np.median(study.gaps('second')):.3f}",
                f"{100 * (one == 1).mean():.0f} %" if one.size else "–",
                f"{100 * (more == 1).mean():.0f} %" if more.size else "–",
                f"{correlation(study):.2f}".replace("-", "−"),
            )
        )
    header = (
        "Questions", "Scores", "Drop at rank 1", "after 20", "Largest drop", "Second",
        "At 1, one needed", "At 1, more needed", "Correlation",
    )  # fmt: skip
    return f"{markdown(header, rows)}\n\n{CAPTIONS['why']}"


def chance_text(tables: dict[str, Table]) -> str:
    """How often an answer is found outside the gold documents."""
    parts = []
    for name in ("squad", "nq"):
        if name in tables:
            evaluation = tables[name].evaluation
            found = [float(np.nanmean(evaluation.values("default", m, 1000))) for m in ("answer", "answer_in_gold")]
            parts.append(f"{100 * (found[0] - found[1]):.1f} points on {name}")
    return (
        "- An answer counts wherever it stands in the context, also outside the gold document: by chance, or because "
        f"another document answers the question, too. At 1,000 tokens that is {listed(parts)} of the default's recall."
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
