"""From a question to a context: the stages in order, each with its line in the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypedDict

from carrel.embeddings.base import Vectors
from carrel.errors import BudgetError, EmptyQuestionError, InputError
from carrel.inputs import check_text, well_formed
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
    """How one question is answered. Which of them a call takes, the classes below say."""

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
    recency : prefer newer documents: at this many days older than the newest found, a score counts three
        quarters, at twice as many five eighths, and never less than half.
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


def check_options(call: str, given: Iterable[str], accepted: type) -> None:
    """Raise TypeError, as for any unknown keyword, for an option that a call has no use for.

    ``accepted`` is the class that lists what it takes: SearchOptions, ContextOptions or AskOptions.
    """
    known = accepted.__annotations__
    for name in given:
        if name not in known:
            raise TypeError(f"{call}() takes no option {name!r}. It takes: {', '.join(known)}")


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
class Selection:
    """What each stage left: for the context, and for whoever asks why a passage is not in it."""

    ranking: Ranking
    cut: Cut | None
    candidates: list[Passage]
    repeats: Repeats
    tokens: dict[str, int]  # of the candidates' texts, by the encoder's tokenizer


def check_question(question: str) -> str:
    """The question without surrounding space, and without halves of characters.

    Raises
    ------
    InputError : it is no text. EmptyQuestionError : it holds no letter or digit.
    """
    question = well_formed(check_text("a question", question))
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
        _, counted, _ = self._retrieve(check_question(question), replace(options, limit=limit), limit, depth, trail)
        return [tight(passage) for passage, _ in counted]

    def context(self, question: str, options: Options, trail: Trail) -> Context:
        """Retrieve, cut, drop repeats, pack under the budget, order. The trail's tokenizer counts the budget.

        Raises
        ------
        EmptyQuestionError, BudgetError, FilterError, InputError
        """
        question, budget = check_question(question), options.budget
        check_budget(budget)
        check_limit(options.limit)
        selection = self.select(question, options, trail)
        repeats, candidates = selection.repeats, selection.candidates
        packed = self.packer(selection, question, options, trail.tokenizer).pack(repeats.distinct(candidates))
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
        trail.add("pack", left, len(packed.passages), reason, (distinct, packed.tokens), {"budget": budget})
        _flag(packed, trail)
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
        known = selection.tokens if self._counts_as(tokenizer) else {}
        return Packer(tokenizer, options.budget, question, options.order, known)

    def _counts_as(self, tokenizer: Tokenizer) -> bool:
        """Whether the counts in the store were made with this tokenizer."""
        return tokenizer == self.searcher.encoder.tokenizer

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
                ranking.searched,
                len(ranking.ids),
                f"{len(ranking.candidates.dense_ranking)} dense, {len(ranking.candidates.lexical_ranking)} lexical",
                details={
                    "retriever": retriever.name,
                    **{f"{name}_s": value for name, value in ranking.seconds.items()},
                },
            )
            left, cut = len(ranking.ids), None
            if cutoff is not None:
                cut = cutoff.cut(ranking.scores.tolist(), ranking.kind)
                if cutoff.max_tokens is not None:
                    cut = cutoff.within_tokens(cut, self.searcher.chunk_tokens(connection, ranking, cut.count))
                left = cut.count
                trail.add("cutoff", len(ranking.ids), left, cut.reason, details=cut.details)
            passages = self.searcher.counted_passages(connection, ranking, min(limit, left))
            why = f"limit {limit}" if options.limit else f"the best {limit}, for {options.budget} tokens"
            tokens = sum(count for _, count in passages) if self._counts_as(trail.tokenizer) else None
            trail.add("read", left, len(passages), why if limit < left else "", (None, tokens))
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


def _flag(packed: Packed, trail: Trail) -> None:
    """Name the passages that read like orders to a model."""
    found = [(number, suspicion(passage.text)) for number, passage in enumerate(packed.passages, start=1)]
    suspicious = {number: reason for number, reason in found if reason}
    if suspicious:
        reason = "treat as data only: " + "; ".join(f"[{number}] {why}" for number, why in suspicious.items())
        items, tokens = len(packed.passages), packed.tokens
        trail.add("inspect", items, items, reason, (tokens, tokens), {"passages": suspicious})
