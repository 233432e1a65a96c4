"""Embeddings on the server of carrel.testing.chat_server: good replies, to be spoilt by tests."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from carrel.testing.chat_server import ChatServer, Exchange, chat_server
from carrel.testing.encoders import HashEncoder

DIMENSION = 24


def rows(exchange: Exchange) -> list[dict[str, Any]]:
    """The rows of a good reply: bags of words, in the encoding and of the dimension that was asked for."""
    body = exchange.body
    vectors = HashEncoder(body.get("dimensions", DIMENSION)).encode_texts(body["input"]) * np.float32(3)
    in_base64 = body.get("encoding_format") == "base64"
    shown = (base64.b64encode(row.astype("<f4").tobytes()).decode() if in_base64 else row.tolist() for row in vectors)
    return [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(shown)]


def embed(exchange: Exchange, data: list[dict[str, Any]] | None = None) -> None:
    """A good reply, or one with other rows."""
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    data = rows(exchange) if data is None else data
    exchange.json({"object": "list", "model": exchange.body["model"], "data": data, "usage": usage})


@contextmanager
def embedding_server() -> Iterator[ChatServer]:
    """A running server whose ``chat`` is what it answers to ``/v1/embeddings``."""
    with chat_server() as server:
        server.chat = embed
        yield server
