import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.quotations import Quoted, distinct, find_quotation, quotation, read_quotations, says_nothing
from carrel.types import Passage, Span

_TEXT = (
    "The pier wasn’t rebuilt in 1894. The\n harbour — “old Ansel” —  costs 1.5 crowns a day, and is free in May. Fish."
)
_PASSAGE = Passage("pier", 100, 100 + len(_TEXT), _TEXT)


def _stands(found):
    return _TEXT[found.start - 100 : found.end - 100] == found.text


@pytest.mark.parametrize(
    "words",
    [
        'The harbour - "old Ansel" - costs 1.5 crowns',
        "“The pier wasn't rebuilt in 1894.”",
        "costs 1.5   crowns a day.",
        "and is free in May",
    ],
)
def test_words_stand_there_but_for_white_space_and_the_shape_of_signs(words):
    found = quotation(words, _PASSAGE)
    assert found is not None and _stands(found)


@pytest.mark.parametrize(
    "words",
    [
        "The pier was",  # the sentence says the opposite
        "The harbour costs 1.5 crowns",  # something was left out
        "“old Ansel” — costs 1",  # half a number
        "the pier wasn't rebuilt in 1894",  # other words: small letters
        "ier wasn't rebuilt in 1894",
        "Fish.",  # too short to tell
        "",
        "1894",
    ],
)
def test_other_words_do_not(words):
    assert quotation(words, _PASSAGE) is None


def test_of_a_pruned_passage_only_what_is_shown_counts():
    kept = Passage("pier", 100, 100 + len(_TEXT), _TEXT, kept=(Span(100, 133),))
    assert quotation("is free in May. Fish.", _PASSAGE) is not None
    assert quotation("is free in May. Fish.", kept) is None
    found = quotation("wasn't rebuilt in 1894", kept)
    assert found is not None and found.kept is None and _stands(found)


def test_chinese_has_no_spaces_between_words():
    text = "東京の港は千八百九十四年に造られた。次の文。"
    found = quotation("港は千八百九十四年に造られ", Passage("tokyo", 0, len(text), text))
    assert found is not None and found.text == "港は千八百九十四年に造られ"


def test_the_passage_that_is_named_is_looked_at_first_and_the_sentence_comes_whole():
    twice = "It rains in May. The gate is never open on Sunday mornings."
    passages = [Passage(name, 7, 7 + len(twice), twice) for name in ("a", "b")]
    for number, place in ((2, 1), (1, 0), (0, 0), (9, 0)):
        at = find_quotation(Quoted(number, "open on Sunday mornings"), passages)
        assert at is not None and at[0] == place
        assert at[1].text == "The gate is never open on Sunday mornings." and at[1].start == 24
    assert find_quotation(Quoted(1, "open on Monday mornings"), passages) is None


def test_a_sentence_that_is_too_long_is_quoted_in_part():
    text = "| row of a table with many cells " * 50
    at = find_quotation(Quoted(1, "row of a table with"), [Passage("t", 0, len(text), text)])
    assert at is not None and at[1].text == "row of a table with"


def test_quotations_are_read_from_lines():
    reply = (
        'Here is what I found:\n[2] "the first"\n- [3]: “the second”\n4. "the third" [1]\n(0.93) the fourth [5]\n'
        '"the fifth".\nno quotation\n[7] ""\n'
    )
    assert read_quotations(reply) == [
        Quoted(2, "the first"), Quoted(3, "the second"), Quoted(1, "the third"), Quoted(5, "the fourth"),
        Quoted(0, "the fifth"),
    ]  # fmt: skip


@pytest.mark.parametrize("reply", ["NOTHING", " nothing. ", '"NOTHING"', "**NOTHING**"])
def test_nothing_is_said_in_one_word(reply):
    assert says_nothing(reply)
    assert not says_nothing(f"{reply} matters, or does it")


def test_quotations_inside_others_are_those():
    a, b, c = (Passage("d", *at, _TEXT[at[0] : at[1]]) for at in ((0, 20), (5, 10), (30, 40)))
    other = Passage("e", 5, 10, _TEXT[5:10])
    assert distinct([b, a, c, a, other]) == (a, c, other)


@given(st.text(max_size=80), st.text(max_size=80), st.text(min_size=12, max_size=60))
def test_what_is_found_is_always_the_text_of_the_document(before, after, words):
    text = f"{before} {words} {after}"
    passage = Passage("d", 3, 3 + len(text), text)
    at = find_quotation(Quoted(1, words), [passage])
    if sum(map(len, words.split())) >= 30 and words.isalpha() and words.isascii():
        assert at is not None
    if at is not None:
        assert text[at[1].start - 3 : at[1].end - 3] == at[1].text != ""
