"""The contract of everything that turns the chunks of a document into vectors."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from carrel.tokens import Tokenizer
from carrel.types import Chunk, Document

Vectors = NDArray[np.float32]


class ChunkEncoder(ABC):
    """Encodes chunks in their document, so that an encoder may look at the surroundings.

    ``window`` is the most tokens one input may have, special tokens included; ``max_chunk_tokens``
    the most a chunk with its prefix should have. Vectors are float32 of unit length, so that an
    inner product is a cosine.
    """

    name: ClassVar[str]
    citation: ClassVar[str] = ""
    languages: frozenset[str] = frozenset()  # empty: any
    dimension: int
    window: int
    max_chunk_tokens: int

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever the vectors would: model bytes, pooling, prompts."""

    @property
    def query_fingerprint(self) -> str:
        """Changes whenever the vectors of questions would; encoders that share it can be blended."""
        return self.fingerprint

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """Counts the window."""

    @abstractmethod
    def encode(self, document: Document, chunks: Sequence[Chunk]) -> list[Vectors]:
        """One array (vectors of the chunk, dimension) for each chunk; plain encoders give one vector."""

    @abstractmethod
    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        """(questions, dimension)."""

    def encode_query(self, question: str) -> Vectors:
        """(vectors, dimension): one, but for late interaction, where each is matched with its nearest of a chunk."""
        return self.encode_queries([question])

    def input_hash(self, document: Document, chunk: Chunk) -> str:
        """Hash of all that the chunk's vectors depend on: here the whole document; plain encoders narrow it."""
        parts = (self.fingerprint, document.text, f"{chunk.start}:{chunk.end}", chunk.prefix)
        return digest(*parts)

    def encode_many(self, items: Sequence[tuple[Document, Sequence[Chunk]]]) -> list[list[Vectors]]:
        """Several documents at once; encoders that can batch across documents override this."""
        return [self.encode(document, chunks) for document, chunks in items]


class TextEncoder(ChunkEncoder):
    """A plain encoder: a chunk's vector depends on its prefix and text alone."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """(texts, dimension), unit length, in the order given."""

    @staticmethod
    def input_text(chunk: Chunk) -> str:
        return f"{chunk.prefix}\n{chunk.text}" if chunk.prefix else chunk.text

    def input_hash(self, document: Document, chunk: Chunk) -> str:
        return digest(self.fingerprint, self.input_text(chunk))

    def encode(self, document: Document, chunks: Sequence[Chunk]) -> list[Vectors]:
        return self.encode_many([(document, chunks)])[0]

    def encode_many(self, items: Sequence[tuple[Document, Sequence[Chunk]]]) -> list[list[Vectors]]:
        texts = [self.input_text(chunk) for _, chunks in items for chunk in chunks]
        rows = iter(self.encode_texts(texts)) if texts else iter(())
        return [[next(rows)[None, :] for _ in chunks] for _, chunks in items]

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        return self.encode_texts(questions)


def unit(vectors: Vectors) -> Vectors:
    """The same vectors, (..., dimension), with a length of 1; a vector of zeros becomes the first unit vector."""
    out = np.array(vectors, np.float32)
    lengths = np.linalg.norm(out, axis=-1, keepdims=True)
    out /= np.where(lengths > 0, lengths, 1)
    out[..., 0] = np.where(lengths[..., 0] > 0, out[..., 0], 1.0)
    return out


def digest(*parts: str | bytes) -> str:
    """Hash of a sequence of texts; their boundaries count."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()
