"""The sections of docs/benchmarks.md about the reader: what comes first, what it answers, what each mode costs."""

from __future__ import annotations

from statistics import median

from bootstrap import paired_difference
from registry import CORPORA, SEED, WHOLE, WHOLE_SETS
from results import CARREL, FAST, Results
from tables import score, spread, table

ANSWERED = ("nq", "squad", "musique", "hotpotqa")
FIRST = (("dense", "vectors alone"), ("search", "search"))


def reader_section(results: Results) -> list[str]:
    """Return everything that is measured for Carrel only."""
    tables = (
        ("### Which document comes first", first_table(results), FIRST_NOTE),
        ("### Answers without a language model", answer_table(results), ANSWER_NOTE),
        ("### What the modes cost (`nq`)", mode_table(results), MODE_NOTE),
    )
    known = [part for title, made, note in tables if made for part in (title, note, made)]
    return ["## The reader", *known] if known else []


FIRST_NOTE = (
    "Share of questions whose first document in `library.search` is a gold one. The vectors alone are "
    '`retriever="dense", mode="fast"`, over the same passages.'
)
ANSWER_NOTE = (
    "`library.ask` from question to answer: retrieval, reranking, pruning to 1,000 tokens, reading. Exact match and F1 "
    "of the short answers as in SQuAD's evaluation; an abstention counts as an error, for every question here has an "
    "answer in the documents. On the right, the same with a reader that may not abstain. Answers to `musique` and "
    "`hotpotqa` need several documents, and some of the latter are *yes* or *no*, which no passage says."
)
MODE_NOTE = (
    "One question after another, after a warm-up, its embedding and its reading included; nothing is remembered from "
    "one call to the next. First context: a fresh process over a saved index, from its start."
)


def question_sets() -> list[tuple[str, str]]:
    """Return (corpus, question set) for the sets with answers: each alone, then in the whole collection."""
    alone = [(corpus, corpus) for corpus in CORPORA if corpus in ANSWERED]
    return alone + [(WHOLE, name) for name in WHOLE_SETS if name in ANSWERED]


def first_table(results: Results) -> str | None:
    """Return how often a gold document comes first: by the vectors alone, in the fast mode, and after reranking."""
    rows = []
    for corpus, name in question_sets():
        columns = (
            (CARREL, "rankings/dense"), (FAST, "rankings/search"), (CARREL, "rankings/search"),
        )  # fmt: skip
        means = [results.mean(key, corpus, name, where, "hit@1") for key, where in columns]
        if means[2] is None:
            continue
        ours = results.values(CARREL, corpus, name, "rankings/search", "hit@1")
        dense = results.values(CARREL, corpus, name, "rankings/dense", "hit@1")
        assert ours is not None and dense is not None
        found = paired_difference(ours, dense, SEED)
        difference = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
        rows.append([titled(corpus, name), f"{len(ours):,}", *map(score, means), difference])
    head = ["", "questions", "vectors alone", "Carrel fast", "Carrel", "Carrel minus vectors"]
    return table(head, rows) if rows else None


def answer_table(results: Results) -> str | None:
    """Return exact match, F1 and abstentions of the answers."""
    rows = []
    for corpus, name in question_sets():
        asked = results.values(CARREL, corpus, name, "replies/ask", "em")
        if asked is None:
            continue
        ask = [results.mean(CARREL, corpus, name, "replies/ask", m) for m in ("em", "em3", "f1", "abstained")]
        always = [results.mean(CARREL, corpus, name, "replies/always", m) for m in ("em", "em3", "f1")]
        rows.append([titled(corpus, name), f"{len(asked):,}", *map(score, (*ask, *always))])
    head = [
        "", "questions", "exact match", "of the first three", "F1", "abstained",
        "always: exact match", "of the first three", "F1",
    ]  # fmt: skip
    return table(head, rows) if rows else None


def mode_table(results: Results) -> str | None:
    """Return what asking, a context and a search take in each mode, and the memory."""
    calls = {key: results.rounds("modes_latency", key, "calls") for key in (FAST, CARREL)}
    rows = []
    for label, key, names in (
        ("fast", FAST, ("ask", "context", "search")),
        ("balanced", CARREL, ("ask", "context", "search")),
        ("thorough", CARREL, ("thorough",)),
    ):
        if not calls[key]:
            continue
        shown = [spread([call[name]["p50_ms"] for call in calls[key]], 1) for name in names]
        shown += ["-"] * (3 - len(shown))
        slow = median(call[names[0]]["p95_ms"] for call in calls[key])
        cold: list[str] = ["-", "-"]
        if label != "thorough":
            cold = [
                spread(results.rounds("modes_cold", key, field), d) for field, d in (("seconds", 2), ("peak_mb", 0))
            ]
        rows.append([label, shown[0], f"{slow:.1f}", *shown[1:], *cold])
    head = ["mode", "ask p50 ms", "ask p95 ms", "context p50 ms", "search p50 ms", "first context s", "its peak MB"]
    return table(head, rows) if rows else None


def titled(corpus: str, name: str) -> str:
    """Name a question set and where it was asked."""
    return f"{name}, whole collection" if corpus == WHOLE else f"{name}, alone"
