"""JSON and JSON Lines: records with a text become documents, other data becomes lines of key paths."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

from carrel.errors import DocumentError, EmptyDocumentError
from carrel.retrieval.loaders.base import Loader, storable
from carrel.retrieval.loaders.decoding import decode, normalise_newlines
from carrel.retrieval.loaders.structure import TextBuilder
from carrel.types import Document, Scalar, Skipped

TEXT_FIELDS = ("text", "content", "body", "contents")
_ID_FIELDS = ("id", "_id")
_MAX_DEPTH = 200


class _RecordLoader(Loader):
    """What both kinds share: from numbered records to documents."""

    def _documents(self, path: str, records: Iterator[tuple[int, object]]) -> Iterator[Document]:
        """Yield a document for each record with a text, then one for all the others."""
        seen: set[str] = set()
        rest = TextBuilder()
        for number, record in records:
            if not isinstance(record, dict) or not (field := _text_field(record)):
                rest.add("\n".join(key_paths(record)))
                continue
            name = next((record[name] for name in _ID_FIELDS if isinstance(record.get(name), str | int)), number)
            key = str(name) if str(name) not in seen else f"{name}@{number}"
            seen.add(key)
            title = record.get("title")
            text = normalise_newlines(record[field])
            yield self.document(
                path,
                text,
                key=key,
                title=title if isinstance(title, str) and title.strip() else key,
                metadata=_metadata(record, (field, "title", *_ID_FIELDS)),
                media_type="text/plain",
            )
        if rest.length:
            yield self.document(path, rest.text, blocks=rest.blocks)


class JsonLoader(_RecordLoader):
    """A JSON file: one record, a list of records, or any other data."""

    name = "json"
    suffixes = (".json", ".geojson")
    media_type = "application/json"

    def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield a document for each record with a text field, and one with the key paths of everything else."""
        text = decode(data, path)
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise DocumentError(
                f"{path}, line {error.lineno}: not valid JSON ({error.msg}). Correct it, or if every line is a "
                "record of its own, name the file .jsonl."
            ) from None
        except RecursionError:
            raise DocumentError(f"{path} nests too deeply to be read. Flatten it.") from None
        records = value if isinstance(value, list) and value else [value]
        documents = 0
        for document in self._documents(path, enumerate(records, 1)):
            documents += 1
            yield document
        if not documents:
            raise EmptyDocumentError(f"{path} holds no values. Nothing was added from it.")


class JsonLinesLoader(_RecordLoader):
    """A JSON record a line. A line that cannot be read is reported; the others are read."""

    name = "jsonl"
    suffixes = (".jsonl", ".ndjson")
    media_type = "application/jsonl"

    def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield a document for each record with a text field, then one for all the others, then what was skipped."""
        skipped: list[Skipped] = []
        documents = 0
        for document in self._documents(path, _lines(decode(data, path), path, skipped)):
            documents += 1
            yield document
        if not documents and skipped:
            raise DocumentError(
                f"{path}: none of its lines is a JSON record with text (line {skipped[0].id.rpartition(':')[2]}: "
                f"{skipped[0].reason}). If it is one JSON value, name the file .json."
            )
        if not documents:
            raise EmptyDocumentError(f"{path} holds no values. Nothing was added from it.")
        yield from skipped


def _lines(text: str, path: str, skipped: list[Skipped]) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except RecursionError:
            skipped.append(Skipped(f"{path}:{number}", "nests too deeply to be read"))
        except ValueError as error:
            skipped.append(Skipped(f"{path}:{number}", f"not valid JSON: {error}"))
        else:
            if _has_empty_text(record):
                skipped.append(Skipped(f"{path}:{number}", "its text is empty"))
            else:
                yield number, record


def key_paths(value: object) -> Iterator[str]:
    """Yield a line ``a.b[0].c: value`` for every scalar inside ``value``; what nests deeper is left out."""
    waiting: list[tuple[str, object, int]] = [("", value, 0)]
    while waiting:
        path, item, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            continue
        if isinstance(item, dict):
            keys = (" ".join(key.split()) for key in item)
            inner = [(f"{path}.{key}" if path else key, child) for key, child in zip(keys, item.values(), strict=True)]
            waiting.extend((name, child, depth + 1) for name, child in reversed(inner))
        elif isinstance(item, list):
            waiting.extend(reversed([(f"{path}[{index}]", child, depth + 1) for index, child in enumerate(item)]))
        elif item is not None and str(item).strip():
            shown = item if isinstance(item, str) else json.dumps(item)
            line = " ".join(shown.split())
            yield f"{path}: {line}" if path else line


def _text_field(record: Mapping[str, object]) -> str:
    for name in TEXT_FIELDS:
        text = record.get(name)
        if isinstance(text, str) and storable(text).strip():
            return name
    return ""


def _has_empty_text(record: object) -> bool:
    if not isinstance(record, dict) or _text_field(record):
        return False
    return any(isinstance(record.get(name), str) for name in TEXT_FIELDS)


def _metadata(record: Mapping[str, object], used: tuple[str, ...]) -> dict[str, Scalar | list[str]]:
    metadata: dict[str, Scalar | list[str]] = {}
    for key, value in record.items():
        if key in used:
            continue
        if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
            metadata[key] = value
        elif isinstance(value, list) and (texts := [item for item in value if isinstance(item, str)]) == value:
            metadata[key] = texts
    return metadata
