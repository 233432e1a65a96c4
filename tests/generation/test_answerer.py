"""How answers of several passages become candidates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import GenerationError
from carrel.generation.answerer import Answerer, FoundAnswer
from carrel.types import Passage

TEXT = "In 1894 the pier, in 1911 the mole, in 1894 the quay."


class Given(Answerer):
    name: ClassVar[str] = "given"
    threshold = 0.5

    def __init__(self, *found: FoundAnswer) -> None:
        self.found = list(found)

    def find(self, question: str, passages: Sequence[Passage]) -> list[FoundAnswer]:
        return self.found


def passages(*texts: str) -> list[Passage]:
    return [Passage(f"d{n}", 10 * n, 10 * n + len(text), text) for n, text in enumerate(texts)]


def answer(text: str, probability: float, number: int = 1, nth: int = 0, source: str = TEXT) -> FoundAnswer:
    places = [match.start() for match in re.finditer(re.escape(text), source)]
    start = 10 * (number - 1) + places[nth]
    return FoundAnswer(number, start, start + len(text), text, probability)


def test_one_place_keeps_its_probability_exactly() -> None:
    for probability in (0.1, 0.3, 0.7, 1.0, 0.0):
        (found,) = Given(answer("1894", probability)).candidates("?", passages(TEXT))
        assert (found.text, found.probability) == ("1894", probability)


def test_passages_that_agree_make_each_other_surer() -> None:
    found = Given(answer("1911", 0.6), answer("1894", 0.5), answer("1894", 0.4, 2)).candidates(
        "?", passages(TEXT, TEXT)
    )
    assert [(c.text, pytest.approx(c.probability)) for c in found] == [("1894", 0.7), ("1911", 0.6)]
    assert [place.number for place in found[0].places] == [1, 2]


def test_a_passage_counts_once() -> None:
    (found,) = Given(answer("1894", 0.5), answer("1894", 0.4, nth=1)).candidates("?", passages(TEXT))
    assert found.probability == 0.5 and len(found.places) == 2


def test_what_two_passages_share_counts_once() -> None:
    shared = [Passage("d", 0, 53, TEXT), Passage("d", 3, 53, TEXT[3:])]
    same = [FoundAnswer(1, 3, 7, "1894", 0.5), FoundAnswer(2, 3, 7, "1894", 0.4)]
    assert [c.probability for c in Given(*same).candidates("?", shared)] == [0.5]
    other = [same[0], FoundAnswer(2, 39, 43, "1894", 0.4)]
    assert [c.probability for c in Given(*other).candidates("?", shared)] == [pytest.approx(0.7)]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The Pier", "a pier", True),
        ("3.5 %", "3.5", True),
        ("3.5", "35", False),
        ("-5", "5", False),
        ("−5", "-5", False),
        ("twenty-one", "twenty one", True),
        ("C++", "C", False),
        ("C#", "C++", False),
        ("the", "a", False),
        ("!!", "??", False),
        ("12-13", "12 13", True),
    ],
)
def test_what_is_the_same_answer(one: str, other: str, same: bool) -> None:
    found = [answer(text, 0.5, number, source=text) for number, text in enumerate((one, other), start=1)]
    assert len(Given(*found).candidates("?", passages(one, other))) == (1 if same else 2)


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["1894", "1911", "pier"]), st.floats(0, 1)), max_size=9))
def test_candidates_are_those_of_the_slow_way(drawn: list[tuple[int, str, float]]) -> None:
    found = [answer(text, probability, number) for number, text, probability in drawn]
    candidates = Given(*found).candidates("?", passages(TEXT, TEXT, TEXT), 9)
    assert {c.text for c in candidates} == {text for _, text, _ in drawn}
    assert [c.probability for c in candidates] == sorted((c.probability for c in candidates), reverse=True)
    for candidate in candidates:
        wrong = 1.0
        for number in (1, 2, 3):
            wrong *= 1 - max((p for n, text, p in drawn if n == number and text == candidate.text), default=0.0)
        assert 0 <= candidate.probability <= 1
        assert candidate.probability == pytest.approx(1 - wrong, abs=1e-12)


def test_ties_go_to_the_first_passage_and_count_is_a_limit() -> None:
    found = [answer("1911", 0.5, 2), answer("pier", 0.5), answer("1894", 0.5)]
    given_passages = passages(TEXT, TEXT)
    assert [c.text for c in Given(*found).candidates("?", given_passages)] == ["1894", "pier", "1911"]
    assert [c.text for c in Given(*found).candidates("?", given_passages, 1)] == ["1894"]
    for none in (0, -1):
        assert Given(*found).candidates("?", given_passages, none) == []


@pytest.mark.parametrize(
    "wrong",
    [
        FoundAnswer(1, 3, 7, "1895", 0.5),
        FoundAnswer(1, 4, 8, "1894", 0.5),
        FoundAnswer(0, 3, 7, "1894", 0.5),
        FoundAnswer(2, 3, 7, "1894", 0.5),
        FoundAnswer(1, 3, 3, "", 0.5),
        FoundAnswer(1, -50, -46, "1894", 0.5),
    ],
)
def test_what_is_no_quotation_is_refused(wrong: FoundAnswer) -> None:
    with pytest.raises(GenerationError, match="'given' quotes what does not stand at its place"):
        Given(wrong).candidates("?", passages(TEXT))


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(probability: Any) -> None:
    with pytest.raises(GenerationError, match="'given' must give probabilities from 0 to 1"):
        Given(answer("1894", probability)).candidates("?", passages(TEXT))


def test_for_no_passages_nothing_is_asked() -> None:
    assert Given(answer("1894", 0.5)).candidates("?", []) == []
