"""Write `docs/benchmarks.md` and its figures from the results: `python benchmarks/report.py --results DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

from bootstrap import RESAMPLES, paired_difference
from metrics import DEFINITIONS, FURTHER, HEADLINE, NAMES
from plots import bars, reader_recall, recall_against_tokens
from prose import DIFFERENCES, INTRODUCTION, METHOD
from reader_report import reader_section
from reader_targets import outcomes as reader_outcomes
from readme import write as write_readme
from registry import CORPORA, SEED, WHOLE, WHOLE_SETS, all_budgets_of, variant_of
from results import CARREL, FAST, Results
from tables import score, spread, table
from targets import outcomes

HERE = Path(__file__).resolve().parent


def ratio(results: Results, task: str, key: str, field: str) -> str:
    """Show the median over the rounds of a variant's timing divided by that of Carrel fast."""
    ratios = results.ratios(task, key, field)
    return f"{median(ratios):.2f}" if ratios else "-"


def timing_table(results: Results, task: str, fields: dict[str, tuple[str, int]], compared: str) -> str:
    """Return one row a variant: its fields, and the ratio of one of them to that of Carrel fast."""
    rows = [
        [
            variant.label,
            *(spread(results.rounds(task, variant.key, field), digits) for field, (_, digits) in fields.items()),
            ratio(results, task, variant.key, compared),
        ]
        for variant in results.variants
        if results.rounds(task, variant.key, compared)
    ]
    if not rows:
        return "Not measured yet."
    head = ["", *(name for name, _ in fields.values()), f"{fields[compared][0]}, to Carrel fast's"]
    loads = [entry["load_before"] for entry in results.timing[task]["rounds"] if entry["load_before"] is not None]
    counted = f"Rounds: {len(results.timing[task]['rounds'])}; load before them: {spread(loads)}."
    return f"{table(head, rows)}\n\n{counted}"


def timing_section(results: Results, assets: Path) -> list[str]:
    """Return the timings."""
    parts = ["## Time and memory"]
    seconds = {"seconds": ("seconds", 2), "setup_s": ("imports and model", 2), "index_s": ("index", 2)}
    last = {"first_context_s": ("first context", 2), "peak_mb": ("peak MB", 0)}
    tables = (
        ("Ingest of 2,600 passages (`nq`)", "ingest", {
            "documents_per_s": ("documents/s", 1), "tokens_per_s": ("tokens/s", 0), "seconds": ("seconds", 1),
            "total_s": ("with start-up", 1), "save_s": ("saving", 2), "peak_mb": ("peak MB", 0),
        }, "documents_per_s"),
        ("Cold start on a saved index (`nq`)", "cold_load", seconds | last, "seconds"),
        ("Cold start with the ingest of five long articles (`squad`)", "cold_ingest", seconds | last, "seconds"),
        ("Warm latency (`nq`)", "latency", {"p50_ms": ("p50 ms", 1), "p95_ms": ("p95 ms", 1)}, "p50_ms"),
        ("Imports", "import", {
            "package_s": ("package alone, s", 2), "setup_s": ("what the set-up imports, s", 2),
            "python_s": ("python alone, s", 2),
        }, "setup_s"),
    )  # fmt: skip
    figures = {
        "ingest": ("documents_per_s", "documents per second"),
        "cold_load": ("seconds", "seconds to the first context, saved index"),
        "cold_ingest": ("seconds", "seconds to the first context, five articles ingested"),
    }
    for title, task, fields, compared in tables:
        parts += [f"### {title}", timing_table(results, task, fields, compared)]
        if task == "latency":
            parts += search_latency(results)
        if task in figures and bars(results, task, *figures[task], assets / f"{task}.svg"):
            parts.append(f"![{title}](assets/{task}.svg)")
    return parts


def search_latency(results: Results) -> list[str]:
    """Return what Carrel's plain search takes, which is nearer to what the peers' calls do."""
    calls = [call["search"] for call in results.rounds("latency", FAST, "calls") if "search" in call]
    if not calls:
        return []
    shown = [spread([call[field] for call in calls], 1) for field in ("p50_ms", "p95_ms")]
    return [f"`library.search` alone, without selecting, packing and rendering: p50 {shown[0]} ms, p95 {shown[1]} ms."]


