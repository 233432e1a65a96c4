"""Several encoders of one model as one: their vectors of a chunk are added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from carrel.embeddings.base import ChunkEncoder, Vectors, digest, unit
from carrel.embeddings.late import LateChunking
from carrel.embeddings.minilm import MiniLM
from carrel.embeddings.parents import ParentChunks
from carrel.errors import InputError
from carrel.inputs import check_kind
from carrel.tokens import Tokenizer
from carrel.types import Chunk, Document


class Blended(ChunkEncoder):
    """The weighted sum of what several encoders make of a chunk, of unit length.

    A chunk alone says sharply what it is about, a chunk in its document also what it belongs to. The sum has the
    mean of their cosines as its own, so both count, and the index holds one vector a chunk. The encoders must embed
    questions alike: they are of one model.

    Parameters
    ----------
    encoders : those to add, each with one vector a chunk; by default the shipped model on chunks alone, under their
        headings, on the passages of 256 tokens that hold them, and by late chunking in windows of 256 tokens with
        what stands before and after them.
    weights : how much each counts; equally by default.
    """

    name: ClassVar[str] = "blended"
    citation: ClassVar[str] = "Günther et al., Late Chunking, arXiv 2409.04701"

    def __init__(
        self, encoders: Sequence[ChunkEncoder] | None = None, *, weights: Sequence[float] | None = None
    ) -> None:
        if encoders is None:
            model = MiniLM()
            late = LateChunking(model, window=256, overlap=32, spread=0.5)
            encoders = (model, ParentChunks(model), late)
        self.encoders = tuple(encoders)
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(self.encoders)
        _check(self.encoders, self.weights)
        first = self.encoders[0]
        self.dimension, self.languages = first.dimension, first.languages
        self.window = min(encoder.window for encoder in self.encoders)
        self.max_chunk_tokens = min(encoder.max_chunk_tokens for encoder in self.encoders)

    @property
    def fingerprint(self) -> str:
        parts = [
            part for pair in zip(self.encoders, self.weights, strict=True) for part in (pair[0].fingerprint, pair[1])
        ]
        return digest(self.name, *map(str, parts))

    @property
    def query_fingerprint(self) -> str:
        return self.encoders[0].query_fingerprint

    @property
    def tokenizer(self) -> Tokenizer:
        return self.encoders[0].tokenizer

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        return self.encoders[0].encode_queries(questions)

    def input_hash(self, document: Document, chunk: Chunk) -> str:
        return digest(self.fingerprint, *(encoder.input_hash(document, chunk) for encoder in self.encoders))

    def encode(self, document: Document, chunks: Sequence[Chunk]) -> list[Vectors]:
        return self.encode_many([(document, chunks)])[0]

    def encode_many(self, items: Sequence[tuple[Document, Sequence[Chunk]]]) -> list[list[Vectors]]:
        found = [encoder.encode_many(items) for encoder in self.encoders]
        return [
            [self._sum([vectors[place][index] for vectors in found]) for index in range(len(chunks))]
            for place, (_, chunks) in enumerate(items)
        ]

    def _sum(self, vectors: Sequence[Vectors]) -> Vectors:
        """(1, dimension)."""
        if any(len(rows) != 1 for rows in vectors):
            raise InputError("only encoders with one vector a chunk can be blended")
        return unit(np.einsum("e,eij->ij", np.array(self.weights, np.float32), np.stack(vectors)))


def _check(encoders: Sequence[ChunkEncoder], weights: Sequence[float]) -> None:
    for encoder in encoders:
        check_kind("an encoder", encoder, ChunkEncoder)
    if len(encoders) < 2 or None in encoders:
        raise InputError("a blend is of two encoders or more")
    if len(weights) != len(encoders) or not all(weight > 0 for weight in weights):
        raise InputError(f"a blend of {len(encoders)} encoders takes as many weights above 0, not {list(weights)}")
    if len({encoder.query_fingerprint for encoder in encoders}) > 1:
        names = ", ".join(encoder.name for encoder in encoders)
        raise InputError(f"the encoders {names} embed questions differently: only encoders of one model can be blended")
