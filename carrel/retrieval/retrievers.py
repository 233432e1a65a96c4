"""Retrievers: candidates from the indexes, scored by one method, read from the store in one transaction."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, func, select

from carrel.embeddings.base import ChunkEncoder, Vectors
from carrel.errors import InputError
from carrel.retrieval import fusion
from carrel.retrieval.filters import Where, compile_filter
from carrel.retrieval.indexes.choice import VectorSearch
from carrel.retrieval.indexes.lexical import LexicalIndex
from carrel.retrieval.indexes.vector import VectorIndex
from carrel.retrieval.store import documents as stored
from carrel.retrieval.store import schema
from carrel.retrieval.store.store import Scope, Store
from carrel.types import Passage, ScoreKind, Scores

CANDIDATES = 200
SECONDS_A_DAY = 86_400.0
Floats = NDArray[np.float64]


_PASSAGES = (
    select(
        schema.chunks.c.id,
        schema.chunks.c.document_id,
        schema.chunks.c.ordinal,
        schema.chunks.c.start,
        schema.chunks.c.page,
        schema.chunks.c.tokens,
        schema.chunks.c.prefix,
        schema.chunks.c.text,
        schema.documents.c.key,
        schema.documents.c.title,
        schema.documents.c.source,
        schema.documents.c.metadata,
    )
    .join(schema.documents, schema.documents.c.id == schema.chunks.c.document_id)
    .where(
        schema.chunks.c.id.in_(bindparam("ids", expanding=True)),
        schema.chunks.c.collection_id == bindparam("collection"),
    )
)
_PAGES = select(schema.documents.c.id, schema.documents.c.pages).where(
    schema.documents.c.id.in_(bindparam("ids", expanding=True)),
    schema.documents.c.collection_id == bindparam("collection"),
)
_LATEST = select(func.max(schema.changes.c.id)).where(schema.changes.c.collection_id == bindparam("collection"))
_CHUNKS = select(func.sum(schema.documents.c.chunks)).where(schema.documents.c.collection_id == bindparam("collection"))


@dataclass(frozen=True, slots=True)
class Candidates:
    """Chunks found by at least one index: ids ascending, with their scores and each index's ranking.

    ``dense`` and ``lexical`` are (candidates,); a chunk outside the lexical ranking has lexical 0, and
    ``lexical_bound`` is what it scores at most: the lowest score of a full ranking, else 0.
    """

    ids: NDArray[np.int64]
    dense: Floats | None
    lexical: Floats | None
    dense_ranking: NDArray[np.int64]
    lexical_ranking: NDArray[np.int64]
    lexical_bound: float = 0.0


class Retriever(ABC):
    """A way to score candidates. The base class of methods, one line of arithmetic each."""

    name: ClassVar[str]
    kind: ClassVar[ScoreKind]
    citation: ClassVar[str] = ""
    needs_dense: ClassVar[bool] = True
    needs_lexical: ClassVar[bool] = True

    @abstractmethod
    def score(self, candidates: Candidates) -> Floats:
        """(candidates,), higher is better."""


class Dense(Retriever):
    """Cosine similarity of the embeddings."""

    name, kind, needs_lexical = "dense", "dense", False
    citation = "Karpukhin et al., Dense Passage Retrieval, arXiv 2004.04906"

    def score(self, candidates: Candidates) -> Floats:
        assert candidates.dense is not None
        return candidates.dense


class Lexical(Retriever):
    """BM25 over stemmed words; needs no embedding of the question."""

    name, kind, needs_dense = "lexical", "lexical", False
    citation = "Robertson and Zaragoza, The Probabilistic Relevance Framework (2009)"

    def score(self, candidates: Candidates) -> Floats:
        assert candidates.lexical is not None
        return candidates.lexical


class Fused(Retriever):
    """Convex combination of cosine and normalised BM25: the default."""

    name, kind = "fused", "fused"
    citation = "Bruch et al., An Analysis of Fusion Functions for Hybrid Retrieval, arXiv 2210.11934"

    def __init__(self, dense_weight: float = 0.7) -> None:
        if not 0 <= dense_weight <= 1:
            raise InputError(f"dense_weight must be between 0 and 1, not {dense_weight}")
        self.dense_weight = dense_weight

    def score(self, candidates: Candidates) -> Floats:
        assert candidates.dense is not None and candidates.lexical is not None
        return fusion.convex(candidates.dense, candidates.lexical, self.dense_weight, candidates.lexical_bound)


class RankFused(Retriever):
    """Reciprocal rank fusion of the dense and the lexical ranking."""

    name, kind = "rank_fused", "rank_fused"
    citation = "Cormack et al., Reciprocal Rank Fusion (SIGIR 2009)"

    def score(self, candidates: Candidates) -> Floats:
        return fusion.reciprocal_rank([candidates.dense_ranking, candidates.lexical_ranking], candidates.ids)


RETRIEVERS: dict[str, type[Retriever]] = {method.name: method for method in (Fused, Dense, Lexical, RankFused)}


def make_retriever(retriever: str | Retriever | None) -> Retriever:
    """The Retriever that a name or a Retriever means; None is the default."""
    if isinstance(retriever, Retriever):
        return retriever
    if retriever is None:
        return Fused()
    if not isinstance(retriever, str) or retriever not in RETRIEVERS:
        raise InputError(f"unknown retriever {retriever!r}. Use one of: {', '.join(RETRIEVERS)}")
    return RETRIEVERS[retriever]()


def check_recency(half_life_days: float | None) -> None:
    """Raise InputError unless it is None or a number of days."""
    is_number = isinstance(half_life_days, (int, float)) and not isinstance(half_life_days, bool)
    if half_life_days is not None and not (is_number and half_life_days > 0):
        raise InputError(f"recency is a number of days and must be above 0, not {half_life_days!r}")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Chunk ids, best first, with the score that ordered them and the candidates they came from.

    ``searched`` is the number of chunks in the collection. ``weights`` are what the scores were multiplied by for
    the age of their documents; None where age does not count.
    """

    ids: NDArray[np.int64]
    scores: Floats
    candidates: Candidates
    kind: ScoreKind
    seconds: Mapping[str, float]
    searched: int = 0
    weights: Floats | None = None


