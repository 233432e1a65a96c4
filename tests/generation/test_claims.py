"""A sentence taken apart: numbers by value, dates, names, negation, stems."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.generation.claims import claim_of, dates_of, fold, plain, runs_of, stem


def numbers(text: str) -> set[float]:
    return {float(token.key[1:]) for token in claim_of(text).tokens if token.key.startswith("#")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,204 ships", {1204}),
        ("1204 ships", {1204}),
        ("4.36 million", {4_360_000}),
        ("4,360,000", {4_360_000}),
        ("$3bn", {3e9}),
        ("three billion", {3e9}),
        ("twenty-one", {21}),
        ("two hundred and fifty-three", {253}),
        ("a hundred thousand", {100_000}),
        ("the 3rd, the third, the 21st", {3, 21}),
        ("40%, 40 %, 40 percent", {40}),
        ("1947–48", {1947, 1948}),
        ("from 1990-1995", {1990, 1995}),
        ("World War II and Louis XIV", {2, 14}),
        ("in the 1980s", {1980}),
        ("no numbers", set()),
    ],
)
def test_numbers_are_read_by_their_value(text: str, expected: set[float]) -> None:
    assert numbers(text) == expected


def test_versions_keep_their_dots() -> None:
    assert "#1.2.3" in {token.key for token in claim_of("Version 1.2.3 came").tokens}


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("90 m", "metre"),
        ("90 metres", "metre"),
        ("90 ft", "foot"),
        ("$90", "dollar"),
        ("90%", "percent"),
        ("90 cows", ""),
    ],
)
def test_a_number_has_its_unit(text: str, unit: str) -> None:
    (token,) = [token for token in claim_of(text).tokens if token.key == "#90"]
    assert token.unit == unit


@pytest.mark.parametrize(
    "text", ["12 March 1998", "March 12, 1998", "12th of March 1998", "1998-03-12", "the 12 Mar 1998"]
)
def test_a_date_is_the_same_however_written(text: str) -> None:
    expected = {("#1998", "mar", "#12")}
    found = dates_of(claim_of(text.replace("of ", "")).tokens)
    assert found == expected


def test_dates_side_by_side_are_told_apart() -> None:
    found = dates_of(claim_of("from September 9, 1929 to January 28, 1946").tokens)
    assert found == {("#1929", "sep", "#9"), ("#1946", "jan", "#28")}


@pytest.mark.parametrize("text", ["They may march on.", "You may go."])
def test_months_that_are_verbs_are_none(text: str) -> None:
    assert not dates_of(claim_of(text).tokens)


def test_names_are_found_with_all_their_words() -> None:
    claim = claim_of("In Paris, Marie Curie’s husband met J. R. R. Tolkien of the U.N. twice.")
    assert [[token.key for token in run] for run in runs_of(claim.tokens)] == [
        ["par"], ["mar", "cur"], ["jrr", "tolkien"], ["un"],
    ]  # fmt: skip


@pytest.mark.parametrize("sentence", ["Marie Curie won.", "Boats are red.", "Paris is large.", "He won."])
def test_the_case_of_the_first_letter_tells_nothing(sentence: str) -> None:
    for known in (frozenset[str](), frozenset({stem("paris"), stem("marie")})):
        first, second = (claim_of(text, known) for text in (sentence, sentence[0].lower() + sentence[1:]))
        assert [(t.key, t.kind, t.run) for t in first.tokens] == [(t.key, t.kind, t.run) for t in second.tokens]


def test_a_shouted_sentence_has_no_names_of_its_own() -> None:
    assert not runs_of(claim_of("THE PIER WAS BUILT BY THE COMPANY").tokens)


@pytest.mark.parametrize(
    "words", [("ship", "ships"), ("named", "naming"), ("begin", "began"), ("study", "studies"), ("die", "death")]
)
def test_forms_of_a_word_have_one_stem(words: tuple[str, str]) -> None:
    assert stem(words[0]) == stem(words[1])


def test_quotations_are_kept_whole() -> None:
    claim = claim_of("He wrote “the lamps are lit” and \"they burn\" and 'no'.")
    assert claim.quotations == ("the lamps are lit", "they burn")


@given(st.text(max_size=60))
def test_any_text_can_be_taken_apart(text: str) -> None:
    claim = claim_of(text)
    assert all(token.key for token in claim.tokens)
    assert all(0 <= token.start < token.end <= len(text) or not text.isascii() for token in claim.tokens)
    assert claim.plain == plain(text)


@given(st.text(max_size=30))
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text) or not text.isascii()


@given(st.integers(0, 10**9))
def test_a_number_is_itself_with_and_without_separators(number: int) -> None:
    assert numbers(f"{number:,} ropes") == numbers(f"{number} ropes") == {number}
