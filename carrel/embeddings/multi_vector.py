"""Encoders that give a chunk more than one vector: one a sentence, or some of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import Vectors, unit
from carrel.embeddings.late import PooledEncoder
from carrel.embeddings.token_states import TokenModel, Tokens, pooled, weighted_states, windows_of
from carrel.errors import InputError
from carrel.retrieval.sentences import split_sentences
from carrel.types import Chunk, Document

_SHORTEST = 4  # tokens: "Yes." says nothing that could be looked for


class SentenceLandmarks(PooledEncoder):
    """A vector for each sentence, from a long pass over the document; the best one of a chunk is its score.

    A sentence found is a passage found: what stands around it is its chunk. The chunk's own mean is kept beside its
    sentences, so that what is said by several of them together is found, too. Costs as many rows in the index as
    there are sentences.

    Reference: Luo et al., "BGE Landmark Embedding", arXiv 2402.11573, whose landmark tokens are trained; here a
    sentence's tokens are averaged.

    Parameters
    ----------
    model : shows the states of its tokens; the shipped MiniLM by default.
    overlap : tokens that neighbouring windows share; half a window by default.
    """

    name: ClassVar[str] = "sentence_landmarks"
    citation: ClassVar[str] = "Luo et al., BGE Landmark Embedding, arXiv 2402.11573"

    def __init__(
        self, model: TokenModel | None = None, *, overlap: int | None = None, threads: int | None = None
    ) -> None:
        super().__init__(model, threads=threads)
        self.overlap = self.room // 2 if overlap is None else overlap
        windows_of(1, self.room, self.overlap)

    def _settings(self) -> tuple[str, ...]:
        return (str(self.window), str(self.overlap))

    def _encode(self, document: Document, tokens: Tokens, chunks: Sequence[Chunk]) -> list[Vectors]:
        pieces = [_sentences(tokens, chunk) for chunk in chunks]
        flat = [piece for group in pieces for piece in group]
        vectors = unit(pooled(self.model, tokens, flat, overlap=self.overlap, threads=self.threads))
        return np.split(vectors, np.cumsum([len(group) for group in pieces])[:-1])

    def _inputs(self, document: Document, tokens: Tokens, chunk: Chunk) -> tuple[str | bytes, ...]:
        shape = ",".join(f"{piece.start}:{piece.stop}" for piece in _relative(_sentences(tokens, chunk)))
        return (shape, *self.context(tokens, tokens.between(chunk.start, chunk.end), self.overlap))


class SalientTokens(PooledEncoder):
    """The few token states that stand best for all of a chunk's; a question's tokens each look for their nearest.

    Tokens are picked one after another, each time the one that brings the most of the chunk's states nearer to a
    picked one, so that repetition adds nothing. The score is the mean, over the question's tokens, of the cosine
    with the nearest picked token (late interaction).

    Reference: Qin and Van Durme, "Nugget: Neural Agglomerative Embeddings of Text", arXiv 2310.01732, whose choice
    of tokens is trained; Khattab and Zaharia, "ColBERT", arXiv 2004.12832, for the score.

    Parameters
    ----------
    model : shows the states of its tokens; the shipped MiniLM by default.
    share : of a chunk's tokens that are kept, one at least.
    overlap : tokens that neighbouring windows share; half a window by default.
    """

    name: ClassVar[str] = "salient_tokens"
    citation: ClassVar[str] = "Qin and Van Durme, Nugget, arXiv 2310.01732"

    def __init__(
        self,
        model: TokenModel | None = None,
        *,
        share: float = 0.1,
        overlap: int | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(model, threads=threads)
        if not 0 < share <= 1:
            raise InputError(f"share is above 0 and at most 1, not {share!r}")
        self.share = share
        self.overlap = self.room // 2 if overlap is None else overlap
        windows_of(1, self.room, self.overlap)

    def encode_query(self, question: str) -> Vectors:
        """(tokens, dimension), unit length; a question past the window is cut into windows, none of it left out."""
        tokens = self.model.tokenize(question)
        if not len(tokens):
            return self.encode_queries([question])
        return unit(self._states(tokens, [slice(0, len(tokens))])[0])

    def _settings(self) -> tuple[str, ...]:
        return (str(self.window), str(self.overlap), str(self.share))

    def _encode(self, document: Document, tokens: Tokens, chunks: Sequence[Chunk]) -> list[Vectors]:
        pieces = [_not_empty(tokens, chunk) for chunk in chunks]
        found = []
        for states in self._states(tokens, pieces):
            vectors = unit(states)
            found.append(vectors[salient(vectors, max(1, round(self.share * len(vectors))))])
        return found

    def _states(self, tokens: Tokens, pieces: Sequence[slice]) -> list[Vectors]:
        """The states of the tokens of each piece, (tokens, dimension)."""
        found = [np.zeros((piece.stop - piece.start, self.dimension), np.float32) for piece in pieces]
        read = weighted_states(self.model, tokens.ids, overlap=self.overlap, threads=self.threads, wanted=pieces)
        for window, states in read:
            for piece, rows in zip(pieces, found, strict=True):
                low, high = max(piece.start, window.start), min(piece.stop, window.stop)
                if low < high:
                    rows[low - piece.start : high - piece.start] += states[low - window.start : high - window.start]
        return found

    def _inputs(self, document: Document, tokens: Tokens, chunk: Chunk) -> tuple[str | bytes, ...]:
        return self.context(tokens, _not_empty(tokens, chunk), self.overlap)


def salient(vectors: Vectors, count: int) -> NDArray[np.int64]:
    """(count,) rows, ascending, picked greedily so that every row is near to one of them.

    Parameters
    ----------
    vectors : (rows, dimension), unit length.
    """
    count = min(count, len(vectors))
    similar = vectors @ vectors.T  # (rows, rows)
    nearest = np.full(len(vectors), -1.0, np.float32)
    picked: list[int] = []
    for _ in range(count):
        gains = np.maximum(similar, nearest[:, None]).sum(axis=0)  # how near all would be with each
        gains[picked] = -np.inf
        best = int(np.argmax(gains))
        picked.append(best)
        nearest = np.maximum(nearest, similar[:, best])
    return np.sort(np.array(picked, np.int64))


def _sentences(tokens: Tokens, chunk: Chunk) -> list[slice]:
    """The tokens of a chunk, and those of its sentences where it has several that are no mere word."""
    own = _not_empty(tokens, chunk)
    spans = split_sentences(chunk.text)
    pieces = [tokens.between(chunk.start + span.start, chunk.start + span.end) for span in spans]
    long_enough = [piece for piece in pieces if piece.stop - piece.start >= _SHORTEST]
    return [own, *long_enough] if len(long_enough) > 1 else [own]


def _not_empty(tokens: Tokens, chunk: Chunk) -> slice:
    """The tokens of a chunk; of one without any, the token before it or the first."""
    own = tokens.between(chunk.start, chunk.end)
    if own.stop > own.start:
        return own
    start = max(0, min(own.start, len(tokens)) - 1)
    return slice(start, start + 1)


def _relative(pieces: Sequence[slice]) -> list[slice]:
    first = pieces[0].start
    return [slice(piece.start - first, piece.stop - first) for piece in pieces]
