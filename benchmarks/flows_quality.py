"""What flows find with the embedded reader, beside one pass of retrieval with the same reader at equal tokens.

    python benchmarks/flows_quality.py --data DIR                      # every set and flow
    python benchmarks/flows_quality.py --data DIR --sets qmsum --limit 40 --output /tmp/trial.json

Of each question, the passages that a flow gives to its last call are packed into the budget (1,000 tokens as rendered)
and scored as a context is. A set of long documents (qmsum, squality, squad) is asked of the document that each question
belongs to, musique and hotpotqa of all paragraphs. A question that is finished is kept, so that a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from machine import manifest

import carrel
from carrel.agents import Flow, run
from carrel.agents.base import Pack
from carrel.agents.chain_of_agents import chain_of_agents
from carrel.agents.clustered import clustered
from carrel.agents.iterative import iterative
from carrel.agents.map_reduce import map_reduce
from carrel.agents.packing import pack
from carrel.agents.reader_worker import ReaderWorker
from carrel.evaluation.datasets import Dataset, Question, load_dataset
from carrel.evaluation.scoring import TokenSpace, score_context
from carrel.reader.methods import ReaderPruner, ReaderReranker
from carrel.retrieval.merging import merge_spans
from carrel.retrieval.packing import render
from carrel.types import Document, Passage

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "results" / "flows_quality.json"
BUDGET = 1000
LONG = ("qmsum", "squality", "squad")
SPREAD = ("musique", "hotpotqa")
PIECE, NOTE = 4000, 500  # tokens, of map-reduce: several pieces, each with half of the budget
LIMITS = {"squad": 200}
BASELINES = ("dense", "fused")
CANDIDATES = 100
METRICS = {"qmsum": "span_recall", "squality": "words", "squad": "answer", "musique": "all_support",
           "hotpotqa": "all_support"}  # fmt: skip
_WORD = re.compile(r"\w+")

System = Callable[[Question], Sequence[Passage]]


class Measurement:
    """One set: its library, its systems, and what is known of each question."""

    def __init__(self, dataset: Dataset, library: carrel.Library) -> None:
        """Fill the library."""
        library.add(dataset.documents)
        self.dataset, self.library = dataset, library
        self.documents = {document.id: document for document in dataset.documents}
        self.space = TokenSpace(dataset.documents, library.tokenizer)
        self.worker = ReaderWorker()

    def systems(self) -> dict[str, System]:
        """The baselines, and the flows that make sense for the set."""
        found: dict[str, System] = {
            "dense": lambda question: self.single(question, "dense"),
            "fused": lambda question: self.single(question, "fused"),
        }
        flows: dict[str, Callable[[Question], Flow[Any]]] = {
            "chain_of_agents": lambda q: chain_of_agents(q.text, self.texts(q), notes_tokens=BUDGET, early_exit=False),
            "map_reduce": lambda q: map_reduce(q.text, self.texts(q), piece_tokens=PIECE, note_tokens=NOTE),
            "clustered": lambda q: clustered(q.text, passages=self.candidates(q)),
            "iterative": lambda q: iterative(q.text, budget=BUDGET, where=self.where(q)),
        }
        for name, make in flows.items():
            found[name] = lambda question, make=make: self.flow(make(question))
        return found

    def where(self, question: Question) -> dict[str, Any] | None:
        """The filter to the question's own document, in a set of long documents."""
        return {"id": self.own(question).id} if self.dataset.name in LONG else None

    def own(self, question: Question) -> Document:
        """The long document that a question belongs to."""
        return self.documents[question.gold[0].doc]

    def texts(self, question: Question) -> Document | tuple[Passage, ...]:
        """What is read from end to end: the long document; of short ones the best candidates, as they were found."""
        return self.own(question) if self.dataset.name in LONG else self.candidates(question)

    def candidates(self, question: Question) -> tuple[Passage, ...]:
        """What retrieval alone finds first."""
        found = self.library.search(question.text, limit=CANDIDATES, where=self.where(question), mode="fast")
        return tuple(found)

    def single(self, question: Question, retriever: str) -> Sequence[Passage]:
        """One pass: retrieved, read, pruned and packed by the library."""
        return self.library.context(
            question.text, budget=BUDGET, where=self.where(question), retriever=retriever
        ).passages

    def flow(self, flow: Flow[Any]) -> Sequence[Passage]:
        """The evidence that a flow answered from."""
        result = run(flow, generator=self.worker, library=self.library, concurrency=1).result
        return tuple(result.answer.passages)

    def packed(self, question: Question, passages: Sequence[Passage]) -> tuple[Sequence[Passage], str]:
        """The evidence in the budget: as it is where it fits, else the most relevant of it, pruned by the reader."""
        merged = merge_spans(passages)
        if self.library.tokenizer.count(render(merged)) > BUDGET:
            ranked = ReaderReranker().rerank(question.text, passages)
            merged = list(pack(Pack(question.text, tuple(ranked), BUDGET), self.library.tokenizer, ReaderPruner()))
        return merged, render(merged)

    def measure(self, question: Question, system: System, name: str) -> dict[str, float]:
        """The score of one question, its tokens and seconds."""
        began = time.perf_counter()
        passages = system(question)
        seconds = time.perf_counter() - began
        if name in BASELINES:
            text = render(passages)
            tokens = self.library.tokenizer.count(text)
        else:
            passages, text = self.packed(question, passages)
            tokens = self.library.tokenizer.count(text)
        metric = METRICS[self.dataset.name]
        if metric == "words":
            score = word_recall(text, question.answers)
        else:
            score = score_context(question, text, tokens, passages, self.space)[metric]
        return {"score": round(score, 5), "tokens": tokens, "seconds": round(seconds, 4)}


