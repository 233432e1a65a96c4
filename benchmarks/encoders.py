"""What every encoder finds, and what it costs, on long documents and in the whole collection.

    python benchmarks/encoders.py --data DIR --work FOLDER --cost         # everything; goes on where it was stopped
    python benchmarks/encoders.py --data DIR --work FOLDER --encoders plain blended --sets qmsum

Cosines alone order the chunks, best first, until 1,000 tokens of their text are taken. "own": of the document that the
question is about, the share of its evidence that was taken (span recall). "set" and "whole": how often the best chunk
is of that document, among those of its set and among those of every corpus, and the span recall there. Vectors are
kept under --work. The cost is the time to embed the same documents, timed in turns with plain chunks of 256 tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import manifest
from numpy.typing import NDArray
from once import each_once

from carrel.embeddings.base import ChunkEncoder
from carrel.embeddings.blending import Blended
from carrel.embeddings.extension import ExtendedMiniLM
from carrel.embeddings.late import LateChunking, SituatedChunks
from carrel.embeddings.minilm import MiniLM
from carrel.embeddings.multi_vector import SalientTokens, SentenceLandmarks
from carrel.embeddings.parents import ParentChunks
from carrel.evaluation.bootstrap import bootstrap_difference, bootstrap_mean
from carrel.evaluation.datasets import Dataset, Question, load_dataset
from carrel.retrieval.chunking import ChunkingOptions, chunk_document
from carrel.types import Chunk, Document

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "results" / "encoders.json"
LONG = ("qmsum", "squality", "squad")
OTHERS = ("spans", "nq", "scifact")  # on which nothing was chosen
CORPORA = ("qmsum", "squality", "squad", "spans", "hotpotqa", "musique", "nq", "scifact")
BUDGET = 1000
QUESTIONS = {"squad": 1000}
BASELINE = "plain_256"
TIMED = ("qmsum", 3)  # documents that are embedded to tell the cost
ROUNDS = 5
BATCH = 300_000  # characters of documents that are embedded together
Floats = NDArray[np.float32]


class WithoutPrefix(MiniLM):
    """Chunks alone, without the headings above them."""

    name = "no_prefix"

    @staticmethod
    def input_text(chunk: Chunk) -> str:
        """The text and nothing else."""
        return chunk.text


def with_parents() -> Blended:
    """A chunk and the passage that holds it, without late chunking."""
    model = MiniLM()
    return Blended((model, ParentChunks(model)))


@dataclass(frozen=True)
class Made:
    """An encoder and the chunks it is given: ``target`` tokens, 128 where nothing else is said."""

    make: Callable[[], ChunkEncoder]
    target: int = 128


ENCODERS: dict[str, Made] = {
    BASELINE: Made(MiniLM, 256),
    "plain": Made(MiniLM),
    "no_prefix": Made(WithoutPrefix),
    "late_256": Made(lambda: LateChunking(window=256, overlap=32)),
    "late_512": Made(lambda: LateChunking(overlap=32)),
    "late_512_half": Made(LateChunking),
    "late_spread": Made(lambda: LateChunking(window=256, overlap=32, spread=0.5)),
    "late_document": Made(lambda: LateChunking(window=256, overlap=32, document_weight=0.2)),
    "parents": Made(ParentChunks),
    "with_parents": Made(with_parents),
    "blended": Made(Blended),
    "landmarks": Made(lambda: SentenceLandmarks(overlap=64)),
    "salient_tokens": Made(lambda: SalientTokens(overlap=64)),
    "situated": Made(SituatedChunks),
    "extended": Made(lambda: LateChunking(ExtendedMiniLM(2048, "interpolated", trained=512), overlap=128)),
}


@dataclass
class Corpus:
    """A corpus under one encoder: ``rows`` (vectors, D); of chunk i those from ``first[i]`` on."""

    ids: list[str]
    rows: Floats
    first: NDArray[np.int64]
    document: NDArray[np.int64]  # of each chunk
    spans: NDArray[np.int64]  # (chunks, 2)
    tokens: NDArray[np.int64]


def chunks_of(document: Document, encoder: ChunkEncoder, target: int) -> list[Chunk]:
    """The chunks of a document: of 256 tokens for the baseline, else as the library makes them."""
    cap = max(encoder.max_chunk_tokens, target + 64)
    return chunk_document(document, encoder.tokenizer, ChunkingOptions(target_tokens=target, max_tokens=cap))


def kept_at(name: str, dataset: Dataset, folder: Path) -> Path:
    """The file of a corpus under an encoder."""
    return folder / f"{name}.{dataset.name}.npz"


def embed(names: Sequence[str], dataset: Dataset, folder: Path) -> None:
    """The vectors of a corpus under each encoder that has none yet; they share their passes, some documents at a time.

    Every encoder has a file of its own, written once it is whole.
    """
    encoders = {name: ENCODERS[name].make() for name in names if not kept_at(name, dataset, folder).exists()}
    rows: dict[str, list[Floats]] = {name: [] for name in encoders}
    tables: dict[str, list[tuple[int, ...]]] = {name: [] for name in encoders}  # vectors, document, start, end, tokens
    done = 0
    for batch in batches(dataset.documents) if encoders else ():
        with each_once():
            for name, encoder in encoders.items():
                items = [(document, chunks_of(document, encoder, ENCODERS[name].target)) for document in batch]
                found = encoder.encode_many(items)
                for place, ((_, chunks), vectors) in enumerate(zip(items, found, strict=True), start=done):
                    rows[name] += [each.astype(np.float16) for each in vectors]
                    tables[name] += [
                        (len(each), place, chunk.start, chunk.end, chunk.tokens)
                        for chunk, each in zip(chunks, vectors, strict=True)
                    ]
        done += len(batch)
        print(f"{dataset.name}: {done} of {len(dataset.documents)} documents", file=sys.stderr, flush=True)
    for name in encoders:
        counts, owner, starts, ends, tokens = np.array(tables[name], np.int64).T
        spans, first = np.stack([starts, ends], axis=1), np.cumsum(counts) - counts
        path = kept_at(name, dataset, folder)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, rows=np.concatenate(rows[name]), first=first, owner=owner, spans=spans, tokens=tokens)
        partial.replace(path)


def batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """The documents in turn, as many as have ``BATCH`` characters."""
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if sum(len(each.text) for each in batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def embedded(name: str, dataset: Dataset, folder: Path) -> Corpus:
    """The vectors of a corpus, from the folder where they are kept."""
    ids = [document.id for document in dataset.documents]
    with np.load(kept_at(name, dataset, folder)) as kept:
        return Corpus(ids, kept["rows"].astype(np.float32), kept["first"], kept["owner"], kept["spans"], kept["tokens"])


def joined(corpora: Sequence[Corpus]) -> Corpus:
    """Several corpora as one."""
    ids = [f"{place}/{name}" for place, corpus in enumerate(corpora) for name in corpus.ids]
    rows_before = np.cumsum([0, *(len(corpus.rows) for corpus in corpora)])
    documents_before = np.cumsum([0, *(len(corpus.ids) for corpus in corpora)])
    return Corpus(
        ids,
        np.concatenate([corpus.rows for corpus in corpora]),
        np.concatenate([corpus.first + shift for corpus, shift in zip(corpora, rows_before, strict=False)]),
        np.concatenate([corpus.document + shift for corpus, shift in zip(corpora, documents_before, strict=False)]),
        np.concatenate([corpus.spans for corpus in corpora]),
        np.concatenate([corpus.tokens for corpus in corpora]),
    )


def scores(corpus: Corpus, query: Floats) -> Floats:
    """(chunks,): the mean over the question's vectors of the best cosine with one of the chunk's."""
    found: Floats = np.maximum.reduceat(corpus.rows @ query.T, corpus.first, axis=0).mean(axis=1)
    return found


def taken(order: NDArray[np.int64], tokens: NDArray[np.int64]) -> list[int]:
    """The chunks that fit into the budget, the best first; what is too long is passed over."""
    left, found = BUDGET, []
    for chunk in order:
        if tokens[chunk] <= left:
            found.append(int(chunk))
            left -= int(tokens[chunk])
        if left < 16:
            break
    return found


def span_recall(question: Question, corpus: Corpus, place: int, chunks: Sequence[int]) -> float:
    """The share of the evidence's characters that the chunks of its document hold."""
    gold = [(g.start, g.end) for g in question.gold if g.start is not None and g.end is not None]
    spans = [corpus.spans[chunk] for chunk in chunks if corpus.document[chunk] == place]
    found = sum(max(0, min(end, stop) - max(start, first)) for start, end in gold for first, stop in spans)
    return float(found / max(1, sum(end - start for start, end in gold)))


