"""The training files as questions with their answers, parted into what is trained on and what is held out."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import Config

from carrel.retrieval.sentences import split_sentences
from carrel.types import Span

QUESTION_SETS = ("squad1", "squad2", "nq_qed")
PAIRS = "squad_sentences"


@dataclass(frozen=True)
class Question:
    """A question asked of one paragraph. ``answers`` are character spans of the context; none: it has no answer."""

    id: str
    source: str
    question: str
    context: str
    title: str
    answers: tuple[tuple[int, int], ...]
    held_out: bool

    @property
    def document(self) -> str:
        """Key of the paragraph: questions of the same one share it."""
        return hashlib.blake2b(f"{self.title}\n{self.context}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Pair:
    """A question and the one sentence that answers it, both in lower case and without their paragraph."""

    question: str
    sentence: str


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a gzipped JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def load_questions(data: Path, config: Config) -> list[Question]:
    """Every question of the three sets; those of held-out documents are marked."""
    out: list[Question] = []
    for source in QUESTION_SETS:
        rows = read(data / "train" / f"{source}.jsonl.gz")
        held_out = _held_out_titles(source, rows, config)
        for row in spread(rows, config.examples):
            title = str(row.get("title", "")).replace("_", " ")
            spans = dict.fromkeys((a["start"], a["start"] + len(a["text"])) for a in row["answers"])
            checked = tuple(trim(row["context"], start, end) for start, end in spans)
            out.append(
                Question(
                    row["id"], source, row["question"].strip(), row["context"], title, checked,
                    row.get("title") in held_out,
                )
            )  # fmt: skip
    return out


def load_pairs(data: Path, config: Config, questions: Sequence[Question]) -> list[Pair]:
    """Sentence pairs, without those whose sentence stands in a held-out paragraph."""
    hidden = {normal(q.context[s.start : s.end]) for q in questions if q.held_out for s in split_sentences(q.context)}
    rows = spread(read(data / "train" / f"{PAIRS}.jsonl.gz"), config.examples)
    unique = dict.fromkeys((row["question"].strip(), row["sentence"].strip()) for row in rows)
    return [Pair(question, sentence) for question, sentence in unique if normal(sentence) not in hidden]


def spread(rows: list[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    """``count`` rows evenly spread over the file, or all."""
    if count is None or count >= len(rows):
        return rows
    return [rows[index * len(rows) // count] for index in range(count)]


def _held_out_titles(source: str, rows: Sequence[dict[str, Any]], config: Config) -> set[str]:
    """Titles whose documents are never trained on. squad1 names no titles, so all of it is trained on."""
    if source == "squad1":
        return set()
    counts = Counter(str(row["title"]) for row in rows)
    if source == "squad2":
        fewest = sorted(counts, key=lambda title: (counts[title], title))
        return set(fewest[: config.held_out_articles])
    return {title for title in counts if fraction(f"{config.seed}:{title}") < config.held_out_share}


def fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space around it."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans({character: " " for character in string.punctuation + "–—’‘“”"})


def normal(text: str) -> str:
    """Lower case without punctuation and articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def holds(passage: str, answers: Iterable[str]) -> bool:
    """Whether a passage has one of the answers as whole words."""
    padded = f" {normal(passage)} "
    return any(f" {wanted} " in padded for wanted in map(normal, answers) if wanted)


def sentence_spans(text: str, answers: Iterable[tuple[int, int]]) -> list[Span]:
    """The sentences of the text that an answer touches."""
    spans = list(answers)
    return [s for s in split_sentences(text) if any(start < s.end and s.start < end for start, end in spans)]
