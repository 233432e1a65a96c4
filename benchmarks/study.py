"""Measure Carrel's own choices on labelled questions: `python benchmarks/study.py --data DIR`.

    python benchmarks/study.py --data DIR              each set alone
    python benchmarks/study.py --data DIR --whole      and all sets together in one library
    python benchmarks/study.py --data DIR --adaptive   adaptive-k beside fixed k, instead
    python benchmarks/study.py --report                docs/evaluation.md and its figures, from the results alone

`DIR` holds `NAME/corpus.jsonl.gz` and `NAME/queries.jsonl.gz`. What is finished is kept, so an interrupted run goes
on where it stopped; `--fresh` measures again.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np
from sqlalchemy import Connection
from study_adaptive import CORPORA, KINDS, measure
from study_results import Table, write_json
from study_savings import Pooled

import carrel
from carrel.embeddings.base import Vectors
from carrel.embeddings.minilm import MiniLM
from carrel.evaluation import Dataset, evaluate, load_collection, load_dataset
from carrel.reader import methods
from carrel.reader.methods import Reader
from carrel.reader.model import ReaderModel
from carrel.retrieval.retrievers import Ranking, Retriever, Searcher

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "evaluation"
CONFIGURATIONS = (
    "first", "fast", "dense", "lexical", "rank_fused", "default", "no_rerank", "no_prune", "adaptive",
)  # fmt: skip
THOROUGH = ("squad", "nq", "musique", "hotpotqa")
"""Sets on which a hundred passages are read, too; elsewhere that would take hours."""
REMEMBERED = 400_000
"""Readings kept in memory (windows): a passage is read once for a question, whatever row and budget asks for it."""
COLLECTION = ("squad", "nq", "musique", "hotpotqa", "scifact", "spans", "qmsum", "squality")
SETS = ("squad", "nq", "musique", "hotpotqa", "spans", "scifact")
WHOLE = "whole"
SEED = 0


class RememberedQueries(MiniLM):
    """The shipped encoder, which embeds a question once and not at every budget; nothing here is timed."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, Vectors] = {}

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        for question in questions:
            if question not in self._known:
                self._known[question] = super().encode_queries([question])[0]
        return np.stack([self._known[question] for question in questions])


@contextmanager
def remembered_rankings() -> Iterator[None]:
    """Rank a question once for each library and retriever, and not again at every budget and for every cutoff."""
    known: WeakKeyDictionary[Searcher, dict[tuple[object, ...], Ranking]] = WeakKeyDictionary()
    rank = Searcher.rank

    def remembered(
        searcher: Searcher,
        connection: Connection,
        question: str,
        query: Vectors | None,
        retriever: Retriever,
        **options: Any,
    ) -> Ranking:
        rankings = known.setdefault(searcher, {})
        key = (question, retriever.name, *sorted(options.items(), key=lambda option: option[0]))
        if key not in rankings:
            rankings[key] = rank(searcher, connection, question, query, retriever, **options)
        return rankings[key]

    with patch.object(Searcher, "rank", remembered):
        yield


@contextmanager
def remembered_readings() -> Iterator[None]:
    """Let the reader keep what it read, so that a set of any size is read once for all rows."""
    reader = Reader(ReaderModel(remembered=REMEMBERED))
    with patch.object(methods, "shipped_reader", lambda: reader):
        yield


