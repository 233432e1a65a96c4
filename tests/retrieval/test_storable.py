"""What a document must be to be stored: types, offsets, characters."""

from __future__ import annotations

import pytest

from carrel.errors import DocumentError
from carrel.retrieval.storable import storable
from carrel.types import Block, Document


def test_a_sound_document_is_given_back_as_it_is() -> None:
    for document in (
        Document("text", id="a"),
        Document("a\n\nb", "a", "t", "s", {"n": 1, "l": ["x"], "z": None}, pages=(0, 2), modified_at=0),
        Document("a\n\nb", "a", blocks=(Block(0, 1, "heading", 1), Block(3, 4))),
        Document("the \ufffd", id="a"),
    ):
        assert storable(document) is document


def test_halves_of_characters_are_replaced_one_for_one() -> None:
    found = storable(Document("a\ud83d\ude00b\udc00", id="a", title="\ud800", blocks=(Block(0, 5),)))
    assert (found.text, found.title, found.blocks) == ("a\ufffd\ufffdb\ufffd", "\ufffd", (Block(0, 5),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": 5}, "its text must be a text, not 5"),
        ({"id": " \t\n"}, "it has no id"),
        ({"id": "a\0b"}, "its id holds NUL"),
        ({"id": None}, "its id must be a text, not None"),
        ({"id": ""}, "it has no id"),
        ({"title": None}, "its title must be a text"),
        ({"extractor": 1}, "its extractor must be a text"),
        ({"media_type": "\ud800"}, "it cannot be stored"),
        ({"id": "\ud800"}, "it cannot be stored"),
        ({"metadata": "x"}, "its metadata must be a mapping"),
        ({"metadata": {1: 2}}, "its metadata must be a mapping"),
        ({"metadata": {"a": object()}}, "it cannot be stored"),
        ({"modified_at": "yesterday"}, r"its modified_at must be a number \(seconds since 1970\) or None"),
        ({"modified_at": float("nan")}, "its modified_at must be"),
        ({"modified_at": True}, "its modified_at must be"),
        ({"pages": [0]}, "its pages must be a tuple of offsets"),
        ({"pages": (-1,)}, "its pages must be a tuple of offsets"),
        ({"blocks": [Block(0, 1)]}, "its blocks must be a tuple of Blocks"),
        ({"blocks": (Block(0, 99),)}, "its blocks must be Blocks inside the text"),
        ({"blocks": (Block(2, 3), Block(0, 1))}, "its blocks must be Blocks inside the text, in order"),
        ({"blocks": ((0, 1),)}, "its blocks must be Blocks"),
    ],
)
def test_what_cannot_be_stored_says_why(options, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        storable(Document(**{"text": "text", "id": "a", **options}))
