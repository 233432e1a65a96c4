from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import CarrelError
from carrel.evaluation.datasets import Gold, Question
from carrel.evaluation.metrics import TokenRange
from carrel.evaluation.scoring import TokenSpace, ranking_metrics, score_context, score_ranking
from carrel.types import Document, Passage, Span

TEXT = "The Moon is far. Neil Armstrong walked on it."
DOCUMENT = Document(TEXT, "moon")


def passage(start: int, end: int, document: Document = DOCUMENT, kept: tuple[Span, ...] | None = None) -> Passage:
    return Passage(document.id, start, end, document.text[start:end], kept=kept)


@pytest.fixture
def space(tokenizer: Any) -> TokenSpace:
    return TokenSpace([DOCUMENT, Document("Tea is hot.", "tea")], tokenizer)


@given(text=st.text("ab .,", max_size=30), ends=st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_tokens_are_those_that_share_a_character(text: str, ends: tuple[int, int]) -> None:
    import re

    class Words:
        name = "words"

        def count(self, text: str) -> int:
            return len(self.offsets(text))

        def offsets(self, text: str) -> list[tuple[int, int]]:
            return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]

    start, end = sorted(min(place, len(text)) for place in ends)
    _, first, last = TokenSpace([Document(text, "d")], Words()).locate("d", start, end)
    touched = [n for n, (low, high) in enumerate(Words().offsets(text)) if low < end and high > start and end > start]
    assert list(range(first, last)) == touched or (start == end and last - first <= 1)


def test_each_document_is_tokenized_once(tokenizer: Any) -> None:
    seen: list[str] = []

    class Counting:
        name = "counting"

        def count(self, text: str) -> int:
            raise AssertionError("not needed")

        def offsets(self, text: str) -> list[tuple[int, int]]:
            seen.append(text)
            return tokenizer.offsets(text)

    space = TokenSpace([DOCUMENT, Document("never asked for", "other")], Counting())
    expected: TokenRange = ("moon", 0, 2)
    assert space.locate("moon", 0, 8) == space.locate("moon", 0, 8) == expected
    assert seen == [TEXT]
    with pytest.raises(CarrelError, match="'mars', which is not in the dataset"):
        space.locate("mars", 0, 1)


def test_a_question_with_everything_is_scored_on_everything(space: TokenSpace) -> None:
    start = TEXT.index("Neil")
    question = Question("q", "Who?", ("Neil Armstrong",), "factoid", (Gold("moon", start, start + 14),))
    scores = score_context(question, TEXT[17:], 7, [passage(17, len(TEXT))], space)
    assert scores == {
        "answer": 1,
        "answer_in_gold": 1,
        "gold_recall": 1,
        "all_support": 1,
        "span_recall": 1,
        "span_precision": 2 / 6,
        "span_iou": 2 / 6,
        "tokens": 7,
    }
    empty = score_context(question, "", 0, [], space)
    assert set(empty.values()) == {0.0}


def test_what_a_question_does_not_ask_for_is_not_scored(space: TokenSpace) -> None:
    summary = Question("q", "Plot?", ("A long summary.",), "long-form", (Gold("moon"), Gold("tea")))
    scores = score_context(summary, TEXT, 11, [passage(0, 5)], space)
    assert (scores["gold_recall"], scores["all_support"], scores["tokens"]) == (0.5, 0, 11)
    assert all(math.isnan(scores[name]) for name in ("answer", "answer_in_gold", "span_recall", "span_iou"))
    no_gold = score_context(Question("q", "?", ("far",)), TEXT, 11, [passage(0, 5)], space)
    assert no_gold["answer"] == 1
    assert math.isnan(no_gold["answer_in_gold"])
    assert math.isnan(no_gold["gold_recall"])


def test_only_what_a_pruner_kept_counts(space: TokenSpace) -> None:
    question = Question("q", "Who?", ("Armstrong",), "factoid", (Gold("moon", 17, 31),))
    away = passage(0, len(TEXT), kept=(Span(0, 16),))
    scores = score_context(question, TEXT[:16], 5, [away], space)
    assert (scores["answer_in_gold"], scores["span_recall"], scores["gold_recall"]) == (0, 0, 1)
    exact = passage(0, len(TEXT), kept=(Span(17, 21), Span(22, 31)))
    scores = score_context(question, "Neil ... Armstrong", 5, [exact], space)
    assert (scores["answer_in_gold"], scores["span_recall"], scores["span_precision"]) == (1, 1, 1)
    nothing = score_context(question, "", 0, [passage(0, len(TEXT), kept=())], space)
    assert nothing["gold_recall"] == 0


def test_rankings_are_of_documents() -> None:
    ranked = [passage(0, 3), passage(4, 8), Passage("tea", 0, 3, "Tea")]
    scores = score_ranking(Question("q", "?", gold=(Gold("tea"),)), ranked, (1, 2))
    assert scores == {"recall@1": 0, "recall@2": 1, "ndcg@10": pytest.approx(1 / math.log2(3)), "mrr": 0.5}
    unscored = score_ranking(Question("q", "?"), ranked, (1, 2))
    assert all(math.isnan(score) for score in unscored.values())
    assert [*unscored, "search_seconds"] == list(ranking_metrics((1, 2)))
