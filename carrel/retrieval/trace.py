"""Why a document is, or is not, in the context of a question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import select

from carrel.errors import DocumentNotFoundError
from carrel.options import Options, check_budget, check_limit, check_question
from carrel.pipeline import Found, Pipeline, Selection, Trail
from carrel.retrieval.cutoff import Cut
from carrel.retrieval.retrievers import CANDIDATES, make_retriever
from carrel.retrieval.store import documents as stored
from carrel.retrieval.store import schema
from carrel.tokens import Tokenizer
from carrel.types import Passage


@dataclass(frozen=True, slots=True)
class Step:
    """One stage as this document saw it: whether any of it came through, and what happened."""

    stage: str
    kept: bool
    message: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The way of one document through the stages. ``fell_out_at`` is None when it is in the context."""

    document_id: str
    question: str
    steps: tuple[Step, ...]
    passages: tuple[Passage, ...]

    @property
    def fell_out_at(self) -> str | None:
        return next((step.stage for step in self.steps if not step.kept), None)


def trace(pipeline: Pipeline, document_id: str, question: str, options: Options, tokenizer: Tokenizer) -> Trace:
    """Follow a document through the stages for one question.

    Raises
    ------
    DocumentNotFoundError, and what ``Library.context`` raises.
    """
    question = check_question(question)
    check_budget(options.budget)
    check_limit(options.limit)
    steps: list[Step] = []
    passages: tuple[Passage, ...] = ()
    for step, found in _follow(pipeline, document_id, question, options, tokenizer):
        steps.append(step)
        passages = found
        if not step.kept:
            break
    return Trace(document_id, question, tuple(steps), passages)


def _follow(
    pipeline: Pipeline, document_id: str, question: str, options: Options, tokenizer: Tokenizer
) -> Iterator[tuple[Step, tuple[Passage, ...]]]:
    yield _stored(pipeline, document_id), ()
    if options.where:
        yield _filtered(pipeline, document_id, options), ()
    yield _ranked(pipeline, document_id, question, options), ()
    selection = pipeline.select(question, options, Trail(tokenizer))
    found = selection.found
    if found.reading.reranker is not None and found.counted:
        step = _reranked(document_id, found)
        if step is not None:
            yield step, ()
    if found.cut is not None:
        yield _cut(pipeline, document_id, found, found.cut), ()
    yield _read(document_id, selection), ()
    distinct = list(selection.repeats.distinct(selection.candidates))
    yield _distinct(document_id, selection), ()
    packed = pipeline.packer(selection, question, options, tokenizer).pack(distinct)
    own = tuple(passage for passage in packed.passages if passage.document_id == document_id)
    if own:
        places = ", ".join(f"[{packed.passages.index(passage) + 1}]" for passage in own)
        shortened = " (shortened to the sentences that tell most)" if any(passage.kept for passage in own) else ""
        yield Step("pack", True, f"in the context as {places} of {len(packed.passages)} passages{shortened}"), own
    else:
        spent = f"the budget of {options.budget} tokens was spent on {packed.taken} better passages"
        message = f"{spent}; a larger one would reach it"
        yield Step("pack", False, message), ()


def _stored(pipeline: Pipeline, document_id: str) -> Step:
    searcher = pipeline.searcher
    with searcher.store.read() as connection:
        row_id = stored.document_row_id(connection, searcher.scope, document_id)
        if row_id is None:
            raise DocumentNotFoundError(f"no document has the id {document_id!r}. See them with: carrel list")
        chunks = stored.read_chunks(connection, searcher.scope, row_id)
    tokens = sum(chunk.tokens for chunk in chunks)
    return Step("store", True, f"{len(chunks)} chunks, {tokens:,} tokens")


def _filtered(pipeline: Pipeline, document_id: str, options: Options) -> Step:
    searcher = pipeline.searcher
    with searcher.store.read() as connection:
        found = [info.id for info in stored.list_documents(connection, searcher.scope, options.where)]
    passes = document_id in found
    return Step("filter", passes, f"{'passes' if passes else 'does not pass'} the filter {dict(options.where or {})}")


