"""No false citation gets through."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import DocumentNotFoundError
from carrel.generation.citations import verified, without_dangling_marks
from carrel.types import Citation, Context, Document, Ledger, Passage

TEXTS = {"ferry": "The ferry leaves at nine. It returns at six.", "pier": "The pier was built in 1894. The ferry."}
PASSAGES = (
    Passage("ferry", 4, 25, TEXTS["ferry"][4:25]),
    Passage("pier", 0, 27, TEXTS["pier"][:27]),
    Passage("gone", 0, 5, "Text."),
)
CONTEXT = Context("q", PASSAGES, "", 0, 10, Ledger("words"))


def read(document_id: str) -> Document:
    if document_id not in TEXTS:
        raise DocumentNotFoundError(document_id)
    return Document(TEXTS[document_id], id=document_id)


def cite(number: int, document: str, start: int, end: int, quote: str | None = None) -> Citation:
    return Citation(number, document, start, end, TEXTS[document][start:end] if quote is None else quote)


@pytest.mark.parametrize("citation", [cite(1, "ferry", 4, 25), cite(1, "ferry", 10, 16), cite(2, "pier", 0, 27)])
def test_a_true_quote_stays(citation: Citation) -> None:
    assert verified([citation], read, CONTEXT) == (citation,)


@pytest.mark.parametrize(
    "citation",
    [
        cite(1, "ferry", 4, 25, "ferry leaves at ten."),
        cite(1, "ferry", 4, 25, "Ferry leaves at nine."),
        cite(1, "ferry", 5, 25, "ferry leaves at nine."),
        cite(1, "ferry", 4, 4, ""),
        cite(1, "ferry", 25, 4, ""),
        cite(1, "ferry", 0, 25),
        cite(1, "ferry", 4, 30),
        cite(1, "ferry", 26, 44),
        cite(1, "ferry", -40, -19, TEXTS["ferry"][-40:-19]),
        cite(2, "ferry", 4, 25),
        cite(0, "ferry", 4, 25),
        cite(-3, "ferry", 4, 25),
        cite(4, "ferry", 4, 25),
        cite(1, "pier", 0, 27),
        cite(3, "gone", 0, 5, "Text."),
        cite(1, "never", 0, 5, "Text."),
    ],
    ids=str,
)
def test_a_false_one_is_dropped_and_the_others_stay(citation: Citation) -> None:
    good = [cite(1, "ferry", 4, 25), cite(2, "pier", 4, 8)]
    assert verified([good[0], citation, good[1]], read, CONTEXT) == tuple(good)


@pytest.mark.parametrize("claimed", [None, 1, 2, 7])
def test_the_page_is_that_of_the_quote_whatever_it_came_with(claimed: int | None) -> None:
    def paged(document_id: str) -> Document:
        return replace(read(document_id), pages=(0, 10) if document_id == "ferry" else ())

    found = [cite(1, "ferry", 4, 25), cite(1, "ferry", 10, 16), cite(2, "pier", 4, 8)]
    checked = verified([replace(citation, page=claimed) for citation in found], paged, CONTEXT)
    assert [citation.page for citation in checked] == [1, 2, None]


def test_each_document_is_read_once() -> None:
    reads: list[str] = []

    def counted(document_id: str) -> Document:
        reads.append(document_id)
        return read(document_id)

    verified([cite(1, "ferry", 4, 9), cite(1, "ferry", 10, 16), cite(3, "gone", 0, 1, "T")] * 2, counted, CONTEXT)
    assert sorted(reads) == ["ferry", "gone"]


def test_without_passages_nothing_can_be_cited() -> None:
    assert verified([cite(1, "ferry", 4, 25)], read, Context("q", (), "", 0, 1, Ledger("words"))) == ()
    assert verified([], read, CONTEXT) == ()


# -- marks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected", "removed"),
    [
        ("Gulls fly [7]. They eat [1].", "Gulls fly. They eat [1].", 1),
        ("Gulls fly. [7] They eat.", "Gulls fly. They eat.", 1),
        ("Gulls fly.[7] They eat.", "Gulls fly. They eat.", 1),
        ("Gulls fly [7], they say; they eat [8]; and [1].", "Gulls fly, they say; they eat; and [1].", 2),
        ("Gulls fly [6][7] [8].", "Gulls fly.", 3),
        ("Gulls fly [6][1] [8][2].", "Gulls fly [1][2].", 2),
        ("Gulls fly [1] [8] [2].", "Gulls fly [1] [2].", 1),
        ("Gulls fly [6][7] [1].", "Gulls fly [1].", 2),
        ("Gulls fly [6, 7].", "Gulls fly.", 2),
        ("Gulls *fly* [7]\nand eat (fish [8])", "Gulls *fly*\nand eat (fish)", 2),
        ("| Gulls [7] | fly |", "| Gulls | fly |", 1),
        ("Gulls fly 【7】. They eat【8†source】.", "Gulls fly. They eat.", 2),
        ("渡轮九点出发【7】。", "渡轮九点出发。", 1),
        ("Gulls fly [^7]. They eat.[^8]", "Gulls fly. They eat.", 2),
    ],
)
def test_a_mark_of_no_passage_is_removed(text: str, expected: str, removed: int) -> None:
    assert without_dangling_marks(text, (), (), 3) == (expected, removed, 0)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Gulls fly [1][2] and eat [3].", 0),
        ("In 1894 [1894] it was built.", 0),
        ("Use `list[7]`:\n```\nlist [7].\n```\n", 0),
        ("```\nthe reply was cut off [7].", 0),
        ("See [7](https://example.org) and \\[7].", 0),
        ("A [note] and [] and [7a] and [-1] and 7].", 0),
        ("Gulls fly [^7].\n\n[^7]: They do.", 0),
        ("The score lies in [0, 1].", 0),
        ("The score [0, 7].", 0),
        ("rows[30][4] = 5; f(x)[7]. d['a'][7], x_[7].", 0),
        ("items = [10, 20, 30]. n == [7].", 0),
        ("", 0),
        ("  spaces  stay \n\n as they are ", 0),
        ("Gulls fly[7].", 1),
        ("Gulls fly [0].", 1),
        ("Gulls fly [1, 7].", 1),
        ("Gulls fly [1-7].", 1),
        ("Gulls fly [1–7].", 1),
        ("Gulls fly [7] and eat.", 1),
        ("Gulls fly [7]high.", 1),
        ("a.[7] is b.", 1),
        ("[7] Gulls fly.\n- [8] So\n1. [9] they\n[4]", 4),
        ("The score lies in [2, 7].", 1),
        ("It is between [12] and [39].", 2),
        ("Sorted: [10, 20].", 2),
        ("The list [10, 20, 30].", 3),
        ("See [7], [8].", 2),
        ("As in ([7]).", 1),
        ("Call items [7].append", 1),
        ("Cf. [7]. Vgl. [8].", 2),
    ],
)
def test_in_doubt_the_text_stays_and_the_mark_is_counted(text: str, left: int) -> None:
    assert without_dangling_marks(text, (), (), 3) == (text, 0, left)


def test_values_indices_and_lists_are_not_touched() -> None:
    text = (
        "The score lies in [0, 1]. Use rows[30][4] = 5; items = [10, 20, 30]. See [1–40], 【39】, [^39] and [0]."
        " Gulls fly [39]."
    )
    assert without_dangling_marks(text, (), (), 9) == (text.replace(" fly [39]", " fly"), 1, 4)


def test_a_mark_goes_with_its_false_citation() -> None:
    true, false = cite(1, "ferry", 4, 25), cite(2, "pier", 0, 27, "The pier sank.")
    text = "It leaves at nine [1]. The pier sank [2]. More [3]."
    shorter = "It leaves at nine [1]. The pier sank. More [3]."
    assert without_dangling_marks(text, [true, false], [true], 3) == (shorter, 1, 0)
    assert without_dangling_marks(text, [true, false, replace(true, number=2)], [true, replace(true, number=2)], 3) == (
        text,
        0,
        0,
    )


def test_brackets_of_a_quotation_stay() -> None:
    quote = "As shown in [12],\nlamps burn [13]."
    true = Citation(1, "d", 0, len(quote), quote)
    for shown in (quote, " ".join(quote.split())):
        text = f"{shown} [1] But this [12], says {shown} [13]"
        expected = f"{shown} [1] But this, says {shown}"
        assert without_dangling_marks(text, [true], [true], 3) == (expected, 2, 0)
    unverified = without_dangling_marks(f"{quote} [1]", [true], [], 0)
    assert unverified == ("As shown in [12],\nlamps burn.", 2, 1)


marks = st.text(st.sampled_from("[]123 ,\n`\\(a.é"), max_size=60)


@given(marks, st.integers(0, 3))
def test_nothing_but_marks_and_the_spaces_at_them_goes(text: str, passages: int) -> None:
    found, removed, _ = without_dangling_marks(text, (), (), passages)
    assert (found == text) == (removed == 0)
    assert [c for c in found if c not in "[]123, "] == [c for c in text if c not in "[]123, "]
    assert len(found) <= len(text)


def test_long_texts_take_no_long_time() -> None:
    started = time.perf_counter()
    for part in ("[7]", "[", " ", "[7", "`", "```x", "[1 , ", "[1],", "[7] "):
        without_dangling_marks(part * 50_000, (), (), 3)
    assert time.perf_counter() - started < 10
