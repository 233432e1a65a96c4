"""Question sets with their documents and gold evidence, read from a folder of two JSON-lines files.

``corpus.jsonl.gz`` holds one document a line, ``{"id", "title", "text"}``; ``queries.jsonl.gz`` one question a
line, ``{"id", "question", "answers", "kind", "gold": [{"doc", "start"?, "end"?}]}``. Both may also be plain
``.jsonl``. Offsets are half-open character offsets into ``text``; other keys are ignored.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from carrel.errors import InputError
from carrel.types import Document

ABSTRACTIVE_KINDS = frozenset({"meeting", "long-form", "summary"})
"""Kinds whose reference answers are written freely: they do not occur in the documents word for word."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Gold:
    """Evidence for a question: a document, or the range ``start`` to ``end`` of its characters."""

    doc: str
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its accepted answers and its gold evidence; ``corpus`` names the set it comes from."""

    id: str
    text: str
    answers: tuple[str, ...] = ()
    kind: str = ""
    gold: tuple[Gold, ...] = ()
    corpus: str = ""

    @property
    def gold_documents(self) -> frozenset[str]:
        """The ids of the documents that hold the evidence."""
        return frozenset(gold.doc for gold in self.gold)

    @property
    def has_findable_answers(self) -> bool:
        """Whether an accepted answer can be looked for word for word."""
        return bool(self.answers) and self.kind not in ABSTRACTIVE_KINDS


@dataclass(frozen=True, slots=True)
class Dataset:
    """Documents, and the questions asked against all of them."""

    name: str
    documents: list[Document]
    questions: list[Question]

    @property
    def fingerprint(self) -> str:
        """A hash of the documents in their order: equal fingerprints, equal libraries."""
        digest = hashlib.blake2b(digest_size=8)
        for document in self.documents:
            for part in (document.id, document.title, document.text):
                encoded = part.encode("utf-8", "surrogatepass")
                digest.update(len(encoded).to_bytes(8, "little"))
                digest.update(encoded)
        return digest.hexdigest()

    def sample(self, limit: int | None, seed: int = 0) -> Dataset:
        """Keep at most ``limit`` questions, drawn without replacement and left in their order.

        With the same seed a smaller sample is part of every larger one.

        Raises
        ------
        InputError
            ``limit`` is below 1.
        """
        if limit is None:
            return self
        if limit < 1:
            raise InputError(f"limit is the number of questions to keep and must be at least 1, not {limit}.")
        if limit >= len(self.questions):
            return self
        drawn = np.sort(np.random.default_rng(seed).permutation(len(self.questions))[:limit])
        return replace(self, questions=[self.questions[index] for index in drawn])


def load_dataset(folder: str | os.PathLike[str], *, limit: int | None = None, seed: int = 0) -> Dataset:
    """Read a question set; it is named after its folder.

    Parameters
    ----------
    folder
        The folder with ``corpus.jsonl.gz`` and ``queries.jsonl.gz``.
    limit
        The most questions to keep, drawn at random; every document is kept. None keeps all.
    seed
        Seed of that draw.

    Raises
    ------
    InputError
        The folder or a file is missing, a line is malformed (the message names file and line), an id is
        used twice, gold names an unknown document or a range outside its text, or there is no question.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"There is no dataset folder {str(path)!r}.")
    name = path.resolve().name
    corpus_file, queries_file = _find_file(path, "corpus"), _find_file(path, "queries")
    documents: dict[str, Document] = {}
    for line in _read_lines(corpus_file):
        document = _parse_document(line)
        if document.id in documents:
            raise line.error(f"the document id {document.id!r} was used before")
        documents[document.id] = document
    questions: dict[str, Question] = {}
    for line in _read_lines(queries_file):
        question = _parse_question(line, documents, name)
        if question.id in questions:
            raise line.error(f"the question id {question.id!r} was used before")
        questions[question.id] = question
    if not documents:
        raise InputError(f"{corpus_file} holds no documents.")
    if not questions:
        raise InputError(f"{queries_file} holds no questions.")
    return Dataset(name, list(documents.values()), list(questions.values())).sample(limit, seed)