def measure(questions: Sequence[Question], queries: Sequence[Floats], corpus: Corpus, prefix: str) -> dict[str, Any]:
    """Of each question: whether its document is first, and its span recall in its own document and in the corpus."""
    places = {name: place for place, name in enumerate(corpus.ids)}
    rows: dict[str, list[float]] = {"document": [], "span": [], "own": []}
    for question, query in zip(questions, queries, strict=True):
        right = [places[prefix + gold.doc] for gold in question.gold]
        place = right[0]
        found = scores(corpus, query)
        order = np.argsort(-found, kind="stable")
        rows["document"].append(float(corpus.document[order[0]] in right))
        if question.gold[0].start is not None:
            rows["span"].append(span_recall(question, corpus, place, taken(order[:400], corpus.tokens)))
            own = order[corpus.document[order] == place]
            rows["own"].append(span_recall(question, corpus, place, taken(own, corpus.tokens)))
    return rows


def cost(names: Sequence[str], dataset: Dataset) -> dict[str, dict[str, float]]:
    """Seconds to embed the same documents, each encoder in turns with the baseline; ratios are medians."""
    documents = dataset.documents[: TIMED[1]]
    base = ENCODERS[BASELINE].make()
    figures: dict[str, dict[str, float]] = {}

    def timed(encoder: ChunkEncoder, target: int) -> float:
        items = [(document, chunks_of(document, encoder, target)) for document in documents]
        began = time.perf_counter()
        encoder.encode_many(items)
        return time.perf_counter() - began

    tokens = sum(base.tokenizer.count(document.text) for document in documents)
    timed(base, 256)
    for name in names:
        encoder, target = ENCODERS[name].make(), ENCODERS[name].target
        pairs = [(timed(base, 256), timed(encoder, target)) for _ in range(ROUNDS)]
        figures[name] = {
            "ratio": round(statistics.median(own / plain for plain, own in pairs), 3),
            "tokens_a_second": round(tokens / statistics.median(own for _, own in pairs)),
        }
        print(f"cost {name}: {figures[name]}", file=sys.stderr, flush=True)
    return figures


