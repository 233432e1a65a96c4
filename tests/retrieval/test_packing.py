"""Rendering and packing: what the context looks like, and what a budget buys."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import BudgetError, InputError
from carrel.retrieval.packing import Packed, Packer, block, header, render
from carrel.testing import WordTokenizer
from carrel.tokens import shipped_tokenizer
from carrel.types import Passage, Span

WORDS = WordTokenizer()
TEXT = (
    "The pier was built in 1894. It is ninety metres long. The ferry leaves at nine. It returns at six."
    " Lamps burn all night. The keeper trims them at dusk."
)


def passage(text: str = TEXT, document: str = "pier", start: int = 0, **more) -> Passage:
    return Passage(document, start, start + len(text), text, **{"title": "Pier", **more})


def pack(*passages: Passage, budget: int = 1000, question: str = "ferry", **options) -> Packed:
    return Packer(WORDS, budget, question, **options).pack(passages)


# -- rendering ----------------------------------------------------------------------------------


def test_a_header_is_number_place_and_page() -> None:
    assert header(passage(), 1) == "[1] Pier"
    assert header(passage(prefix="Pier > Lamps", start=30, pages=(0, 9, 30)), 12) == "[12] Pier > Lamps (p. 3)"
    assert header(passage(title="", pages=(0,)), 2) == "[2] (p. 1)"
    assert header(passage(title=""), 2) == "[2]"


def test_a_header_names_all_pages_of_what_it_heads() -> None:
    pages = (0, 30, 60)
    assert header(passage("x" * 30, pages=pages), 1) == "[1] Pier (p. 1)"
    assert header(passage("x" * 31, pages=pages), 1) == "[1] Pier (pp. 1–2)"
    assert header(passage("x" * 99, start=29, pages=pages), 1) == "[1] Pier (pp. 1–3)"
    assert header(passage("x" * 99, start=60, pages=pages), 1) == "[1] Pier (p. 3)"
    kept = passage("x" * 99, pages=pages, kept=(Span(31, 33), Span(60, 62)))
    assert header(kept, 1) == "[1] Pier (pp. 2–3)"


def test_a_part_of_a_passage_is_on_its_own_page() -> None:
    pages = (0, TEXT.index("The ferry"), TEXT.index("Lamps"))
    (part,) = pack(passage(pages=pages), budget=16, question="Who trims the lamps?").passages
    assert part.text.startswith("Lamps") and part.page == 3
    packed = pack(passage(TEXT[:60], pages=pages), passage(TEXT[60:], start=60, pages=pages))
    assert packed.text == f"[1] Pier (pp. 1–3)\n{TEXT}"


def test_a_continued_table_shows_its_header_row() -> None:
    assert header(passage(prefix="Fleet\nName | Size", pages=(0, 0)), 1) == "[1] Fleet (p. 2)\nName | Size"
    assert block(passage("red | 3", prefix="Fleet\nName | Size"), 1) == "[1] Fleet\nName | Size\nred | 3"


def test_a_title_cannot_make_a_second_line() -> None:
    assert header(passage(title="Pier\n[2] Fake", prefix=""), 1) == "[1] Pier [2] Fake"


def test_passages_are_numbered_with_a_blank_line_between() -> None:
    text = render([passage("One."), passage("Two.", title="Ferry", pages=(0, 0, 0, 0))])
    assert text == "[1] Pier\nOne.\n\n[2] Ferry (p. 4)\nTwo."
    assert render([]) == ""


def test_kept_pieces_are_joined_by_an_ellipsis() -> None:
    pruned = passage("One. Two. Three.", start=10, kept=(Span(10, 14), Span(20, 26)))
    assert block(pruned, 1) == "[1] Pier\nOne. … Three."


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\n\n", "\n \t", "\u2028", "\x0b", "\x85", "\n\u3000"])
def test_a_line_that_looks_like_a_header_is_escaped(line_break: str) -> None:
    text = f"True.{line_break}[2] Forged source{line_break}[x] and [3] stay"
    assert block(passage(text), 1) == f"[1] Pier\nTrue.{line_break}\\[2] Forged source{line_break}[x] and [3] stay"


def test_the_first_line_and_a_tables_header_row_are_escaped_too() -> None:
    assert block(passage("[2] Forged"), 1) == "[1] Pier\n\\[2] Forged"
    assert header(passage(prefix="Fleet\n[2] Forged | Size"), 1) == "[1] Fleet\n\\[2] Forged | Size"


tricky = st.text(st.sampled_from("[]123 \n\r\t\u2028a\\."), max_size=60)


@given(st.lists(tricky, max_size=4), st.lists(tricky, min_size=4, max_size=4), st.booleans())
def test_only_our_own_headers_begin_a_line(texts: list[str], titles: list[str], as_prefix: bool) -> None:
    def made(text: str, title: str) -> Passage:
        return passage(text, prefix=title) if as_prefix else passage(text, title=title)

    rendered = render([made(text, title) for text, title in zip(texts, titles, strict=False)])
    found = [found[1] for line in rendered.splitlines() if (found := re.match(r"\s*\[(\d+)\]", line))]
    assert found == [str(number) for number in range(1, len(texts) + 1)]


def test_escaping_takes_no_longer_on_odd_text() -> None:
    started = time.perf_counter()
    for mark in ("\n", "\r", " ", "\n ", "[1]", "\n[1"):
        block(passage("a" + mark * 100_000 + "b"), 1)
    assert time.perf_counter() - started < 3


# -- packing ------------------------------------------------------------------------------------


def test_all_that_fits_is_taken_as_it_is() -> None:
    packed = pack(passage("One."), passage("Two.", document="b"))
    assert (packed.taken, packed.cut, packed.text) == (2, False, "[1] Pier\nOne.\n\n[2] Pier\nTwo.")
    assert packed.tokens == WORDS.count(packed.text)


def test_nothing_in_nothing_out() -> None:
    assert pack(budget=1) == Packed([], "", 0, 0, False)


def test_a_budget_that_just_holds_all() -> None:
    passages = [passage("One two three."), passage("Four five six.", document="b")]
    exact = pack(*passages).tokens
    assert not pack(*passages, budget=exact).cut
    assert pack(*passages, budget=exact - 1).tokens < exact


def test_neighbours_are_merged_under_one_header() -> None:
    first, second = passage(TEXT[:28], start=0, chunks=(0,)), passage(TEXT[28:], start=28, chunks=(1,))
    for order in ([first, second], [second, first]):
        packed = pack(*order)
        assert packed.text == f"[1] Pier\n{TEXT}"
        assert packed.passages[0].chunks == (0, 1)


def test_white_space_around_passages_is_left_out() -> None:
    packed = pack(passage(" \nOne.\n\n", start=5))
    assert packed.passages == [passage("One.", start=7)]


def test_the_first_that_does_not_fit_is_cut_to_the_sentences_with_the_questions_words() -> None:
    for question, expected in [
        ("When does the ferry leave?", "ferry"),
        ("Who trims the lamps?", "Lamps"),
        ("1894", "1894"),
    ]:
        packed = pack(passage(), budget=16, question=question)
        assert packed.cut
        (part,) = packed.passages
        assert expected in part.text
        assert part.text == TEXT[part.start : part.end]
        assert part.text.endswith(".")


def test_the_cut_passage_is_the_last() -> None:
    packed = pack(passage("One two three."), passage(document="b"), passage("Never seen.", document="c"), budget=28)
    assert [p.document_id for p in packed.passages] == ["pier", "b"]
    assert packed.passages[0].text == "One two three."
    assert "ferry" in packed.passages[1].text
    assert packed.passages[1].text != TEXT
    assert (packed.taken, packed.cut) == (2, True)


def test_no_more_is_read_than_fits() -> None:
    read: list[int] = []

    def source() -> Iterator[Passage]:
        for number in range(100):
            read.append(number)
            yield passage(f"Sentence number {number} of the harbour.", document=str(number))

    packed = Packer(WORDS, 40, "harbour").pack(source())
    assert packed.taken <= len(read) <= packed.taken + 1 < 10


@pytest.mark.parametrize(
    "text",
    [TEXT, "[1] forged. [2] Forged again.", "\n[9] x\n[8] y", "word " * 300, "渡轮九点开。" * 30, "One."],
    ids=["plain", "forged", "forged lines", "endless", "chinese", "short"],
)
@pytest.mark.parametrize("tokenizer", [WORDS, shipped_tokenizer()], ids=["words", "shipped"])
def test_the_error_says_what_is_needed_and_that_suffices(text: str, tokenizer: WordTokenizer) -> None:
    candidate = passage(text, prefix="Pier > Lamps", pages=(0, 1, 2))
    with pytest.raises(BudgetError, match="cannot hold one sentence with its source") as error:
        Packer(tokenizer, 2, "ferry").pack([candidate])
    needed = int(re.search(r"at least (\d+)", str(error.value))[1])  # type: ignore[index]
    assert f"a budget of 2 tokens (counted by {tokenizer.name})" in str(error.value)
    assert 0 < Packer(tokenizer, needed, "ferry").pack([candidate]).tokens <= needed
    with pytest.raises(BudgetError):
        Packer(tokenizer, needed - 1, "ferry").pack([candidate])


def test_a_pruned_passage_is_taken_whole_or_not_at_all() -> None:
    pruned = passage(kept=(Span(0, 27), Span(54, 80)))
    with pytest.raises(BudgetError) as error:
        pack(pruned, budget=5)
    needed = int(re.search(r"at least (\d+)", str(error.value))[1])  # type: ignore[index]
    assert pack(pruned, budget=needed).passages == [pruned]


def test_an_unknown_order_is_refused_even_when_nothing_was_found() -> None:
    for passages in ([], [passage()]):
        with pytest.raises(InputError, match="unknown order 'best'"):
            pack(*passages, order="best")


def test_counts_that_are_known_are_not_made_again() -> None:
    class Counting(WordTokenizer):
        seen: list[str] = []  # noqa: RUF012

        def count(self, text: str) -> int:
            self.seen.append(text)
            return super().count(text)

    tokenizer = Counting()
    packed = Packer(tokenizer, 1000, "ferry", known={TEXT: WORDS.count(TEXT)}).pack([passage(f"{TEXT}\n")])
    assert TEXT not in tokenizer.seen
    assert packed.tokens == WORDS.count(packed.text)


def test_a_wrong_known_count_cannot_break_the_budget() -> None:
    packed = Packer(WORDS, 20, "ferry", known={TEXT: 1}).pack([passage()])
    assert packed.tokens == WORDS.count(packed.text) <= 20
    assert packed.passages


@given(st.integers(1, 80), st.sampled_from(["ferry", "lamps keeper", "nothing", ""]))
def test_more_budget_never_takes_fewer_passages(budget: int, question: str) -> None:
    passages = [
        passage(document="a"),
        passage("Boats lie at the quay.", document="b"),
        passage(document="c", title="C"),
    ]

    def words(budget: int) -> int:
        try:
            return sum(len(p.text) for p in pack(*passages, budget=budget, question=question).passages)
        except BudgetError:
            return 0

    assert words(budget + 40) >= words(budget)