def load_collection(
    folders: Iterable[str | os.PathLike[str]], *, limit: int | None = None, seed: int = 0, name: str = "collection"
) -> Dataset:
    """Merge several question sets: all documents in one library, each set's questions asked against all of it.

    Ids of documents and questions become ``corpus/id``.

    Parameters
    ----------
    folders
        Folders that `load_dataset` reads; their names must differ.
    limit, seed
        As in `load_dataset`, for each set on its own.
    name
        Name of the merged set.

    Raises
    ------
    InputError
        As `load_dataset`; also when there is no folder or two have the same name.
    """
    documents: list[Document] = []
    questions: list[Question] = []
    seen: set[str] = set()
    for folder in folders:
        part = load_dataset(folder, limit=limit, seed=seed)
        if part.name in seen:
            raise InputError(f"Two folders are named {part.name!r}; the sets of a collection need different names.")
        seen.add(part.name)
        documents.extend(replace(document, id=f"{part.name}/{document.id}") for document in part.documents)
        questions.extend(_prefixed(question, part.name) for question in part.questions)
    if not seen:
        raise InputError("A collection needs at least one dataset folder.")
    return Dataset(name, documents, questions)


def _prefixed(question: Question, corpus: str) -> Question:
    gold = tuple(replace(item, doc=f"{corpus}/{item.doc}") for item in question.gold)
    return replace(question, id=f"{corpus}/{question.id}", gold=gold)


def _find_file(folder: Path, stem: str) -> Path:
    for name in (f"{stem}.jsonl.gz", f"{stem}.jsonl"):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"The dataset folder {str(folder)!r} has no {stem}.jsonl.gz (nor {stem}.jsonl).")


@dataclass(frozen=True, slots=True)
class _Line:
    """One JSON object of a file, with the place it came from for messages."""

    file: Path
    number: int
    values: Mapping[str, object]

    def error(self, what: str) -> InputError:
        return InputError(f"{self.file}, line {self.number}: {what}.")

    def get(self, key: str, kind: type[_Value], default: _Value | None = None) -> _Value:
        """Return the value of a key, which must be of this type; without a default it must be there."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, kind) or isinstance(value, bool):
            found = "is missing" if key not in self.values else f"is {value!r:.60}"
            raise self.error(f"{key!r} must be a {_JSON_NAMES.get(kind, kind.__name__)}, but {found}")
        return value


_JSON_NAMES: Mapping[type, str] = {str: "string", int: "whole number", list: "list", dict: "object"}


def _read_lines(file: Path) -> Iterator[_Line]:
    """Yield the JSON objects of a file; blank lines are passed over."""
    number = 0
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                if raw.strip():
                    yield _Line(file, number, _parse_object(raw, file, number))
    except (EOFError, OSError) as error:
        raise InputError(f"{file} cannot be read after line {number}: {error}.") from error


def _parse_object(raw: bytes, file: Path, number: int) -> Mapping[str, object]:
    try:
        values = json.loads(raw.decode("utf-8"))
    except ValueError as error:
        raise InputError(f"{file}, line {number}: not a line of JSON in UTF-8 ({error}).") from error
    if not isinstance(values, dict):
        raise InputError(f"{file}, line {number}: a JSON object is expected, not {type(values).__name__}.")
    return values


def _parse_document(line: _Line) -> Document:
    identity = line.get("id", str)
    if not identity:
        raise line.error("'id' is empty")
    return Document(text=line.get("text", str), id=identity, title=line.get("title", str, ""))


def _parse_question(line: _Line, documents: Mapping[str, Document], corpus: str) -> Question:
    identity, text = line.get("id", str), line.get("question", str)
    if not identity or not text.strip():
        raise line.error("'id' and 'question' must not be empty")
    answers: Sequence[object] = line.get("answers", list, [])
    if not all(isinstance(answer, str) for answer in answers):
        raise line.error("'answers' must be a list of strings")
    gold: Sequence[object] = line.get("gold", list, [])
    return Question(
        id=identity,
        text=text,
        answers=tuple(str(answer) for answer in answers),
        kind=line.get("kind", str, ""),
        gold=tuple(_parse_gold(item, line, documents) for item in gold),
        corpus=corpus,
    )


def _parse_gold(item: object, line: _Line, documents: Mapping[str, Document]) -> Gold:
    if not isinstance(item, dict):
        raise line.error("each item of 'gold' must be an object")
    fields = _Line(line.file, line.number, item)
    doc = fields.get("doc", str)
    if doc not in documents:
        raise line.error(f"gold names the document {doc!r}, which is not in the corpus")
    if item.get("start") is None and item.get("end") is None:
        return Gold(doc)
    start, end, length = fields.get("start", int), fields.get("end", int), len(documents[doc].text)
    if not 0 <= start < end <= length:
        raise line.error(f"gold range {start} to {end} is not inside document {doc!r} of {length} characters")
    return Gold(doc, start, end)
