"""Vectors kept as short codes in memory: the best by their codes are scored again from the store."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, func, select

from carrel.embeddings.base import Vectors
from carrel.errors import InputError
from carrel.retrieval.indexes.base import Hits
from carrel.retrieval.indexes.vector import (
    NOTHING,
    Ids,
    Mask,
    Rows,
    VectorIndex,
    best,
    nearest,
    products,
    stacked,
)
from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope

Codes = NDArray[np.uint8]
_READ_AT_ONCE = 2048  # vectors
_SCANNED_AT_ONCE = 65_536  # rows: their distances stay in the cache of a core
_REFINED_AT_ONCE = 8192  # rows
_REFINED = 4096  # rows at least that the sign bits of the query pick, before its numbers order them
_REFINED_SHARE = 8  # times the rows that are read from the store
_CHOSEN = func.json_each(bindparam("chunks")).table_valued("value")
_FULL = select(schema.vectors.c.chunk_id, schema.vectors.c.vector).where(
    schema.vectors.c.encoder_id == bindparam("encoder"), schema.vectors.c.chunk_id.in_(select(_CHOSEN.c.value))
)


class RescoredIndex(VectorIndex):
    """Picks candidates by what it keeps of the vectors, and scores those from the full vectors in the store.

    Every score it gives is exact. A chunk is missed only when its rows are not among the candidates.

    Parameters
    ----------
    oversampling : candidates read from the store for each chunk that is asked for, at least 1. With
        ``math.inf`` every vector is read, and the search is exact. A library asks for 200 chunks a question.
    """

    def __init__(self, scope: Scope, encoder_id: int, dimension: int, oversampling: float) -> None:
        self.oversampling = check_oversampling(oversampling)
        super().__init__(scope, encoder_id, dimension)

    @abstractmethod
    def _candidates(self, query: Vectors, wanted: int, mask: Mask, count: int) -> Ids:
        """``wanted`` rows < ``count``, the rows of the mask."""

    def search(self, connection: Connection, query: Vectors, limit: int, allowed: Ids | None = None) -> Hits:
        query = np.ascontiguousarray(query, np.float32)
        with self._lock:
            mask, count = self._mask(allowed)
            if not count or limit <= 0:
                return NOTHING
            chunks = self._chunks(query, math.ceil(min(count, limit * self.oversampling)), mask, count)
        return best(*self._products(connection, query, chunks), limit)

    def _chunks(self, query: Vectors, wanted: int, mask: Mask, count: int) -> Ids:
        """The chunks of the best rows; at least as many as wanted where there are that many."""
        rows = wanted
        while rows < count:
            chunks: Ids = np.unique(self._ids[self._candidates(query, rows, mask, count)])
            if len(chunks) >= wanted or not self._repeated:
                return chunks
            rows *= 4
        return np.unique(self._ids[mask])

    def scores(self, connection: Connection, query: Vectors, ids: Ids) -> NDArray[np.float64]:
        with self._lock:
            live = self._places(ids)[2]
        out = np.full(len(ids), -1.0)
        chunks, found = self._products(connection, np.ascontiguousarray(query, np.float32), np.unique(ids[live]))
        hits = best(chunks, found, len(chunks))  # one entry a chunk
        order = np.argsort(hits.ids)
        known = live & np.isin(ids, hits.ids)
        out[known] = hits.scores[order][np.searchsorted(hits.ids[order], ids[known])]
        return out

    def _products(self, connection: Connection, query: Vectors, chunks: Ids) -> tuple[Ids, NDArray[np.float32]]:
        """The chunk and the inner product of every vector of the given chunks, read a batch at a time."""
        if not len(chunks):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        wanted = {"encoder": self.encoder_id, "chunks": json.dumps(chunks.tolist())}
        ids, found = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for batch in connection.execute(_FULL, wanted).partitions(_READ_AT_ONCE):
            ids.append(np.fromiter((row[0] for row in batch), np.int64, len(batch)))
            found.append(products(stacked(batch, self.dimension), query))
        return np.concatenate(ids), np.concatenate(found)


class Int8Index(RescoredIndex):
    """A byte a dimension in memory, a quarter of the vectors; the best by them are scored again from the store.

    The step is fixed: ±127 stands for four times the typical size of a component of a unit vector, ``4 / sqrt(D)``,
    and what is beyond is cut off. So a code depends on its vector alone, and no index has to be trained.

    Reference: Douze et al., "The Faiss library", arXiv 2401.08281 (scalar quantisation).
    """

    name: ClassVar[str] = "int8"
    citation: ClassVar[str] = "Douze et al., The Faiss library, arXiv 2401.08281"

    def __init__(self, scope: Scope, encoder_id: int, dimension: int, oversampling: float = 2.0) -> None:
        super().__init__(scope, encoder_id, dimension, oversampling)

    def _rows_of(self, vectors: Vectors) -> tuple[Rows, ...]:
        return (int8_codes(vectors, 4 / (127 * math.sqrt(self.dimension))),)

    def _candidates(self, query: Vectors, wanted: int, mask: Mask, count: int) -> Ids:
        return best_by_codes(self._rows[0], query, wanted, mask)[1]


def int8_codes(vectors: Vectors, step: float) -> Codes:
    """(vectors, D) -> a byte for each component: code c stands for ``(c - 128) * step``, and ±127 is the most."""
    scaled = np.rint(vectors / np.float32(step))
    codes: Codes = (np.clip(scaled, -127, 127) + 128).astype(np.uint8)
    return codes


def best_by_codes(codes: Codes, query: Vectors, wanted: int, mask: Mask) -> tuple[Vectors, Ids]:
    """The ``wanted`` rows of the mask with the largest products, in no order: these in steps of a code, and the rows.

    There must be as many rows in the mask.
    """
    import faiss

    # the "direct" kinds may turn the query into bytes, too, for which its components are too small
    quantiser = faiss.ScalarQuantizer(codes.shape[1], faiss.ScalarQuantizer.QT_8bit_uniform)
    faiss.copy_array_to_vector(np.array([-128.5, 255], np.float32), quantiser.trained)  # code c stands for c - 128
    selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
    scanner = quantiser.select_InvertedListScanner(faiss.METRIC_INNER_PRODUCT, None, True, selector, False)
    # a heap that FAISS fills: (wanted,), in no order
    scores, rows = np.full(wanted, -np.inf, np.float32), np.full(wanted, -1, np.int64)
    scanner.set_query(faiss.swig_ptr(query))
    scanner.set_list(0, 0.0)  # so that a label is the number of a row
    pointers = [faiss.swig_ptr(array) for array in (codes, scores, rows)]
    scanner.scan_codes(len(mask), pointers[0], None, pointers[1], pointers[2], wanted)
    return scores, rows


class BinaryIndex(RescoredIndex):
    """A bit a dimension in memory, the sign: 1/32 of the vectors. The best are scored again from the store.

    Three steps, each with fewer rows: the Hamming distance of signs, over all; the inner product of the query's
    numbers with the signs of rows, over the nearest; exact products, over the best of those. On the embedded
    model's vectors neither centring nor a rotation changed what the signs find.

    Reference: Charikar, "Similarity Estimation Techniques from Rounding Algorithms" (STOC 2002); asymmetric
    products as in Gao and Long, "RaBitQ", arXiv 2405.12497.
    """

    name: ClassVar[str] = "binary"
    citation: ClassVar[str] = "Charikar, Similarity Estimation Techniques (STOC 2002); Gao and Long, arXiv 2405.12497"

    def __init__(self, scope: Scope, encoder_id: int, dimension: int, oversampling: float = 4.0) -> None:
        super().__init__(scope, encoder_id, dimension, oversampling)

    def _rows_of(self, vectors: Vectors) -> tuple[Rows, ...]:
        bits = np.zeros((len(vectors), -(-self.dimension // 64) * 64), bool)  # whole words, as FAISS reads them
        bits[:, : self.dimension] = vectors > 0
        return (np.packbits(bits, axis=1, bitorder="little"),)

    def _candidates(self, query: Vectors, wanted: int, mask: Mask, count: int) -> Ids:
        refined = max(_REFINED, _REFINED_SHARE * wanted)
        if refined < count:
            distances = self._distances(query)
            if count < len(mask):
                distances[~mask] = np.iinfo(distances.dtype).max
            radius = np.partition(distances, refined - 1)[refined - 1]
            near = np.flatnonzero(distances <= radius)  # all at the radius, so that the order of rows decides nothing
        else:
            near = np.flatnonzero(mask)
        order = np.argsort(-self._signed_products(query, near), kind="stable")
        return near[order[:wanted]]

    def _distances(self, query: Vectors) -> NDArray[np.uint16]:
        """(rows,): in how many signs each row differs from the query."""
        import faiss

        codes, (code,) = self._rows[0], self._rows_of(query[None, :])
        distances = np.empty(len(codes), np.uint16)
        block = np.empty(min(len(codes), _SCANNED_AT_ONCE), np.int32)
        for start in range(0, len(codes), _SCANNED_AT_ONCE):
            part = codes[start : start + _SCANNED_AT_ONCE]
            pointers = [faiss.swig_ptr(array) for array in (code, part, block)]
            faiss.hammings(pointers[0], pointers[1], 1, len(part), codes.shape[1], pointers[2])
            distances[start : start + len(part)] = block[: len(part)]
        return distances

    def _signed_products(self, query: Vectors, rows: Ids) -> NDArray[np.float32]:
        """Inner products of the query with the signs of some rows, from a table of what each byte adds."""
        width = self._rows[0].shape[1]
        padded = np.zeros((width, 8), np.float32)
        padded.reshape(-1)[: self.dimension] = query
        table = padded @ _SIGNS  # (width, 256)
        found = np.zeros(len(rows), np.float32)
        for start in range(0, len(rows), _REFINED_AT_ONCE):
            codes = np.ascontiguousarray(self._rows[0][rows[start : start + _REFINED_AT_ONCE]].T)  # (width, rows)
            part = found[start : start + _REFINED_AT_ONCE]
            for adds, code in zip(table, codes, strict=True):
                part += adds.take(code)
        return found


class FunnelIndex(RescoredIndex):
    """Only the first dimensions in memory, searched stage by stage; the best are scored again from the store.

    For vectors whose first dimensions say most (Matryoshka). The first stage goes through all rows with the fewest
    dimensions, cut off and of unit length; each next does so with more of them, for a quarter of the rows of the
    stage before; the last is the full vector, from the store.

    Reference: Kusupati et al., "Matryoshka Representation Learning", arXiv 2205.13147.

    Parameters
    ----------
    dimensions : of each stage, rising; the last is all of them. Those of the last but one stay in memory.
    """

    name: ClassVar[str] = "funnel"
    citation: ClassVar[str] = "Kusupati et al., Matryoshka Representation Learning, arXiv 2205.13147"

    def __init__(
        self,
        scope: Scope,
        encoder_id: int,
        dimension: int,
        dimensions: tuple[int, ...],
        oversampling: float = 4.0,
    ) -> None:
        self.dimensions = check_funnel(dimensions, dimension)
        super().__init__(scope, encoder_id, dimension, oversampling)

    def _bands(self) -> list[slice]:
        """The dimensions that each stage in memory adds."""
        edges = (0, *self.dimensions[:-1])
        return [slice(start, end) for start, end in pairwise(edges)]

    def _rows_of(self, vectors: Vectors) -> tuple[Rows, ...]:
        bands = self._bands()
        length = np.linalg.norm(vectors[:, bands[0]], axis=1, keepdims=True)
        scaled = vectors[:, : bands[-1].stop] / np.where(length > 0, length, 1)  # the first band has unit length
        return tuple(np.ascontiguousarray(scaled[:, band], np.float32) for band in bands)

    def _candidates(self, query: Vectors, wanted: int, mask: Mask, count: int) -> Ids:
        parts = [np.ascontiguousarray(query[band]) for band in self._bands()]
        kept = [min(count, wanted * 4**stage) for stage in reversed(range(len(parts)))]
        summed, rows = nearest(self._rows[0], parts[0], kept[0], mask)
        squares = np.ones(len(rows), np.float32)
        for band, part, count_kept in zip(self._rows[1:], parts[1:], kept[1:], strict=True):
            more = band[rows]
            summed, squares = summed + products(more, part), squares + np.einsum("ij,ij->i", more, more)
            order = np.lexsort((rows, -summed / np.sqrt(squares)))[:count_kept]
            summed, squares, rows = summed[order], squares[order], rows[order]
        return rows


def check_oversampling(oversampling: float) -> float:
    """The number, or InputError."""
    if isinstance(oversampling, bool) or not isinstance(oversampling, (int, float)) or not oversampling >= 1:
        raise InputError(
            f"oversampling is how many candidates are read for each hit, a number of 1 or more, not {oversampling!r}"
        )
    return float(oversampling)


def check_funnel(dimensions: tuple[int, ...], dimension: int) -> tuple[int, ...]:
    """The stages, or InputError."""
    stages = tuple(dimensions)
    whole = all(isinstance(stage, int) for stage in stages)
    rising = whole and all(first < second for first, second in pairwise((0, *stages)))
    if len(stages) < 2 or not rising or stages[-1] != dimension:
        raise InputError(
            f"a funnel is two rising numbers of dimensions or more, the last {dimension}, which is all that the"
            f" encoder's vectors have, not {dimensions!r}"
        )
    return stages


_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[None, :], axis=0, bitorder="little")
_SIGNS = (2 * _BITS.astype(np.float32) - 1).astype(np.float32)  # (8, 256): what each bit of a byte says