def difference_row(results: Results, key: str, corpus: str, name: str, metric: str) -> list[str] | None:
    """Return a variant of Carrel minus the best peer at each budget, with its interval; None without both."""
    cells = []
    for where in map(str, shown_budgets(results, corpus, name)):
        peer = results.best_peer(corpus, name, where, metric)
        ours = results.values(key, corpus, name, where, metric)
        theirs = results.values(peer, corpus, name, where, metric) if peer else None
        if ours is None or theirs is None or len(ours) != len(theirs):
            cells.append("-")
            continue
        found = paired_difference(ours, theirs, SEED)
        cells.append(f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
    return [f"{variant_of(key).label} minus best peer", *cells, "", ""] if set(cells) != {"-"} else None


def shown_budgets(results: Results, corpus: str, name: str) -> list[int]:
    """Return the budgets at which any variant was measured on a question set."""
    known = [s["budgets"] for v in results.variants if (s := results.question_set(v.key, corpus, name))]
    return [budget for budget in all_budgets_of(name) if any(str(budget) in budgets for budgets in known)]


def quality_table(results: Results, corpus: str, name: str, metric: str) -> str | None:
    """Return a metric of every variant at each budget and at its own default."""
    budgets = [str(budget) for budget in shown_budgets(results, corpus, name)]
    rows = []
    for variant in results.variants:
        means = [results.mean(variant.key, corpus, name, budget, metric) for budget in budgets]
        if set(means) == {None}:
            continue
        own = [results.mean(variant.key, corpus, name, "default", m) for m in (metric, "tokens")]
        rows.append([variant.label, *map(score, means), score(own[0]), f"{own[1] or 0:,.0f}"])
        whole = [results.mean(variant.key, corpus, name, f"ablations/no_prune/{budget}", metric) for budget in budgets]
        if set(whole) != {None}:
            rows.append([f"{variant.label}, not pruned", *map(score, whole), "", ""])
    if not rows:
        return None
    for key in (CARREL, FAST):
        if difference := difference_row(results, key, corpus, name, metric):
            rows.append(difference)
    return table(["", *(f"{int(budget):,}" for budget in budgets), "own default", "its tokens"], rows)


def ranking_table(results: Results, corpus: str, name: str) -> str | None:
    """Return the ranking scores of every variant."""
    metrics = ("ndcg@10", "recall@10", "recall@100")
    rows = [
        [v.label, *(score(results.mean(v.key, corpus, name, "ranking", metric)) for metric in metrics)]
        for v in results.variants
        if results.mean(v.key, corpus, name, "ranking", metrics[0]) is not None
    ]
    return table(["", "nDCG@10", "recall@10", "recall@100"], rows) if rows else None


def quality_section(results: Results, title: str, pairs: list[tuple[str, str]], figure: Path) -> list[str]:
    """Return the quality tables of several question sets, with one figure for all of them."""
    parts = [f"## {title}"]
    known = [pair for pair in pairs if any(results.question_set(v.key, *pair) for v in results.variants)]
    if not known:
        return [*parts, "Not measured yet."]
    recall_against_tokens(results, known, figure)
    parts.append(f"![{title}: recall against tokens](assets/{figure.name})")
    for corpus in dict.fromkeys(corpus for corpus, _ in known):
        if missing := [v.label for v in results.variants if results.corpus(v.key, corpus) is None]:
            parts.append(f"Not measured on `{corpus}`: {', '.join(missing)}.")
    for corpus, name in known:
        counts = [s["questions"] for v in results.variants if (s := results.question_set(v.key, corpus, name))]
        parts.append(f"### {name}, {max(counts):,} questions")
        for metric in (HEADLINE[name], *FURTHER.get(name, ())):
            if made := quality_table(results, corpus, name, metric):
                parts += [f"{NAMES[metric][0].upper()}{NAMES[metric][1:]} by tokens of context:", made]
        if made := ranking_table(results, corpus, name):
            parts += ["Ranking of documents:", made]
    return parts


def chunk_section(results: Results) -> list[str]:
    """Return how each peer cuts the whole collection, and how much of it the encoder never sees."""
    rows = []
    for variant in results.variants:
        file = results.corpus(variant.key, WHOLE)
        if file and (chunks := file["chunks"]):
            shares = [f"{chunks['longer_than_256']:.1%}", f"{chunks['tokens_beyond_256']:.1%}"]
            rows.append([variant.label, f"{chunks['count']:,}", f"{chunks['tokens_mean']:.0f}", *shares])
    if not rows:
        return []
    head = ["", "chunks", "mean tokens", "chunks over 256 tokens", "tokens past the 256th"]
    note = "sentence-transformers reads 256 tokens of a chunk, txtai 512; what lies beyond is not in the vector."
    return ["## Chunks of the whole collection", table(head, rows), note]


def target_section(results: Results) -> list[str]:
    """Return the targets with what was measured."""
    words = {True: "met", False: "**not met**", None: "not measured"}
    parts = ["## Targets"]
    for title, found in (
        ("Retrieval alone, which is what the peers do (`Carrel fast`):", outcomes(results)),
        ("With the reader, which is the default (`Carrel`):", reader_outcomes(results)),
    ):
        rows = [[outcome.target, outcome.measured, words[outcome.met]] for outcome in found]
        parts += [title, table(["target", "measured", ""], rows, words=True)]
    return parts


def machine_section(results: Results) -> list[str]:
    """Return the machines, commits, commands and versions behind the results."""
    parts = ["## Machine, versions, commands"]
    for run in results.runs:
        commit = run["commit"] or "no commit"
        machine = f"{run['cores']} cores of {run['cpu']}, {run['memory_gib']} GiB, {run['system']}"
        parts.append(f"- {run['date']}, {commit}, Python {run['python']}, {machine}: `{run['command']}`")
    versions: dict[str, dict[str, str]] = {}
    for run in results.runs:
        versions |= run["versions"]
    shown = ("torch", "transformers", "sentence-transformers", "onnxruntime", "faiss-cpu", "tokenizers")
    named = ("carrel", "langchain", "llama-index", "haystack", "txtai", "rank-bm25")
    rows = [
        [system, ", ".join(f"{n} {v}" for n, v in sorted(found.items()) if n.lower().startswith(named) or n in shown)]
        for system, found in versions.items()
    ]
    parts += ["", table(["environment", "versions"], rows, words=True)] if rows else []
    return ["\n".join(parts)]


def setup_table(results: Results) -> str:
    """Return how each variant is set up."""
    return table(["", "set-up"], [[variant.label, variant.setup] for variant in results.variants], words=True)


def document(results: Results, assets: Path) -> str:
    """Return the whole page and write its figures."""
    whole = [(WHOLE, name) for name in WHOLE_SETS]
    alone = [(corpus, corpus) for corpus in CORPORA if corpus != WHOLE]
    definitions = "\n".join(f"- **{NAMES[metric]}**: {text}." for metric, text in DEFINITIONS.items())
    trial = {limit for limit in results.limits if limit is not None}
    parts = [
        "# Benchmarks",
        "<!-- Written by benchmarks/report.py from benchmarks/results; do not edit by hand. -->",
        INTRODUCTION,
        *(["Each table says how many questions were asked, drawn at random where a set has more."] if trial else []),
        *target_section(results),
        "## Set-ups",
        setup_table(results),
        *quality_section(results, "The whole collection", whole, assets / "recall-whole.svg"),
        *quality_section(results, "Each corpus alone", alone, assets / "recall-alone.svg"),
        *chunk_section(results),
        *reader_section(results),
        *timing_section(results, assets),
        "## How the numbers came about",
        METHOD.format(resamples=f"{RESAMPLES:,}"),
        definitions,
        "## What differs between the systems",
        DIFFERENCES,
        *machine_section(results),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Read the results and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs")
    options = parser.parse_args()
    results = Results(options.results)
    page = document(results, options.docs / "assets")
    reader_recall(results, options.docs / "assets" / "reader-tokens.svg")
    options.docs.mkdir(parents=True, exist_ok=True)
    (options.docs / "benchmarks.md").write_text(page, encoding="utf-8")
    write_readme(results, options.docs.parent / "README.md")


if __name__ == "__main__":
    main()
