"""What is measured: a library used with the options of one configuration, or the baseline that reads no question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from carrel.errors import BudgetError
from carrel.evaluation.configurations import Configuration
from carrel.evaluation.scoring import Tokenizer
from carrel.types import Context, Document, IngestReport, Passage


class Encoder(Protocol):
    """The embedding model of a library, as far as a manifest needs it."""

    @property
    def fingerprint(self) -> str:
        """What identifies the model."""


class Library(Protocol):
    """What the runner calls of ``carrel.Library``."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Counts budgets."""

    @property
    def encoder(self) -> Encoder:
        """Made the vectors."""

    @property
    def add(self) -> Callable[..., IngestReport]:
        """Add documents."""

    @property
    def search(self) -> Callable[..., Sequence[Passage]]:
        """Return ranked passages."""

    @property
    def context(self) -> Callable[..., Context]:
        """Return a context inside a budget."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A context, or nothing where the budget was too small for any."""

    text: str = ""
    tokens: int = 0
    passages: tuple[Passage, ...] = ()


class System(Protocol):
    """What is measured: a library with options, or the baseline."""

    def search(self, question: str, limit: int) -> Sequence[Passage]:
        """Return ranked passages."""

    def fit(self, question: str, budget: int) -> Fitted:
        """Return a context."""


def build_system(library: Library, configuration: Configuration, documents: Sequence[Document]) -> System:
    """Return what a configuration measures."""
    if configuration.is_baseline:
        return _Baseline(documents, library.tokenizer)
    return _Configured(library, configuration)


class _Configured:
    """A library used with the options of one configuration."""

    def __init__(self, library: Library, configuration: Configuration) -> None:
        self._library = library
        self._search_options = configuration.search_options
        self._context_options = configuration.context_options

    def search(self, question: str, limit: int) -> Sequence[Passage]:
        return self._library.search(question, limit=limit, **self._search_options)

    def fit(self, question: str, budget: int) -> Fitted:
        try:
            context = self._library.context(question, budget=budget, **self._context_options)
        except BudgetError:
            return Fitted()
        return Fitted(context.text, context.tokens, context.passages)


class _Baseline:
    """The documents in stored order, cut where the budget is full; the question is not looked at."""

    def __init__(self, documents: Sequence[Document], tokenizer: Tokenizer) -> None:
        self._documents = documents
        self._tokenizer = tokenizer
        self._fitted: dict[int, Fitted] = {}

    def search(self, question: str, limit: int) -> Sequence[Passage]:
        return [_whole(document) for document in self._documents[:limit]]

    def fit(self, question: str, budget: int) -> Fitted:
        if budget not in self._fitted:
            self._fitted[budget] = self._fill(budget)
        return self._fitted[budget]

    def _fill(self, budget: int) -> Fitted:
        fitted = Fitted()
        for document in self._documents:
            taken = document.text
            before = f"{fitted.text}\n\n" if fitted.text else ""
            tokens = self._tokenizer.count(before + taken)
            if whole := tokens <= budget:
                passage = _whole(document)
            else:
                taken, tokens = self._cut(before, taken, budget)
                if not taken.strip():
                    break
                passage = Passage(document.id, 0, len(taken), taken, document.title)
            fitted = Fitted(before + taken, tokens, (*fitted.passages, passage))
            if not whole:
                break
        return fitted

    def _cut(self, before: str, text: str, budget: int) -> tuple[str, int]:
        """Return the longest beginning of the text that fits after ``before``, and the tokens of both."""
        ends = [end for _, end in self._tokenizer.offsets(text)]
        kept = min(len(ends), max(0, budget - self._tokenizer.count(before)))
        while kept > 0:
            taken = text[: ends[kept - 1]]
            tokens = self._tokenizer.count(before + taken)
            if tokens <= budget:
                return taken, tokens
            kept -= max(1, tokens - budget)
        return "", 0


def _whole(document: Document) -> Passage:
    return Passage(document.id, 0, len(document.text), document.text, document.title)
