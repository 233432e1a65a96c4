"""The table of figures in README.md, written from the same results as the page."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from reader_targets import outcomes as reader_outcomes
from registry import WHOLE, variant_of
from results import CARREL, FAST, Results
from targets import outcomes

START, END = "<!-- benchmarks:start -->", "<!-- benchmarks:end -->"
TIMINGS = (
    ("ingest", "documents_per_s", "Ingest of 2,600 passages, documents a second", "{:.0f}", True),
    ("cold_load", "seconds", "Fresh process, existing library, to the first context, seconds", "{:.2f}", False),
    ("cold_load", "peak_mb", "the same, peak memory, MB", "{:.0f}", False),
    ("cold_ingest", "seconds", "Fresh process, five long articles in, to the first context, seconds", "{:.1f}", False),
    ("latency", "p50_ms", "Warm query, embedding included, p50, ms (Carrel: a whole context)", "{:.1f}", False),
)
WITH_READER = {"cold_load": "modes_cold", "latency": "modes_latency"}
"""Where the same is measured with the reader. Ingest does not read."""
RECALLS = (
    ("squad", "250", "answer", "Answer in 250 tokens of context (`squad`)"),
    ("nq", "250", "answer", "the same (`nq`)"),
    ("spans", "400", "span_recall", "Marked text in 400 tokens (`spans`)"),
    ("hotpotqa", "1000", "all_gold_documents", "All supporting documents in 1,000 tokens (`hotpotqa`)"),
    ("musique", "1000", "all_gold_documents", "the same (`musique`)"),
)
"""Asked of the whole collection: every set's documents in one library, as in use."""


def table(results: Results) -> str:
    """Return the rows that have been measured: Carrel with and without its reader, and the peer best in each."""
    head = "| | Carrel | Carrel `fast` | best of LangChain, LlamaIndex, Haystack, txtai |"
    rows = [head, "|---|---:|---:|---:|"]
    peers = [variant for variant in results.variants if variant.is_peer]
    for task, field, label, shown, more_is_better in TIMINGS:
        fast = results.typical(task, FAST, field)
        known = {v.key: value for v in peers if (value := results.typical(task, v.key, field))}
        if fast is not None and known:
            peer = (max if more_is_better else min)(known, key=lambda key: known[key])
            best = f"{shown.format(known[peer])} ({variant_of(peer).label})"
            own = "the same" if task == "ingest" else cell(with_reader(results, task, field), shown)
            rows.append(f"| {label} | {own} | {shown.format(fast)} | {best} |")
    for name, budget, metric, label in RECALLS:
        ours, alone = (results.mean(key, WHOLE, name, budget, metric) for key in (CARREL, FAST))
        nearest = results.best_peer(WHOLE, name, budget, metric)
        theirs = results.mean(nearest, WHOLE, name, budget, metric) if nearest else None
        if nearest and theirs is not None:
            best = f"{theirs:.3f} ({variant_of(nearest).label})"
            rows.append(f"| {label} | {cell(ours, '{:.3f}')} | {cell(alone, '{:.3f}')} | {best} |")
    return "\n".join([*rows, "", note(results)])


def with_reader(results: Results, task: str, field: str) -> float | None:
    """Return a timing of Carrel with its reader, where it was measured."""
    if task not in WITH_READER:
        return None
    if field != "p50_ms":
        return results.typical(WITH_READER[task], CARREL, field)
    calls = results.rounds(WITH_READER[task], CARREL, "calls")
    return median(call["context"]["p50_ms"] for call in calls) if calls else None


def cell(value: float | None, shown: str) -> str:
    """Show a number, or that there is none."""
    return "-" if value is None else shown.format(value)


def note(results: Results) -> str:
    """What the table was measured on, and where the rest is, the rows that are not met among it."""
    known = [results.corpus(variant.key, WHOLE) for variant in results.variants]
    documents = max((file["documents"] for file in known if file), default=0)
    unmet = sum(outcome.met is False for outcome in (*outcomes(results), *reader_outcomes(results)))
    return (
        "Two cores without a GPU, each system in its documented set-up with the same embedding model; a timing's rows"
        f" come from one run (Carrel with its reader from another), the recalls from one library of {documents:,}"
        " documents. `fast` only retrieves, as the others do."
        f" [Method, intervals, every set and budget, and the {unmet} targets not met](docs/benchmarks.md)."
    )


def write(results: Results, readme: Path) -> None:
    """Put the table between the marks of README.md."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{START}\n{table(results)}\n{END}{after}", encoding="utf-8")
