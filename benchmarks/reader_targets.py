"""What Carrel sets out to reach with its reader: with `carrel.open(folder)` as it comes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bootstrap import paired_difference
from metrics import HEADLINE, NAMES
from registry import SEED, SETS, WHOLE, WHOLE_SETS, all_budgets_of
from results import CARREL, Results
from targets import UNMEASURED, Check, Outcome

ADAPTIVE = Path(__file__).resolve().parent / "results" / "evaluation" / "adaptive-whole-relevance.json"
"""What study.py measured of adaptive-k on relevance scores."""


def at_least(name: str, where: str, metric: str, limit: float, description: str) -> Check:
    """Require a mean on a corpus of its own; the interval shows how sure it is."""

    def check(results: Results) -> Outcome:
        target = f"{name}, alone: {description} at least {limit:g}"
        ours = results.values(CARREL, name, name, where, metric)
        if ours is None:
            return Outcome(target, UNMEASURED, None)
        mean = sum(ours) / len(ours)
        return Outcome(target, with_interval(ours), mean >= limit)

    return check


def with_interval(values: Sequence[float]) -> str:
    """Show a mean with its 95 % interval."""
    found = paired_difference(values, [0.0] * len(values), SEED)
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def no_worse_than_dense(name: str) -> Check:
    """Require that reranking ranks documents no worse than the vectors alone do."""

    def check(results: Results) -> Outcome:
        target = f"{name}, alone: nDCG@10 after reranking not worse than that of the vectors alone"
        ours = results.values(CARREL, name, name, "ranking", "ndcg@10")
        dense = results.values(CARREL, name, name, "rankings/dense", "ndcg@10")
        if ours is None or dense is None:
            return Outcome(target, UNMEASURED, None)
        found = paired_difference(ours, dense, SEED)
        both = f"{sum(ours) / len(ours):.4f} against {sum(dense) / len(dense):.4f}"
        return Outcome(target, f"{both}: {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]", found.mean >= 0)

    return check


def whole_near_alone(points: float) -> Check:
    """Require that no set loses more than some points in the whole collection, at any budget, on the same questions."""

    def check(results: Results) -> Outcome:
        target = f"Whole collection: no set more than {points:g} points under its own corpus, at any budget"
        shown, worst = [], 0.0
        for name in WHOLE_SETS:
            losses = [loss for budget in all_budgets_of(name) if (loss := lost(results, name, str(budget))) is not None]
            if len(losses) < len(all_budgets_of(name)):
                return Outcome(target, UNMEASURED, None)
            shown.append(f"{name} {-100 * max(losses):+.1f}")
            worst = max(worst, *losses)
        return Outcome(target, "the worst budget of each, in points: " + ", ".join(shown), 100 * worst <= points)

    return check


def lost(results: Results, name: str, budget: str) -> float | None:
    """Return how much of a set's headline score the whole collection costs at a budget.

    A limited run asks the first questions of the same sample, so the two are compared on those that both were asked.
    """
    alone = results.values(CARREL, name, name, budget, HEADLINE[name])
    whole = results.values(CARREL, WHOLE, name, budget, HEADLINE[name])
    if not alone or not whole:
        return None
    common = min(len(alone), len(whole))
    return (sum(alone[:common]) - sum(whole[:common])) / common


def adaptive_saves(times: float) -> Check:
    """Require that adaptive-k on relevance spends fewer tokens than the fixed k of equal answer recall."""

    def check(results: Results) -> Outcome:  # noqa: ARG001 - the study has its own file
        target = (
            "Adaptive-k on relevance, whole collection: mean tokens at equal answer recall at most "
            f"{times:g} times those of a fixed k, with the best buffer"
        )
        if not ADAPTIVE.exists():
            return Outcome(target, UNMEASURED, None)
        content = json.loads(ADAPTIVE.read_text(encoding="utf-8"))
        found = {name: row for name, row in content["savings"].items() if name.startswith("buffer") and row["ratio"]}
        shown = [f"{name}: {row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" for name, row in found.items()]
        return Outcome(target, ", ".join(shown), any(row["ratio"] <= times for row in found.values()))

    return check


def answers_within(limit_ms: float) -> Check:
    """Require the median latency of `ask` in the default mode."""

    def check(results: Results) -> Outcome:
        target = f"Warm `ask` on nq, 32 passages read, p50: at most {limit_ms:g} ms"
        taken = [calls["ask"]["p50_ms"] for calls in results.rounds("modes_latency", CARREL, "calls")]
        if not taken:
            return Outcome(target, UNMEASURED, None)
        return Outcome(target, f"{median(taken):.0f} ms", median(taken) <= limit_ms)

    return check


def budget_never_exceeded(results: Results) -> Outcome:
    """No context of any quality run may hold more tokens than its budget, pruned or not."""
    target = "A budget is never exceeded, headers and separators included"
    known = [scores for c in (WHOLE, *SETS) for n in SETS if (scores := results.question_set(CARREL, c, n))]
    if not known:
        return Outcome(target, UNMEASURED, None)
    over = sum(scores["contexts_over_budget"] for scores in known)
    return Outcome(target, f"{over} contexts over budget", over == 0)


TARGETS: tuple[Check, ...] = (
    at_least("squad", "250", "answer", 0.93, f"{NAMES['answer']} in 250 tokens"),
    at_least("nq", "100", "answer", 0.95, f"{NAMES['answer']} in 100 tokens"),
    at_least("musique", "1000", "all_gold_documents", 0.45, f"{NAMES['all_gold_documents']} in 1,000 tokens"),
    at_least("spans", "200", "span_recall", 0.60, f"{NAMES['span_recall']} in 200 tokens"),
    at_least("spans", "200", "span_iou", 0.20, f"{NAMES['span_iou']} in 200 tokens"),
    at_least("nq", "rankings/search", "hit@1", 0.94, "gold passage first after reranking"),
    no_worse_than_dense("scifact"),
    whole_near_alone(3),
    adaptive_saves(0.7),
    answers_within(250),
    budget_never_exceeded,
)


def outcomes(results: Results) -> list[Outcome]:
    """Return the outcome of every target of the reader."""
    return [check(results) for check in TARGETS]
