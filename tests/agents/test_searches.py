"""Searches: what of a reply is one, and which of them are questions of their own."""

from __future__ import annotations

import time

import pytest

from carrel.agents.hops import FollowUp
from carrel.agents.searches import is_question, read_searches


@pytest.mark.parametrize(
    ("line", "query", "weight"),
    [
        ("SEARCH: Hester Quill", "Hester Quill", 1.0),
        ("Search: Hester Quill ", "Hester Quill", 1.0),
        ("1. SEARCH: Hester Quill", "Hester Quill", 1.0),
        ("- SEARCH: the pier of 1894", "the pier of 1894", 1.0),
        ("**SEARCH:** Hester Quill", "Hester Quill", 1.0),
        ('SEARCH: "Hester Quill"', "Hester Quill", 1.0),
        ('SEARCH: who said "no"', 'who said "no"', 1.0),
        ("(0.25) SEARCH: Hester Quill", "Hester Quill", 0.25),
        ("(1.0000) SEARCH: Who?", "Who?", 1.0),
    ],
)
def test_a_line_is_a_search(line: str, query: str, weight: float) -> None:
    (found,) = read_searches((), 5)(f"Let me see.\n{line}\nand so on")
    assert (found.query, found.weight) == (query, weight)
    assert found.is_name == (query == "Hester Quill")


def test_what_is_known_or_beyond_the_most_is_left_out() -> None:
    text = "\n".join(f"SEARCH: number {n}" for n in (1, 2, 2, 3, 4))
    assert [each.query for each in read_searches(("number 1",), 2)(text)] == ["number 2", "number 3"]
    assert read_searches(("number 1",), 2)("SEARCH: number 1") == []


@pytest.mark.parametrize("text", ["", "I do not know.", "SEARCH:", "SEARCH: ...?", "Research: nothing"])
def test_no_search_is_a_wrong_form(text: str) -> None:
    with pytest.raises(ValueError, match="no line that begins with SEARCH:"):
        read_searches((), 5)(text)


@pytest.mark.parametrize("text", ["ENOUGH", "I have enough.", "SEARCH: ???\nENOUGH"])
def test_enough_is_no_search(text: str) -> None:
    assert read_searches((), 5)(text) == []


def test_a_hostile_line_is_read_in_no_time() -> None:
    began = time.perf_counter()
    read_searches((), 5)("SEARCH: a" + " " * 200_000 + "b\n" + "* " * 100_000 + "\n" + "9" * 100_000)
    assert time.perf_counter() - began < 2


def test_a_question_is_short_and_asks() -> None:
    assert is_question(FollowUp("Who was she?", 1.0, False))
    assert not is_question(FollowUp("Hester Quill", 1.0, True))
    assert not is_question(FollowUp("Who was she? " + "A passage. " * 30 + "Was she?", 1.0, False))
