"""Replies of the embeddings protocol, read and checked; test_openai_compatible.py has a server that sends them."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.embeddings.embedding_reply import vectors_of
from carrel.generation.remote.failures import FailedReplyError

ROWS = st.lists(st.lists(st.floats(0.5, 9, width=32), min_size=3, max_size=3), min_size=1, max_size=6)


@given(ROWS, st.randoms(use_true_random=False), st.booleans())
def test_numbers_come_back_exactly_and_in_order(rows: list[list[float]], chance: object, in_base64: bool) -> None:
    shown = [base64.b64encode(np.array(row, "<f4").tobytes()).decode() if in_base64 else row for row in rows]
    data = [{"index": index, "embedding": row} for index, row in enumerate(shown)]
    chance.shuffle(data)  # type: ignore[attr-defined]
    found = vectors_of(json.dumps({"data": data}).encode(), len(rows), "tiny at server")
    assert found.dtype == np.float32 and np.array_equal(found, np.array(rows, np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[]", "is no object"),
        (b"{}", "no list of embeddings"),
        (b'{"data": [3]}', "no list of embeddings"),
        (b'{"data": []}', "has 0 embeddings for 1 texts"),
        (b'{"data": [{"index": true, "embedding": [1]}]}', "numbers its embeddings"),
        (b'{"data": [{"embedding": []}]}', "no list of numbers"),
        (b'{"data": [{"embedding": [Infinity]}]}', "not finite"),
        (b'{"error": "out of memory"}', "out of memory"),
    ],
)
def test_what_is_no_reply(content: bytes, message: str) -> None:
    with pytest.raises(FailedReplyError, match=message) as failed:
        vectors_of(content, 1, "tiny at server")
    assert failed.value.again  # such things pass
