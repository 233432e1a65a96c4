"""Chunks embedded as the longer passages that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np

from carrel.embeddings.base import ChunkEncoder, Vectors, digest, unit
from carrel.embeddings.minilm import MiniLM
from carrel.errors import InputError
from carrel.inputs import check_kind
from carrel.retrieval.chunking import ChunkingOptions, chunk_document
from carrel.tokens import Tokenizer
from carrel.types import Block, Chunk, Document

_TOKENS = 256
_PREFIX_ROOM = 64  # tokens above the target, for headings and what cannot be cut


class ParentChunks(ChunkEncoder):
    """A chunk's vector is that of the passage around it, cut along the same headings and paragraphs.

    Short chunks are found exactly and packed tightly, long ones say better what they belong to. Retrieved as short
    and embedded as long, a chunk has both; alone it does not tell neighbours apart, so it is best blended with the
    chunk's own vector. Each passage is read once, whatever the number of its chunks. A chunk that lies in two of them
    has their mean, by what each holds of it.

    Reference: granularities are mixed by a router in Zhong et al., "Mix-of-Granularity", arXiv 2406.00456; here, by
    adding up vectors, all are asked at once.

    Parameters
    ----------
    model : embeds the passages, with one vector each; the shipped MiniLM by default.
    tokens : how long a passage aims to be; 256 by default, or half the model's window where that is less.
    """

    name: ClassVar[str] = "parents"
    citation: ClassVar[str] = "cf. Zhong et al., Mix-of-Granularity, arXiv 2406.00456"

    def __init__(self, model: ChunkEncoder | None = None, *, tokens: int | None = None) -> None:
        check_kind("a model", model, ChunkEncoder)
        self.model: ChunkEncoder = model if model is not None else MiniLM()
        window = self.model.window
        self.tokens = min(_TOKENS, max(1, window // 2)) if tokens is None else tokens
        if not 1 <= self.tokens <= window:
            raise InputError(f"a passage of {self.model.name} has from 1 to {window} tokens, not {tokens!r}")
        self.dimension, self.window, self.languages = self.model.dimension, self.model.window, self.model.languages
        self.max_chunk_tokens = self.model.max_chunk_tokens
        self._cut = lru_cache(maxsize=4)(self._passages)

    @property
    def fingerprint(self) -> str:
        return digest(self.name, self.model.fingerprint, str(self.tokens))

    @property
    def query_fingerprint(self) -> str:
        return self.model.query_fingerprint

    @property
    def tokenizer(self) -> Tokenizer:
        return self.model.tokenizer

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        return self.model.encode_queries(questions)

    def encode(self, document: Document, chunks: Sequence[Chunk]) -> list[Vectors]:
        return self.encode_many([(document, chunks)])[0]

    def encode_many(self, items: Sequence[tuple[Document, Sequence[Chunk]]]) -> list[list[Vectors]]:
        parents = [[self._parents(document, chunk) for chunk in chunks] for document, chunks in items]
        wanted = [list({parent.start: parent for shares in of for parent, _ in shares}.values()) for of in parents]
        read = self.model.encode_many(
            [(document, passages) for (document, _), passages in zip(items, wanted, strict=True)]
        )
        found: list[list[Vectors]] = []
        for of, passages, vectors in zip(parents, wanted, read, strict=True):
            known = {passage.start: rows for passage, rows in zip(passages, vectors, strict=True)}
            found.append([_mean([(known[parent.start], share) for parent, share in shares]) for shares in of])
        return found

    def input_hash(self, document: Document, chunk: Chunk) -> str:
        """Hash of the passages that hold the chunk, and of what each of them holds."""
        parts = [
            part
            for parent, share in self._parents(document, chunk)
            for part in (self.model.input_hash(document, parent), str(share))
        ]
        return digest(self.fingerprint, *parts)

    def _parents(self, document: Document, chunk: Chunk) -> list[tuple[Chunk, int]]:
        """The passages that hold something of the chunk, each with how many of its characters."""
        passages = self._cut(document.text, document.title, document.blocks)
        shares = [
            (passage, min(passage.end, chunk.end) - max(passage.start, chunk.start))
            for passage in passages
            if passage.start < chunk.end and passage.end > chunk.start
        ]
        return shares or [(chunk, 1)]  # of nothing

    def _passages(self, text: str, title: str, blocks: tuple[Block, ...]) -> list[Chunk]:
        most = min(self.tokens + _PREFIX_ROOM, self.window)
        options = ChunkingOptions(target_tokens=self.tokens, max_tokens=most)
        return chunk_document(Document(text, title=title, blocks=blocks), self.tokenizer, options)


def _mean(parts: Sequence[tuple[Vectors, int]]) -> Vectors:
    """(1, dimension): the mean of vectors, each (1, dimension), by their shares."""
    if any(len(rows) != 1 for rows, _ in parts):
        raise InputError("passages need an encoder with one vector each")
    rows = np.stack([rows[0] for rows, _ in parts])  # (parents, D)
    shares = np.array([share for _, share in parts], np.float32)
    return unit(shares @ rows)[None, :]
