"""What Carrel sets out to reach without its reader, and whether the results at hand reach it.

A target is met, not met, or not measured. Nothing is rounded in its favour. They were set for retrieval alone and are
judged on that: `carrel.open(folder, mode="fast")`. Those of the reader are in `reader_targets`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bootstrap import paired_difference
from metrics import HEADLINE, NAMES
from registry import SEED, SETS, WHOLE, budgets_of, variant_of
from results import FAST, Results


@dataclass(frozen=True)
class Outcome:
    """A target, what was measured, and whether that meets it (None: not measured)."""

    target: str
    measured: str
    met: bool | None


Check = Callable[[Results], Outcome]
COMPARISON = Path(__file__).resolve().parents[1] / "training" / "minilm" / "comparison.json"
"""What training/minilm/compare.py measured."""
UNMEASURED = "not measured"


def above_best_peer(corpus: str, name: str) -> Check:
    """Require that at every budget of a set Carrel fast is above the best peer; intervals show how sure that is."""

    def check(results: Results) -> Outcome:
        metric = HEADLINE[name]
        where = "whole collection" if corpus == WHOLE else "alone"
        target = f"{name}, {where}: {NAMES[metric]} above the best peer at every budget"
        shown, met = [], True
        for budget in map(str, budgets_of(name)):
            ours = results.values(FAST, corpus, name, budget, metric)
            peer = results.best_peer(corpus, name, budget, metric)
            theirs = results.values(peer, corpus, name, budget, metric) if peer else None
            if ours is None or theirs is None:
                return Outcome(target, UNMEASURED, None)
            difference = paired_difference(ours, theirs, SEED)
            shown.append(f"{budget}: {difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]")
            met = met and difference.mean > 0
        return Outcome(target, ", ".join(shown), met)

    return check


def faster_than_best_peer(
    task: str,
    field: str,
    description: str,
    times: float,
    *,
    higher_is_better: bool = False,
    without: tuple[str, ...] = (),
) -> Check:
    """Require a median at least `times` better than the best peer's in the same run, some peers left out."""

    def check(results: Results) -> Outcome:
        left_out = ", ".join(f"{variant_of(key).label}'s default" for key in without)
        among = f" that embeds all of the text (not {left_out})" if without else ""
        target = f"{description}: at least {times:g} times better than the best peer{among}"
        ours = results.typical(task, FAST, field)
        others = [v.key for v in results.variants if v.is_peer and v.key not in without]
        peers = [results.typical(task, key, field) for key in others]
        known = [value for value in peers if value is not None]
        if ours is None or not known:
            return Outcome(target, UNMEASURED, None)
        ratio = ours / max(known) if higher_is_better else min(known) / ours
        return Outcome(target, f"{ratio:.2f} times", ratio >= times)

    return check


def search_latency(times: float) -> Check:
    """Require Carrel's search at least `times` faster than the best peer's retrieval: neither renders a context."""

    def check(results: Results) -> Outcome:
        target = f"Warm query on nq, retrieval alone, p50: at least {times:g} times better than the best peer"
        ours = [calls["search"]["p50_ms"] for calls in results.rounds("latency", FAST, "calls")]
        peers = [results.typical("latency", v.key, "p50_ms") for v in results.variants if v.is_peer]
        known = [value for value in peers if value is not None]
        if not ours or not known:
            return Outcome(target, UNMEASURED, None)
        ratio = min(known) / median(ours)
        return Outcome(target, f"{ratio:.2f} times", ratio >= times)

    return check


def within(task: str, field: str, description: str, limit: float, unit: str) -> Check:
    """Require a median within an absolute limit."""

    def check(results: Results) -> Outcome:
        target = f"{description}: at most {limit:g} {unit}"
        ours = results.typical(task, FAST, field)
        if ours is None:
            return Outcome(target, UNMEASURED, None)
        return Outcome(target, f"{ours:.3g} {unit}", ours <= limit)

    return check


def ranking_at_least(name: str, metric: str, limit: float) -> Check:
    """Require a known figure of a ranking score on a corpus of its own."""

    def check(results: Results) -> Outcome:
        target = f"{name} alone: {metric} at least {limit:g}"
        ours = results.mean(FAST, name, name, "ranking", metric)
        return Outcome(target, UNMEASURED if ours is None else f"{ours:.4f}", None if ours is None else ours >= limit)

    return check


def near_float32(points: float) -> Check:
    """Require the int8 embedder's nDCG within some points of the float32 original's, on the same chunks."""

    def check(results: Results) -> Outcome:
        target = f"scifact, vectors alone: nDCG@10 within {points:g} points of the float32 embedder on the same chunks"
        if not COMPARISON.exists():
            return Outcome(target, UNMEASURED, None)
        found = json.loads(COMPARISON.read_text(encoding="utf-8"))
        mean, low, high = (100 * found["difference"][key] for key in ("mean", "low", "high"))
        both = f"{100 * found['ndcg@10_int8']:.2f} against {100 * found['ndcg@10_float32']:.2f}"
        return Outcome(target, f"{both}: {mean:+.2f} [{low:+.2f}, {high:+.2f}]", abs(mean) <= points)

    return check


def budget_never_exceeded(results: Results) -> Outcome:
    """No context of any quality run may hold more tokens than its budget."""
    target = "A budget is never exceeded, headers and separators included"
    counts = [
        scores["contexts_over_budget"]
        for corpus in (WHOLE, *SETS)
        for name in SETS
        if (scores := results.question_set(FAST, corpus, name))
    ]
    if not counts:
        return Outcome(target, UNMEASURED, None)
    return Outcome(target, f"{sum(counts)} contexts over budget", sum(counts) == 0)


ALONE = ("squad", "nq", "musique", "spans")
WINDOWED = ("llamaindex-1024",)
"""Peers whose default chunks are longer than what the model embeds: most of the text is never seen."""

TARGETS: tuple[Check, ...] = (
    *(above_best_peer(name, name) for name in ALONE),
    *(above_best_peer(WHOLE, name) for name in ("squad", "nq", "musique", "hotpotqa", "spans")),
    ranking_at_least("scifact", "ndcg@10", 0.69),
    near_float32(0.5),
    budget_never_exceeded,
    faster_than_best_peer("ingest", "documents_per_s", "Ingest of nq, documents per second", 3, higher_is_better=True),
    within("cold_load", "seconds", "Fresh process, existing library, first context", 0.8, "s"),
    within("cold_load", "peak_mb", "Fresh process, existing library, peak memory", 250, "MB"),
    faster_than_best_peer(
        "cold_ingest", "seconds", "Fresh process, five long articles ingested, first context", 4, without=WINDOWED
    ),
    search_latency(2),
    faster_than_best_peer("latency", "p50_ms", "Warm context on nq (Carrel also selects, packs and renders), p50", 2),
    within("import", "package_s", "`import carrel` in a fresh process", 0.5, "s"),
)


def outcomes(results: Results) -> list[Outcome]:
    """Return the outcome of every target of retrieval alone."""
    return [check(results) for check in TARGETS]
