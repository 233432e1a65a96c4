"""Rules that combine distributions: sums, order, ties, and the formulas by hand."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.combining import RULES, Rule, combined

CHOICES = ("a", "b", "c")
_thoughts = st.lists(
    st.dictionaries(st.sampled_from(CHOICES), st.floats(0, 1, width=16), min_size=1, max_size=1), min_size=1, max_size=6
)


def test_a_mixture_is_the_weighted_mean() -> None:
    found = combined([{"a": 0.8}, {"b": 0.6}], [3, 1], "mixture", CHOICES)
    first, second = 0.2 / 3, 0.4 / 3  # what is not known, for each choice
    assert found["a"] == pytest.approx(0.75 * (0.8 + first) + 0.25 * second)
    assert found["b"] == pytest.approx(0.75 * first + 0.25 * (0.6 + second))
    assert found["c"] == pytest.approx(0.75 * first + 0.25 * second)


def test_a_product_multiplies_and_sums_to_one() -> None:
    found = combined([{"a": 0.8}, {"a": 0.6}], [1, 1], "product", ("a", "b"))
    assert found == pytest.approx({"a": 0.72 / 0.74, "b": 0.02 / 0.74})


def test_weak_evidence_is_evidence_still() -> None:
    for rule in RULES:
        assert next(iter(combined([{"c": 0.05}], [1], rule, CHOICES))) == "c"


def test_nobody_has_a_veto_in_a_product() -> None:
    found = combined([{"a": 1.0}, {"a": 1.0}, {"b": 1.0}], [1, 1, 1], "product", ("a", "b"))
    assert next(iter(found)) == "a" and 0.98 < found["a"] < 1 and found["b"] > 0


def test_a_vote_counts_and_ties_go_by_the_mixture() -> None:
    assert combined([{"a": 0.5}, {"a": 0.5}, {"b": 1.0}], [1, 1, 1], "vote", ("a", "b"))["a"] == pytest.approx(2 / 3)
    found = combined([{"a": 0.6}, {"b": 0.9}], [1, 1], "vote", ("a", "b"))
    assert list(found) == ["b", "a"] and found["a"] == found["b"] == 0.5


def test_an_open_question_leaves_room_for_none_of_them() -> None:
    assert combined([{"x": 0.7}], [1], "mixture") == pytest.approx({"x": 0.7})
    assert combined([{"x": 0.7}], [1], "product") == pytest.approx({"x": 0.7})
    both = combined([{"x": 0.7}, {"x": 0.7}], [1, 1], "product")
    assert both == pytest.approx({"x": 0.49 / (0.49 + 0.09)})
    assert sum(combined([{"x": 0.7}, {"y": 0.6}], [1, 1], "product").values()) < 0.2  # they contradict each other


def test_more_than_one_in_all_is_made_one() -> None:
    assert combined([{"x": 0.9, "y": 0.9}], [1], "mixture") == pytest.approx({"x": 0.5, "y": 0.5})


def test_without_thoughts_there_is_nothing() -> None:
    assert combined([], [], "mixture", CHOICES) == {} == combined([{}], [1], "vote")


def test_weights_of_zero_count_the_same() -> None:
    assert combined([{"a": 0.9}, {"b": 0.9}], [0, 0], "mixture") == combined(
        [{"a": 0.9}, {"b": 0.9}], [1, 1], "mixture"
    )


@given(_thoughts, st.sampled_from(RULES), st.data())
def test_choices_share_a_probability_of_one(thoughts: list[dict[str, float]], rule: Rule, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.floats(0, 1, width=16), min_size=len(thoughts), max_size=len(thoughts)))
    found = combined(thoughts, weights, rule, CHOICES)
    assert set(found) == set(CHOICES) and math.isclose(sum(found.values()), 1, abs_tol=1e-6)
    assert all(value >= 0 for value in found.values())
    ordered = list(found.values())
    assert all(first >= second - 1e-6 for first, second in itertools.pairwise(ordered))


@given(_thoughts, st.sampled_from(RULES))
def test_what_all_say_is_the_answer(thoughts: list[dict[str, float]], rule: Rule) -> None:
    sure = [{"b": 0.9} for _ in thoughts]
    assert next(iter(combined(sure, [1] * len(sure), rule, CHOICES))) == "b"
