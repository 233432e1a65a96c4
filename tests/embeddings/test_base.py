"""What encoders share: the input text, its hash, and batches over documents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carrel.embeddings.base import ChunkEncoder, TextEncoder, digest
from carrel.testing import ChunkEncoderConformance, HashEncoder, WordTokenizer
from carrel.types import Chunk, Document

DOCUMENT = Document("One two. Three four.", "d", "Title")
CHUNKS = [Chunk(0, 0, 9, "One two. ", "Title"), Chunk(1, 9, 20, "Three four.", "")]


class TestHashEncoder(ChunkEncoderConformance):
    def make(self) -> HashEncoder:
        return HashEncoder()


class Late(ChunkEncoder):
    """Looks at the whole document."""

    name, dimension, window, max_chunk_tokens, fingerprint = "late", 4, 64, 32, "late/1"
    tokenizer = WordTokenizer()

    def encode(self, document, chunks):
        return [HashEncoder(4).encode_texts([document.text + chunk.text] * 2) for chunk in chunks]

    def encode_queries(self, questions):
        return HashEncoder(4).encode_texts(questions)


class TestLate(ChunkEncoderConformance):
    def make(self) -> Late:
        return Late()


def test_the_input_of_a_plain_encoder_is_prefix_and_text() -> None:
    assert [TextEncoder.input_text(chunk) for chunk in CHUNKS] == ["Title\nOne two. ", "Three four."]


def test_a_plain_hash_depends_on_the_input_alone() -> None:
    encoder, moved = HashEncoder(), Chunk(7, 90, 99, "One two. ", "Title", 3, 2)
    assert encoder.input_hash(DOCUMENT, CHUNKS[0]) == encoder.input_hash(Document("other"), moved)
    for other in (Chunk(0, 0, 9, "One two!", "Title"), Chunk(0, 0, 9, "One two. ", "Titles")):
        assert encoder.input_hash(DOCUMENT, CHUNKS[0]) != encoder.input_hash(DOCUMENT, other)
    assert HashEncoder(seed=1).input_hash(DOCUMENT, CHUNKS[0]) != encoder.input_hash(DOCUMENT, CHUNKS[0])


def test_other_hashes_depend_on_the_whole_document() -> None:
    encoder = Late()
    hashes = {
        encoder.input_hash(DOCUMENT, CHUNKS[0]),
        encoder.input_hash(DOCUMENT, CHUNKS[1]),
        encoder.input_hash(Document("One two. Three five."), CHUNKS[0]),
        encoder.input_hash(DOCUMENT, Chunk(0, 0, 9, "One two. ", "Other")),
    }
    assert len(hashes) == 4


def test_documents_with_and_without_chunks_keep_their_places() -> None:
    for encoder in (HashEncoder(4), Late()):
        many = encoder.encode_many([(DOCUMENT, CHUNKS), (DOCUMENT, []), (DOCUMENT, CHUNKS[1:])])
        assert [len(vectors) for vectors in many] == [2, 0, 1]
        assert (many[0][1] == many[2][0]).all()
        assert encoder.encode_many([]) == []


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_a_digest_tells_sequences_apart(first: list[str], second: list[str]) -> None:
    assert (digest(*first) == digest(*second)) == (first == second)


def test_a_digest_holds_lone_surrogates() -> None:
    assert digest("\ud800") != digest("\ud801")
