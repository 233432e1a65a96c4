from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from carrel.retrieval.loaders.pdf_layout import HYPHEN, Cell, Line, compose, drop_running_lines

BODY = "These are words that fill a line of the page as a line of prose would"


def page_of(*texts: str, size: float = 10.0) -> list[Line]:
    return [Line(text, top=100.0 + 12 * n, bottom=110.0 + 12 * n, size=size) for n, text in enumerate(texts)]


def body(number: int) -> list[str]:
    words = ("ash", "birch", "cedar", "elm", "fir", "gorse", "hazel")[number % 7]
    return [f"{BODY} {words} {part}" for part in ("one", "two", "three", "four", "five")]


def texts(pages: list[list[Line]]) -> list[list[str]]:
    return [[line.text for line in page] for page in pages]


def test_running_headers_and_numbered_footers_are_dropped() -> None:
    pages = [page_of("Annual report", *body(n), f"Page {n + 1} of 5") for n in range(5)]
    assert texts(drop_running_lines(pages)) == [body(n) for n in range(5)]


def test_page_numbers_may_begin_anywhere() -> None:
    pages = [page_of(*body(n), f"- {n + 17} -") for n in range(4)]
    assert texts(drop_running_lines(pages)) == [body(n) for n in range(4)]


def test_most_pages_is_enough() -> None:
    pages = [page_of(*(["Annual report"] if n else []), *body(n)) for n in range(5)]
    assert texts(drop_running_lines(pages)) == [body(n) for n in range(5)]


def test_what_is_on_a_few_pages_stays() -> None:
    pages = [page_of(*(["Part one"] if n < 2 else []), *body(n)) for n in range(6)]
    assert drop_running_lines(pages) == pages


def test_two_pages_are_too_few_to_tell() -> None:
    pages = [page_of("Annual report", *body(n)) for n in range(2)]
    assert drop_running_lines(pages) == pages


def test_numbered_headings_in_large_type_stay() -> None:
    pages = [[Line(f"Chapter {n + 1}", 50, 70, 20.0), *page_of(*body(n))] for n in range(5)]
    assert drop_running_lines(pages) == pages


def test_repeated_text_inside_the_page_stays() -> None:
    pages = [page_of(*body(n)[:3], "Signed by the harbour master", *body(n)[3:]) for n in range(5)]
    assert drop_running_lines(pages) == pages


def test_copies_of_one_page_stay() -> None:
    pages = [page_of(*body(0)[:3]) for _ in range(5)]
    assert drop_running_lines(pages) == pages


def test_bullets_make_one_list() -> None:
    lines = page_of("He brought these things:", "• a lamp,", "• a rope that was", "• a dog.")
    text, blocks, _ = compose([lines])
    assert [(block.kind, text[block.start : block.end]) for block in blocks] == [
        ("paragraph", "He brought these things:"),
        ("list", "• a lamp,\n• a rope that was\n• a dog."),
    ]


def test_a_dash_at_the_start_of_a_line_is_no_bullet() -> None:
    text, blocks, _ = compose([page_of(BODY, "- which is what the master said - and then the", "end of it all.")])
    assert len(blocks) == 1
    assert "\n" not in text


def test_a_heading_of_two_lines() -> None:
    heading = [Line("A long heading that", 50, 70, 20.0), Line("needs two lines", 74, 94, 20.0)]
    text, blocks, _ = compose([[*heading, *page_of(*body(0))]])
    assert text[blocks[0].start : blocks[0].end] == "A long heading that needs two lines"


def test_two_rows_are_no_table() -> None:
    cells = (Cell(0, 50, "left"), Cell(200, 250, "right"))
    rows = [Line("left right", 100.0 + 12 * n, 110.0 + 12 * n, 10.0, cells) for n in range(3)]
    assert [block.kind for block in compose([rows])[1]] == ["table"]
    assert [block.kind for block in compose([rows[:2]])[1]] == ["paragraph"]


LINES = st.builds(
    Line,
    st.text(alphabet=f"ab A1.-•|{HYPHEN}", min_size=1).map(str.strip).filter(bool),
    st.floats(0, 800),
    st.floats(0, 800),
    st.sampled_from([0.0, 8.0, 10.0, 14.0, 20.0]),
    st.lists(st.builds(Cell, st.floats(0, 400), st.floats(0, 400), st.text(alphabet="ab ")), max_size=3).map(tuple),
)


@given(st.lists(st.lists(LINES, max_size=6), max_size=5))
def test_any_lines_give_ordered_blocks_and_pages(pages: list[list[Line]]) -> None:
    text, blocks, starts = compose(pages)
    assert HYPHEN not in text
    assert len(starts) == len(pages)
    assert starts == sorted(starts)
    assert all(0 <= start <= len(text) for start in starts)
    assert not starts or starts[0] == 0
    assert all(block.start < block.end <= len(text) for block in blocks)
    assert all(before.end <= after.start for before, after in pairwise(blocks))
