"""Replies of the embeddings protocol, checked: whole, in order, of one dimension, finite."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from carrel.embeddings.base import Vectors
from carrel.generation.remote.failures import malformed, of_message


def vectors_of(content: bytes, texts: int, where: str) -> Vectors:
    """(texts, dimension), as the server gave them, in the order of the texts.

    Parameters
    ----------
    content : the body of the reply.
    texts : how many were sent.
    where : names model and server in messages.

    Raises
    ------
    FailedReplyError : it is an error, or no such reply.
    """
    try:
        reply: Any = json.loads(content)
    except ValueError:
        raise malformed(where, f"is no JSON: {content[:80].decode('utf-8', 'replace')!r}") from None
    if not isinstance(reply, Mapping):
        raise malformed(where, f"is no object: {reply!r:.80}")
    if reply.get("error"):
        raise of_message(where, reply["error"])
    data = reply.get("data")
    if not isinstance(data, list) or not all(isinstance(row, Mapping) for row in data):
        raise malformed(where, "has no list of embeddings")
    if len(data) != texts:
        raise malformed(where, f"has {len(data)} embeddings for {texts} texts")
    rows = [_vector(row.get("embedding"), where) for row in _ordered(data, where)]
    if len({len(row) for row in rows}) != 1:
        raise malformed(where, f"has vectors of different dimensions: {sorted({len(row) for row in rows})}")
    found: Vectors = np.stack(rows)
    if not np.isfinite(found).all():
        raise malformed(where, "has a vector with numbers that are not finite")
    if not found.any(axis=1).all():
        raise malformed(where, "has a vector of nothing but zeros")
    return found


def _ordered(data: list[Mapping[str, Any]], where: str) -> list[Mapping[str, Any]]:
    """The rows by their index; as they came where none has one."""
    indexes = [row.get("index") for row in data]
    if all(index is None for index in indexes):
        return data
    if sorted(index if type(index) is int else -1 for index in indexes) != list(range(len(data))):
        raise malformed(where, f"numbers its embeddings {indexes!s:.80}, not 0 to {len(data) - 1}")
    return sorted(data, key=lambda row: int(row["index"]))


def _vector(value: object, where: str) -> Vectors:
    """(dimension,): from a list of numbers, or the base64 of little-endian float32."""
    try:
        if isinstance(value, str):
            found = np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
        else:
            with np.errstate(over="ignore"):  # too large for float32: infinite, and found out by what follows
                found = np.asarray(value, np.float64).astype(np.float32)
    except (binascii.Error, ValueError, TypeError) as error:
        raise malformed(where, f"has an embedding that is none: {error}") from None
    if found.ndim != 1 or not len(found):
        raise malformed(where, f"has an embedding that is no list of numbers: {value!r:.80}")
    return found