def word_recall(text: str, answers: Iterable[str]) -> float:
    """ROUGE-1 recall: the mean over reference answers of the share of their words that a text has."""
    have = Counter(_WORD.findall(text.lower()))
    shares = []
    for answer in answers:
        wanted = Counter(_WORD.findall(answer.lower()))
        shares.append(sum((wanted & have).values()) / max(1, wanted.total()))
    return sum(shares) / len(shares)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet, and write the figures after every question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the question sets")
    parser.add_argument("--sets", nargs="+", default=[*LONG, *SPREAD], choices=[*LONG, *SPREAD])
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--limit", type=int, metavar="N", help="questions a set")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    given = parser.parse_args(arguments)
    figures: dict[str, Any] = {"format": "carrel-flows-quality/1", "budget": BUDGET, "sets": {}}
    if given.output.exists() and not given.fresh:
        figures = json.loads(given.output.read_text())
    figures["manifest"] = {**manifest(ROOT, []), "command": "python benchmarks/flows_quality.py --data DIR"}
    for name in given.sets:
        dataset = load_dataset(given.data / name, limit=given.limit or LIMITS.get(name))
        with tempfile.TemporaryDirectory() as folder, carrel.open(folder) as library:
            measurement = Measurement(dataset, library)
            kept = figures["sets"].setdefault(name, {"metric": METRICS[name], "systems": {}})
            for system_name, system in measurement.systems().items():
                if given.systems and system_name not in given.systems:
                    continue
                rows = kept["systems"].setdefault(system_name, {})
                for number, question in enumerate(dataset.questions, 1):
                    if question.id not in rows:
                        rows[question.id] = measurement.measure(question, system, system_name)
                    if number % 20 == 0 or number == len(dataset.questions):
                        given.output.write_text(json.dumps(figures) + "\n")
                        show(name, system_name, number, rows)


def show(name: str, system: str, number: int, rows: dict[str, dict[str, float]]) -> None:
    """A line of progress."""
    mean = {key: sum(row[key] for row in rows.values()) / len(rows) for key in ("score", "tokens", "seconds")}
    said = ", ".join(f"{key} {value:.3f}" for key, value in mean.items())
    print(f"{name} {system}: {number} questions, {said}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
