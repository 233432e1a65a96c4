"""Sentences: where they end, and that nothing is lost between them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.retrieval.sentences import split_sentences

# Each sentence as it should come out; they are joined to make the text.
CASES: dict[str, list[str]] = {
    "heading with prose under it": ["# St. Ives\n", "The ferry leaves. ", "It returns.\n\n", "## Back\n", "At nine."],
    "heading by itself": ["# Ferry\n\n", "The ferry leaves."],
    "comment in code": ["x = 1\n\n", "# Two\ny = 2 # Three\nZ = 3"],
    "two plain": ["The ferry leaves. ", "It returns."],
    "question and exclamation": ["Is it open? ", "Yes! ", "Come in."],
    "ellipsis character": ["He waited… ", "Nothing came."],
    "three dots": ["He waited... ", "Nothing came."],
    "two marks": ["Really?! ", "Yes."],
    "no end": ["The ferry leaves at nine"],
    "lower case goes on": ["The size is approx. nine metres."],
    "title": ["Mr. Grey met Dr. Sand. ", "They left."],
    "professor and saint": ["Prof. Hall lives in St. Ives."],
    "initials": ["J. R. R. Tolkien wrote it. ", "He was a scholar."],
    "middle initial": ["John F. Kennedy spoke."],
    "the word I ends": ["So did I. ", "Then we left."],
    "company": ["Harbour Works Inc. Ltd. built it. ", "It stands."],
    "figures": ["See Fig. 3 and Eq. 4. ", "Then go on."],
    "number sign": ["It is boat No. 7 on the list."],
    "latin": ["Use rope, e.g. Manila, i.e. Strong rope."],
    "versus": ["It was Grey vs. Sand. ", "Grey won."],
    "et al.": ["Smith et al. Found it. ", "It was new."],
    "country": ["The U.S. Navy came. ", "It left."],
    "time of day": ["It opens at 9 a.m. Monday to Friday."],
    "degree": ["She has a Ph.D. Her book is known."],
    "month": ["On Jan. 5 it froze."],
    "decimal": ["The tide was 3.14 metres. ", "It fell."],
    "version": ["Use version 2.0.1 of it. ", "Then restart."],
    "web address": ["Go to www.Example.org now. ", "It is free."],
    "file name": ["Open README.Md first. ", "Then go on."],
    "number ends": ["It was built in 1894. ", "It still stands."],
    "quote inside": ['"The tide is high." ', "He left."],
    "curly quotes": ["“Come in.” ", "She did."],
    "quote goes on": ['"Come in!" she said. ', "He did."],
    "opening quote": ["He stopped. ", '"Who is there?" ', "Nobody."],
    "brackets": ["It was cold (very cold.) ", "He left."],
    "bracket opens": ["It was cold. ", "(It was winter.) ", "He left."],
    "citation": ["It was shown before.[12] ", "Others agree.[3][4] ", "We do, too."],
    "citation before the stop": ["It was shown [12]. ", "Others agree."],
    "chinese": ["渡轮九点开。", "它晚上回来。", "真的吗？", "是！"],
    "japanese quote": ["「行こう。」", "彼は言った。"],
    "chinese and space": ["渡轮九点开。 ", "它回来。"],
    "accents": ["C'est fini. ", "À demain. ", "Été ou hiver?"],
    "spanish": ["Llega tarde. ", "¿Por qué? ", "¡Nada!"],
    "cyrillic": ["Паром ушёл. ", "Он вернётся."],
    "hebrew": ["המעבורת יצאה. ", "היא תחזור."],
    "arabic": ["هل غادرت العبارة؟ ", "ستعود غدا."],
    "hindi": ["नाव चली गई। ", "वह लौटेगी।"],
    "korean": ["배가 떠났다. ", "내일 돌아온다."],
    "english and chinese": ["The ferry left. ", "渡轮走了。"],
    "greek": ["Το πλοίο έφυγε. ", "Αύριο γυρίζει."],
    "paragraphs": ["A heading\n\n", "The text follows. ", "It ends."],
    "paragraph after an abbreviation": ["Sold by Grey Inc.\n\n", "The next paragraph."],
    "line break in a sentence": ["The ferry\nleaves at nine. ", "It returns."],
    "bullets": ["Bring:\n", "- ropes\n", "- lamps etc.\n", "- oil"],
    "stars and dots": ["Bring:\n", "* ropes\n", "• lamps"],
    "numbered": ["1. Ropes are here.\n", "2. Lamps are there.\n", "3) Oil is not."],
    "numbered after an abbreviation": ["1. Ropes etc.\n", "2. Lamps."],
    "indented number": ["Steps:\n", "  1. Open it. ", "Then wait.\n  ", "2. Close it."],
    "only marks": ["..."],
    "white space around": ["  First one. ", "Second one.  \n"],
}


def pieces(text: str, start: int = 0, end: int | None = None) -> list[str]:
    return [text[span.start : span.end] for span in split_sentences(text, start, end)]


@pytest.mark.parametrize("name", CASES)
def test_sentences_end_where_they_should(name: str) -> None:
    text = "".join(CASES[name])
    assert pieces(text) == CASES[name]


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 40


words = st.text(st.sampled_from("aB1 .!?…。\n\t-*[]()\"'”é东e\u0301🚢א"), max_size=80)


@given(st.one_of(words, st.text(max_size=80)), st.integers(0, 80), st.integers(0, 80))
def test_the_spans_tile_the_range(text: str, first: int, second: int) -> None:
    start, end = sorted((min(first, len(text)), min(second, len(text))))
    spans = split_sentences(text, start, end)
    assert "".join(text[span.start : span.end] for span in spans) == text[start:end]
    assert [span.start for span in spans] == [start, *(span.end for span in spans)][: len(spans)]
    assert all(len(span) for span in spans)
    assert (not spans) == (start == end)


@given(words)
def test_no_sentence_is_white_space_alone(text: str) -> None:
    assert all(piece.strip() for piece in pieces(text)) or not text.strip()


@given(st.lists(st.sampled_from(["The ferry leaves. ", "Is it late? ", "東京。", "No!\n\n"]), min_size=1, max_size=6))
def test_a_range_of_whole_sentences_splits_as_the_text(sentences: list[str]) -> None:
    text = "".join(sentences)
    assert pieces(text) == sentences
    assert pieces(f"{text}And more.", 0, len(text)) == sentences


@pytest.mark.parametrize(
    "text",
    ["." * 200_000, "\n" * 200_000, ". " * 100_000, "?!" * 100_000, ".)" * 100_000, "a\n" * 100_000, " " * 200_000],
    ids=["dots", "lines", "spaced dots", "marks", "brackets", "short lines", "spaces"],
)
def test_odd_text_takes_no_longer(text: str) -> None:
    started = time.perf_counter()
    assert "".join(pieces(text)) == text
    assert time.perf_counter() - started < 2.0
