"""Chunks embedded in their document: token states of passes that are longer than a chunk, pooled by its offsets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np

from carrel.embeddings.base import ChunkEncoder, Vectors, digest, unit
from carrel.embeddings.minilm import MiniLM, available_cores
from carrel.embeddings.token_states import TokenModel, Tokens, pooled, windows_of
from carrel.errors import InputError
from carrel.inputs import check_kind
from carrel.tokens import Tokenizer
from carrel.types import Chunk, Document

_CHUNK_TOKENS = 256


class PooledEncoder(ChunkEncoder):
    """What encoders that pool the states of a TokenModel have in common.

    Prefixes are not read: they are not source, and a pass over the document has the headings themselves.
    """

    def __init__(
        self, model: TokenModel | None = None, *, window: int | None = None, threads: int | None = None
    ) -> None:
        check_kind("a model", model, TokenModel)
        self.model: TokenModel = model if model is not None else MiniLM()
        self.window, self.dimension = window or self.model.window, self.model.dimension
        if not self.model.special_tokens < self.window <= self.model.window:
            raise InputError(f"a pass of {self.model.name} has at most {self.model.window} tokens, not {self.window}")
        self.languages = self.model.languages
        self.max_chunk_tokens = min(_CHUNK_TOKENS, self.window)
        self.threads = threads or available_cores()
        self._tokenized = lru_cache(maxsize=4)(self.model.tokenize)

    @property
    def fingerprint(self) -> str:
        return digest(self.name, self.model.fingerprint, *self._settings())

    @property
    def query_fingerprint(self) -> str:
        return self.model.fingerprint

    @property
    def tokenizer(self) -> Tokenizer:
        return self.model.tokenizer

    @property
    def room(self) -> int:
        """The tokens of a text that one pass reads."""
        return self.window - self.model.special_tokens

    def encode_queries(self, questions: Sequence[str]) -> Vectors:
        return self.model.encode_queries(questions)

    def encode(self, document: Document, chunks: Sequence[Chunk]) -> list[Vectors]:
        tokens = self._tokenized(document.text)
        if not chunks:
            return []
        if not len(tokens):
            return [self._nothing()[None, :] for _ in chunks]
        return self._encode(document, tokens, chunks)

    def input_hash(self, document: Document, chunk: Chunk) -> str:
        """Hash of the tokens that the chunk's vectors are made of: an edit far away leaves them as they were."""
        tokens = self._tokenized(document.text)
        if not len(tokens):
            return digest(self.fingerprint)
        return digest(self.fingerprint, *self._inputs(document, tokens, chunk))

    def context(self, tokens: Tokens, piece: slice, overlap: int) -> tuple[str | bytes, ...]:
        """The windows that hold a token of the piece, and where it stands in them: all that its states depend on."""
        windows = windows_of(len(tokens), self.room, overlap)
        parts: list[str | bytes] = []
        for index, window in enumerate(windows):
            if window.start < piece.stop and window.stop > piece.start:
                place = f"{piece.start - window.start}:{piece.stop - window.start}"
                parts += [tokens.ids[window].tobytes(), place, f"{index == 0}:{index == len(windows) - 1}"]
        return tuple(parts)

    def _nothing(self) -> Vectors:
        """(dimension,): the vector of a text without tokens."""
        vector: Vectors = self.encode_queries([""])[0]
        return vector

    @abstractmethod
    def _settings(self) -> tuple[str, ...]:
        """What the vectors depend on beside the model."""

    @abstractmethod
    def _encode(self, document: Document, tokens: Tokens, chunks: Sequence[Chunk]) -> list[Vectors]:
        """One array of vectors a chunk; there is a token."""

    @abstractmethod
    def _inputs(self, document: Document, tokens: Tokens, chunk: Chunk) -> tuple[str | bytes, ...]:
        """All that the vectors of a chunk depend on."""


