"""Shorter vectors of a longer model: the first dimensions of a Matryoshka embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from carrel.embeddings.base import ChunkEncoder, Vectors, digest, unit
from carrel.errors import InputError
from carrel.inputs import check_kind
from carrel.tokens import Tokenizer
from carrel.types import Chunk, Document


class Matryoshka(ChunkEncoder):
    """The first dimensions of another encoder's vectors, scaled to unit length again.

    For models trained so that the first dimensions say most. The shipped model was not: cutting it loses much
    (measured in docs/embeddings.md).

    Reference: Kusupati et al., "Matryoshka Representation Learning", arXiv 2205.13147.

    Parameters
    ----------
    encoder : whose vectors are cut off.
    dimension : how many of its dimensions to keep.
    """

    name: ClassVar[str] = "matryoshka"
    citation: ClassVar[str] = "Kusupati et al., Matryoshka Representation Learning, arXiv 2205.13147"

    def __init__(self, encoder: ChunkEncoder, dimension: int) -> None:
        check_kind("an encoder", encoder, ChunkEncoder)
        is_whole = isinstance(dimension, int) and not isinstance(dimension, bool)
        if not is_whole or not 0 < dimension <= encoder.dimension:
            raise InputError(
                f"{encoder.name} has {encoder.dimension} dimensions: keep from 1 to all of them, not {dimension!r}"
            )
        self.encoder, self.dimension = encoder, dimension
        self.window, self.max_chunk_tokens = encoder.window, encoder.max_chunk_tokens
        self.languages = encoder.languages

    @property
    def fingerprint(self) -> str:
        return digest(self.name, str(self.dimension), self.encoder.fingerprint)

    @property
    def query_fingerprint(self) -> str:
        return digest(self.name, str(self.dimension), self.encoder.query_fingerprint)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.encoder.tokenizer

    def encode(self, document: Document, chunks: Sequence[Chunk]) -> list[Vectors]:
        return [self._cut(vectors) for vectors in self.encoder.encode(document, chunks)]

    def encode_many(self, items: Sequence[tuple[Document, Sequence[Chunk]]]) -> list[list[Vectors]]:
        return [[self._cut(vectors) for vectors in group] for group in self.encoder.encode_many(items)]

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        return self._cut(self.encoder.encode_queries(questions))

    def encode_query(self, question: str) -> Vectors:
        return self._cut(self.encoder.encode_query(question))

    def input_hash(self, document: Document, chunk: Chunk) -> str:
        return digest(self.fingerprint, self.encoder.input_hash(document, chunk))

    def _cut(self, vectors: Vectors) -> Vectors:
        """(vectors, D) -> (vectors, dimension)."""
        return unit(np.ascontiguousarray(vectors[:, : self.dimension]))