class Searcher:
    """Searches one collection. Holds the indexes; the store stays the truth of every answer."""

    def __init__(self, store: Store, scope: Scope, encoder: ChunkEncoder, vectors: VectorSearch | None = None) -> None:
        self.store, self.scope, self.encoder = store, scope, encoder
        self.vectors = vectors or VectorSearch()
        self.lexical = LexicalIndex(scope)
        self.dense: VectorIndex | None = None
        self._size = (0, 0)  # the change that chunks were counted at, and how many there were

    def follow(self, connection: Connection, encoder_id: int) -> VectorIndex:
        """Bring the dense index to the state that this transaction sees."""
        if self.dense is None or self.dense.encoder_id != encoder_id:
            self.dense = self.vectors.index(self.scope, encoder_id, self.encoder.dimension)
        self.dense.catch_up(connection)
        return self.dense

    def rank(
        self,
        connection: Connection,
        question: str,
        query: Vectors | None,
        retriever: Retriever,
        *,
        where: Where | None = None,
        recency: float | None = None,
        candidates: int = CANDIDATES,
    ) -> Ranking:
        """Rank the chunks of the collection for a question; empty when there are none."""
        seconds: dict[str, float] = {}
        compile_filter(where)  # what is wrong is an error in an empty collection, too
        check_recency(recency)
        encoder_id = stored.check_encoder(connection, self.scope, self.encoder)
        if encoder_id is None:
            nothing = np.empty(0, np.int64)
            return Ranking(
                nothing, np.empty(0), Candidates(nothing, None, None, nothing, nothing), retriever.kind, seconds
            )
        found = self._candidates(connection, question, query, encoder_id, retriever, where, candidates, seconds)
        scores = retriever.score(found)
        weights = None
        if recency is not None:
            weights = self._recency(connection, found.ids, recency)
            scores = scores - np.abs(scores) * (1 - weights)  # a score below zero must sink, too
        order = np.lexsort((found.ids, -scores))
        searched = self.size(connection)
        weights = None if weights is None else weights[order]
        return Ranking(found.ids[order], scores[order], found, retriever.kind, seconds, searched, weights)

    def size(self, connection: Connection) -> int:
        """How many chunks the collection holds; counted again only when it has changed."""
        scope = {"collection": self.scope.id}
        latest = connection.execute(_LATEST, scope).scalar() or 0
        change, size = self._size
        if change != latest:
            size = int(connection.execute(_CHUNKS, scope).scalar() or 0)
            self._size = (latest, size)
        return size

    def _candidates(
        self,
        connection: Connection,
        question: str,
        query: Vectors | None,
        encoder_id: int,
        retriever: Retriever,
        where: Where | None,
        count: int,
        seconds: dict[str, float],
    ) -> Candidates:
        nothing = np.empty(0, np.int64)
        dense_ids, lexical_ids = nothing, nothing
        dense = lexical = None
        bound = 0.0
        started = time.perf_counter()
        if retriever.needs_lexical:
            hits = self.lexical.search(connection, question, count, where)
            lexical_ids, lexical = hits.ids, dict(zip(hits.ids.tolist(), hits.scores.tolist(), strict=True))
            if len(lexical_ids) == count:
                bound = max(0.0, float(hits.scores[-1]))
        seconds["lexical"] = time.perf_counter() - started
        started = time.perf_counter()
        if retriever.needs_dense:
            assert query is not None
            allowed = np.array(stored.chunk_ids(connection, self.scope, where), np.int64) if where else None
            index = self.follow(connection, encoder_id)
            queries = np.atleast_2d(query)  # (vectors, D): several for late interaction
            dense_ids = index.search_each(connection, queries, count, allowed).ids
        ids = np.union1d(dense_ids, lexical_ids).astype(np.int64)
        if retriever.needs_dense:
            assert query is not None
            dense = index.scores_each(connection, queries, ids)
        seconds["dense"] = time.perf_counter() - started
        lexical_scores = None
        if lexical is not None:
            lexical_scores = np.fromiter((lexical.get(int(i), 0.0) for i in ids), np.float64, len(ids))
        return Candidates(ids, dense, lexical_scores, dense_ids, lexical_ids, bound)

    def _recency(self, connection: Connection, ids: NDArray[np.int64], half_life_days: float) -> Floats:
        table = schema.documents
        when: dict[int, float] = {}
        for batch in stored.batches(ids.tolist()):
            query = (
                select(schema.chunks.c.id, table.c.modified_at, table.c.added_at)
                .join(table, table.c.id == schema.chunks.c.document_id)
                .where(schema.chunks.c.id.in_(batch))
            )
            when.update((row[0], row[2] if row[1] is None else row[1]) for row in connection.execute(query))
        newest = max(when.values(), default=0.0)  # ages are relative, so that the same library gives the same answer
        ages = ((newest - when.get(int(i), newest)) / SECONDS_A_DAY for i in ids)
        return np.fromiter((fusion.recency_weight(age, half_life_days) for age in ages), np.float64, len(ids))

    def chunk_tokens(self, connection: Connection, ranking: Ranking, limit: int) -> list[int]:
        """The tokens of the first ``limit`` chunks of a ranking, as the encoder's tokenizer counted them."""
        table, ids = schema.chunks, [int(i) for i in ranking.ids[:limit]]
        counts: dict[int, int] = {}
        for batch in stored.batches(ids):
            query = select(table.c.id, table.c.tokens).where(table.c.id.in_(batch))
            counts.update((row.id, row.tokens) for row in connection.execute(query))
        return [counts[i] for i in ids if i in counts]

    def passages(self, connection: Connection, ranking: Ranking, limit: int) -> list[Passage]:
        """The first ``limit`` chunks of a ranking as passages, read from the store in this transaction.

        They keep the white space around their texts, so that neighbours touch and can be merged.
        """
        return [passage for passage, _ in self.counted_passages(connection, ranking, limit)]

    def counted_passages(self, connection: Connection, ranking: Ranking, limit: int) -> list[tuple[Passage, int]]:
        """The same, each with the tokens of its text as the encoder's tokenizer counted them."""
        ids = [int(i) for i in ranking.ids[:limit]]
        rows: dict[int, Any] = {}
        for batch in stored.batches(ids):
            found = connection.execute(_PASSAGES, {"ids": batch, "collection": self.scope.id})
            rows.update((row.id, row) for row in found)
        pages = self._pages(connection, {row.document_id for row in rows.values() if row.page is not None})
        scores = {i: float(score) for i, score in zip(ids, ranking.scores[:limit], strict=True)}
        ranked = ((rows[i], scores[i]) for i in ids if i in rows)
        return [(_passage(row, score, ranking, pages.get(row.document_id, ())), row.tokens) for row, score in ranked]

    def _pages(self, connection: Connection, document_ids: set[int]) -> dict[int, tuple[int, ...]]:
        """Where the pages of these documents start; each is read once, however many of its chunks were found."""
        pages: dict[int, tuple[int, ...]] = {}
        for batch in stored.batches(sorted(document_ids)):
            found = connection.execute(_PAGES, {"ids": batch, "collection": self.scope.id})
            pages.update((row.id, tuple(row.pages)) for row in found)
        return pages


def _passage(row: Any, score: float, ranking: Ranking, pages: tuple[int, ...]) -> Passage:
    found = ranking.candidates
    position = int(np.searchsorted(found.ids, row.id))
    scores = {
        "dense": None if found.dense is None else float(found.dense[position]),
        "lexical": None if found.lexical is None else float(found.lexical[position]),
        ranking.kind: score,
    }
    return Passage(
        document_id=row.key,
        start=row.start,
        end=row.start + len(row.text),
        text=row.text,
        title=row.title,
        source=row.source,
        prefix=row.prefix,
        pages=pages,
        chunks=(row.ordinal,),
        metadata=row.metadata,
        scores=Scores(**scores),
    )
