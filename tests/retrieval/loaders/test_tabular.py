from __future__ import annotations

from collections.abc import Callable

import pytest

from carrel.retrieval.loaders.tabular import CsvLoader
from carrel.types import Document, Skipped

Load = Callable[..., Document]
LoadAll = Callable[..., list[Document | Skipped]]


def test_a_row_is_a_line_that_names_its_columns(load: Load) -> None:
    document = load(CsvLoader(), 'id,item,remarks\n1,Crane,"jib, new; 12 t"\n2,"Pump\nB",\n\n3,,"say ""hi"""\n')
    assert document.text == 'id: 1; item: Crane; remarks: jib, new; 12 t\nid: 2; item: Pump B\nid: 3; remarks: say "hi"'
    (block,) = document.blocks
    assert (block.kind, block.header) == ("table", "")
    assert (block.start, block.end) == (0, len(document.text))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("rows", [[["a", "b", "c"], ["1", "2", "3"]], [["name", "place"], ["x y", "u v"], ["z", "w"]]])
def test_the_delimiter_is_recognised(load: Load, delimiter: str, rows: list[list[str]]) -> None:
    document = load(CsvLoader(), "\n".join(delimiter.join(row) for row in rows), "x.csv")
    columns = rows[0]
    expected = ["; ".join(f"{c}: {v}" for c, v in zip(columns, row, strict=True)) for row in rows[1:]]
    assert document.text.split("\n") == expected


def test_tabs_win_in_a_tsv(load: Load) -> None:
    document = load(CsvLoader(), "a\tb\n1,5;x\t2,5;y\n", "x.tsv")
    assert document.text == "a: 1,5;x; b: 2,5;y"
    assert document.media_type == "text/tab-separated-values"


def test_ragged_rows_lose_nothing(load: Load) -> None:
    document = load(CsvLoader(), "a,b\n1\n1,2,3,4\n,2\n")
    assert document.text == "a: 1\na: 1; b: 2; 3; 4\nb: 2"


@pytest.mark.parametrize(("text", "expected"), [("a,b\n", "a; b"), ("only\n", "only"), ("1,2\n3,4\n", "1; 2\n3; 4")])
def test_without_a_header_or_without_rows(load: Load, text: str, expected: str) -> None:
    assert load(CsvLoader(), text).text == expected


def test_one_column(load: Load) -> None:
    assert load(CsvLoader(), "name\nPetrel\nSula, old\n").text.startswith("name: Petrel\n")


def test_a_byte_order_mark_is_no_part_of_the_first_column(load: Load) -> None:
    assert load(CsvLoader(), b"\xef\xbb\xbfa,b\r\n1,2\r\n").text == "a: 1; b: 2"


@pytest.mark.parametrize("rows", [3, 60_000])
def test_a_quotation_mark_that_is_never_closed_is_reported_with_its_line(load_all: LoadAll, rows: int) -> None:
    document, skipped = load_all(CsvLoader(), 'a,b\n0,"two\nlines"\n1,"' + "x,y\n" * rows, "a.csv")
    assert isinstance(document, Document) and document.text.startswith("a: 0; b: two lines\na: 1; b: x,y x,y x,y")
    assert document.text.count("x,y") == rows
    assert isinstance(skipped, Skipped) and skipped.id == "a.csv:4"
    assert "quotation mark is never closed" in skipped.reason


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_closed_quotation_mark_is_not_reported(load: Load, end: str) -> None:
    assert load(CsvLoader(), f'a,b\n1,"x\ny"{end}').text == "a: 1; b: x y"


def test_a_long_field_is_a_field(load: Load) -> None:
    words = "word " * 200_000
    assert load(CsvLoader(), f'a,b\n1,{words}\n2,"{words}"\n3,x\n').text.endswith("word\na: 3; b: x")


def test_a_huge_line(load: Load) -> None:
    assert load(CsvLoader(), "a,b\n" + "1," * 300_000).text.startswith("a: 1; b: 1; 1")