class Study:
    """One command: where the data is, how much of it is asked, and where the results go."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        self.out: Path = options.out
        self.encoder = RememberedQueries()
        self.started = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line with the elapsed time."""
        sys.stdout.write(f"[{time.monotonic() - self.started:6.0f} s] {line}\n")
        sys.stdout.flush()

    def load(self, name: str) -> Dataset:
        if name == WHOLE:
            folders = [self.options.data / part for part in COLLECTION]
            return load_collection(folders, limit=self.options.limit, seed=SEED, name=WHOLE)
        return load_dataset(self.options.data / name, limit=self.options.limit, seed=SEED)

    def open_library(self, path: Path, **setup: Any) -> carrel.Library:
        return carrel.open(path, encoder=self.encoder, **setup)

    def progress(self, name: str) -> Callable[[str, int, int], None]:
        """Tell the beginning, the end and every hundredth question."""

        def tell(what: str, done: int, total: int) -> None:
            if done in (0, total) or (what != "library" and done % 100 == 0):
                self.say(f"{name}, {what}: {done:,} of {total:,}")

        return tell

    def is_kept(self, path: Path) -> bool:
        if path.exists() and not self.options.fresh:
            self.say(f"kept: {path.name}")
            return True
        return False

    def tables(self, names: Sequence[str]) -> None:
        """Run every configuration over each set, or over the whole collection."""
        for name in names:
            path = self.out / f"{name}.json"
            if self.is_kept(path):
                continue
            evaluation = evaluate(
                self.load(name),
                [*CONFIGURATIONS, *(["thorough"] if name in THOROUGH else [])],
                library_path=self.work,
                progress=self.progress(name),
                seed=SEED,
                open_library=self.open_library,
            )
            Table.of(evaluation).write(path)

    def adaptive(self) -> None:
        """Run the cutoffs, over two sets alone and over several in the whole collection."""
        for name in ("squad", "nq", WHOLE):
            paths = {kind: self.out / f"adaptive-{name}-{kind}.json" for kind in KINDS}
            missing = [kind for kind, path in paths.items() if not self.is_kept(path)]
            if not missing:
                continue
            dataset = self.load(name)
            with self.library_of(dataset) as library:
                for kind in missing:
                    studies, pooled = [], Pooled()
                    for corpus in CORPORA[kind] if name == WHOLE else [name]:
                        tell = self.progress(f"{name}, {corpus}")

                        def step(done: int, total: int, kind: str = kind, tell: Any = tell) -> None:
                            tell(f"cutoffs on {kind} scores", done, total)

                        studies.append(measure(library, dataset, corpus, kind, step, pooled))
                    manifest = {"seed": SEED, "fingerprint": dataset.fingerprint, "python": platform.python_version()}
                    content = {"manifest": manifest, "studies": studies}
                    if kind == "relevance":
                        content["savings"] = pooled.savings(SEED)
                    write_json(paths[kind], content)

    def library_of(self, dataset: Dataset) -> carrel.Library:
        """Open the library that `tables` left for these documents, or fill it now."""
        library = self.open_library(self.work / f"{dataset.name}-{dataset.fingerprint}-default")
        self.say(f"{dataset.name}, library: {len(dataset.documents):,} documents")
        library.add(dataset.documents)
        return library


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("CARREL_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None, metavar="DIR")
    parser.add_argument("--limit", type=int, default=300, metavar="N", help="questions of each set at most (300)")
    parser.add_argument("--sets", default=",".join(SETS), metavar="NAME,...", help="sets measured alone; may be empty")
    parser.add_argument("--whole", action="store_true", help="also all sets together in one library")
    parser.add_argument("--adaptive", action="store_true", help="the study of adaptive-k instead")
    parser.add_argument("--report", action="store_true", help="write the page from the results; measures nothing")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the libraries here")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the results go")
    parser.add_argument("--fresh", action="store_true", help="measure again what is finished")
    options = parser.parse_args()
    if options.report:
        from study_report import write_report

        return write_report(options.out, REPOSITORY / "docs")
    if options.data is None:
        parser.error("say where the data is: --data DIR, or CARREL_DATA")
    with tempfile.TemporaryDirectory(prefix="carrel-study-") as temporary, remembered_rankings(), remembered_readings():
        study = Study(options, options.work or Path(temporary))
        if options.adaptive:
            study.adaptive()
        else:
            study.tables([name for name in options.sets.split(",") if name] + [WHOLE] * options.whole)
    return 0


if __name__ == "__main__":
    sys.exit(main())
