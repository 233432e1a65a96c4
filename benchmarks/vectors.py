"""What shorter vectors cost in recall and gain in memory and time.

    python benchmarks/vectors.py --data DIR
    python benchmarks/vectors.py --data DIR --rows 200000 --questions 50 --output /tmp/trial.json --plot /tmp/trial.svg
    python benchmarks/vectors.py --report               # the figure, and the tables of the results, without measuring

DIR holds question sets, each a folder with ``corpus.jsonl.gz`` and ``queries.jsonl.gz``. The embedded model turns their
chunks, sentences and questions into vectors (kept in a folder of temporary files). Two collections are written to a
store on disk and searched through Carrel's indexes: the chunks, all real; and a million vectors, the chunks and
sentences filled up with mixtures of neighbours (see vectors_data.py). Every search reads what it scores again from the
store. All indexes are in memory at once, and take turns at each question; times are medians, speeds are medians of
the quotients of times at the same question. One thread; the processor's time, which does not count what others on the
machine take, stands beside the wall's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from machine import load_average, manifest
from numpy.typing import NDArray
from vectors_data import Floats, Found, corpora, filled, load, recall
from vectors_report import draw, tables

from carrel.embeddings.base import TextEncoder, Vectors
from carrel.embeddings.minilm import MiniLM
from carrel.retrieval.indexes.choice import VectorSearch
from carrel.retrieval.indexes.quantised import RescoredIndex
from carrel.retrieval.indexes.vector import VectorIndex
from carrel.retrieval.retrievers import CANDIDATES, Dense, Searcher
from carrel.retrieval.store import Store
from carrel.retrieval.store import documents as stored
from carrel.retrieval.store.store import Scope
from carrel.tokens import Tokenizer
from carrel.types import Chunk, Document

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "results" / "vectors.json"
PLOT = ROOT / "docs" / "assets" / "vectors.svg"
FORMAT = "carrel-vectors/1"
SEED = 7
CHUNKS_A_DOCUMENT = 1000
WARM_UP = 5  # questions
Seconds = tuple[float, float]
INDEXES = {
    "float32": VectorSearch(),
    "int8": VectorSearch("int8"),
    "binary": VectorSearch("binary"),
    "funnel 64": VectorSearch(funnel=(64, 384)),
    "funnel 128": VectorSearch(funnel=(128, 384)),
    "funnel 64, 128": VectorSearch(funnel=(64, 128, 384)),
    "funnel 192": VectorSearch(funnel=(192, 384)),
}
FACTORS = {
    "int8": (1, 2, 4), "binary": (1, 2, 4, 8, 16, 32), "funnel 64": (4, 8, 16, 32), "funnel 128": (4, 8, 16, 32),
    "funnel 64, 128": (4, 8, 16, 32), "funnel 192": (2, 4, 8, 16),
}  # fmt: skip
LARGE_FACTORS = {"int8": (1, 2), "binary": (1, 2, 4, 8), "funnel 64, 128": (4,)}  # for the candidates of a library


class Given(TextEncoder):
    """Stands for the encoder whose vectors are there already."""

    name = "given"

    def __init__(self, encoder: MiniLM) -> None:
        self.dimension, self.window, self.max_chunk_tokens = encoder.dimension, encoder.window, encoder.max_chunk_tokens
        self._encoder = encoder

    @property
    def fingerprint(self) -> str:
        return self._encoder.fingerprint

    @property
    def tokenizer(self) -> Tokenizer:
        return self._encoder.tokenizer

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        raise NotImplementedError("the vectors are there already")


def write(store: Store, scope: Scope, encoder: Given, rows: Floats) -> int:
    """Write vectors as chunks of documents of nothing; the encoder's id."""
    with store.write() as connection:
        encoder_id = stored.adopt_encoder(connection, scope, encoder)
    for first in range(0, len(rows), CHUNKS_A_DOCUMENT):
        part = rows[first : first + CHUNKS_A_DOCUMENT]
        document = Document("x" * len(part), id=str(first))
        chunks = [Chunk(n, n, n + 1, "x") for n in range(len(part))]
        hashes = [f"{first + n}" for n in range(len(part))]
        with store.write() as connection:
            item = stored.Prepared(document, str(first), chunks, hashes, list(part[:, None]))
            stored.insert_documents(connection, scope, encoder_id, [item])
    return encoder_id