def _ranked(pipeline: Pipeline, document_id: str, question: str, options: Options) -> Step:
    """The place of the document's best chunk in each ranking."""
    searcher, retriever = pipeline.searcher, make_retriever(options.retriever)
    query = searcher.encoder.encode_queries([question])[0]
    with searcher.store.read() as connection:
        row_id = stored.document_row_id(connection, searcher.scope, document_id)
        table = schema.chunks
        own = set(connection.execute(select(table.c.id).where(table.c.document_id == row_id)).scalars())
        everything = replace(options, limit=None)
        ranking = searcher.rank(
            connection,
            question,
            query,
            retriever,
            where=everything.where,
            recency=options.recency,
            candidates=CANDIDATES,
        )
    parts = []
    for name, ids in (("dense", ranking.candidates.dense_ranking), ("lexical", ranking.candidates.lexical_ranking)):
        if not len(ids):
            continue
        place = _place(ids, own)
        parts.append(
            f"{name} rank {place} of {len(ids)}" if place else f"not among the {len(ids)} best of the {name} index"
        )
    place = _place(ranking.ids, own)
    if place is None:
        return Step("retrieve", False, "; ".join(parts) or "nothing was found")
    score = float(ranking.scores[place - 1])
    best = float(ranking.scores[0])
    parts.append(f"{retriever.name} rank {place} of {len(ranking.ids)}, score {score:.3f} (the best has {best:.3f})")
    return Step("retrieve", True, "; ".join(parts))


def _place(ids: np.ndarray, own: set[int]) -> int | None:
    return next((rank for rank, found in enumerate(ids.tolist(), start=1) if found in own), None)


def _reranked(document_id: str, found: Found) -> Step | None:
    """The best place of the document in the reranker's order; None when a cut after it leaves no way to tell."""
    read = [passage for passage in found.passages if passage.scores.relevance is not None]
    own = [rank for rank, passage in enumerate(read, start=1) if passage.document_id == document_id]
    if own:
        relevance = read[own[0] - 1].scores.relevance
        return Step("rerank", True, f"rank {own[0]} of the {len(read)} that were read, relevance {relevance:.3f}")
    if found.cut is not None:
        return None
    if any(passage.document_id == document_id for passage in found.passages):
        return Step("rerank", True, f"below the {len(read)} passages that were read")
    return None


def _cut(pipeline: Pipeline, document_id: str, found: Found, cut: Cut) -> Step:
    if found.reading.reranker is not None:
        above = found.passages
    else:
        with pipeline.searcher.store.read() as connection:
            above = pipeline.searcher.passages(connection, found.ranking, cut.count)
    kept = any(passage.document_id == document_id for passage in above)
    return Step("cutoff", kept, cut.reason if kept else f"below the cut: {cut.reason}")


def _read(document_id: str, selection: Selection) -> Step:
    own = [rank for rank, passage in enumerate(selection.candidates, start=1) if passage.document_id == document_id]
    if own:
        return Step(
            "read", True, f"{len(own)} passages among the {len(selection.candidates)} best, the first at rank {own[0]}"
        )
    return Step(
        "read",
        False,
        f"not among the {len(selection.candidates)} best passages that were read; raise the limit or the budget",
    )


def _distinct(document_id: str, selection: Selection) -> Step:
    kept = any(passage.document_id == document_id for passage in selection.repeats.kept)
    twins = [twin for passage, twin in selection.repeats.dropped if passage.document_id == document_id]
    if kept:
        return Step(
            "deduplicate",
            True,
            f"{len(twins)} of its passages repeat better ones" if twins else "repeats nothing better",
        )
    return Step(
        "deduplicate", False, f"says what {twins[0].document_id} says, which ranks higher" if twins else "left out"
    )
