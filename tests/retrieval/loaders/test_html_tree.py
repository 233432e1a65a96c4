"""The tree of a page: all that is shown, nothing else, in bounded time."""

from __future__ import annotations

import time

import pytest

from carrel.retrieval.loaders.html_tree import Page


def shown(text: str) -> str:
    return "".join(Page(text).root.itertext())


def test_title_and_metadata() -> None:
    page = Page(
        "<html lang=de><head><title>The\n <b>light</title><meta name=author content=' A. Fenn '><meta name=author "
        "content=other><meta name=viewport content=x></head><body><svg><title>picture</title></svg><p>text</p>"
    )
    assert (page.title, page.metadata, page.problem) == ("The <b>light", {"language": "de", "author": "A. Fenn"}, "")
    assert "".join(page.root.itertext()) == "text"


def test_what_is_not_shown_is_not_in_the_tree() -> None:
    page = "<p>a<script>x</script>b<span style='display : none'>x<p>x</p></span><i hidden>x</i>c</p>"
    assert shown(page) == "abc"
    assert shown("<p>a<template><p>x</template><select><option>x</select><nav>x</nav>b") == "ab"


def test_names_and_characters_that_no_tree_takes() -> None:
    text = shown('<my-tag>a</my-tag><a:b>b</a:b><é>c</é><p"x>d</p"x>' + "<p>e&#1;&#0;\x0c\x01\ufffe</p>" + "f")
    assert [character for character in text if character.isalpha()][:2] == ["a", "b"]
    assert text.endswith("f")


def test_end_tags_of_nothing_and_pages_that_break_off() -> None:
    assert shown("</p></div></body></html>text") == "text"
    for page in ("", "<", "<p", "<p a='", "<!--", "<!doctype html>", "</html>"):
        assert shown(page).strip("<") == ""


@pytest.mark.parametrize(
    "page",
    [
        "<p " + " ".join(f"a{number}=1" for number in range(100_000)) + ">text</p>",
        "<p title='" + "x" * 12_000_000 + "'>text</p>",
        "<p>text</p>" + "<div hidden>" * 4_000 + "x",
        "<p>text</p>" + "<a b='" * 200_000,
        "<p>text</p>" + "<!--" * 200_000,
        "<p>text" + "</b>" * 200_000,
    ],
    ids=["attributes", "a long attribute", "hidden", "quotes", "comments", "end tags"],
)
def test_bombs_are_harmless(page: str) -> None:
    started = time.perf_counter()
    assert shown(page) == "text"
    assert time.perf_counter() - started < 5


def test_a_long_paragraph_is_whole() -> None:
    assert len(shown("<p>" + "x " * 6_000_000 + "</p>")) == 12_000_000


def test_a_tree_is_never_deep() -> None:
    depth = most = 0
    from lxml import etree

    for event, _ in etree.iterwalk(Page("<div>" * 4_000 + "text").root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        most = max(most, depth)
    assert most < 600
