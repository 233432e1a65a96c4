"""Compare the shipped int8 embedder with its float32 original on SciFact: same chunks, same search.

    python training/minilm/export.py --float32 DIR
    python training/minilm/compare.py --data DATA --float32 DIR      # about fifteen minutes on two cores

Writes nDCG@10 of both (a document scores as its best chunk), the mean cosine between their vectors, and a
paired bootstrap interval of the difference.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import Vectors
from carrel.embeddings.minilm import MiniLM
from carrel.evaluation.bootstrap import bootstrap_difference
from carrel.evaluation.datasets import Dataset, load_dataset
from carrel.evaluation.metrics import ndcg_at_k
from carrel.retrieval.chunking import ChunkingOptions, chunk_document

SEED = 0


def vectors(dataset: Dataset, encoder: MiniLM) -> tuple[Vectors, Vectors, list[str]]:
    """Of all chunks, of all questions, and the document of each chunk."""
    options = ChunkingOptions(max_tokens=encoder.max_chunk_tokens)
    items = [(document, chunk_document(document, encoder.tokenizer, options)) for document in dataset.documents]
    rows = np.concatenate([vector for found in encoder.encode_many(items) for vector in found])
    owners = [document.id for document, chunks in items for _ in chunks]
    return rows, encoder.encode_queries([question.text for question in dataset.questions]), owners


def ranking_quality(dataset: Dataset, rows: Vectors, queries: Vectors, owners: list[str]) -> NDArray[np.float64]:
    """nDCG@10 of each question."""
    out = []
    for question, scores in zip(dataset.questions, queries @ rows.T, strict=True):
        ranked = list(dict.fromkeys(owners[i] for i in np.argsort(-scores, kind="stable")[:200]))
        out.append(ndcg_at_k(ranked, {gold.doc for gold in question.gold}, 10))
    return np.array(out)


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("CARREL_DATA"), help="folder with scifact/")
    parser.add_argument("--float32", type=Path, required=True, help="folder of the float32 graph")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("comparison.json"))
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the data folder with --data or CARREL_DATA")
    dataset = load_dataset(Path(options.data) / "scifact")
    shipped_rows, shipped_queries, owners = vectors(dataset, MiniLM())
    rows, queries, _ = vectors(dataset, MiniLM(options.float32))
    ours = ranking_quality(dataset, shipped_rows, shipped_queries, owners)
    theirs = ranking_quality(dataset, rows, queries, owners)
    difference = bootstrap_difference(ours, theirs, seed=SEED)
    result = {
        "data": "scifact",
        "questions": len(ours),
        "chunks": len(rows),
        "ndcg@10_int8": float(ours.mean()),
        "ndcg@10_float32": float(theirs.mean()),
        "difference": {"mean": difference.mean, "low": difference.low, "high": difference.high},
        "mean_cosine": float((rows * shipped_rows).sum(axis=1).mean()),
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
