"""Promise 1: a budget is never exceeded, whatever the documents, the tokenizer and the order."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrel
from carrel.errors import BudgetError, EmptyQuestionError
from carrel.generation.base import Generator
from carrel.retrieval.packing import Packer, render
from carrel.testing import HashEncoder, WordTokenizer
from carrel.tokens import Tokenizer, shipped_tokenizer
from carrel.types import Completion, Document, Passage, Prompt


class Quarters(WordTokenizer):
    """A token every four characters, and one more for each line: the parts of a text do not add up to the whole."""

    name = "quarters"

    def count(self, text: str) -> int:
        return math.ceil(len(text) / 4) + text.count("\n")


class Quadratic(WordTokenizer):
    """Counts grow faster than the text, so that two parts that fit are too much together."""

    name = "quadratic"

    def count(self, text: str) -> int:
        words = super().count(text)
        return words + words * words // 50


class Pairs(WordTokenizer):
    """Merges across any boundary, as byte pairs do: a run of equal kinds of characters is one token a pair."""

    name = "pairs"
    runs = re.compile(r"[\w\s]{1,2}|[^\w\s]{1,3}")

    def count(self, text: str) -> int:
        return len(self.runs.findall(text))


class Contrary(WordTokenizer):
    """Counts more for less: a short text has a penalty that a long one does not have."""

    name = "contrary"

    def count(self, text: str) -> int:
        return super().count(text) + (9 if 0 < len(text) < 40 else 0)


TOKENIZERS: list[Tokenizer] = [shipped_tokenizer(), WordTokenizer(), Quarters(), Quadratic(), Pairs(), Contrary()]

tricky = st.text(st.sampled_from("ab .!?\n[1]9\\#|éא渡🚢\u0301\t'"), max_size=40)
sentences = st.sampled_from(
    [
        "The ferry leaves at nine. ",
        "Lamps burn all night! ",
        "[1] Forged source. ",
        "渡轮九点开。",
        "a | b | c\n",
        "x\n\n",
        "1",
    ]
)
texts = st.one_of(st.lists(sentences, min_size=1, max_size=25).map("".join), st.lists(tricky, max_size=6).map(" ".join))
titles = st.one_of(st.just(""), tricky, st.just("A harbour\nof two lines"), st.just("long title " * 20))
pages = st.one_of(st.just(()), st.lists(st.integers(0, 400), max_size=12).map(lambda found: (0, *sorted(found))))
orders = st.sampled_from(["relevance", "sides", "document"])
questions = st.sampled_from(["When does the ferry leave?", "lamps", "渡轮?", "nothing of it 7"])
budgets = st.one_of(st.integers(1, 60), st.integers(1, 900))


@st.composite
def passages(draw: st.DrawFn) -> list[Passage]:
    """Parts of a few documents, in any order, some of them touching or overlapping."""
    sources = {str(number): draw(texts.filter(str.strip)) for number in range(draw(st.integers(1, 3)))}
    found = []
    for document in draw(st.lists(st.sampled_from(sorted(sources)), max_size=8)):
        text = sources[document]
        start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        if text[start:end].strip():
            found.append(
                Passage(document, start, end, text[start:end], draw(titles), prefix=draw(titles), pages=draw(pages))
            )
    return found


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: tokenizer.name)
@given(found=passages(), budget=budgets, order=orders, question=questions)
def test_packing_never_exceeds_the_budget(tokenizer, found, budget, order, question) -> None:
    try:
        packed = Packer(tokenizer, budget, question, order).pack(found)
    except BudgetError as error:
        needed = int(re.search(r"needs at least (\d+)", str(error))[1])  # type: ignore[index]
        assert needed > budget
        assert Packer(tokenizer, needed, question, order).pack(found).tokens <= needed
        return
    assert packed.tokens == tokenizer.count(packed.text) <= budget
    assert packed.text == render(packed.passages)
    assert bool(packed.passages) == bool(found)


class Echo(Generator):
    """Says nothing; its tokenizer counts the budget."""

    name = "echo"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    def complete(self, prompt: Prompt) -> Completion:
        return Completion("")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[carrel.Library]:
    """Documents that differ in language, structure, title and length."""
    folder: Path = tmp_path_factory.mktemp("budget")
    with carrel.open(folder, encoder=HashEncoder()) as library:
        library.add(
            [
                Document("The ferry leaves at nine. It returns at six.\n\n" * 40, "ferry", "Ferry\n[7] plan"),
                Document("[1] Forged. [2] Lamps.\n[3] Forged again.\n" * 20, "forged", "[1]"),
                Document("渡轮九点离开北码头。它晚上回来。" * 30, "chinese", "渡轮"),
                Document("lamps" + "a" * 5000 + " ferry", "endless", "title " * 100),
                Document("The lamps 🚢👩‍🔬 burn e\u0301ternally. שלום. " * 20, "marks", "", pages=(0, 100, 300)),
                Document("Lamps.", "short", ""),
            ]
        )
        yield library


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: tokenizer.name)
@given(budget=budgets, order=orders, question=questions, retriever=st.sampled_from(["fused", "lexical", "dense"]))
def test_a_context_never_exceeds_its_budget(library, tokenizer, budget, order, question, retriever) -> None:
    try:
        answer = library.ask(question, budget=budget, order=order, retriever=retriever, generator=Echo(tokenizer))
    except BudgetError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert int(re.search(r"needs at least (\d+)", refusal)[1]) > budget  # type: ignore[index]
        return
    context = answer.context
    assert context.tokens == tokenizer.count(context.text) <= context.budget == budget
    assert context.tokenizer == tokenizer.name
    assert context.ledger.entries[-1].tokens_out in (context.tokens, None)


@given(st.text(max_size=40), budgets)
def test_any_question_is_answered_within_the_budget_or_refused(library, question: str, budget: int) -> None:
    try:
        context = library.context(question, budget=budget)
    except (BudgetError, EmptyQuestionError):
        return
    assert context.tokens == library.tokenizer.count(context.text) <= budget
