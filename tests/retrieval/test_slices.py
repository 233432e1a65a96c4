"""Slices tell of progress, and change no vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from carrel.embeddings.base import ChunkEncoder, Vectors
from carrel.retrieval import slices
from carrel.retrieval.slices import encode_in_slices
from carrel.testing import HashEncoder
from carrel.types import Chunk, Document


def _item(name: str, count: int) -> tuple[Document, list[Chunk]]:
    words = [f"{name}{number} " for number in range(count)]
    document = Document("".join(words), id=name)
    chunks, start = [], 0
    for ordinal, word in enumerate(words):
        chunks.append(Chunk(ordinal, start, start + len(word), word, tokens=1))
        start += len(word)
    return document, chunks


ITEMS = [_item("a", 3), _item("b", 0), _item("c", 17), _item("d", 1), _item("e", 5)]


@pytest.mark.parametrize("most", [1, 4, 10, 100])
def test_slices_give_what_one_call_gives(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(slices, "CHUNKS_A_SLICE", most)
    encoder = HashEncoder(16)
    told: list[tuple[int, str]] = []
    found = list(encode_in_slices(encoder, ITEMS, lambda done, document: told.append((done, document.id))))
    expected = encoder.encode_many(ITEMS)
    assert [len(rows) for rows in found] == [3, 0, 17, 1, 5]
    for rows, others in zip(found, expected, strict=True):
        for row, other in zip(rows, others, strict=True):
            assert np.array_equal(row, other)
    assert [done for done, _ in told] == list(range(most, 26, most))
    if most == 10:
        assert told == [(10, "c"), (20, "c")]


class WholeDocuments(ChunkEncoder):
    """Looks at all of a document, as late chunking does."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    fingerprint = "whole"
    tokenizer = None

    def encode(self, document: Document, chunks: Sequence[Chunk]) -> list[Vectors]:
        self.calls.append((document.id, len(chunks)))
        return [np.ones((1, 2), np.float32) for _ in chunks]

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        return np.ones((len(questions), 2), np.float32)


def test_a_document_is_not_cut_for_an_encoder_that_needs_it_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "CHUNKS_A_SLICE", 4)
    encoder = WholeDocuments()
    told: list[int] = []
    found = list(encode_in_slices(encoder, ITEMS, lambda done, _: told.append(done)))
    assert encoder.calls == [("a", 3), ("c", 17), ("d", 1), ("e", 5)]
    assert [len(rows) for rows in found] == [3, 0, 17, 1, 5]
    assert told == [20]


def test_nothing_to_encode() -> None:
    assert list(encode_in_slices(HashEncoder(4), [], lambda *_: None)) == []
    assert list(encode_in_slices(HashEncoder(4), [_item("x", 0)], lambda *_: None)) == [[]]
