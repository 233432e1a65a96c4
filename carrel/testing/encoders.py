"""An encoder for tests that needs no model, and what every encoder must hold to."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import numpy as np

from carrel.embeddings.base import ChunkEncoder, TextEncoder, Vectors, digest
from carrel.testing.tokenizers import WordTokenizer
from carrel.tokens import Tokenizer
from carrel.types import Chunk, Document

_WORDS = re.compile(r"\w+")
_SIGNS = np.array((-1.0, 1.0), np.float32)


class HashEncoder(TextEncoder):
    """A bag of words, hashed to a unit vector: texts that share words are close, and no model is needed.

    Parameters
    ----------
    dimension : of the vectors.
    seed : another seed is another encoder, with other vectors and another fingerprint.
    tokenizer : counts the window; words by default.

    Attributes
    ----------
    texts_encoded : how many texts were encoded so far, questions not counted.
    """

    name: ClassVar[str] = "hash"

    def __init__(self, dimension: int = 64, *, seed: int = 0, tokenizer: Tokenizer | None = None) -> None:
        self.dimension, self.seed = dimension, seed
        self.window, self.max_chunk_tokens = 512, 256
        self.texts_encoded = 0
        self._tokenizer = tokenizer or WordTokenizer()

    @property
    def fingerprint(self) -> str:
        return digest("hash/1", str(self.dimension), str(self.seed), self._tokenizer.name)

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """(texts, dimension), unit length; a text without words has the first unit vector."""
        self.texts_encoded += len(texts)
        return self._vectors(texts)

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        return self._vectors(questions)

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        out = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in zip(out, texts, strict=True):
            for word in _WORDS.findall(text.lower()):
                for position, sign in _places(word, self.seed):
                    row[position % self.dimension] += _SIGNS[sign]
            length = float(np.linalg.norm(row))
            if length:
                row /= length
            else:
                row[0] = 1.0
        return out


@lru_cache(maxsize=65_536)
def _places(word: str, seed: int) -> tuple[tuple[int, int], ...]:
    """Where a word goes, and with which sign (0 or 1): three places, so that few words fall together."""
    state = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=12, salt=seed.to_bytes(8, "little"))
    numbers = np.frombuffer(state.digest(), "<u4").tolist()
    return tuple((number >> 1, number & 1) for number in numbers)


class ChunkEncoderConformance(ABC):
    """What the store and the indexes rely on: shapes, unit length, determinism, hashes that tell inputs apart."""

    tolerance: float = 1e-5

    @abstractmethod
    def make(self) -> ChunkEncoder:
        """Return a new encoder; two calls give the same one."""

    def document(self) -> Document:
        """Return a document with several chunks; override it for encoders of other content."""
        text = "The pier was built in 1894. The ferry leaves at nine.\n\nLamps burn all night.\n\nZebra!"
        return Document(text, id="pier", title="Harbour")

    def chunks(self) -> list[Chunk]:
        text = self.document().text
        cuts = [0, text.index("Lamps"), text.index("Zebra"), len(text)]
        spans = pairwise(cuts)
        return [Chunk(number, start, end, text[start:end], "Harbour") for number, (start, end) in enumerate(spans)]

    def test_what_it_says_of_itself(self) -> None:
        encoder = self.make()
        assert isinstance(encoder.name, str) and encoder.name
        assert encoder.dimension > 0
        assert 0 < encoder.max_chunk_tokens <= encoder.window
        assert isinstance(encoder.tokenizer, Tokenizer)

    def test_vectors_have_shape_type_and_unit_length(self) -> None:
        encoder = self.make()
        vectors = encoder.encode(self.document(), self.chunks())
        assert len(vectors) == len(self.chunks())
        for array in [*vectors, encoder.encode_queries(["When was the pier built?"])]:
            assert array.ndim == 2 and array.shape[0] >= 1 and array.shape[1] == encoder.dimension, array.shape
            assert array.dtype == np.float32
            assert np.allclose(np.linalg.norm(array, axis=1), 1.0, atol=1e-3)

    def test_nothing_in_nothing_out(self) -> None:
        encoder = self.make()
        assert encoder.encode(self.document(), []) == []
        assert encoder.encode_many([]) == []
        assert encoder.encode_queries([]).shape == (0, encoder.dimension)

    def test_the_same_input_gives_the_same_vectors(self) -> None:
        first, second = (self.make().encode(self.document(), self.chunks()) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            assert np.array_equal(one, other)

    def test_a_vector_does_not_depend_on_what_is_encoded_with_it(self) -> None:
        encoder, document, chunks = self.make(), self.document(), self.chunks()
        together = encoder.encode(document, chunks)
        for chunk, vectors in zip(chunks, together, strict=True):
            alone = encoder.encode(document, [chunk])[0]
            assert np.allclose(alone, vectors, atol=self.tolerance)

    def test_the_order_is_kept(self) -> None:
        encoder, document, chunks = self.make(), self.document(), self.chunks()
        forwards = encoder.encode(document, chunks)
        backwards = encoder.encode(document, chunks[::-1])
        for one, other in zip(forwards, backwards[::-1], strict=True):
            assert np.allclose(one, other, atol=self.tolerance)
        questions = ["lamps at night", "the ferry"]
        both = encoder.encode_queries(questions)
        for question, vector in zip(questions, both, strict=True):
            assert np.allclose(encoder.encode_queries([question])[0], vector, atol=self.tolerance)

    def test_several_documents_at_once_are_as_one_by_one(self) -> None:
        encoder, document, chunks = self.make(), self.document(), self.chunks()
        other = replace(document, id="other", text=document.text.upper())
        other_chunks = [replace(chunk, text=chunk.text.upper()) for chunk in chunks]
        many = encoder.encode_many([(document, chunks), (other, []), (other, other_chunks)])
        assert [len(vectors) for vectors in many] == [len(chunks), 0, len(chunks)]
        single = [encoder.encode(document, chunks), [], encoder.encode(other, other_chunks)]
        for group, expected in zip(many, single, strict=True):
            for one, vector in zip(group, expected, strict=True):
                assert np.allclose(one, vector, atol=self.tolerance)

    def test_the_fingerprint_stays(self) -> None:
        encoder = self.make()
        before = encoder.fingerprint
        encoder.encode(self.document(), self.chunks())
        assert before == encoder.fingerprint == self.make().fingerprint
        assert before

    def test_the_hash_changes_with_what_the_vectors_depend_on(self) -> None:
        encoder, document, chunks = self.make(), self.document(), self.chunks()
        hashes = [encoder.input_hash(document, chunk) for chunk in chunks]
        assert len(set(hashes)) == len(chunks)
        assert hashes == [self.make().input_hash(document, chunk) for chunk in chunks]
        prefixed = replace(chunks[0], prefix="Elsewhere")
        changed = replace(chunks[0], text=chunks[0].text.replace("pier", "mole"))
        edited = replace(document, text=document.text.replace("pier", "mole"))
        before = encoder.encode(document, chunks[:1])[0]
        for other, piece in ((document, prefixed), (edited, changed)):
            if not np.array_equal(before, encoder.encode(other, [piece])[0]):
                assert encoder.input_hash(other, piece) != hashes[0]

    def test_equal_hashes_mean_equal_vectors(self) -> None:
        encoder, document, chunks = self.make(), self.document(), self.chunks()
        moved = replace(document, id="moved", source="elsewhere/pier.txt", metadata={"year": 1894})
        for chunk in chunks:
            if encoder.input_hash(document, chunk) == encoder.input_hash(moved, chunk):
                one, other = encoder.encode(document, [chunk])[0], encoder.encode(moved, [chunk])[0]
                assert np.array_equal(one, other)
