"""What a question may be asked with, and the checks of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from carrel.errors import BudgetError, EmptyQuestionError, InputError
from carrel.inputs import check_text, well_formed
from carrel.retrieval.cutoff import AdaptiveK, Cutoff, FixedK
from carrel.retrieval.filters import Where
from carrel.retrieval.retrievers import Retriever
from carrel.types import Order, Span, Turn

if TYPE_CHECKING:
    from carrel.compression.base import Pruner
    from carrel.generation.base import Generator
    from carrel.memory.base import Memory
    from carrel.retrieval.reranking import Reranker

CutoffLike = str | int | Cutoff | None
Protected = Sequence[tuple[str, Span]]

DEFAULT_BUDGET = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """How one question is answered. Which of them a call takes, the classes below say."""

    limit: int | None = None
    where: Where | None = None
    retriever: str | Retriever | None = None
    cutoff: CutoffLike = None
    recency: float | None = None
    mode: str = ""
    reranker: str | Reranker | None = None
    budget: int = DEFAULT_BUDGET
    order: Order = "relevance"
    pruner: str | Pruner | None = None
    protected: Protected = ()


class SearchOptions(TypedDict, total=False):
    """Keywords of ``Library.search``.

    limit : passages at most (search: 10).
    where : metadata filter, such as ``{"year": {">=": 2020}}``.
    retriever : "fused" (default), "dense", "lexical", "rank_fused", or a Retriever.
    cutoff : "adaptive", a number, a Cutoff, or None to take all that fits.
    recency : prefer newer documents: at this many days older than the newest found, a score counts three
        quarters, at twice as many five eighths, and never less than half.
    mode : "balanced": the reader reads the best 32 passages, orders and prunes them; "thorough": the best 100;
        "fast": retrieval alone. By default that of the library, which is "balanced" unless it was opened otherwise.
    reranker : "reader", "none", or a Reranker, in place of what the mode has.
    """

    limit: int | None
    where: Where | None
    retriever: str | Retriever | None
    cutoff: CutoffLike
    recency: float | None
    mode: str
    reranker: str | Reranker | None


class ContextOptions(SearchOptions, total=False):
    """Keywords of ``Library.context``: those of search, and

    budget : tokens of the rendered text, headers and separators included (1,000).
    order : "relevance" (default), "sides" (best at both ends) or "document".
    pruner : "reader", "none", or a Pruner, in place of what the mode has. Sentences are left out only where
        the budget has no room for them.
    protected : (document id, Span) pairs: sentences that count as the most telling of their passage, whatever the
        pruner thinks of them. The budget holds all the same, and nothing is brought in that was not found.
    """

    budget: int
    order: Order
    pruner: str | Pruner | None
    protected: Protected


class AskOptions(ContextOptions, total=False):
    """Keywords of ``Library.ask``: those of context, and

    generator : what writes the answer; by default the reader finds it and its sentence is quoted.
    history : the turns before this question, as ``Answer.turns`` gives them, for a generator that writes. A
        follow-up question ("And in 2019?") is searched for as the turns make it whole.
    memory : a carrel.memory.Memory, such as ``library.memory(user="ann")``: what it holds for the question goes into
        the prompt, within a third of the budget, and a follow-up question is made whole before it is searched for.
    remember : whether the memory keeps question and answer (it does unless this is False).
    """

    generator: Generator | None
    history: Sequence[Turn]
    memory: Memory | None
    remember: bool


def check_options(call: str, given: Iterable[str], accepted: type) -> None:
    """Raise TypeError, as for any unknown keyword, for an option that a call has no use for.

    ``accepted`` is the class that lists what it takes: SearchOptions, ContextOptions or AskOptions.
    """
    known = accepted.__annotations__
    for name in given:
        if name not in known:
            raise TypeError(f"{call}() takes no option {name!r}. It takes: {', '.join(known)}")


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


def check_budget(budget: int) -> None:
    """Raise BudgetError for what is no number of tokens."""
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise BudgetError(f"a budget is a number of tokens, 1 or more, not {budget!r}")


def check_history(history: Iterable[Turn]) -> tuple[Turn, ...]:
    """The turns, if they are turns; raises InputError."""
    turns = tuple(history) if isinstance(history, Iterable) else (history,)
    for turn in turns:
        if not isinstance(turn, Turn) or turn.role not in ("user", "assistant") or not isinstance(turn.text, str):
            raise InputError(f"history is a list of carrel.types.Turn, such as an answer's .turns, not {turn!r:.100}")
    return turns


def check_protected(protected: Protected) -> None:
    """Raise InputError for anything but (document id, Span) pairs."""
    is_list = isinstance(protected, Iterable) and not isinstance(protected, str)
    for pair in protected if is_list else [protected]:
        if not (isinstance(pair, tuple) and list(map(type, pair)) == [str, Span]):
            raise InputError(f'protected is a list of (document id, Span) such as ("terms", Span(0, 99)), not {pair!r}')


def check_limit(limit: int | None) -> None:
    """Raise InputError unless it is None or a number of passages."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InputError(f"limit is a number of passages, 1 or more, not {limit!r}")