def summary(rows: dict[str, Any], base: dict[str, Any] | None) -> dict[str, Any]:
    """Means with intervals, and the differences from the baseline on the same questions."""
    out: dict[str, Any] = {"questions": len(rows["document"])}
    for key, values in rows.items():
        if not values:
            continue
        mean = bootstrap_mean(values)
        out[key] = {"mean": mean.mean, "low": mean.low, "high": mean.high}
        if base is not None:
            change = bootstrap_difference(values, base[key])
            out[key]["change"] = {"mean": change.mean, "low": change.low, "high": change.high}
    return out


def evaluate(name: str, given: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Embed with one encoder and measure it; the baseline comes first."""
    corpora = {corpus: load_dataset(given.data / corpus, limit=QUESTIONS.get(corpus)) for corpus in CORPORA}
    encoder = ENCODERS[name].make()
    wanted = CORPORA if not given.no_whole else tuple(given.sets)
    made = {corpus: embedded(name, corpora[corpus], given.work) for corpus in wanted}
    whole = joined(list(made.values()))
    kept = figures["encoders"].setdefault(name, {})
    kept["vectors_a_chunk"] = round(len(whole.rows) / len(whole.first), 2)
    for set_name in given.sets:
        questions = corpora[set_name].questions
        queries = [encoder.encode_query(question.text) for question in questions]
        rows = {"set": measure(questions, queries, made[set_name], "")}
        if not given.no_whole:
            rows["whole"] = measure(questions, queries, whole, f"{wanted.index(set_name)}/")
        known = given.work / f"{BASELINE}.{set_name}.json"  # question by question, for paired differences
        if name == BASELINE:
            known.write_text(json.dumps(rows))
        base = json.loads(known.read_text()) if name != BASELINE else None
        kept[set_name] = {scope: summary(found, base[scope] if base else None) for scope, found in rows.items()}
        said = {scope: {key: round(value["mean"], 3) for key, value in found.items() if key != "questions"}
                for scope, found in kept[set_name].items()}  # fmt: skip
        print(f"{name} {set_name}: {said}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, and write the figures after every encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the question sets")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="where vectors are kept")
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=list(ENCODERS), metavar="NAME")
    parser.add_argument("--sets", nargs="+", default=list(LONG + OTHERS), choices=list(LONG + OTHERS))
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE")
    parser.add_argument("--no-whole", action="store_true", help="leave the whole collection out")
    parser.add_argument("--cost", action="store_true", help="time the encoders, too; wants a quiet machine")
    parser.add_argument("--cost-alone", action="store_true", help="time them and do nothing else")
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {"format": "carrel-encoders/1", "budget": BUDGET, "encoders": {}}
    if given.output.exists():
        figures = json.loads(given.output.read_text())
    figures["manifest"] = {**manifest(ROOT, []), "command": "python benchmarks/encoders.py --data DIR --work FOLDER"}
    for corpus in () if given.cost_alone else given.sets if given.no_whole else CORPORA:
        embed(given.encoders, load_dataset(given.data / corpus, limit=QUESTIONS.get(corpus)), given.work)
    for name in () if given.cost_alone else sorted(given.encoders, key=lambda name: name != BASELINE):
        evaluate(name, given, figures)
        given.output.write_text(json.dumps(figures) + "\n")
    if given.cost or given.cost_alone:
        timed = cost(given.encoders, load_dataset(given.data / TIMED[0]))
        for name, found in timed.items():
            figures["encoders"][name]["cost"] = found
        given.output.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
