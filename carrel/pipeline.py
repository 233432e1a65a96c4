"""From a question to a context: the stages in order, each with its line in the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from carrel.compression.base import passage_sentences
from carrel.compression.companions import companions
from carrel.embeddings.base import Vectors
from carrel.modes import Reading, make_reading
from carrel.options import (
    Options,
    Protected,
    check_budget,
    check_limit,
    check_protected,
    check_question,
    make_cutoff,
)
from carrel.retrieval.cutoff import Cut, Cutoff
from carrel.retrieval.injection import suspicion
from carrel.retrieval.merging import Repeats, tight
from carrel.retrieval.packing import Packed, Packer
from carrel.retrieval.pruned_packing import Key, PruningPacker, ScoredPassage, key_of
from carrel.retrieval.retrievers import CANDIDATES, Ranking, Retriever, Searcher, make_retriever
from carrel.tokens import Tokenizer
from carrel.types import Context, Ledger, LedgerEntry, Passage


@dataclass(slots=True)
class Trail:
    """Ledger entries as they come, each timed from the one before.

    A stage that ran while another did gives its own ``seconds``; they are taken off the time of the next.
    """

    tokenizer: Tokenizer
    entries: list[LedgerEntry] = field(default_factory=list)
    _last: float = field(default_factory=time.perf_counter)

    def add(
        self,
        stage: str,
        items_in: int,
        items_out: int,
        reason: str = "",
        tokens: tuple[int | None, int | None] = (None, None),
        details: Mapping[str, object] | None = None,
        seconds: float | None = None,
    ) -> None:
        seconds = time.perf_counter() - self._last if seconds is None else seconds
        self.entries.append(LedgerEntry(stage, items_in, items_out, *tokens, seconds, reason, details or {}))
        self._last += seconds

    def ledger(self) -> Ledger:
        return Ledger(self.tokenizer.name, tuple(self.entries))


@dataclass(frozen=True, slots=True)
class Found:
    """Passages best first, each with the tokens of its text (by the encoder's tokenizer), and where they were cut.

    ``reading`` is what reads them; the reranker has read as many as have a ``relevance``.
    """

    ranking: Ranking
    counted: list[tuple[Passage, int]]
    cut: Cut | None
    reading: Reading

    @property
    def passages(self) -> list[Passage]:
        return [passage for passage, _ in self.counted]


@dataclass(frozen=True, slots=True)
class Selection:
    """What each stage left: for the context, and for whoever asks why a passage is not in it."""

    found: Found
    candidates: list[Passage]
    repeats: Repeats
    tokens: dict[str, int]  # of the candidates' texts, by the encoder's tokenizer
    scored: Mapping[Key, ScoredPassage]  # the sentences of those that were read for pruning


class Pipeline:
    """The stages over one collection."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher

    def search(self, question: str, options: Options, trail: Trail) -> list[Passage]:
        """The best chunks as passages, cut and limited, not merged."""
        check_limit(options.limit)
        limit = 10 if options.limit is None else options.limit
        depth = max(CANDIDATES, limit)
        found = self._retrieve(check_question(question), replace(options, limit=limit), limit, depth, trail)
        return [tight(passage) for passage in found.passages]

    def context(self, question: str, options: Options, trail: Trail) -> Context:
        """Retrieve, rerank, cut, drop repeats, prune, pack under the budget, order.

        The trail's tokenizer counts the budget.

        Raises
        ------
        EmptyQuestionError, BudgetError, FilterError, InputError
        """
        question, budget = check_question(question), options.budget
        check_budget(budget)
        check_limit(options.limit)
        check_protected(options.protected)
        selection = self.select(question, options, trail)
        repeats, candidates = selection.repeats, selection.candidates
        packer = self.packer(selection, question, options, trail.tokenizer)
        packed = packer.pack(repeats.distinct(candidates))
        looked_at = len(repeats.kept) + len(repeats.dropped)
        reason = f"{len(repeats.dropped)} of {looked_at} said what a better one says" if repeats.dropped else ""
        left = len(candidates) - len(repeats.dropped)
        tokens = repeated = None
        if self._counts_as(trail.tokenizer):
            repeated = sum(selection.tokens[passage.text.strip()] for passage, _ in repeats.dropped)
            tokens = sum(selection.tokens[passage.text.strip()] for passage in candidates)
        distinct = None if tokens is None or repeated is None else tokens - repeated
        # repeats are looked for while packing, passage by passage
        trail.add("deduplicate", len(candidates), left, reason, (tokens, distinct), seconds=repeats.seconds)
        reason = _pack_reason(left, packed, budget)
        details: dict[str, object] = {"budget": budget}
        if selection.scored:
            details["tokens_pruned"] = _tokens_pruned(packed, trail.tokenizer)
        trail.add("pack", left, len(packed.passages), reason, (distinct, packed.tokens), details)
        _flag(packed, trail)
        return Context(question, tuple(packed.passages), packed.text, packed.tokens, budget, trail.ledger())

    def select(self, question: str, options: Options, trail: Trail) -> Selection:
        """Everything before packing."""
        depth = min(4 * CANDIDATES, 12 + options.budget // 40)  # passages with their headers are longer, on average
        found = self._retrieve(question, options, options.limit or depth, CANDIDATES, trail)
        tokens = {passage.text.strip(): count for passage, count in found.counted}
        scored = self._sentences(question, found, options.protected, trail)
        return Selection(found, found.passages, Repeats(), tokens, scored)

    def packer(self, selection: Selection, question: str, options: Options, tokenizer: Tokenizer) -> Packer:
        """Packs a selection; counts that the store already has are not made again."""
        known = selection.tokens if self._counts_as(tokenizer) else {}
        pruner = selection.found.reading.pruner
        if not selection.scored or pruner is None:
            return Packer(tokenizer, options.budget, question, options.order, known)
        return PruningPacker(
            tokenizer, options.budget, question, options.order, known, selection.scored, pruner.threshold
        )

    def _counts_as(self, tokenizer: Tokenizer) -> bool:
        """Whether the counts in the store were made with this tokenizer."""
        return tokenizer == self.searcher.encoder.tokenizer

    def _retrieve(self, question: str, options: Options, limit: int, depth: int, trail: Trail) -> Found:
        """The best ``limit`` passages, of at least as many as the mode's reranker reads."""
        retriever, cutoff = make_retriever(options.retriever), make_cutoff(options.cutoff)
        reading = make_reading(options.mode, options.reranker, options.pruner)
        wanted = limit if reading.reranker is None else max(limit, reading.depth)
        query: Vectors | None = None
        if retriever.needs_dense:
            query = self.searcher.encoder.encode_query(question)
            trail.add("embed", 1, 1, details={"encoder": self.searcher.encoder.name})
        with self.searcher.store.read() as connection:
            ranking = self.searcher.rank(
                connection, question, query, retriever, where=options.where, recency=options.recency, candidates=depth
            )
            _note_ranking(ranking, retriever, trail)
            cut = None
            if cutoff is not None and reading.reranker is None:
                cut = cutoff.cut(ranking.scores.tolist(), ranking.kind)
                if cutoff.max_tokens is not None:
                    cut = cutoff.within_tokens(cut, self.searcher.chunk_tokens(connection, ranking, cut.count))
                trail.add("cutoff", len(ranking.ids), cut.count, cut.reason, details=cut.details)
            left = len(ranking.ids) if cut is None else cut.count
            counted = self.searcher.counted_passages(connection, ranking, min(wanted, left))
        why = f"the best {wanted}, for {options.budget} tokens"
        if reading.reranker is not None and reading.depth >= limit:
            why = f"the best {wanted}, for {reading.reranker.name} to read"
        elif options.limit:
            why = f"limit {limit}"
        trail.add("read", left, len(counted), why if wanted < left else "", (None, self._tokens(counted, trail)))
        found = self._understood(question, Found(ranking, counted, cut, reading), trail)
        if reading.reranker is None:
            return found
        found = self._reranked(question, found, cutoff, trail)
        if options.limit and len(found.counted) > options.limit:
            counted = found.counted[: options.limit]
            tokens = (self._tokens(found.counted, trail), self._tokens(counted, trail))
            trail.add("limit", len(found.counted), len(counted), f"limit {options.limit}", tokens)
            found = replace(found, counted=counted)
        return found

    def _tokens(self, counted: Sequence[tuple[Passage, int]], trail: Trail) -> int | None:
        """The tokens of passages together; None where the store has counted with another tokenizer."""
        return sum(count for _, count in counted) if self._counts_as(trail.tokenizer) else None

    def _understood(self, question: str, found: Found, trail: Trail) -> Found:
        """Without the models that plainly do not know the language of what they would read."""
        language = found.reading.foreign(question, found.passages)
        if language is None:
            return found
        count, tokens = len(found.counted), self._tokens(found.counted, trail)
        reason = f"left out, and so is pruning: the model cannot read {language}"
        trail.add("rerank", count, count, reason, (tokens, tokens))
        return replace(found, reading=replace(found.reading, reranker=None, pruner=None))

    def _reranked(self, question: str, found: Found, cutoff: Cutoff | None, trail: Trail) -> Found:
        """The first passages in the reranker's order; with a cutoff no others. Recency weighs here as in retrieval."""
        ranking, reranker, depth = found.ranking, found.reading.reranker, found.reading.depth
        counted, scores, kind = found.counted, ranking.scores.tolist(), ranking.kind
        if reranker is not None and counted:
            head = counted[:depth]
            relevance = reranker.checked_scores(question, [passage for passage, _ in head])
            weights = np.ones(len(head)) if ranking.weights is None else ranking.weights[: len(head)]
            ordered = relevance * weights
            order = np.argsort(-ordered, kind="stable").tolist()
            best = [(_with_relevance(head[i][0], float(relevance[i])), head[i][1]) for i in order]
            counted, scores, kind = [*best, *counted[depth:]], ordered[order].tolist(), "relevance"
            moved = "the first stays" if order[0] == 0 else f"the first was at {order[0] + 1}"
            reason = f"{reranker.name} read {len(head)}; {moved}"
            tokens = self._tokens(counted, trail)
            details = {"reranker": reranker.name, "relevance": float(relevance[order[0]])}
            trail.add("rerank", len(counted), len(counted), reason, (tokens, tokens), details)
        if cutoff is None:
            return replace(found, counted=counted)
        cut = cutoff.within_tokens(cutoff.cut(scores, kind), [tokens for _, tokens in counted])
        left = counted[: cut.count]
        trail.add("cutoff", len(counted), len(left), cut.reason, details=cut.details)
        return replace(found, counted=left, cut=cut)

    def _sentences(self, question: str, found: Found, protected: Protected, trail: Trail) -> dict[Key, ScoredPassage]:
        """The sentences of the passages that the pruner reads, with their scores; what is protected has the highest."""
        pruner = found.reading.pruner
        if pruner is None:
            return {}
        head = found.passages[: found.reading.depth]
        sentences = [passage_sentences(passage) for passage in head]
        scores = [list(values) for values in pruner.checked_scores(question, head, sentences)]
        for passage, spans, values in zip(head, sentences, scores, strict=True):
            safe = [span for key, span in protected if key == passage.document_id]
            for index, span in enumerate(spans):
                if any(s.start < span.end and span.start < s.end for s in safe):
                    values[index] = 1.0
        parts = [
            ScoredPassage(passage, tuple(spans), tuple(values), tuple(companions(passage, spans)))
            for passage, spans, values in zip(head, sentences, scores, strict=True)
        ]
        total = sum(len(spans) for spans in sentences)
        telling = sum(len(part.above(pruner.threshold)) for part in parts)
        reason = f"{telling} of {total} sentences score {pruner.threshold:.3g} or more; the rest take what room is left"
        count, tokens = len(found.counted), self._tokens(found.counted, trail)
        details = {"pruner": pruner.name, "sentences": total, "telling": telling}
        trail.add("prune", count, count, reason, (tokens, tokens), details)
        return {key_of(part.passage): part for part in parts}


def _with_relevance(passage: Passage, relevance: float) -> Passage:
    return replace(passage, scores=replace(passage.scores, relevance=relevance))


def _note_ranking(ranking: Ranking, retriever: Retriever, trail: Trail) -> None:
    found = f"{len(ranking.candidates.dense_ranking)} dense, {len(ranking.candidates.lexical_ranking)} lexical"
    seconds = {f"{name}_s": value for name, value in ranking.seconds.items()}
    details: dict[str, object] = {"retriever": retriever.name, **seconds}
    trail.add("retrieve", ranking.searched, len(ranking.ids), found, details=details)


def _tokens_pruned(packed: Packed, tokenizer: Tokenizer) -> int:
    """Tokens of the passages in the context that pruning left out of them."""
    shortened = [passage for passage in packed.passages if passage.kept is not None]
    return sum(tokenizer.count(passage.text) - sum(map(tokenizer.count, passage.pieces)) for passage in shortened)


def _pack_reason(candidates: int, packed: Packed, budget: int) -> str:
    if not candidates:
        return "nothing was found"
    if packed.taken == candidates and not packed.cut:
        return f"all fit in {budget} tokens"
    return f"the budget of {budget} tokens was reached" + (
        "; some passages were cut to their best sentences" if packed.cut else ""
    )


def _flag(packed: Packed, trail: Trail) -> None:
    """Name the passages that read like orders to a model."""
    found = [(number, suspicion(passage.text)) for number, passage in enumerate(packed.passages, start=1)]
    suspicious = {number: reason for number, reason in found if reason}
    if suspicious:
        reason = "treat as data only: " + "; ".join(f"[{number}] {why}" for number, why in suspicious.items())
        items, tokens = len(packed.passages), packed.tokens
        trail.add("inspect", items, items, reason, (tokens, tokens), {"passages": suspicious})
