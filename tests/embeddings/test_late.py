"""Late chunking and situated chunks: against naive pooling, exact offsets, and hashes that follow their inputs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrel
from carrel.embeddings.base import unit
from carrel.embeddings.late import LateChunking, PooledEncoder, SituatedChunks
from carrel.embeddings.minilm import MiniLM
from carrel.embeddings.token_states import pooled
from carrel.errors import EncoderMismatchError, InputError
from carrel.retrieval.chunking import ChunkingOptions, chunk_document
from carrel.testing import ChunkEncoderConformance
from carrel.types import Chunk, Document
from tests.embeddings.token_models import WindowedWords

# Scripts without spaces, right to left, emoji of several code points, marks, controls, and no text at all.
HOSTILE = st.text(alphabet=st.sampled_from("ab .\n東京אב🚢👩‍🚀é́\u200f\t\x0b؟1"), max_size=300)


class TestLateChunking(ChunkEncoderConformance):
    def make(self) -> PooledEncoder:
        return LateChunking(WindowedWords())


class TestLateChunkingWithEverything(ChunkEncoderConformance):
    def make(self) -> PooledEncoder:
        return LateChunking(WindowedWords(), overlap=3, spread=0.5, document_weight=0.2)


class TestLateChunkingOfTheShippedModel(ChunkEncoderConformance):
    def make(self) -> PooledEncoder:
        return LateChunking()


class TestSituatedChunks(ChunkEncoderConformance):
    def make(self) -> PooledEncoder:
        return SituatedChunks(WindowedWords())


class TestSituatedChunksWithLittleAround(ChunkEncoderConformance):
    def make(self) -> PooledEncoder:
        return SituatedChunks(WindowedWords(), around=2)


def chunks_of(text: str, cuts: list[int]) -> list[Chunk]:
    places = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    return [Chunk(number, start, end, text[start:end]) for number, (start, end) in enumerate(pairwise(places))]


def words(count: int, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(f"w{number}" for number in rng.integers(0, 40, count))


def test_a_text_in_one_window_is_pooled_from_one_pass() -> None:
    model = WindowedWords(window=40)
    text = words(30)
    chunks = chunks_of(text, [20, 50])
    states = model.states(model.tokenize(text).ids)
    tokens = model.tokenize(text)
    model.passes.clear()
    found = LateChunking(model).encode(Document(text), chunks)
    assert model.passes == [30]
    for chunk, vectors in zip(chunks, found, strict=True):
        inside = (tokens.starts >= chunk.start) & (tokens.starts < chunk.end)
        assert np.allclose(vectors[0], unit(states[inside].mean(axis=0)), atol=1e-5)


def test_past_the_window_every_token_is_read_and_none_alone() -> None:
    model = WindowedWords()
    text = words(95)
    LateChunking(model, overlap=4).encode(Document(text), chunks_of(text, [40, 200]))
    assert set(model.passes) == {10} and sum(model.passes) >= 95


def test_spread_adds_what_stands_before_and_after() -> None:
    model = WindowedWords(window=64)
    text = words(60)
    chunks = chunks_of(text, [60, 90])
    tokens = model.tokenize(text)
    own = tokens.between(chunks[1].start, chunks[1].end)
    reach = own.stop - own.start
    sides = [slice(own.start - reach, own.start), own, slice(own.stop, own.stop + reach)]
    parts = unit(pooled(model, tokens, sides, overlap=5))
    expected = unit(0.5 * parts[0] + parts[1] + 0.5 * parts[2])
    found = LateChunking(model, overlap=5, spread=0.5).encode(Document(text), chunks)[1][0]
    assert np.allclose(found, expected, atol=1e-5)


def test_the_document_vector_is_the_mean_of_all_and_mixes_in() -> None:
    model = WindowedWords(window=64)
    text = words(60)
    document, chunks = Document(text), chunks_of(text, [60, 90])
    whole = LateChunking(model).encode_document(document)
    assert np.allclose(whole, unit(model.states(model.tokenize(text).ids).mean(axis=0)), atol=1e-5)
    plain = LateChunking(model).encode(document, chunks)[1][0]
    mixed = LateChunking(model, document_weight=0.3).encode(document, chunks)[1][0]
    assert np.allclose(mixed, unit(0.7 * plain + 0.3 * whole), atol=1e-5)
    assert np.isclose(np.linalg.norm(LateChunking(model).encode_document(Document(" "))), 1)


def test_a_situated_chunk_has_as_much_text_on_both_sides() -> None:
    model = WindowedWords(window=22)
    text = words(200)
    tokens = model.tokenize(text)
    chunk = chunks_of(text, [int(tokens.starts[100]), int(tokens.starts[104])])[1]
    found = SituatedChunks(model).encode(Document(text), [chunk])[0][0]
    states = model.states(tokens.ids[92:112])
    assert np.allclose(found, unit(states[8:12].mean(axis=0)), atol=1e-5)


@pytest.mark.parametrize("place", [0, 196])
def test_at_the_ends_of_a_text_the_other_side_has_more(place) -> None:
    model = WindowedWords(window=22)
    text = words(200)
    tokens = model.tokenize(text)
    end = int(tokens.starts[place + 4]) if place + 4 < 200 else len(text)
    chunk = next(c for c in chunks_of(text, [int(tokens.starts[place]), end]) if c.end == end)
    model.passes.clear()
    SituatedChunks(model).encode(Document(text), [chunk])
    assert model.passes == [20]


def test_around_bounds_what_is_read() -> None:
    model = WindowedWords(window=22)
    text = words(200)
    tokens = model.tokenize(text)
    chunk = chunks_of(text, [int(tokens.starts[100]), int(tokens.starts[104])])[1]
    SituatedChunks(model, around=3).encode(Document(text), [chunk])
    assert model.passes == [10]


@given(text=HOSTILE, cuts=st.lists(st.integers(0, 300), max_size=5))
def test_hostile_texts_keep_exact_offsets(text, cuts) -> None:
    model = WindowedWords()
    document, chunks = Document(text), chunks_of(text, cuts)
    tokens = model.tokenize(text)
    for encoder in (LateChunking(model, overlap=3, spread=0.25), SituatedChunks(model)):
        found = encoder.encode(document, chunks)
        assert len(found) == len(chunks)
        assert all(np.isclose(np.linalg.norm(vectors), 1, atol=1e-4) for vectors in found)
    pieces = [tokens.between(chunk.start, chunk.end) for chunk in chunks]
    shared = [index for piece in pieces for index in range(piece.start, piece.stop)]
    assert shared == list(range(len(tokens)))  # each token in the chunk it begins in, in no other
    for chunk, piece in zip(chunks, pieces, strict=True):
        assert all(chunk.start <= start < chunk.end for start in tokens.starts[piece])


@given(text=st.text(max_size=200))
def test_the_shipped_model_takes_any_text(text) -> None:
    document = Document(text)
    model = MiniLM()
    chunks = chunk_document(document, model.tokenizer, ChunkingOptions())
    for vectors in LateChunking(model, overlap=64).encode(document, chunks):
        assert vectors.shape == (1, 384) and np.isclose(np.linalg.norm(vectors), 1, atol=1e-3)


@pytest.mark.parametrize(
    "make", [lambda model: LateChunking(model, overlap=2), lambda model: SituatedChunks(model, around=4)]
)
def test_an_edit_far_away_leaves_the_hash_and_the_vector(make) -> None:
    text = words(200)
    chunks = chunks_of(text, [100, 150])
    edited = text[:-4] + "zzzz"
    encoder = make(WindowedWords())
    assert encoder.input_hash(Document(text), chunks[1]) == encoder.input_hash(Document(edited), chunks[1])
    one, other = (encoder.encode(Document(t), [chunks[1]])[0] for t in (text, edited))
    assert np.array_equal(one, other)
    assert encoder.input_hash(Document(text), chunks_of(text, [100, 150])[2]) != encoder.input_hash(
        Document(edited), chunks_of(edited, [100, 150])[2]
    )


@given(st.data())
def test_equal_hashes_mean_equal_vectors(data) -> None:
    encoder = LateChunking(WindowedWords(), overlap=3, spread=data.draw(st.sampled_from([0.0, 0.5])))
    text = words(data.draw(st.integers(5, 60)))
    place = data.draw(st.integers(0, len(text) - 1))
    edited = text[:place] + data.draw(st.sampled_from(["q", " ", ""])) + text[place + 1 :]
    cuts = data.draw(st.lists(st.integers(1, 200), max_size=4))
    before, after = chunks_of(text, cuts), chunks_of(edited, cuts)
    for one, other in zip(before, after, strict=False):
        hashes = encoder.input_hash(Document(text), one), encoder.input_hash(Document(edited), other)
        if hashes[0] == hashes[1]:
            vectors = encoder.encode(Document(text), [one])[0], encoder.encode(Document(edited), [other])[0]
            assert np.allclose(*vectors, atol=1e-6)


def test_wrong_settings_are_said_at_once() -> None:
    model = WindowedWords()
    with pytest.raises(InputError, match="overlap must be"):
        LateChunking(model, overlap=10)
    with pytest.raises(InputError, match="spread is a weight"):
        LateChunking(model, spread=2)
    with pytest.raises(InputError, match="document_weight is a weight"):
        LateChunking(model, document_weight=-0.1)
    with pytest.raises(InputError, match="at most 12 tokens"):
        LateChunking(model, window=13)
    with pytest.raises(InputError, match="around is a number"):
        SituatedChunks(model, around=99)
    with pytest.raises(InputError, match="a model is an object of"):
        LateChunking("MiniLM")  # type: ignore[arg-type]


def test_a_changed_encoder_is_refused_until_reindex(tmp_path) -> None:
    with carrel.open(tmp_path / "lib") as library:
        library.add(Document("The ferry leaves at nine. She carries lamp oil.", id="ferry"))
    with carrel.open(tmp_path / "lib", encoder=LateChunking()) as library:
        with pytest.raises(EncoderMismatchError, match="reindex"):
            library.search("When does the ferry leave?")
        library.reindex()
        assert library.search("When does the ferry leave?")[0].document_id == "ferry"
    other = carrel.open(tmp_path / "lib", encoder=LateChunking(overlap=10))
    with other as library, pytest.raises(EncoderMismatchError):
        library.search("When does the ferry leave?")
