"""The vectors that benchmarks/vectors.py searches: of chunks, of sentences, and made ones to fill up to a million."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.minilm import MiniLM
from carrel.evaluation.datasets import load_dataset
from carrel.retrieval.chunking import chunk_document
from carrel.retrieval.sentences import split_sentences

Floats = NDArray[np.float32]
Found = NDArray[np.int64]
LEAST = 24  # characters of a sentence
AT_ONCE = 4096  # texts
MIX = (0.5, 0.95)  # the share of the first of two real vectors in a made one
NOISE = 0.3  # the length of the noise that is added to a mixture, of unit length itself
NEAR = 32  # places between the two in their corpus
MADE_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Corpus:
    """Unit vectors of one corpus: (chunks, D), (sentences, D), (questions, D)."""

    name: str
    chunks: Floats
    sentences: Floats
    questions: Floats


def corpora(data: Path) -> list[str]:
    """The folders with a corpus and questions."""
    return sorted(folder.name for folder in data.iterdir() if any(folder.glob("corpus.jsonl*")))


def load(data: Path, name: str, encoder: MiniLM, cache: Path | None = None) -> Corpus:
    """The vectors of one corpus; computed once for each encoder, then kept in a folder of temporary files."""
    folder = cache or Path(tempfile.gettempdir()) / "carrel-vectors"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{encoder.fingerprint}.npz"
    if not file.exists():
        dataset = load_dataset(data / name)
        chunks = [
            encoder.input_text(chunk) for d in dataset.documents for chunk in chunk_document(d, encoder.tokenizer)
        ]
        sentences = dict.fromkeys(
            text for d in dataset.documents for span in split_sentences(d.text)
            if len(text := d.text[span.start : span.end].strip()) >= LEAST
        )  # fmt: skip
        questions = [question.text for question in dataset.questions]
        parts = {"chunks": chunks, "sentences": list(sentences), "questions": questions}
        np.savez(file, **{part: encode(encoder, texts).astype(np.float16) for part, texts in parts.items()})
    with np.load(file) as kept:
        return Corpus(name, *(unit(kept[part].astype(np.float32)) for part in ("chunks", "sentences", "questions")))


def encode(encoder: MiniLM, texts: Sequence[str]) -> Floats:
    """(texts, D)."""
    parts = [encoder.encode_texts(texts[start : start + AT_ONCE]) for start in range(0, len(texts), AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty((0, encoder.dimension), np.float32)


def unit(rows: Floats) -> Floats:
    """Scale each row to unit length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def filled(corpora_: Sequence[Corpus], count: int, seed: int) -> tuple[Floats, NDArray[np.bool_]]:
    """(count, D) in random order, and which of them are real: every chunk and sentence, the rest made of two.

    A made vector is a mixture of two real ones that stand within 32 places in their corpus, so mostly in one document,
    with Gaussian noise, of unit length. Real ones are left out at random where there are more than ``count``.
    """
    source = np.random.default_rng(seed)
    parts = [part for corpus in corpora_ for part in (corpus.chunks, corpus.sentences) if len(part) > NEAR]
    real = np.concatenate(parts)
    ends = np.repeat(np.cumsum([len(part) for part in parts]), [len(part) for part in parts])
    starts = np.repeat(np.cumsum([0, *(len(part) for part in parts[:-1])]), [len(part) for part in parts])
    rows = np.empty((count, real.shape[1]), np.float32)
    taken = min(count, len(real))
    rows[:taken] = real[source.permutation(len(real))[:taken]]
    for start in range(taken, count, MADE_AT_ONCE):
        size = min(MADE_AT_ONCE, count - start)
        first = source.integers(len(real), size=size)
        second = np.clip(
            first + source.integers(1, NEAR, size) * source.choice((-1, 1), size), starts[first], ends[first] - 1
        )
        share = source.uniform(*MIX, (size, 1)).astype(np.float32)
        noise = unit(source.standard_normal((size, real.shape[1]), np.float32))
        mixed = unit(share * real[first] + (1 - share) * real[second])
        rows[start : start + size] = unit(mixed + NOISE * noise)
    order = source.permutation(count)
    return rows[order], order < taken


def recall(truth: Sequence[Found], found: Sequence[Found], count: int) -> float:
    """The mean share of the first ``count`` of the exact search that are among the first ``count`` found."""
    shares = [len(np.intersect1d(t[:count], f[:count])) / min(count, len(t)) for t, f in zip(truth, found, strict=True)]
    return statistics.fmean(shares)
