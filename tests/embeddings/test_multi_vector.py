"""Sentence landmarks and salient tokens: which vectors a chunk gets, and what they are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrel
from carrel.embeddings.base import ChunkEncoder, unit
from carrel.embeddings.multi_vector import SalientTokens, SentenceLandmarks, salient
from carrel.embeddings.token_states import pooled
from carrel.errors import InputError
from carrel.testing import ChunkEncoderConformance
from carrel.types import Chunk, Document
from tests.embeddings.token_models import WindowedWords

TEXT = (
    "The pier was built in 1894. It burned down in the winter storm. The ferry leaves from there at nine sharp."
    "\n\nYes.\n\nLamps burn whale oil all night, and the keeper trims them."
)


class TestSentenceLandmarks(ChunkEncoderConformance):
    def make(self) -> ChunkEncoder:
        return SentenceLandmarks(WindowedWords())


class TestSalientTokens(ChunkEncoderConformance):
    def make(self) -> ChunkEncoder:
        return SalientTokens(WindowedWords(), share=0.3)


class TestSalientTokensOfTheShippedModel(ChunkEncoderConformance):
    def make(self) -> ChunkEncoder:
        return SalientTokens()


def chunks_of(text: str, *cuts: int) -> list[Chunk]:
    places = [0, *cuts, len(text)]
    return [Chunk(number, start, end, text[start:end]) for number, (start, end) in enumerate(pairwise(places))]


def test_a_chunk_has_its_own_vector_and_one_a_sentence() -> None:
    model = WindowedWords(window=64)
    chunks = chunks_of(TEXT, TEXT.index("\n\nYes"))
    found = SentenceLandmarks(model, overlap=5).encode(Document(TEXT), chunks)
    assert [len(vectors) for vectors in found] == [4, 1]  # "Yes." is no sentence to look for
    tokens = model.tokenize(TEXT)
    start = TEXT.index("It burned")
    piece = tokens.between(start, TEXT.index("The ferry"))
    assert np.allclose(found[0][2], unit(pooled(model, tokens, [piece], overlap=5)[0]), atol=1e-5)
    own = tokens.between(chunks[0].start, chunks[0].end)
    assert np.allclose(found[0][0], unit(pooled(model, tokens, [own], overlap=5)[0]), atol=1e-5)


def test_salient_tokens_are_states_of_the_chunk() -> None:
    model = WindowedWords(window=64)
    chunks = chunks_of(TEXT, TEXT.index("\n\nYes"))
    found = SalientTokens(model, share=0.25).encode(Document(TEXT), chunks)
    tokens = model.tokenize(TEXT)
    states = unit(model.states(tokens.ids))
    for chunk, vectors in zip(chunks, found, strict=True):
        own = tokens.between(chunk.start, chunk.end)
        assert len(vectors) == max(1, round(0.25 * (own.stop - own.start)))
        nearest = states[own] @ vectors.T
        assert np.allclose(nearest.max(axis=0), 1, atol=1e-5)


def test_the_whole_share_keeps_every_token() -> None:
    model = WindowedWords(window=64)
    found = SalientTokens(model, share=1.0).encode(Document(TEXT), chunks_of(TEXT))[0]
    assert np.allclose(found, unit(model.states(model.tokenize(TEXT).ids)), atol=1e-5)


def test_repetition_adds_nothing() -> None:
    east, north = np.eye(4, dtype=np.float32)[:2]
    assert salient(np.stack([east, east, east, north]), 2).tolist() == [0, 3]


@given(rows=st.integers(1, 12), count=st.integers(1, 15), seed=st.integers(0, 99))
def test_each_pick_is_the_best_one_left(rows, count, seed) -> None:
    vectors = unit(np.random.default_rng(seed).standard_normal((rows, 5)).astype(np.float32))
    picked = salient(vectors, count)
    assert len(set(picked.tolist())) == min(rows, count) and (np.diff(picked) > 0).all()

    def covered(chosen: np.ndarray) -> float:
        return float((vectors @ vectors[chosen].T).max(axis=1).sum())

    assert covered(picked) >= max(covered(np.array([row])) for row in range(rows)) - 1e-4


def test_a_question_has_a_vector_for_each_of_its_tokens() -> None:
    model = WindowedWords()
    question = "When was the long pier at the old harbour built, and by whom was it?"
    encoder = SalientTokens(model)
    found = encoder.encode_query(question)
    assert found.shape == (len(model.tokenize(question)), model.dimension)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)
    assert encoder.encode_query("").shape == (1, model.dimension)


@given(text=st.text(alphabet=st.sampled_from("ab .\n東京אב🚢\t。"), max_size=120), cut=st.integers(1, 119))
def test_hostile_texts(text, cut) -> None:
    chunks = chunks_of(text, cut) if 0 < cut < len(text) else chunks_of(text)
    for encoder in (SentenceLandmarks(WindowedWords()), SalientTokens(WindowedWords())):
        found = encoder.encode(Document(text), chunks)
        assert len(found) == len(chunks)
        assert all(len(vectors) >= 1 and vectors.shape[1] == 16 for vectors in found)


def test_wrong_settings_are_said_at_once() -> None:
    with pytest.raises(InputError, match="share is above 0"):
        SalientTokens(WindowedWords(), share=0)
    with pytest.raises(InputError, match="overlap must be"):
        SentenceLandmarks(WindowedWords(), overlap=99)


def test_a_library_ranks_by_late_interaction(tmp_path) -> None:
    texts = {"pier": TEXT, "cranes": "The cranes stop when the wind is above 15 m/s.", "vote": "Mr Pell voted against."}
    question = "How strong may the wind be for the cranes?"
    encoder = SalientTokens(WindowedWords(window=64), share=1.0)
    with carrel.open(tmp_path / "lib", encoder=encoder) as library:
        library.add([Document(text, id=name) for name, text in texts.items()])
        found = library.search(question, retriever="dense", mode="fast", limit=10)
    query = encoder.encode_query(question)
    expected = {
        name: float((query @ encoder.encode(Document(text), chunks_of(text))[0].T).max(axis=1).mean())
        for name, text in texts.items()
        if name != "pier"
    }
    scores = {passage.document_id: passage.scores.dense for passage in found}
    assert found[0].document_id == "cranes"
    for name, score in expected.items():
        assert scores[name] == pytest.approx(score, abs=1e-4)
