"""Chunks embedded as the passages that hold them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.embeddings.base import unit
from carrel.embeddings.blending import Blended
from carrel.embeddings.late import LateChunking
from carrel.embeddings.minilm import MiniLM
from carrel.embeddings.multi_vector import SentenceLandmarks
from carrel.embeddings.parents import ParentChunks
from carrel.errors import InputError
from carrel.retrieval.chunking import ChunkingOptions, chunk_document
from carrel.testing import ChunkEncoderConformance
from carrel.types import Block, Chunk, Document
from tests.embeddings.token_models import WindowedWords

TEXT = "\n\n".join(
    f"In the year {year} the lamps of the harbour were lit by keeper number {year % 7}, and ships came home."
    for year in range(1890, 1930)
)


class TestParentChunks(ChunkEncoderConformance):
    def make(self) -> ParentChunks:
        return ParentChunks(tokens=64)


class TestParentsOfLateChunks(ChunkEncoderConformance):
    def make(self) -> ParentChunks:
        return ParentChunks(LateChunking(WindowedWords(window=200)), tokens=20)


def chunks_of(text: str, cuts: list[int]) -> list[Chunk]:
    places = [0, *sorted(set(cuts)), len(text)]
    return [Chunk(i, a, b, text[a:b]) for i, (a, b) in enumerate(pairwise(places))]


@given(st.lists(st.integers(1, len(TEXT) - 1), max_size=6))
def test_a_chunk_has_the_mean_of_its_passages_by_characters(cuts) -> None:
    model = LateChunking(WindowedWords(window=1200))
    document = Document(TEXT)
    encoder = ParentChunks(model, tokens=100)
    passages = chunk_document(document, model.tokenizer, ChunkingOptions(target_tokens=100, max_tokens=164))
    assert len(passages) > 3
    vectors = np.concatenate(model.encode(document, passages))
    chunks = chunks_of(TEXT, cuts)
    for chunk, found in zip(chunks, encoder.encode(document, chunks), strict=True):
        held = [sum(p.start <= place < p.end for place in range(chunk.start, chunk.end)) for p in passages]
        assert np.allclose(found, unit(np.array(held, np.float32) @ vectors)[None, :], atol=1e-5)


def test_each_passage_is_read_once() -> None:
    class Counting(MiniLM):
        def encode_texts(self, texts):  # type: ignore[no-untyped-def]
            read.extend(texts)
            return super().encode_texts(texts)

    read: list[str] = []
    document = Document(TEXT)
    encoder = ParentChunks(Counting(), tokens=128)
    chunks = chunk_document(document, encoder.tokenizer, ChunkingOptions(target_tokens=32))
    encoder.encode(document, chunks)
    assert len(read) == len(set(read)) and len(chunks) > 2.5 * len(read)
    read.clear()
    encoder.encode(document, chunks[:1])
    assert len(read) <= 2  # of what is not asked for, nothing


def test_passages_follow_the_headings_of_the_document() -> None:
    half = TEXT.index("In the year 1910")
    blocks = (
        Block(0, half - 2, "paragraph"),
        Block(half, half + 12, "heading", 1),
        Block(half + 12, len(TEXT), "paragraph"),
    )
    encoder = ParentChunks(tokens=400)
    chunk = Chunk(0, half, half + 60, TEXT[half : half + 60])
    with_headings, without = Document(TEXT, blocks=blocks), Document(TEXT)
    assert encoder.input_hash(with_headings, chunk) != encoder.input_hash(without, chunk)
    assert not np.allclose(encoder.encode(with_headings, [chunk])[0], encoder.encode(without, [chunk])[0], atol=1e-3)


def test_an_edit_far_away_leaves_the_hash() -> None:
    encoder = ParentChunks(tokens=64)
    before, after = Document(TEXT), Document(TEXT + "\n\nThe last lamp went out.")
    chunk = Chunk(0, 0, 90, TEXT[:90])
    assert encoder.input_hash(before, chunk) == encoder.input_hash(after, chunk)
    near = Document(TEXT[:200] + "!" + TEXT[201:])
    assert encoder.input_hash(before, chunk) != encoder.input_hash(near, chunk)


def test_the_default_blend_has_a_chunk_its_passage_and_its_document() -> None:
    assert [type(encoder) for encoder in Blended().encoders] == [MiniLM, ParentChunks, LateChunking]


def test_passages_of_a_small_window() -> None:
    encoder = ParentChunks(LateChunking(WindowedWords(window=30)))
    assert encoder.tokens == 15
    assert len(encoder.encode(Document(TEXT), [Chunk(0, 0, 90, TEXT[:90])])) == 1


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match="from 1 to 512 tokens, not 600"):
        ParentChunks(tokens=600)
    with pytest.raises(InputError, match="a model is"):
        ParentChunks("MiniLM")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one vector each"):
        ParentChunks(SentenceLandmarks(), tokens=64).encode(Document(TEXT), [Chunk(0, 0, 400, TEXT[:400])])
