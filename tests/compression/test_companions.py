"""Units of a passage, and what they need beside them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.compression.base import passage_sentences
from carrel.compression.companions import companions, split_units
from carrel.retrieval.sentences import split_sentences
from carrel.types import Passage


def units(text: str) -> list[str]:
    return [text[span.start : span.end] for span in split_units(text)]


def needs(text: str, prefix: str = "", *, antecedents: bool = False) -> dict[str, list[str]]:
    """The companions of each unit of a text, by what they say; those without any left out."""
    passage = Passage("d", 30, 30 + len(text), text, prefix=prefix)
    spans = passage_sentences(passage)
    said = [text[span.start - 30 : span.end - 30].strip() for span in spans]
    found = companions(passage, spans, antecedents=antecedents)
    return {said[i]: [said[n] for n in sorted(numbers)] for i, numbers in enumerate(found) if numbers}


# -- units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        ["One. ", "Two.\n\n", "Three."],
        ["Boats:\n\n", "| Name | Year |\n", "|---|---|\n", "| Dr. Who | 1. Two. |\n", "| b | 2 |\n\n", "All red."],
        ["Name | Year\n", "Maria | 1911"],
        ["\n  | a | b |\n", "  | 1 | 2 |\n\n\n", "After. ", "That."],
        ["Use a | b in the shell. ", "It pipes."],
        ["Run this:\n\n", "```sh\nmake\n\n\nls | wc | cat\na | b\n```\n\n", "It works."],
        ["```\nx = 1\n\ny = 2"],
        ["~~~\na\n~~~\n", "| a | b |\n", "| 1 | 2 |\n"],
        [],
    ],
)
def test_a_text_is_taken_apart_into(parts: list[str]) -> None:
    assert units("".join(parts)) == parts


line = st.sampled_from(
    ["| a | b |", "a | b", "|---|---|", "```", "~~~", "```py", "- item", "  - inner:", "1. one", "# Head",
     "Text. More.", "It is.", "steps:", "", "   ", "\u2003", "|", "x | y. Z | w", "\ttab"]
)  # fmt: skip
structured = st.lists(line, max_size=14).map("\n".join)


@given(st.one_of(structured, st.text(max_size=80)))
def test_units_tile_every_text(text: str) -> None:
    spans = split_units(text)
    assert "".join(text[span.start : span.end] for span in spans) == text
    assert all(span.start < span.end for span in spans)
    if text.strip():
        assert all(text[span.start : span.end].strip() for span in spans)


@given(st.text(alphabet="ab .!?\n-#:A1", max_size=80))
def test_without_tables_and_code_units_are_sentences(text: str) -> None:
    assert split_units(text) == split_sentences(text)


# -- companions -----------------------------------------------------------------------------------


def test_rows_need_the_header_and_what_announces_the_table() -> None:
    assert needs("The boats are:\n\n| Name | Year |\n|---|---|\n| Maria | 1911 |\n| Anna | 1894 |\n\nAll are red.") == {
        "| Name | Year |": ["The boats are:"],
        "|---|---|": ["The boats are:", "| Name | Year |"],
        "| Maria | 1911 |": ["The boats are:", "| Name | Year |", "|---|---|"],
        "| Anna | 1894 |": ["The boats are:", "| Name | Year |", "|---|---|"],
    }


def test_a_table_that_goes_on_from_another_chunk_has_its_header_in_the_prefix() -> None:
    assert needs("Maria | 1911\nAnna | 1894", prefix="Boats\nName | Year") == {}
    assert needs("Name | Year\nAnna | 1894", prefix="Boats") == {"Anna | 1894": ["Name | Year"]}


def test_two_tables_have_two_headers() -> None:
    found = needs("a | b\n1 | 2\n\nBetween them.\n\nc | d\n3 | 4")
    assert found == {"1 | 2": ["a | b"], "3 | 4": ["c | d"]}


def test_items_need_the_line_they_follow_from() -> None:
    assert needs("It is old. To light it:\n- Fill it. Use oil.\n- Trim it.\n\nThen wait. It burns.") == {
        "- Fill it.": ["To light it:"],
        "Use oil.": ["To light it:"],
        "- Trim it.": ["To light it:"],
    }


def test_inner_items_need_the_item_they_are_under() -> None:
    assert needs("Take along:\n- tools:\n  - hammer\n  - saw\n- food\n\nGo.") == {
        "- tools:": ["Take along:"],
        "- hammer": ["Take along:", "- tools:"],
        "- saw": ["Take along:", "- tools:"],
        "- food": ["Take along:"],
    }


def test_a_list_without_an_announcement_needs_nothing() -> None:
    assert needs("Some text. More.\n- one\n- two") == {}
    assert needs("Steps:\n\nAnother paragraph.\n\n1. one\n2. two") == {}


def test_code_needs_the_line_that_announces_it() -> None:
    assert needs("Run this:\n\n```\nmake\n\nmake test\n```\n\nIt is quick.") == {
        "```\nmake\n\nmake test\n```": ["Run this:"]
    }


def test_what_stands_below_a_heading_needs_it() -> None:
    text = "Before.\n\n## Oil\n\nIt burns oil.\n\n- whale\n\n### Wicks\n\nTrim them."
    assert needs(text) == {"It burns oil.": ["## Oil"], "- whale": ["## Oil"], "Trim them.": ["### Wicks"]}
    assert needs(text, prefix="Handbook > Oil") == {"Trim them.": ["### Wicks"]}


def test_pronouns_need_the_last_sentence_without_one_if_asked_for() -> None:
    text = (
        "The pier is old. It opened in 1985. They repaired it. Gulls nest there. Its end is lit.\n\nIt closes at six."
    )
    assert needs(text) == {}
    assert needs(text, antecedents=True) == {
        "It opened in 1985.": ["The pier is old."],
        "They repaired it.": ["The pier is old."],
        "Its end is lit.": ["Gulls nest there."],
    }


@given(structured, st.sampled_from(["", "Head", "Path\na | b"]), st.booleans())
def test_companions_are_other_units_that_come_before(text: str, prefix: str, antecedents: bool) -> None:
    passage = Passage("d", 5, 5 + len(text), text, prefix=prefix)
    spans = passage_sentences(passage)
    found = companions(passage, spans, antecedents=antecedents)
    assert len(found) == len(spans)
    for index, numbers in enumerate(found):
        assert all(0 <= number < index for number in numbers)
        for number in numbers:
            assert found[number] <= numbers | {number}, "what a companion needs is there too"


def test_long_passages_take_a_moment() -> None:
    text = "Steps:\n" + "- do this thing. And that.\n" * 4000 + "a | b\n" * 4000
    started = time.process_time()
    passage = Passage("d", 0, len(text), text)
    companions(passage, passage_sentences(passage))
    assert time.process_time() - started < 3