class LateChunking(PooledEncoder):
    """One pass over the document; a chunk's vector is the mean of its tokens' states.

    So a chunk knows what stands around it: whom "she" means, which meeting this is. A document longer than the
    window is read in overlapping windows, and the states of the overlap are averaged, each window counting most
    where it reads deepest. Nothing falls back to chunks embedded alone.

    Reference: Günther et al., "Late Chunking", arXiv 2409.04701; the document's vector from the same pass: Zhang et
    al., "Dewey Long Context Embedding Model", arXiv 2503.20376.

    Parameters
    ----------
    model : shows the states of its tokens; the shipped MiniLM by default.
    overlap : tokens that neighbouring windows share; half a window by default. Less is faster: a pass over the text
        costs window / (window - overlap) of one without.
    window : tokens of one pass, those of the model by default. MiniLM, trained on 128 tokens, tells chunks apart
        better in windows of 256.
    spread : how much the text before and after a chunk counts, each as long as the chunk itself; 0: nothing. It
        costs no pass of its own. For questions whose evidence runs over several chunks, as in meetings.
    document_weight : how much the vector of the whole document counts in each chunk's; 0: nothing.
    threads : windows read at once; the number of cores by default.
    """

    name: ClassVar[str] = "late_chunking"
    citation: ClassVar[str] = "Günther et al., Late Chunking, arXiv 2409.04701"

    def __init__(
        self,
        model: TokenModel | None = None,
        *,
        overlap: int | None = None,
        window: int | None = None,
        spread: float = 0.0,
        document_weight: float = 0.0,
        threads: int | None = None,
    ) -> None:
        super().__init__(model, window=window, threads=threads)
        self.overlap = self.room // 2 if overlap is None else overlap
        windows_of(1, self.room, self.overlap)  # what is wrong with the overlap is an error at once
        for name, value in (("spread", spread), ("document_weight", document_weight)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} is a weight from 0 to 1, not {value!r}")
        self.spread, self.document_weight = spread, document_weight

    def encode_document(self, document: Document) -> Vectors:
        """(dimension,), unit length: the mean state of all the document's tokens."""
        tokens = self._tokenized(document.text)
        if not len(tokens):
            return self._nothing()
        whole: Vectors = unit(self._pooled(tokens, [slice(0, len(tokens))]))[0]
        return whole

    def _settings(self) -> tuple[str, ...]:
        return (str(self.window), str(self.overlap), str(self.spread), str(self.document_weight))

    def _encode(self, document: Document, tokens: Tokens, chunks: Sequence[Chunk]) -> list[Vectors]:
        pieces = [self._pieces(tokens, chunk) for chunk in chunks]
        flat = [piece for group in pieces for piece in group]
        if self.document_weight:
            flat.append(slice(0, len(tokens)))
        vectors = unit(self._pooled(tokens, flat))
        found, place = [], 0
        for group in pieces:
            weights = np.array([1.0] + [self.spread] * (len(group) - 1), np.float32)
            mixed = unit(weights @ vectors[place : place + len(group)])
            if self.document_weight:
                mixed = unit((1 - self.document_weight) * mixed + self.document_weight * vectors[-1])
            found.append(mixed[None, :])
            place += len(group)
        return found

    def _pooled(self, tokens: Tokens, pieces: Sequence[slice]) -> Vectors:
        return pooled(self.model, tokens, pieces, overlap=self.overlap, room=self.room, threads=self.threads)

    def _pieces(self, tokens: Tokens, chunk: Chunk) -> list[slice]:
        """The tokens of a chunk, and where ``spread`` is not 0 those before and after it, if there are any."""
        own = tokens.between(chunk.start, chunk.end)
        reach = own.stop - own.start
        if not self.spread or not reach:
            return [own]
        sides = [slice(max(0, own.start - reach), own.start), slice(own.stop, min(len(tokens), own.stop + reach))]
        return [own, *(side for side in sides if side.stop > side.start)]

    def _inputs(self, document: Document, tokens: Tokens, chunk: Chunk) -> tuple[str | bytes, ...]:
        pieces = self._pieces(tokens, chunk)
        start, stop = min(piece.start for piece in pieces), max(piece.stop for piece in pieces)
        if stop == start:  # it has the state of a neighbouring token
            start, stop = max(0, start - 1), stop + 1
        if self.document_weight:
            start, stop = 0, len(tokens)
        shape = ",".join(f"{piece.start - start}:{piece.stop - start}" for piece in pieces)
        return (shape, *self.context(tokens, slice(start, stop), self.overlap))


class SituatedChunks(PooledEncoder):
    """Each chunk read in the middle of its neighbourhood, and pooled from its own tokens alone.

    As late chunking, but every chunk has the same amount of text on both sides: no seams, at the cost of a pass of
    its own for each chunk (about window / chunk times that of plain chunks).

    Reference: Wu et al., "SitEmb: Situated Embedding Models", arXiv 2508.01959.

    Parameters
    ----------
    model : shows the states of its tokens; the shipped MiniLM by default.
    around : tokens read on each side of a chunk; by default what the window has room for.
    """

    name: ClassVar[str] = "situated"
    citation: ClassVar[str] = "Wu et al., SitEmb, arXiv 2508.01959"

    def __init__(
        self, model: TokenModel | None = None, *, around: int | None = None, threads: int | None = None
    ) -> None:
        super().__init__(model, threads=threads)
        if around is not None and not 0 <= around <= self.room:
            raise InputError(f"around is a number of tokens from 0 to {self.room}, not {around}")
        self.around = around

    def _settings(self) -> tuple[str, ...]:
        return (str(self.window), str(self.around))

    def _encode(self, document: Document, tokens: Tokens, chunks: Sequence[Chunk]) -> list[Vectors]:
        pieces = [tokens.between(chunk.start, chunk.end) for chunk in chunks]
        with ThreadPoolExecutor(self.threads) as pool:
            means: Vectors = np.stack(list(pool.map(partial(self._mean, tokens), pieces)))
        return [vector[None, :] for vector in unit(means)]

    def _mean(self, tokens: Tokens, piece: slice) -> Vectors:
        """(dimension,): the mean state of a piece, read with its neighbourhood."""
        window = self._neighbourhood(len(tokens), piece)
        part = Tokens(tokens.ids[window], tokens.starts[window], tokens.ends[window])
        inside = slice(piece.start - window.start, piece.stop - window.start)
        mean: Vectors = pooled(self.model, part, [inside], overlap=self.room // 2, room=self.room)[0]
        return mean

    def _neighbourhood(self, length: int, piece: slice) -> slice:
        """The tokens read for a piece: as many on both sides, or more on one where the other ends the text."""
        free = max(0, self.room - (piece.stop - piece.start))
        side = free // 2 if self.around is None else min(free // 2, self.around)
        if self.around is not None:
            return slice(max(0, piece.start - side), min(length, piece.stop + side))
        start = max(0, min(piece.start - side, length - (piece.stop - piece.start) - free))
        return slice(start, min(length, max(piece.stop, start + (piece.stop - piece.start) + free)))

    def _inputs(self, document: Document, tokens: Tokens, chunk: Chunk) -> tuple[str | bytes, ...]:
        piece = tokens.between(chunk.start, chunk.end)
        window = self._neighbourhood(len(tokens), piece)
        return tokens.ids[window].tobytes(), f"{piece.start - window.start}:{piece.stop - window.start}"
