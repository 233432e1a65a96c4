from __future__ import annotations

from collections.abc import Callable

import pytest

from carrel.errors import EmptyDocumentError
from carrel.retrieval.loaders.text import TextLoader
from carrel.types import Document

Load = Callable[..., Document]


def test_the_text_is_the_file(load: Load) -> None:
    text = "First paragraph.\n\n  Second, indented.\n"
    document = load(TextLoader(), text, "a/b.txt")
    assert document.text == text
    assert (document.id, document.source, document.media_type) == ("a/b.txt", "a/b.txt", "text/plain")
    assert document.blocks == ()
    assert document.pages == ()


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("The log of the Petrel\n\nAll well.", "The log of the Petrel"),
        ("The log\n=======\n\nAll well.", "The log"),
        ("Dear members,\n\nAll well.", "b"),
        ("All was well.\n\nThen not.", "b"),
        ("A line\nand another\n\nMore.", "b"),
        ("----\n\nMore.", "b"),
        ("x" * 101 + "\n\nMore.", "b"),
        ("Only this", "b"),
    ],
)
def test_title(load: Load, text: str, title: str) -> None:
    assert load(TextLoader(), text, "a/b.txt").title == title


def test_form_feeds_divide_pages(load: Load) -> None:
    document = load(TextLoader(), "one\n\ftwo\n\fthree\f")
    assert [document.text[start : start + 3] for start in document.pages] == ["one", "two", "thr"]


def test_a_huge_line(load: Load) -> None:
    assert len(load(TextLoader(), b"word " * 400_000).text) == 2_000_000


@pytest.mark.parametrize("data", [b"", b"  \n \t\n"])
def test_empty(data: bytes) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^a\.txt is empty"):
        list(TextLoader().load(data, "a.txt"))


def test_a_path_that_is_no_unicode_still_makes_an_id(load_all: Callable[..., list[Document]]) -> None:
    (document,) = TextLoader().load(b"text", "caf\udce9.txt")
    assert isinstance(document, Document)
    assert document.id == "caf\\udce9.txt"
