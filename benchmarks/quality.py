"""The quality task: index one corpus, ask its questions, score the contexts at each budget."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from corpora import Document, Question, load_documents, load_questions, question_sets
from counting import TokenCounter
from memo import memoise
from registry import DEPTH, RANKING_DEPTH, WHOLE, Variant, budgets_of
from scoring import SpanScorer, context_scores, ranking_scores
from systems.base import System

SPAN_SETS = {"spans", "qmsum"}
RANKED_SETS = {"scifact"}
ANSWER_SETS = {"squad", "nq", "musique", "hotpotqa"}


def measure_quality(job: dict[str, Any], variant: Variant, system: System) -> dict[str, Any]:
    """Return the scores of a variant on the question sets of one corpus."""
    counter = TokenCounter(Path(job["model"]))
    memo = memoise(variant.system, Path(job["memo"]))
    data, corpus, limit = Path(job["data"]), job["corpus"], job["limit"]
    documents = load_documents(data, corpus)
    system.setup()
    system.prepare_ingest()
    started = time.perf_counter()
    system.ingest(documents)
    ingest_s = time.perf_counter() - started
    progress(f"{len(documents)} documents in {ingest_s:.0f} s")
    result: dict[str, Any] = {
        "documents": len(documents),
        "ingest_s_with_memo": ingest_s,
        "chunks": chunk_lengths(system.chunks(), counter),
        "sets": {},
    }
    for name in question_sets(corpus):
        prefix = f"{name}/" if corpus == WHOLE else ""
        questions = load_questions(data, name, limit, prefix)
        result["sets"][name] = measure_set(name, questions, documents, system, counter)
        progress(f"{name}: {len(questions)} questions, {time.perf_counter() - started:.0f} s")
    if memo is not None:
        result["memo"] = {"found": memo.found, "embedded": memo.embedded}
    return result


def measure_set(
    name: str, questions: Sequence[Question], documents: Sequence[Document], system: System, counter: TokenCounter
) -> dict[str, Any]:
    """Ask one set's questions and return their scores by budget, at the default, and by rank."""
    if name not in ANSWER_SETS:  # long-form answers are never found word for word
        questions = [Question(q.id, q.text, (), q.gold) for q in questions]
    spans = None
    if name in SPAN_SETS:
        wanted = {gold for question in questions for gold in question.gold_documents}
        spans = SpanScorer([d for d in documents if d.id in wanted], counter, system.handed_over)
    budgets = budgets_of(name)
    at_budget: dict[int, list[dict[str, float]]] = {budget: [] for budget in budgets}
    at_default, ranked = [], []
    over = 0
    for question in questions:
        for budget, context in system.contexts(question.text, budgets, DEPTH, counter).items():
            at_budget[budget].append(context_scores(question, context, spans))
            over += context.tokens > budget
        at_default.append(context_scores(question, system.default_context(question.text, counter), spans))
        if name in RANKED_SETS:
            ranked.append(ranking_scores(question, system.search(question.text, RANKING_DEPTH)))
    return {
        "questions": len(questions),
        "budgets": {str(budget): columns(rows) for budget, rows in at_budget.items()},
        "default": columns(at_default),
        "ranking": columns(ranked),
        "contexts_over_budget": over,
        "pieces_not_located": spans.unlocated if spans else 0,
    }


def columns(rows: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Turn rows of scores into one column a metric: the mean and every question's value."""
    table = {metric: column([row[metric] for row in rows]) for metric in (rows[0] if rows else {})}
    if "tokens" in table:
        table["tokens"] = {"mean": table["tokens"]["mean"]}  # only the mean is of use
    return table


def column(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean and the values: as bits where they are all 0 or 1."""
    mean = sum(values) / len(values)
    if all(value in (0, 1) for value in values):
        return {"mean": mean, "bits": "".join(str(int(value)) for value in values)}
    return {"mean": mean, "values": [round(value, 4) for value in values]}


def chunk_lengths(chunks: Iterable[str], counter: TokenCounter) -> dict[str, Any] | None:
    """Return how long the chunks are and how many pass the encoder's window of 256 tokens."""
    lengths = [len(counter.offsets(chunk)) for chunk in chunks]
    if not lengths:
        return None
    window = 256 - 2  # the two special tokens
    beyond = [length - window for length in lengths if length > window]
    return {
        "count": len(lengths),
        "tokens_mean": sum(lengths) / len(lengths),
        "tokens_max": max(lengths),
        "longer_than_256": len(beyond) / len(lengths),
        "tokens_beyond_256": sum(beyond) / sum(lengths),
    }


def progress(line: str) -> None:
    """Write a line to the log of the worker."""
    sys.stderr.write(f"  {line}\n")
    sys.stderr.flush()
