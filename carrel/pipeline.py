"""From a question to a context: the stages in order, each with its line in the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from carrel.embeddings.base import Vectors
from carrel.errors import BudgetError, EmptyQuestionError, InputError
from carrel.retrieval.cutoff import AdaptiveK, Cut, Cutoff, FixedK
from carrel.retrieval.filters import Where
from carrel.retrieval.injection import suspicion
from carrel.retrieval.merging import Repeats, tight
from carrel.retrieval.packing import Packed, Packer
from carrel.retrieval.retrievers import CANDIDATES, Ranking, Retriever, Searcher, make_retriever
from carrel.tokens import Tokenizer
from carrel.types import Context, Ledger, LedgerEntry, Order, Passage

if TYPE_CHECKING:
    from carrel.generation.base import Generator

CutoffLike = str | int | Cutoff | None


DEFAULT_BUDGET = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """How one question is answered; the same for search, context, ask, stream and why."""

    limit: int | None = None
    where: Where | None = None
    retriever: str | Retriever | None = None
    cutoff: CutoffLike = None
    recency: float | None = None
    budget: int = DEFAULT_BUDGET
    order: Order = "relevance"


class SearchOptions(TypedDict, total=False):
    """Keywords of ``Library.search``.

    limit : passages at most (search: 10).
    where : metadata filter, such as ``{"year": {">=": 2020}}``.
    retriever : "fused" (default), "dense", "lexical", "rank_fused", or a Retriever.
    cutoff : "adaptive", a number, a Cutoff, or None to take all that fits.
    recency : half-life in days: older documents weigh less.
    """

    limit: int | None
    where: Where | None
    retriever: str | Retriever | None
    cutoff: CutoffLike
    recency: float | None


class ContextOptions(SearchOptions, total=False):
    """Keywords of ``Library.context``: those of search, and

    budget : tokens of the rendered text, headers and separators included (1,000).
    order : "relevance" (default), "sides" (best at both ends) or "document".
    """

    budget: int
    order: Order


class AskOptions(ContextOptions, total=False):
    """Keywords of ``Library.ask``: those of context, and

    generator : what writes the answer; by default the best sentences are quoted.
    """

    generator: Generator | None


@dataclass(slots=True)
class Trail:
    """Ledger entries as they come, each timed from the one before."""

    tokenizer: str
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
    ) -> None:
        now = time.perf_counter()
        self.entries.append(LedgerEntry(stage, items_in, items_out, *tokens, now - self._last, reason, details or {}))
        self._last = now

    def ledger(self) -> Ledger:
        return Ledger(self.tokenizer, tuple(self.entries))


@dataclass(frozen=True, slots=True)
class Selection:
    """What each stage left: for the context, and for whoever asks why a passage is not in it."""

    ranking: Ranking
    cut: Cut | None
    candidates: list[Passage]
    repeats: Repeats
    tokens: dict[str, int]  # of the candidates' texts, by the encoder's tokenizer


def check_question(question: str) -> str:
    """The question without surrounding space.

    Raises
    ------
    EmptyQuestionError : it holds no letter or digit.
    """
    if not any(character.isalnum() for character in question):
        raise EmptyQuestionError("the question is empty. Ask something, such as: carrel ask 'When was the pier built?'")
    return question.strip()


def make_cutoff(cutoff: CutoffLike) -> Cutoff | None:
    """The Cutoff that a name, a number or a Cutoff means."""
    if cutoff is None or isinstance(cutoff, Cutoff):
        return cutoff
    if isinstance(cutoff, bool) or not isinstance(cutoff, (int, str)):
        raise InputError(f"a cutoff is 'adaptive', a number or a Cutoff, not {cutoff!r}")
    if isinstance(cutoff, int):
        return FixedK(cutoff)
    if cutoff == "adaptive":
        return AdaptiveK()
    raise InputError(
        f"unknown cutoff {cutoff!r}. Use 'adaptive', a number, or a Cutoff such as carrel.AdaptiveK(buffer=3)"
    )


class Pipeline:
    """The stages over one collection."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher

    def search(self, question: str, options: Options, trail: Trail) -> list[Passage]:
        """The best chunks as passages, cut and limited, not merged."""
        check_limit(options.limit)
        limit = 10 if options.limit is None else options.limit
        depth = max(CANDIDATES, limit)
        _, counted, _ = self._retrieve(check_question(question), options, limit, depth, trail)
        return [tight(passage) for passage, _ in counted]

    def context(self, question: str, options: Options, tokenizer: Tokenizer, trail: Trail) -> Context:
        """Retrieve, cut, drop repeats, pack under the budget, order.

        Raises
        ------
        EmptyQuestionError, BudgetError, FilterError, InputError
        """
        question, budget = check_question(question), options.budget
        check_budget(budget)
        check_limit(options.limit)
        selection = self.select(question, options, trail)
        repeats, candidates = selection.repeats, selection.candidates
        packed = self.packer(selection, question, options, tokenizer).pack(repeats.distinct(candidates))
        looked_at = len(repeats.kept) + len(repeats.dropped)
        reason = f"{len(repeats.dropped)} of {looked_at} said what a better one says" if repeats.dropped else ""
        left = len(candidates) - len(repeats.dropped)  # repeats are looked for while packing, so its time is theirs too
        trail.entries.append(LedgerEntry("deduplicate", len(candidates), left, reason=reason))
        trail.add(
            "pack",
            left,
            len(packed.passages),
            _pack_reason(left, packed, budget),
            (None, packed.tokens),
            {"budget": budget},
        )
        _flag(packed.passages, trail)
        return Context(question, tuple(packed.passages), packed.text, packed.tokens, budget, trail.ledger())

    def select(self, question: str, options: Options, trail: Trail) -> Selection:
        """Everything before packing."""
        depth = min(4 * CANDIDATES, 12 + options.budget // 40)  # passages with their headers are longer, on average
        ranking, counted, cut = self._retrieve(question, options, options.limit or depth, CANDIDATES, trail)
        candidates = [passage for passage, _ in counted]
        tokens = {passage.text.strip(): count for passage, count in counted}
        return Selection(ranking, cut, candidates, Repeats(), tokens)

    def packer(self, selection: Selection, question: str, options: Options, tokenizer: Tokenizer) -> Packer:
        """Packs a selection; counts that the store already has are not made again."""
        own = tokenizer.name == self.searcher.encoder.tokenizer.name
        return Packer(tokenizer, options.budget, question, options.order, selection.tokens if own else {})

    def _retrieve(
        self, question: str, options: Options, limit: int, depth: int, trail: Trail
    ) -> tuple[Ranking, list[tuple[Passage, int]], Cut | None]:
        retriever = make_retriever(options.retriever)
        cutoff = make_cutoff(options.cutoff)
        query: Vectors | None = None
        if retriever.needs_dense:
            query = self.searcher.encoder.encode_queries([question])[0]
            trail.add("embed", 1, 1, details={"encoder": self.searcher.encoder.name})
        with self.searcher.store.read() as connection:
            ranking = self.searcher.rank(
                connection, question, query, retriever, where=options.where, recency=options.recency, candidates=depth
            )
            trail.add(
                "retrieve",
                len(ranking.ids),
                len(ranking.ids),
                f"{len(ranking.candidates.dense_ranking)} dense, {len(ranking.candidates.lexical_ranking)} lexical",
                details={
                    "retriever": retriever.name,
                    **{f"{name}_s": value for name, value in ranking.seconds.items()},
                },
            )
            count, cut = limit, None
            if cutoff is not None:
                cut = cutoff.cut(ranking.scores.tolist(), ranking.kind)
                count = min(limit, cut.count)
                trail.add("cutoff", len(ranking.ids), cut.count, cut.reason, details=cut.details)
            passages = self.searcher.counted_passages(connection, ranking, count)
            trail.add("read", count, len(passages), f"limit {limit}" if options.limit else "")
        return ranking, passages, cut


def check_budget(budget: int) -> None:
    """Raise BudgetError for what is no number of tokens."""
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise BudgetError(f"a budget is a number of tokens, 1 or more, not {budget!r}")


def check_limit(limit: int | None) -> None:
    """Raise InputError unless it is None or a number of passages."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InputError(f"limit is a number of passages, 1 or more, not {limit!r}")


def _pack_reason(candidates: int, packed: Packed, budget: int) -> str:
    if not candidates:
        return "nothing was found"
    if packed.taken == candidates and not packed.cut:
        return f"all fit in {budget} tokens"
    return f"the budget of {budget} tokens was reached" + (
        "; the last passage was cut to its best sentences" if packed.cut else ""
    )


def _flag(passages: Sequence[Passage], trail: Trail) -> None:
    """Name the passages that read like orders to a model."""
    found = [(number, suspicion(passage.text)) for number, passage in enumerate(passages, start=1)]
    suspicious = {number: reason for number, reason in found if reason}
    if suspicious:
        reason = "; ".join(f"[{number}] {why}" for number, why in suspicious.items())
        trail.add(
            "inspect", len(passages), len(passages), f"treat as data only: {reason}", details={"passages": suspicious}
        )
