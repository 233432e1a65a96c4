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
from registry import DEPTH, FIRST_DEPTH, RANKING_DEPTH, WHOLE, Variant
from scoring import SpanScorer, context_scores, ranking_scores, reply_scores
from systems.base import FilledContext, System

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
        result["sets"][name] = measure_set(name, questions, documents, variant.budgets(name), system, counter)
        progress(f"{name}: {len(questions)} questions, {time.perf_counter() - started:.0f} s")
    if memo is not None:
        result["memo"] = {"found": memo.found, "embedded": memo.embedded}
    return result


class SetScores:
    """The scores of one set's questions, row by row, and what becomes of them in the end."""

    def __init__(self, budgets: Sequence[int], system: System, counter: TokenCounter, spans: SpanScorer | None) -> None:
        """Take what stays the same for all questions; `budgets` are those of this system."""
        self.budgets, self.system, self.counter, self.spans = budgets, system, counter, spans
        self.rows: dict[tuple[str, ...], list[dict[str, float]]] = {("budgets", str(budget)): [] for budget in budgets}
        self.over = 0

    def add(self, question: Question, where: tuple[str, ...], scores: dict[str, float]) -> None:
        """Keep a question's scores under the place where the result will hold them."""
        self.rows.setdefault(where, []).append(scores)

    def contexts(self, question: Question) -> None:
        """Score the contexts at each budget, with nothing and with one stage left out, and at the default."""
        found: dict[tuple[str, ...], dict[int, FilledContext]] = {
            (): self.system.contexts(question.text, self.budgets, DEPTH, self.counter)
        }
        for name, contexts in self.system.ablations(question.text, self.budgets, self.counter).items():
            found["ablations", name] = contexts
        for where, contexts in found.items():
            for budget, context in contexts.items():
                place = (*(where or ("budgets",)), str(budget))
                self.add(question, place, context_scores(question, context, self.spans))
                self.over += context.tokens > budget
        default = self.system.default_context(question.text, self.counter)
        self.add(question, ("default",), context_scores(question, default, self.spans))

    def rankings(self, question: Question) -> None:
        """Score the ranking of documents to its depth."""
        ranked = self.system.search(question.text, RANKING_DEPTH)
        self.add(question, ("ranking",), ranking_scores(question, ranked))
        for name, pieces in self.system.rankings(question.text, RANKING_DEPTH).items():
            self.add(question, ("rankings", name), ranking_scores(question, pieces))

    def answers(self, question: Question) -> None:
        """Score what is found first, and the answers of a system that gives any."""
        for name, pieces in self.system.rankings(question.text, FIRST_DEPTH).items():
            first = {"hit@1": ranking_scores(question, pieces)["hit@1"]}
            self.add(question, ("rankings", name), first)
        for name, reply in self.system.replies(question.text).items():
            self.add(question, ("replies", name), reply_scores(question, reply))

    def result(self, questions: int) -> dict[str, Any]:
        """Return the means and every question's scores."""
        result: dict[str, Any] = {"questions": questions, "budgets": {}, "default": {}, "ranking": {}}
        for (*path, last), rows in self.rows.items():
            table = result
            for part in path:
                table = table.setdefault(part, {})
            table[last] = columns(rows)
        unlocated = self.spans.unlocated if self.spans else 0
        return {**result, "contexts_over_budget": self.over, "pieces_not_located": unlocated}


def measure_set(
    name: str,
    questions: Sequence[Question],
    documents: Sequence[Document],
    budgets: Sequence[int],
    system: System,
    counter: TokenCounter,
) -> dict[str, Any]:
    """Ask one set's questions and return their scores by budget, at the default, and by rank.

    One question after another: what the reader has read for it serves all of its contexts.
    """
    if name not in ANSWER_SETS:  # long-form answers are never found word for word
        questions = [Question(q.id, q.text, (), q.gold) for q in questions]
    spans = None
    if name in SPAN_SETS:
        wanted = {gold for question in questions for gold in question.gold_documents}
        spans = SpanScorer([d for d in documents if d.id in wanted], counter, system.handed_over)
    scores = SetScores(budgets, system, counter, spans)
    for number, question in enumerate(questions, 1):
        scores.contexts(question)
        if name in RANKED_SETS:
            scores.rankings(question)
        if name in ANSWER_SETS:
            scores.answers(question)
        if number % 100 == 0:
            progress(f"{name}: {number} of {len(questions)} questions")
    return scores.result(len(questions))


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
