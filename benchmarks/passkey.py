"""Which encoders find one short fact in a long document, at any length, and what reading it costs them.

    python benchmarks/passkey.py                                     # what is not there yet; takes hours on one core
    python benchmarks/passkey.py --lengths 4096 --systems truncated interpolated_128 --kinds passkey
    python benchmarks/passkey.py --plot                              # the figure alone, from what was measured

100 documents and 50 questions a length, as in LongEmbed (arXiv 2404.12096): passkeys among five sentences over and
over, needles among the texts of examples/library over and over. Accuracy is how often the right document comes first;
documents that an encoder cannot tell apart share the point. Windows that many documents share are read once; the time
a document takes is measured without that, on four of them. Passes of thousands of tokens take seconds each, so that
what makes them is measured up to 4,096 tokens unless --lengths says otherwise.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import manifest
from once import each_once
from plots import plt, save

from carrel.embeddings.base import ChunkEncoder, Vectors
from carrel.embeddings.extension import ExtendedMiniLM
from carrel.embeddings.minilm import MiniLM
from carrel.embeddings.token_states import Ids, windows_of
from carrel.evaluation.bootstrap import bootstrap_mean
from carrel.evaluation.passkey import LENGTHS, Task, chunked, needle_task, passkey_task, score
from carrel.tokens import Tokenizer
from carrel.types import Chunk, Document

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "results" / "passkey.json"
PLOT = ROOT / "docs" / "assets" / "passkey.svg"
SEED = 0
KINDS = ("passkey", "needle")
LONGEST_PASS = 4096
ONE_PASS = ("interpolated", "grouped", "recurrent")
TIMED = 4  # documents


class Truncated(MiniLM):
    """The first window alone, as many encoders read a document without saying so."""

    def _embed(self, ids: Ids) -> Vectors:
        return self._run(ids[: self.window - self.special_tokens])


class EveryWindow(MiniLM):
    """A vector for each window of a text; the best of them counts."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens

    def encode_many(self, items: Sequence[tuple[Document, Sequence[Chunk]]]) -> list[list[Vectors]]:
        """For each chunk one array (windows, 384)."""
        return [[self._windows(self.tokenize(chunk.text).ids) for chunk in chunks] for _, chunks in items]

    def _windows(self, ids: Ids) -> Vectors:
        room = self.tokens - self.special_tokens
        return np.stack([self._run(ids[window]) for window in windows_of(len(ids), room, room // 2)])


SYSTEMS: dict[str, Callable[[], ChunkEncoder]] = {
    "truncated": Truncated,
    "windows_averaged": MiniLM,
    "parallel": lambda: ExtendedMiniLM(LENGTHS[-1], "parallel", trained=512),
    "parallel_128": lambda: ExtendedMiniLM(LENGTHS[-1], "parallel", trained=128),
    "interpolated": lambda: ExtendedMiniLM(LONGEST_PASS, "interpolated", trained=512),
    "interpolated_128": lambda: ExtendedMiniLM(LONGEST_PASS, "interpolated", trained=128),
    "grouped": lambda: ExtendedMiniLM(LONGEST_PASS, "grouped", trained=512),
    "recurrent": lambda: ExtendedMiniLM(LONGEST_PASS, "recurrent", trained=512),
    "recurrent_128": lambda: ExtendedMiniLM(LONGEST_PASS, "recurrent", trained=128),
    "interpolated_128_t0.7": lambda: ExtendedMiniLM(LONGEST_PASS, "interpolated", 0.7, trained=128),
    "window_vectors": lambda: EveryWindow(512),
    "window_vectors_128": lambda: EveryWindow(128),
}
SHOWN = {
    "truncated": ("first 512 tokens", "#777777", "--"),
    "windows_averaged": ("windows averaged", "#30638e", "-"),
    "parallel_128": ("parallel windows of 128", "#7fa8c9", "-"),
    "interpolated": ("interpolated, 512", "#edae49", "-"),
    "interpolated_128": ("interpolated, 128", "#d1495b", "-"),
    "recurrent_128": ("recurrent, 128", "#8d5a97", "-"),
    "window_vectors_128": ("a vector a window of 128", "#0b6e4f", "-"),
}


def longest(system: str) -> int:
    """The longest documents that a system is measured on unless it is asked for."""
    return LONGEST_PASS if system.startswith(ONE_PASS) else LENGTHS[-1]


def haystack() -> list[str]:
    """The paragraphs of the texts in examples/library."""
    files = [path for suffix in ("md", "txt", "jsonl") for path in (ROOT / "examples" / "library").rglob(f"*.{suffix}")]
    texts = [path.read_text(encoding="utf-8") for path in sorted(files)]
    return [" ".join(part.split()) for text in texts for part in re.split(r"\n\s*\n|\n(?=\{)", text) if part.strip()]


def task(kind: str, length: int, tokenizer: Tokenizer) -> Task:
    """The documents and questions of one length."""
    if kind == "passkey":
        return passkey_task(length, tokenizer, seed=SEED)
    return needle_task(length, tokenizer, haystack(), seed=SEED)


def measure(system: str, given: Task) -> dict[str, Any]:
    """Accuracy with its interval, and the processor's seconds for each document."""
    encoder = SYSTEMS[system]()
    encoder.encode_queries(["loaded"])
    few = replace(given, documents=given.documents[:TIMED], questions=(), gold=())
    began = time.process_time()
    encoder.encode_many(chunked(few))
    spent = time.process_time() - began
    with each_once() if not system.startswith(ONE_PASS) else nullcontext():
        points = score(given, encoder)
    mean = bootstrap_mean([float(point) for point in points])
    return {
        "accuracy": round(mean.mean, 4),
        "low": round(mean.low, 4),
        "high": round(mean.high, 4),
        "seconds_a_document": round(spent / TIMED, 4),
    }


def draw(figures: dict[str, Any], path: Path) -> None:
    """Accuracy against length, a panel a task, a line a system."""
    figure, panels = plt.subplots(1, len(KINDS), figsize=(4.6 * len(KINDS), 3.3), squeeze=False, sharey=True)
    for axes, kind in zip(panels[0], KINDS, strict=True):
        for system, (label, colour, style) in SHOWN.items():
            cells = figures["cells"].get(kind, {}).get(system, {})
            points = sorted((int(length), cell["accuracy"]) for length, cell in cells.items())
            across, up = zip(*points, strict=True) if points else ((), ())
            axes.plot(across, up, color=colour, linestyle=style, marker="o", markersize=3, linewidth=1.3, label=label)
        measured = sorted({int(length) for cells in figures["cells"].get(kind, {}).values() for length in cells})
        axes.set_xscale("log", base=2)
        axes.set_xticks(measured, [f"{length:,}" for length in measured])
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("tokens of a document")
        axes.set_title(kind)
    panels[0][0].set_ylabel("right document first")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.15, 1, 1))
    save(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for and not there yet; write the figures after every cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, metavar="TOKENS")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="NAME")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE")
    parser.add_argument("--figure", type=Path, default=PLOT, metavar="FILE")
    parser.add_argument("--plot", action="store_true", help="draw the figure and measure nothing")
    given = parser.parse_args(arguments)
    figures: dict[str, Any] = {"format": "carrel-passkey/1", "documents": 100, "questions": 50, "cells": {}}
    if given.output.exists():
        figures = json.loads(given.output.read_text(encoding="utf-8"))
    tokenizer = MiniLM().tokenizer
    wanted = [
        (kind, length, system)
        for length in given.lengths or LENGTHS
        for kind in given.kinds
        for system in given.systems
        if given.lengths or length <= longest(system)
    ]
    for kind, length, system in [] if given.plot else wanted:
        cells = figures["cells"].setdefault(kind, {}).setdefault(system, {})
        if str(length) in cells:
            continue
        cells[str(length)] = measure(system, task(kind, length, tokenizer))
        print(f"{kind} {length} {system}: {cells[str(length)]}", file=sys.stderr, flush=True)
        figures["manifest"] = {**manifest(ROOT, []), "command": "python benchmarks/passkey.py"}
        given.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    draw(figures, given.figure)


if __name__ == "__main__":
    main()
