"""Reading the corpora: `NAME/corpus.jsonl.gz` and `NAME/queries.jsonl.gz` under the data folder."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry import QUESTIONS, SEED, SETS, WHOLE, WHOLE_SETS


@dataclass(frozen=True)
class Document:
    """A document as it is in the data."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Gold:
    """What should be found: a document, or a half-open character span of its text."""

    document_id: str
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class Question:
    """A question with its gold answers and gold passages."""

    id: str
    text: str
    answers: tuple[str, ...] = ()
    gold: tuple[Gold, ...] = field(default=())

    @property
    def gold_documents(self) -> set[str]:
        """Ids of the gold documents."""
        return {gold.document_id for gold in self.gold}


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a gzipped JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def load_documents(data: Path, corpus: str, limit: int | None = None) -> list[Document]:
    """Return a corpus' documents, or those of every corpus with ids prefixed `corpus/`."""
    if corpus == WHOLE:
        return [
            Document(f"{name}/{document.id}", document.title, document.text)
            for name in SETS
            for document in load_documents(data, name, limit)
        ]
    documents: list[Document] = []
    for row in read_rows(data / corpus / "corpus.jsonl.gz"):
        if limit is not None and len(documents) == limit:
            break
        documents.append(Document(str(row["id"]), row["title"], row["text"]))
    return documents


def load_questions(data: Path, question_set: str, limit: int | None = None, prefix: str = "") -> list[Question]:
    """Return at most `QUESTIONS` questions of a set, a seeded sample where it has more."""
    questions = [_question(row, prefix) for row in read_rows(data / question_set / "queries.jsonl.gz")]
    if len(questions) > QUESTIONS:
        questions = random.Random(SEED).sample(questions, QUESTIONS)  # noqa: S311
    return questions[:limit]


def _question(row: dict[str, Any], prefix: str) -> Question:
    gold = tuple(Gold(f"{prefix}{g['doc']}", g.get("start"), g.get("end")) for g in row["gold"])
    return Question(str(row["id"]), row["question"], tuple(row["answers"]), gold)


def question_sets(corpus: str) -> tuple[str, ...]:
    """Return the question sets that are asked against an indexed corpus."""
    return WHOLE_SETS if corpus == WHOLE else (corpus,)
