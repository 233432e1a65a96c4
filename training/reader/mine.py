"""Candidates for each question, by Carrel's own retriever over all training paragraphs.

What ranks high and does not hold the answer is a hard negative; the same lists, of held-out questions,
are what the relevance is calibrated on.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from config import Config
from data import Pair, Question, holds, normal

import carrel
from carrel.embeddings.minilm import MiniLM
from carrel.errors import EncoderMismatchError
from carrel.retrieval.chunking import chunk_document
from carrel.types import Document, Passage


@contextmanager
def mined_library(work: Path) -> Iterator[carrel.Library]:
    """The library of all training paragraphs, with the embedder of this checkout."""
    with carrel.open(work / "library") as library:
        try:
            library.search("anything", mode="fast")
        except EncoderMismatchError:  # it was made with an older version
            library.reindex()
        yield library


def mine_questions(questions: Sequence[Question], config: Config, folder: Path) -> None:
    """Write ``pool.jsonl`` (documents and their chunks) and ``candidates.jsonl`` (one row a question)."""
    if (folder / "candidates.jsonl").exists():
        return
    paragraphs = {q.document: q for q in questions}
    documents = [Document(id=key, text=q.context, title=q.title) for key, q in paragraphs.items()]
    encoder = MiniLM()
    chunks = {d.id: [(c.start, c.end) for c in chunk_document(d, encoder.tokenizer)] for d in documents}
    write_rows(
        folder / "pool.jsonl",
        ({"document": d.id, "title": d.title, "text": d.text, "chunks": chunks[d.id]} for d in documents),
    )
    with carrel.open(folder / "library") as library:
        library.add(documents)
        path = folder / "candidates.jsonl"
        done = rows_done(path, [question.id for question in questions])
        rows = (_candidates(library, question, config) for question in questions[done:])
        write_rows(path, watched(rows, len(questions), "mined", done), go_on=bool(done))


def _candidates(library: carrel.Library, question: Question, config: Config) -> dict[str, Any]:
    """The best chunks for a question: where they are, their scores, whether they are right."""
    answers = [question.context[start:end] for start, end in question.answers]
    found = library.search(question.question, limit=config.negatives_mined, mode="fast")  # no reader has a say yet
    return {
        "id": question.id,
        "candidates": [
            {
                "document": p.document_id, "start": p.start, "end": p.end, "dense": p.scores.dense,
                "lexical": p.scores.lexical, "fused": p.scores.fused, "label": _label(p, question, answers),
            }
            for p in found
        ],
    }  # fmt: skip


def _label(passage: Passage, question: Question, answers: list[str]) -> int:
    """1: it holds the marked answer. 0: it does not answer. -1: it may, and is used for neither."""
    if passage.document_id == question.document:
        if not question.answers:
            return 0
        return int(any(passage.start <= start and end <= passage.end for start, end in question.answers))
    return -1 if holds(passage.text, answers) else 0


def mine_pairs(pairs: Sequence[Pair], config: Config, folder: Path) -> None:
    """Write ``fillers.jsonl``: for each pair the sentences of other pairs that are most like its question."""
    if (folder / "fillers.jsonl").exists():
        return
    sentences = list(dict.fromkeys(pair.sentence for pair in pairs))
    encoder = MiniLM()
    vectors = encoder.encode_texts(sentences)  # (sentences, 384)
    place = {sentence: index for index, sentence in enumerate(sentences)}
    words = [set(normal(sentence).split()) for sentence in sentences]

    def row(pair: Pair, question: np.ndarray) -> dict[str, Any]:
        own = place[pair.sentence]
        order = np.argsort(-(vectors @ question), kind="stable")[: config.fillers_mined + 8]
        like = [int(i) for i in order if i != own and not _repeats(words[own], words[i])]
        return {
            "question": pair.question,
            "sentence": pair.sentence,
            "fillers": [sentences[i] for i in like[: config.fillers_mined]],
        }

    rows = (row(pair, question) for pair, question in zip(pairs, _in_parts(encoder, pairs), strict=True))
    write_rows(folder / "fillers.jsonl", watched(rows, len(pairs), "pairs"))


def _in_parts(encoder: MiniLM, pairs: Sequence[Pair]) -> Iterable[np.ndarray]:
    for start in range(0, len(pairs), 512):
        yield from encoder.encode_texts([pair.question for pair in pairs[start : start + 512]])


def _repeats(first: set[str], second: set[str]) -> bool:
    return len(first & second) >= 0.7 * max(1, min(len(first), len(second)))


def watched(rows: Iterable[dict[str, Any]], count: int, what: str, done: int = 0) -> Iterable[dict[str, Any]]:
    """The rows, with a line on stderr now and then."""
    started = last = time.monotonic()
    for number, row in enumerate(rows, start=done + 1):
        yield row
        if time.monotonic() - last > 10 or number == count:
            last = time.monotonic()
            sys.stderr.write(f"  {what}: {number} of {count}, {last - started:.0f} s\n")


def rows_done(path: Path, ids: Sequence[str]) -> int:
    """How many of the rows an interrupted run has written; they must be those of ``ids``, else none count."""
    partial = path.with_suffix(".partial")
    if not partial.exists():
        return 0
    whole, _, torn = partial.read_bytes().rpartition(b"\n")
    lines = whole.split(b"\n") if whole else []
    if [json.loads(line).get("id") for line in lines] != list(ids[: len(lines)]):
        return 0
    if torn:
        os.truncate(partial, len(whole) + bool(lines))
    return len(lines)


def write_rows(path: Path, rows: Iterable[dict[str, Any]], go_on: bool = False) -> None:
    """Write JSONL whole or not at all; what an interrupted run has written is gone on from if asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("a" if go_on else "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    partial.replace(path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
