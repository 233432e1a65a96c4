from __future__ import annotations

import math
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.evaluation.metrics import (
    SpanScores,
    TokenRange,
    all_support,
    contains_answer,
    contains_answer_in_gold,
    document_recall,
    ndcg_at_k,
    normalize_answer,
    percentiles,
    rank_documents,
    recall_at_k,
    reciprocal_rank,
    score_spans,
)

DOCS = st.sampled_from("abcdefgh")
RANKINGS = st.lists(DOCS, unique=True)
GOLD = st.sets(DOCS, min_size=1)
WORDS = st.lists(st.sampled_from(["the", "a", "Moon", "moon", "U.S.", "1,969", "Ärzte", "-", "rock n' roll", ""]))
RANGES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.integers(0, 8)), max_size=6).map(
    lambda ranges: [(doc, start, start + length) for doc, start, length in ranges]
)
FULL_RANGES = RANGES.filter(lambda ranges: any(end > start for _, start, end in ranges))


# -- answers


def official_normalize(text: str) -> str:
    """The four steps of the SQuAD script, one after another."""
    lowered = text.lower()
    bare = "".join(character for character in lowered if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


@given(st.one_of(st.text(), WORDS.map(" ".join)))
def test_normalisation_is_that_of_squad(text: str) -> None:
    assert normalize_answer(text) == official_normalize(text)


@given(WORDS.map(" ".join), WORDS)
def test_answers_are_whole_words_in_a_row(text: str, answers: list[str]) -> None:
    words = official_normalize(text).split()
    wanted = [official_normalize(answer).split() for answer in answers]
    expected = any(
        answer and answer == words[start : start + len(answer)] for answer in wanted for start in range(len(words))
    )
    assert contains_answer(text, answers) == expected


@given(WORDS.map(" ".join), WORDS, WORDS.map(" ".join))
def test_more_text_never_loses_an_answer(text: str, answers: list[str], more: str) -> None:
    if contains_answer(text, answers):
        assert contains_answer(f"{text}\n\n{more}", answers)
        assert contains_answer(f"{more}\n\n{text}", answers)


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("It was the Beatles' song.", "The Beatles", True),
        ("He is from Marseille.", "Mars", False),
        ("in 1969,", "1969", True),
        ("anything", "the", False),
        ("anything", "?!", False),
        ("", "x", False),
    ],
)
def test_answers_found_and_not(text: str, answer: str, found: bool) -> None:
    assert contains_answer(text, [answer]) is found


def test_an_answer_by_luck_in_another_document_does_not_count() -> None:
    passages = [("tea", "Armstrong drank tea."), ("moon", "A walk in 1969.")]
    assert contains_answer(" ".join(text for _, text in passages), ["Armstrong"])
    assert not contains_answer_in_gold(passages, ["Armstrong"], {"moon"})
    assert contains_answer_in_gold(passages, ["Armstrong", "1969"], {"moon"})


def test_an_answer_does_not_span_two_passages() -> None:
    assert not contains_answer_in_gold([("m", "Neil"), ("m", "Armstrong")], ["Neil Armstrong"], {"m"})


# -- rankings


def naive_ndcg(ranking: list[str], gold: set[str], k: int) -> float:
    def gain(relevance: list[int]) -> float:
        return sum(relevant / math.log2(place + 2) for place, relevant in enumerate(relevance[:k]))

    found = [1 if document in gold else 0 for document in ranking]
    return gain(found) / gain([1] * len(gold))


@given(RANKINGS, GOLD, st.integers(1, 10))
def test_ranking_scores_agree_with_naive_ones(ranking: list[str], gold: set[str], k: int) -> None:
    hits = sum(1 for document in gold if document in ranking[:k])
    assert recall_at_k(ranking, gold, k) == pytest.approx(hits / len(gold))
    assert ndcg_at_k(ranking, gold, k) == pytest.approx(naive_ndcg(ranking, gold, k))
    ranks = [place for place, document in enumerate(ranking, 1) if document in gold]
    assert reciprocal_rank(ranking, gold) == pytest.approx(1 / min(ranks) if ranks else 0)


@given(RANKINGS, GOLD, st.integers(1, 10))
def test_ranking_scores_stay_in_bounds_and_recall_grows_with_depth(ranking: list[str], gold: set[str], k: int) -> None:
    for score in (recall_at_k(ranking, gold, k), ndcg_at_k(ranking, gold, k), reciprocal_rank(ranking, gold)):
        assert 0 <= score <= 1
    assert recall_at_k(ranking, gold, k) <= recall_at_k(ranking, gold, k + 1)


@given(RANKINGS, GOLD, st.integers(1, 10))
def test_only_the_places_of_gold_documents_matter(ranking: list[str], gold: set[str], k: int) -> None:
    renamed = [document if document in gold else f"other-{document}" for document in ranking]
    assert recall_at_k(renamed, gold, k) == recall_at_k(ranking, gold, k)
    assert ndcg_at_k(renamed, gold, k) == ndcg_at_k(ranking, gold, k)
    assert reciprocal_rank(renamed, gold) == reciprocal_rank(ranking, gold)


