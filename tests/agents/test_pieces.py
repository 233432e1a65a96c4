"""Long texts in pieces: units tile them, and halves are what they were."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import Steps, flow, run
from carrel.agents.base import Fitted
from carrel.agents.pieces import UNIT_CHARACTERS, halves, next_piece, piece_beside, units
from carrel.agents.replying import Note
from carrel.errors import ContextOverflowError, InputError
from carrel.testing import FakeGenerator
from carrel.types import Document, Passage, Prompt, Span

_texts = st.lists(
    st.sampled_from(
        ["A sentence of words. ", "line\n", "\n\n", "x" * 1500, "港は静かだ。", "\u2028", " " * 700, "\x0c", "one "]
    ),
    max_size=60,
).map("".join)  # fmt: skip


@given(_texts)
def test_units_tile_a_document(text: str) -> None:
    document = Document(text, "d", "Title", "source", {"year": 1}, pages=(0, 9))
    if not text.strip():
        with pytest.raises(InputError, match="there is no text to read"):
            units(document)
        return
    at = 0
    for unit in units(document):
        assert not text[at : unit.start].strip() and unit.text == text[unit.start : unit.end] and unit.text.strip()
        assert (unit.document_id, unit.title, unit.source) == ("d", "Title", "source")
        assert (dict(unit.metadata), unit.pages) == ({"year": 1}, (0, 9))
        at = unit.end
    assert not text[at:].strip()


def test_units_are_paragraphs_together_and_sentences_of_a_long_one() -> None:
    paragraphs = Document("\n".join("Ten words are in this line, and no one more. " * 4 for _ in range(30)), "d")
    assert all(len(unit.text) <= UNIT_CHARACTERS and unit.text.endswith("\n") for unit in units(paragraphs)[:-1])
    assert len(units(paragraphs)) < 8
    line = Document("Ten words are in this line, and no one more. " * 100, "d")
    assert all(1100 < len(unit.text) <= UNIT_CHARACTERS and unit.text.endswith(". ") for unit in units(line)[:-1])


def test_passages_stay_whole_and_texts_keep_their_order() -> None:
    passage = Passage("p", 3, 3 + 5000, "word " * 1000, kept=(Span(3, 8),))
    made = units([Document("a", "a"), passage, Document(" ", "empty"), Document("b", "b")])
    assert [unit.document_id for unit in made] == ["a", "p", "b"] and made[1] is passage
    assert units(passage) == (passage,)


def test_half_characters_are_made_whole() -> None:
    (unit,) = units(Document("a \ud800 b", "d"))
    assert unit.text == "a \ufffd b"


@pytest.mark.parametrize("texts", ["text", ["text"], [b"text"], [None], [Document("a"), 1]])
def test_what_is_no_text_is_said(texts: Any) -> None:
    with pytest.raises(InputError, match="a flow reads documents and passages"):
        units(texts)


# -- halves ----------------------------------------------------------------------------------------


def _passage(text: str, start: int = 0) -> Passage:
    return Passage("d", start, start + len(text), text)


@pytest.mark.parametrize("backwards", [False, True])
def test_halves_of_several_passages(backwards: bool) -> None:
    piece = tuple(_passage(f"{number}. ", 3 * number) for number in range(5))
    first, second = piece[:2], piece[2:]
    assert halves(piece, backwards=backwards) == ([first, second] if backwards else [second, first])


def test_halves_of_one_passage_are_its_sentences() -> None:
    text = "One two. Three four. Five six. Seven eight nine ten eleven."
    ((second,), (first,)) = halves((_passage(text, 100),))
    assert (first.text, second.text) == ("One two. Three four. Five six. ", "Seven eight nine ten eleven.")
    assert (first.start, first.end, second.end) == (100, second.start, 100 + len(text))


def test_a_sentence_and_a_pruned_passage_have_no_halves() -> None:
    assert halves((_passage("only one sentence"),)) == []
    assert halves((Passage("d", 0, 9, "One. Two.", kept=(Span(0, 4),)),)) == []


@given(_texts.filter(lambda text: bool(text.strip())), st.booleans())
def test_to_halve_again_and_again_ends_and_loses_nothing(text: str, backwards: bool) -> None:
    waiting, read = [units(Document(text, "d"))], []
    while waiting:
        piece = waiting.pop()
        parts = halves(piece, backwards=backwards)
        waiting += parts
        if not parts:
            read += piece
    assert len(read) == len({passage.start for passage in read})
    read.sort(key=lambda passage: passage.start)
    assert "".join("".join(passage.text.split()) for passage in read) == "".join(text.split())


# -- the next piece --------------------------------------------------------------------------------

TEXT = units(Document("\n".join(f"Paragraph {number}. {'So it goes on. ' * 70}" for number in range(8)), "d"))


@flow()
def _next(backwards: bool, limit: int | None) -> Steps[Fitted]:
    return (yield from next_piece(Prompt("q", max_tokens=50), TEXT, limit, backwards=backwards))


@pytest.mark.parametrize("limit", [None, 750])
def test_backwards_a_piece_is_of_the_end_in_its_order(limit: int | None) -> None:
    generator = FakeGenerator(context_window=900)
    forwards = run(_next(False, limit), generator=generator).result
    backwards = run(_next(True, limit), generator=generator).result
    assert forwards.taken[0] == TEXT[0] and backwards.taken == TEXT[-len(backwards.taken) :]
    assert backwards.left + backwards.taken == TEXT and len(backwards.taken) >= 2


def _note(count: int) -> Note:
    evidence = tuple(
        _passage(f"Evidence number {number} is as long as a sentence.", 90 * number) for number in range(count)
    )
    return Note(" ".join(f"Fact [{number}]." for number in range(1, count + 1)), evidence)


@flow()
def _beside(note: Note, text: tuple[Passage, ...]) -> Steps[tuple[Note, Fitted]]:
    return (yield from piece_beside(note, Prompt("q", max_tokens=50), text, None))


@pytest.mark.parametrize("count", [0, 1, 5, 20, 60, 200])
def test_evidence_leaves_at_least_as_much_room_for_the_text(count: int) -> None:
    note, fitted = run(_beside(_note(count), TEXT), generator=FakeGenerator(context_window=1600)).result
    shown = sum(len(passage.text) for passage in note.evidence)
    assert sum(len(passage.text) for passage in fitted.taken) >= shown
    assert note.evidence == _note(count).evidence[: len(note.evidence)]
    assert f"[{len(note.evidence)}]" in note.text or not note.evidence
    assert f"[{len(note.evidence) + 1}]" not in note.text
    assert (note == _note(count)) == (count <= 20)


def test_the_last_of_a_text_needs_no_room_for_more() -> None:
    note, fitted = run(_beside(_note(20), (_passage("The end."),)), generator=FakeGenerator(context_window=900)).result
    assert note == _note(20) and fitted.left == ()


def test_a_window_too_small_even_without_a_note_is_an_error() -> None:
    with pytest.raises(ContextOverflowError):
        run(_beside(_note(3), TEXT), generator=FakeGenerator(context_window=4))


def test_a_note_that_leaves_no_room_without_evidence_is_cut() -> None:
    whole = replace(_note(2), text="word " * 5000 + "[1][2]")
    note, fitted = run(_beside(whole, TEXT), generator=FakeGenerator(context_window=700)).result
    assert fitted.taken and not note.evidence and whole.text.startswith(note.text) and note.text.startswith("word word")


def test_units_of_five_megabytes_take_seconds() -> None:
    began = time.perf_counter()
    assert len(units(Document("A sentence of the harbour and its ships. " * 125_000, "d"))) > 4000
    assert time.perf_counter() - began < 15
