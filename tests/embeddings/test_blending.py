"""Blended encoders: the weighted sum, its hashes, and what cannot be blended."""

from __future__ import annotations

import numpy as np
import pytest

from carrel.embeddings.base import ChunkEncoder, unit
from carrel.embeddings.blending import Blended
from carrel.embeddings.late import LateChunking, SituatedChunks
from carrel.embeddings.minilm import MiniLM
from carrel.embeddings.multi_vector import SentenceLandmarks
from carrel.errors import InputError
from carrel.testing import ChunkEncoderConformance, HashEncoder
from carrel.types import Chunk, Document
from tests.embeddings.token_models import WindowedWords

TEXT = "The pier was built in 1894. It burned down in the winter storm. The ferry leaves from there."


class TestBlended(ChunkEncoderConformance):
    def make(self) -> ChunkEncoder:
        model = WindowedWords()
        return Blended([LateChunking(model), SituatedChunks(model, around=1)], weights=(1, 0.5))


class TestTheUsualBlend(ChunkEncoderConformance):
    def make(self) -> ChunkEncoder:
        return Blended()


def test_a_blend_is_the_weighted_sum_of_its_parts() -> None:
    parts = [MiniLM(), LateChunking()]
    chunks = [Chunk(0, 0, 28, TEXT[:28], "Harbour"), Chunk(1, 28, len(TEXT), TEXT[28:], "Harbour")]
    found = Blended(parts, weights=(3, 1)).encode(Document(TEXT), chunks)
    expected = [encoder.encode(Document(TEXT), chunks) for encoder in parts]
    for index, vectors in enumerate(found):
        assert np.allclose(vectors, unit(3 * expected[0][index] + expected[1][index]), atol=1e-5)


def test_weights_and_parts_are_in_the_fingerprint() -> None:
    model = WindowedWords()
    late, situated = LateChunking(model), SituatedChunks(model)
    blends = [
        Blended([late, situated]),
        Blended([situated, late]),
        Blended([late, situated], weights=(1, 2)),
        Blended([late, LateChunking(model, overlap=1)]),
    ]
    assert len({blend.fingerprint for blend in blends}) == 4
    assert len({blend.query_fingerprint for blend in blends}) == 1


def test_what_cannot_be_blended_is_refused() -> None:
    model = WindowedWords()
    late = LateChunking(model)
    with pytest.raises(InputError, match="two encoders or more"):
        Blended([late])
    with pytest.raises(InputError, match="only encoders of one model"):
        Blended([late, HashEncoder(16)])
    with pytest.raises(InputError, match="as many weights above 0"):
        Blended([late, late], weights=(1, 0))
    with pytest.raises(InputError, match="an encoder is an object of"):
        Blended([late, "MiniLM"])  # type: ignore[list-item]
    blend = Blended([late, SentenceLandmarks(model)])
    with pytest.raises(InputError, match="one vector a chunk"):
        blend.encode(Document(TEXT), [Chunk(0, 0, len(TEXT), TEXT)])