@given(GOLD, RANKINGS)
def test_gold_first_is_perfect(gold: set[str], rest: list[str]) -> None:
    ranking = [*sorted(gold), *(document for document in rest if document not in gold)]
    assert ndcg_at_k(ranking, gold, 10) == 1
    assert reciprocal_rank(ranking, gold) == 1
    assert recall_at_k(ranking, gold, len(gold)) == 1


@given(st.lists(DOCS), GOLD)
def test_all_support_is_full_recall(retrieved: list[str], gold: set[str]) -> None:
    assert document_recall(retrieved, gold) == pytest.approx(
        sum(document in retrieved for document in gold) / len(gold)
    )
    assert all_support(retrieved, gold) == (document_recall(retrieved, gold) == 1)


@given(st.lists(DOCS))
def test_a_document_ranks_at_its_best_passage(passages: list[str]) -> None:
    ranking = rank_documents(passages)
    assert sorted(ranking) == sorted(set(passages))
    assert [passages.index(document) for document in ranking] == sorted(passages.index(doc) for doc in ranking)


def test_ranking_scores_need_gold_and_a_depth() -> None:
    for score in (
        lambda: document_recall(["a"], []),
        lambda: all_support(["a"], []),
        lambda: recall_at_k(["a"], [], 1),
        lambda: ndcg_at_k(["a"], [], 1),
        lambda: reciprocal_rank(["a"], []),
        lambda: recall_at_k(["a"], ["a"], 0),
        lambda: ndcg_at_k(["a"], ["a"], 0),
    ):
        with pytest.raises(InputError):
            score()


# -- spans


def naive_spans(retrieved: list[TokenRange], gold: list[TokenRange]) -> SpanScores:
    wanted = {(doc, token) for doc, start, end in gold for token in range(start, end)}
    every = [(doc, token) for doc, start, end in retrieved for token in range(start, end)]
    hits = len(wanted & set(every))
    return SpanScores(hits / len(wanted), hits / len(every) if every else 0.0, hits / (len(wanted) + len(every) - hits))


@given(RANGES, FULL_RANGES)
def test_span_scores_agree_with_token_sets(retrieved: list[TokenRange], gold: list[TokenRange]) -> None:
    assert score_spans(retrieved, gold) == naive_spans(retrieved, gold)


@given(RANGES, RANGES, FULL_RANGES)
def test_span_scores_stay_in_bounds_and_recall_grows(
    first: list[TokenRange], second: list[TokenRange], gold: list[TokenRange]
) -> None:
    fewer, more = score_spans(first, gold), score_spans(first + second, gold)
    for scores in (fewer, more):
        assert 0 <= scores.iou <= min(scores.recall, scores.precision) <= 1
    assert fewer.recall <= more.recall


@given(FULL_RANGES)
def test_span_scores_do_not_depend_on_order_or_cutting(gold: list[TokenRange]) -> None:
    retrieved = [("a", 0, 10), ("b", 3, 5)]
    pieces = [("b", 3, 4), ("a", 6, 10), ("b", 4, 5), ("a", 0, 6)]
    assert score_spans(retrieved, gold) == score_spans(pieces, gold)
    assert score_spans(retrieved, gold) == score_spans(retrieved, gold[::-1])


def test_the_gold_itself_is_perfect_and_repetition_is_paid_for() -> None:
    gold = [("a", 2, 6)]
    assert score_spans(gold, gold) == SpanScores(1.0, 1.0, 1.0)
    assert score_spans([*gold, *gold], gold) == SpanScores(1.0, 0.5, 0.5)
    assert score_spans([], gold) == SpanScores(0.0, 0.0, 0.0)
    assert score_spans([("b", 2, 6)], gold) == SpanScores(0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="gold token"):
        score_spans(gold, [("a", 3, 3)])


# -- latency


@given(st.lists(st.floats(0, 1e3), min_size=1), st.floats(0, 100))
def test_percentiles_interpolate_between_sorted_values(values: list[float], point: float) -> None:
    ordered = sorted(values)
    place = point / 100 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    expected = ordered[low] + (place - low) * (ordered[high] - ordered[low])
    assert percentiles(values, (point,))[point] == pytest.approx(expected, abs=1e-9)


def test_percentiles_leave_out_what_was_not_measured() -> None:
    assert percentiles([1.0, math.nan, 3.0], (0, 50, 100)) == {0: 1.0, 50: 2.0, 100: 3.0}
    with pytest.raises(InputError, match="at least one"):
        percentiles([math.nan])
    with pytest.raises(InputError, match="between 0 and 100"):
        percentiles([1.0], (101,))