class Measurement:
    """One collection, with an index of each kind in memory."""

    def __init__(self, folder: Path, rows: Floats, queries: Floats, encoder: MiniLM) -> None:
        self.queries, self.store = queries, Store(folder)
        scope = self.store.scope("local", "default", create=True)
        assert scope is not None
        self.scope, self.encoder = scope, Given(encoder)
        began = time.perf_counter()
        self.encoder_id = write(self.store, scope, self.encoder, rows)
        self.write_s = time.perf_counter() - began
        self.indexes: dict[str, VectorIndex] = {}
        self.build_s: dict[str, float] = {}
        with self.store.read() as connection:
            for name, choice in INDEXES.items():
                began = time.perf_counter()
                index = choice.index(scope, self.encoder_id, rows.shape[1])
                index.catch_up(connection)
                self.indexes[name], self.build_s[name] = index, time.perf_counter() - began

    def searches(self, limit: int, factors: dict[str, Sequence[int]]) -> list[dict[str, Any]]:
        """Recall and time of every index at every oversampling; float32 first."""
        plan: list[tuple[str, float | None]] = [("float32", None)]
        plan += [(name, factor) for name, several in factors.items() for factor in several]
        seconds: dict[tuple[str, float | None], list[Seconds]] = {one: [] for one in plan}
        found: dict[tuple[str, float | None], list[Found]] = {one: [] for one in plan}
        with self.store.read() as connection:
            for number, query in enumerate(self._turns()):
                for name, factor in plan:
                    index = self._index(name, factor)
                    began = now()
                    hits = index.search(connection, query, limit)
                    if number >= WARM_UP:
                        seconds[name, factor].append(since(began))
                        found[name, factor].append(hits.ids)
        truth = found["float32", None]
        return [
            {
                "index": name, "oversampling": factor, "limit": limit,
                "recall_at_10": recall(truth, found[name, factor], 10),
                f"recall_at_{limit}": recall(truth, found[name, factor], limit),
                **timed(seconds["float32", None], seconds[name, factor]),
            }
            for name, factor in plan
        ]  # fmt: skip

    def rankings(self) -> list[dict[str, Any]]:
        """The whole of a dense ranking, as a library asks for it: candidates, their scores and the order."""
        searchers = {name: self._searcher(name) for name in ("float32", "int8", "binary")}
        seconds: dict[str, list[Seconds]] = {name: [] for name in searchers}
        found: dict[str, list[Found]] = {name: [] for name in searchers}
        with self.store.read() as connection:
            for number, query in enumerate(self._turns()):
                for name, searcher in searchers.items():
                    began = now()
                    ranking = searcher.rank(connection, "", query, Dense())
                    if number >= WARM_UP:
                        seconds[name].append(since(began))
                        found[name].append(ranking.ids)
        return [
            {
                "index": name, "oversampling": getattr(searcher.dense, "oversampling", None), "candidates": CANDIDATES,
                "recall_at_10": recall(found["float32"], found[name], 10),
                **timed(seconds["float32"], seconds[name]),
            }
            for name, searcher in searchers.items()
        ]  # fmt: skip

    def real_among_the_best(self, real: NDArray[np.bool_]) -> float:
        """The share of real vectors among the ten best of the exact search; chunk ids begin at 1, in order."""
        with self.store.read() as connection:
            found = [self.indexes["float32"].search(connection, query, 10).ids for query in self.queries]
        return float(real[np.concatenate(found) - 1].mean())

    def floors(self, bytes_a_second: float) -> dict[str, dict[str, float]]:
        """For each index: the bytes of a vector in memory, and how long it takes at least to read those of a search."""
        floors = {}
        for name, index in self.indexes.items():
            scanned = index._rows[0].nbytes  # the first stage goes through all of it
            floors[name] = {
                "bytes_a_vector": index.size_bytes / len(index), "scanned_bytes_a_vector": scanned / len(index),
                "floor_ms": 1e3 * scanned / bytes_a_second, "build_s": self.build_s[name],
            }  # fmt: skip
        return floors

    def _turns(self) -> Iterator[Floats]:
        yield from self.queries[:WARM_UP]
        yield from self.queries

    def _index(self, name: str, factor: float | None) -> VectorIndex:
        index = self.indexes[name]
        if factor is not None:
            assert isinstance(index, RescoredIndex)
            index.oversampling = factor
        return index

    def _searcher(self, name: str) -> Searcher:
        """One with an index that is there already, at its default oversampling."""
        searcher = Searcher(self.store, self.scope, self.encoder, INDEXES[name])
        fresh = INDEXES[name].index(self.scope, self.encoder_id, self.encoder.dimension)
        searcher.dense = self._index(name, getattr(fresh, "oversampling", None))
        return searcher


def now() -> Seconds:
    """Of the wall's clock, and of this thread's own on the processor."""
    return time.perf_counter(), time.thread_time()


