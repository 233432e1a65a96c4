"""No false citation gets through."""

from __future__ import annotations

import pytest

from carrel.errors import DocumentNotFoundError
from carrel.generation.citations import verified
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
