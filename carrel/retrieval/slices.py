"""Embedding many chunks in slices, so that what is done can be told while a long document is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from carrel.embeddings.base import ChunkEncoder, TextEncoder, Vectors
from carrel.types import Chunk, Document

CHUNKS_A_SLICE = 64  # a second or less of work, and enough to keep every core busy
Items = Sequence[tuple[Document, Sequence[Chunk]]]


def encode_in_slices(
    encoder: ChunkEncoder, items: Items, told: Callable[[int, Document], None]
) -> Iterator[list[Vectors]]:
    """Yield the vectors of each item, in order; ``told`` hears after a slice how many chunks are done, and where.

    A plain encoder's slices end anywhere; any other needs the whole document, so there they hold whole documents.
    Nothing is told of the last slice: the caller knows.
    """
    whole = not isinstance(encoder, TextEncoder)
    found: list[list[Vectors]] = [[] for _ in items]
    total = sum(len(chunks) for _, chunks in items)
    done = 0
    for piece in _slices(items, whole):
        vectors = encoder.encode_many([(items[index][0], chunks) for index, chunks in piece])
        for (index, chunks), rows in zip(piece, vectors, strict=True):
            found[index] += rows
            done += len(chunks)
        if done < total:
            told(done, items[piece[-1][0]][0])
    yield from found


def _slices(items: Items, whole: bool) -> Iterator[list[tuple[int, Sequence[Chunk]]]]:
    """Yield lists of (place of an item, some of its chunks)."""
    piece: list[tuple[int, Sequence[Chunk]]] = []
    room = CHUNKS_A_SLICE
    for index, (_, chunks) in enumerate(items):
        rest = chunks
        while rest:
            taken = rest if whole else rest[:room]
            rest = rest[len(taken) :]
            piece.append((index, taken))
            room -= len(taken)
            if room <= 0:
                yield piece
                piece, room = [], CHUNKS_A_SLICE
    if piece:
        yield piece