def since(began: Seconds) -> Seconds:
    """How long ago that was, by both clocks."""
    wall, own = now()
    return wall - began[0], own - began[1]


def timed(exact: Sequence[Seconds], seconds: Sequence[Seconds]) -> dict[str, float]:
    """The median time, and how many times faster than the exact search: by the wall's clock and by the thread's."""
    quotients = [(a[0] / b[0], a[1] / b[1]) for a, b in zip(exact, seconds, strict=True)]
    return {
        "search_ms": 1e3 * statistics.median(wall for wall, _ in seconds),
        "processor_ms": 1e3 * statistics.median(own for _, own in seconds),
        "times_faster": statistics.median(wall for wall, _ in quotients),
        "times_faster_processor": statistics.median(own for _, own in quotients),
    }


def bandwidth(size_bytes: int = 2**30) -> float:
    """Bytes a second that one thread reads from memory: the best of twenty passes over more than the caches hold."""
    numbers = np.ones(size_bytes // 4, np.float32)
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        np.dot(numbers, numbers)  # reads the one array
        seconds.append(time.perf_counter() - began)
    return numbers.nbytes / min(seconds)


def truncations(rows: Floats, queries: Floats) -> list[dict[str, float]]:
    """What vectors of fewer dimensions find without a second look: the embedded model was not trained for it."""
    exact = np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :10]
    figures = []
    for dimension in (32, 64, 96, 128, 192, 256, 320, 384):
        short, asked = (part[:, :dimension] / np.linalg.norm(part[:, :dimension], axis=1, keepdims=True)
                        for part in (rows, queries))  # fmt: skip
        found = np.argsort(-(asked @ short.T), axis=1, kind="stable")[:, :10]
        figures.append({"dimension": dimension, "recall_at_10": recall(list(exact), list(found), 10)})
    return figures


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it is written."""
    faiss.omp_set_num_threads(1)
    encoder = MiniLM()
    sets = [load(given.data, name, encoder, given.cache) for name in corpora(given.data)]
    source = np.random.default_rng(SEED)
    queries = np.concatenate([one.questions for one in sets])
    queries = queries[source.permutation(len(queries))[: given.questions]]
    chunks = np.concatenate([one.chunks for one in sets])
    million, real = filled(sets, given.rows, SEED)
    figures: dict[str, Any] = {
        "format": FORMAT,
        "manifest": {**manifest(ROOT, []), "command": "python benchmarks/vectors.py --data DIR", "seed": SEED},
        "load_before": load_average(),
        "encoder": encoder.name, "dimension": encoder.dimension, "questions": len(queries),
        "corpora": [one.name for one in sets],
        "truncated": truncations(chunks, queries),
    }  # fmt: skip
    kinds = {
        "chunks": (chunks, np.ones(len(chunks), bool), "chunks of the corpora, all real"),
        "million": (million, real, "chunks and sentences of the corpora, and mixtures of two that stand near each"
                    " other in a corpus, with noise"),
    }  # fmt: skip
    for name, (rows, are_real, what) in kinds.items():
        with tempfile.TemporaryDirectory(prefix="carrel-vectors-") as folder:
            made = Measurement(Path(folder), rows, queries, encoder)
            before = bandwidth()
            part = {
                "vectors": len(rows), "real": int(are_real.sum()), "what": what, "write_s": made.write_s,
                "real_among_the_best": made.real_among_the_best(are_real),
                "searches": made.searches(10, FACTORS),
                "candidates": made.searches(CANDIDATES, LARGE_FACTORS),
                "rankings": made.rankings(),
            }  # fmt: skip
            bytes_a_second = max(before, bandwidth())
            figures[name] = part | {
                "memory_gb_a_second": bytes_a_second / 1e9, "indexes": made.floors(bytes_a_second)
            }  # fmt: skip
            made.store.close()
    figures["load_after"] = load_average()
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the figures, draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="the folder of question sets")
    parser.add_argument("--rows", type=int, default=1_000_000, help="vectors of the large collection")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where vectors of texts are kept between runs")
    parser.add_argument("--report", action="store_true", help="draw and print what was measured before")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE")
    parser.add_argument("--plot", type=Path, default=PLOT, metavar="FILE")
    given = parser.parse_args(arguments)
    if not given.report:
        if given.data is None:
            parser.error("name the folder of question sets with --data")
        given.output.write_text(json.dumps(measure(given), indent=1) + "\n")
    figures = json.loads(given.output.read_text())
    draw(figures, given.plot)
    print(tables(figures))


if __name__ == "__main__":
    main()
