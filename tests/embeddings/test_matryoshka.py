"""Vectors cut to their first dimensions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrel
from carrel.embeddings.base import ChunkEncoder
from carrel.embeddings.late import LateChunking
from carrel.embeddings.matryoshka import Matryoshka
from carrel.embeddings.minilm import MiniLM
from carrel.embeddings.multi_vector import SentenceLandmarks
from carrel.errors import EncoderMismatchError, InputError
from carrel.testing import ChunkEncoderConformance, HashEncoder
from carrel.types import Chunk, Document
from tests.embeddings.token_models import WindowedWords

TEXT = "The pier was built in 1894. It burned down in the winter storm."
CHUNKS = [Chunk(0, 0, 28, TEXT[:28], "Harbour"), Chunk(1, 28, len(TEXT), TEXT[28:], "Harbour")]


class TestOfHashes(ChunkEncoderConformance):
    def make(self) -> ChunkEncoder:
        return Matryoshka(HashEncoder(64), 16)


class TestOfTheShippedModel(ChunkEncoderConformance):
    def make(self) -> ChunkEncoder:
        return Matryoshka(MiniLM(), 64)


class TestOfSeveralVectorsAChunk(ChunkEncoderConformance):
    def make(self) -> ChunkEncoder:
        return Matryoshka(SentenceLandmarks(WindowedWords()), 8)


@given(dimension=st.integers(1, 64), text=st.text(max_size=60))
def test_it_is_the_first_dimensions_at_unit_length(dimension: int, text: str) -> None:
    whole, cut = HashEncoder(64), Matryoshka(HashEncoder(64), dimension)
    expected, found = whole.encode_queries([text])[0][:dimension], cut.encode_queries([text])[0]
    assert found.shape == (dimension,) and math.isclose(float(np.linalg.norm(found)), 1, abs_tol=1e-5)
    length = np.linalg.norm(expected)
    if length:
        assert np.allclose(found, expected / length, atol=1e-6)
    else:
        assert found[0] == 1, "nothing is left of it: the first unit vector, as everywhere"
    assert np.array_equal(cut.encode_query(text), found[None])


def test_all_dimensions_are_the_encoder_itself() -> None:
    whole = MiniLM()
    found, expected = (e.encode(Document(TEXT), CHUNKS) for e in (Matryoshka(whole, 384), whole))
    assert all(np.allclose(one, other, atol=1e-6) for one, other in zip(found, expected, strict=True))


def test_what_it_says_of_itself_is_what_the_encoder_says() -> None:
    model = MiniLM()
    cut = Matryoshka(model, 128)
    assert (cut.window, cut.max_chunk_tokens, cut.languages) == (512, 256, frozenset({"English"}))
    assert cut.tokenizer is model.tokenizer


def test_each_dimension_and_each_encoder_is_another_encoder() -> None:
    made = [
        HashEncoder(64), Matryoshka(HashEncoder(64), 64), Matryoshka(HashEncoder(64), 32),
        Matryoshka(HashEncoder(64, seed=1), 32), Matryoshka(Matryoshka(HashEncoder(64), 48), 32),
    ]  # fmt: skip
    for kind in ("fingerprint", "query_fingerprint"):
        assert len({getattr(encoder, kind) for encoder in made}) == len(made)
    assert len({encoder.input_hash(Document(TEXT), CHUNKS[0]) for encoder in made}) == len(made)


def test_questions_of_one_model_stay_of_one_model() -> None:
    plain, late = MiniLM(), LateChunking()
    assert Matryoshka(plain, 64).query_fingerprint == Matryoshka(late, 64).query_fingerprint
    assert Matryoshka(plain, 64).fingerprint != Matryoshka(late, 64).fingerprint


@pytest.mark.parametrize("dimension", [0, -1, 65, 8.0, True, "8"])
def test_dimensions_that_are_not_there_are_refused(dimension) -> None:
    with pytest.raises(InputError, match="hash has 64 dimensions: keep from 1 to all of them, not"):
        Matryoshka(HashEncoder(64), dimension)


def test_what_is_no_encoder_is_refused() -> None:
    with pytest.raises(InputError, match="an encoder"):
        Matryoshka("MiniLM", 64)  # type: ignore[arg-type]


def test_a_library_of_it_takes_no_other_dimension(tmp_path: Path) -> None:
    with carrel.open(tmp_path, encoder=Matryoshka(HashEncoder(64), 16)) as library:
        library.add_text("The lamp was lit at dusk.", id="lamp")
        assert [p.document_id for p in library.search("a lamp at dusk", mode="fast")] == ["lamp"]
    with (
        carrel.open(tmp_path, encoder=Matryoshka(HashEncoder(64), 32)) as library,
        pytest.raises(EncoderMismatchError, match=r"matryoshka \(16 dimensions.*matryoshka \(32 dimensions"),
    ):
        library.search("a lamp at dusk", mode="fast")
