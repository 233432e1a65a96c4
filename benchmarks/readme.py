"""The table of figures in README.md, written from the same results as the page."""

from __future__ import annotations

from pathlib import Path

from registry import WHOLE, variant_of
from results import CARREL, Results
from targets import outcomes

START, END = "<!-- benchmarks:start -->", "<!-- benchmarks:end -->"
TIMINGS = (
    ("ingest", "documents_per_s", "Ingest of 2,600 passages, documents a second", "{:.0f}", True),
    ("cold_load", "seconds", "Fresh process, existing library, to the first context, seconds", "{:.2f}", False),
    ("cold_load", "peak_mb", "the same, peak memory, MB", "{:.0f}", False),
    ("cold_ingest", "seconds", "Fresh process, five long articles in, to the first context, seconds", "{:.1f}", False),
    ("latency", "p50_ms", "Warm query, embedding included, p50, ms (Carrel: a whole context)", "{:.1f}", False),
)
RECALLS = (
    ("squad", "250", "answer", "Answer in 250 tokens of context (`squad`)"),
    ("nq", "250", "answer", "the same (`nq`)"),
    ("spans", "400", "span_recall", "Marked text in 400 tokens (`spans`)"),
    ("hotpotqa", "1000", "all_gold_documents", "All supporting documents in 1,000 tokens (`hotpotqa`)"),
    ("musique", "1000", "all_gold_documents", "the same (`musique`)"),
)
"""Asked of the whole collection: every set's documents in one library, as in use."""


def table(results: Results) -> str:
    """Return the rows that have been measured: Carrel, and the peer that is best in each."""
    rows = ["| | Carrel | best of LangChain, LlamaIndex, Haystack, txtai |", "|---|---:|---:|"]
    for task, field, label, shown, more_is_better in TIMINGS:
        ours = results.typical(task, CARREL, field)
        known = {
            v.key: value for v in results.variants if v.key != CARREL and (value := results.typical(task, v.key, field))
        }
        if ours is not None and known:
            peer = (max if more_is_better else min)(known, key=lambda key: known[key])
            rows.append(f"| {label} | {shown.format(ours)} | {shown.format(known[peer])} ({variant_of(peer).label}) |")
    for name, budget, metric, label in RECALLS:
        recall = results.mean(CARREL, WHOLE, name, budget, metric)
        best = results.best_peer(WHOLE, name, budget, metric)
        theirs = results.mean(best, WHOLE, name, budget, metric) if best else None
        if recall is not None and best and theirs is not None:
            rows.append(f"| {label} | {recall:.3f} | {theirs:.3f} ({variant_of(best).label}) |")
    return "\n".join([*rows, "", note(results)])


def note(results: Results) -> str:
    """What the table was measured on, and where the rest is, the rows that are not met among it."""
    known = [results.corpus(variant.key, WHOLE) for variant in results.variants]
    documents = max((file["documents"] for file in known if file), default=0)
    unmet = sum(outcome.met is False for outcome in outcomes(results))
    return (
        "Two cores without a GPU, each system in its documented set-up with the same embedding model; a timing's rows"
        f" come from one run, the recalls from one library of {documents:,} documents."
        f" [Method, intervals, every set and budget, and the {unmet} targets not met](docs/benchmarks.md)."
    )


def write(results: Results, readme: Path) -> None:
    """Put the table between the marks of README.md."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{START}\n{table(results)}\n{END}{after}", encoding="utf-8")
