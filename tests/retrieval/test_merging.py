"""Merging touching passages, and leaving out repeats."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.retrieval.merging import Repeats, best_scores, keeping, merge_spans, tight, trimmed
from carrel.types import Passage, Scores, Span

SOURCES = {
    "a": "".join(chr(0x4E00 + index) for index in range(90)),
    "b": "The ferry leaves at nine. 🚢 e\u0301 It returns at eighteen-thirty, says the plan of the harbour office.",
}
spans = st.tuples(st.sampled_from("ab"), st.integers(0, 80), st.integers(0, 30))


def passage(document: str, start: int, end: int, score: float = 0.0, **more) -> Passage:
    text = SOURCES[document][start:end]
    return Passage(document, start, start + len(text), text, scores=Scores(dense=score), **more)


def ranked(found: list[tuple[str, int, int]]) -> list[Passage]:
    """Passages, best first, with the rank as chunk and score."""
    return [
        passage(document, start, start + length, -float(rank), chunks=(rank,))
        for rank, (document, start, length) in enumerate(found)
    ]


@given(st.lists(spans, max_size=12))
def test_a_union_is_a_slice_of_the_source(found: list[tuple[str, int, int]]) -> None:
    for merged in merge_spans(ranked(found)):
        assert merged.text == SOURCES[merged.document_id][merged.start : merged.end]


@given(st.lists(spans, max_size=12))
def test_unions_cover_what_was_given_and_no_two_touch(found: list[tuple[str, int, int]]) -> None:
    given_ = ranked(found)
    merged = merge_spans(given_)
    for document in "ab":
        covered = {place for p in given_ if p.document_id == document for place in range(p.start, p.end)}
        own = sorted((p for p in merged if p.document_id == document), key=lambda p: p.start)
        assert {place for p in own for place in range(p.start, p.end)} == covered
        assert all(first.end < second.start for first, second in pairwise(own))
    assert sorted(chunk for p in merged for chunk in p.chunks) == list(range(len(given_)))


@given(st.lists(spans, max_size=12))
def test_a_union_stands_where_its_best_part_stood(found: list[tuple[str, int, int]]) -> None:
    merged = merge_spans(ranked(found))
    assert [min(p.chunks) for p in merged] == sorted(min(p.chunks) for p in merged)
    assert all(p.scores.dense == -float(min(p.chunks)) for p in merged)


@given(st.lists(spans, max_size=10))
def test_one_by_one_is_as_all_at_once(found: list[tuple[str, int, int]]) -> None:
    given_ = ranked(found)
    grown: list[Passage] = []
    for item in given_:
        grown = merge_spans([*grown, item])
    assert grown == merge_spans(given_)


@pytest.mark.parametrize("flip", [False, True])
def test_overlap_in_either_order(flip: bool) -> None:
    pages = (0, 5)
    parts = [passage("b", 0, 12, 0.2, pages=pages, prefix="One"), passage("b", 8, 25, 0.7, pages=pages, prefix="Two")]
    (merged,) = merge_spans(parts[::-1] if flip else parts)
    assert (merged.start, merged.end, merged.text) == (0, 25, "The ferry leaves at nine.")
    assert (merged.page, merged.prefix, merged.scores.dense) == (1, "One", 0.7)


def test_a_part_inside_another_changes_nothing_but_the_scores() -> None:
    (merged,) = merge_spans([passage("b", 5, 8, 0.9), passage("b", 0, 20, 0.1)])
    assert (merged.start, merged.end, merged.scores.dense) == (0, 20, 0.9)


def test_documents_are_never_mixed() -> None:
    assert len(merge_spans([passage("a", 0, 10), passage("b", 5, 15)])) == 2


def test_a_bridge_joins_both_sides() -> None:
    left, right, bridge = passage("b", 0, 5), passage("b", 10, 15), passage("b", 5, 10)
    assert [p.text for p in merge_spans([left, right, bridge])] == [SOURCES["b"][:15]]


def test_pruned_passages_that_touch_keep_what_each_kept() -> None:
    pruned, whole = passage("b", 0, 10, kept=(Span(0, 3),)), passage("b", 5, 15)
    for parts in ([pruned, whole], [whole, pruned]):
        [merged] = merge_spans(parts)
        assert (merged.start, merged.end, merged.text) == (0, 15, SOURCES["b"][:15])
        assert merged.kept == (Span(0, 3), Span(5, 15))
        assert merged.pieces == (SOURCES["b"][0:3], SOURCES["b"][5:15])
    [same] = merge_spans([pruned, passage("b", 3, 8)])
    assert same.kept == (Span(0, 8),) and same.end == 10


def test_kept_spans_that_only_white_space_parts_are_one() -> None:
    text = "One. Two.  Three. "
    source = Passage("t", 10, 10 + len(text), text)
    assert keeping(source, [Span(15, 21), Span(10, 15)]).kept == (Span(10, 19),)
    assert keeping(source, [Span(10, 15), Span(15, 21), Span(21, 28)]).kept is None
    assert keeping(source, [Span(21, 28), Span(10, 15)]).pieces == ("One.", "Three.")


def test_the_better_of_each_score_and_zero_counts() -> None:
    first, second = Scores(dense=0.0, lexical=3.0), Scores(dense=-0.5, fused=0.2)
    assert best_scores(first, second) == Scores(dense=0.0, lexical=3.0, fused=0.2)
    assert best_scores(first, second) == best_scores(second, first)


@given(st.text(st.sampled_from("ab \n\t\u2003\u00a0"), max_size=12), st.integers(0, 50))
def test_trimming_keeps_the_place(text: str, start: int) -> None:
    source = "x" * start + text
    span, stripped = trimmed(start, text)
    assert stripped == text.strip() == source[span.start : span.end]


def test_a_tight_passage_is_on_the_page_of_its_first_word() -> None:
    loose = Passage("d", 4, 12, " \ntext \n", pages=(0, 6))
    assert (loose.page, tight(loose).page) == (1, 2)


def test_a_tight_passage_has_no_white_space_around_it() -> None:
    loose = Passage("d", 4, 12, " \ntext \n", kept=None)
    assert tight(loose) == Passage("d", 6, 10, "text")
    pruned = Passage("d", 4, 12, " \ntext \n", kept=(Span(4, 8),))
    assert tight(pruned) is pruned  # what is kept is kept, whatever it is
    both = tight(Passage("d", 4, 12, " \ntext \n", kept=(Span(6, 8),)))
    assert both == Passage("d", 6, 10, "text", kept=(Span(6, 8),))


# -- repeats ------------------------------------------------------------------------------------

LONG = (
    "The ferry leaves the north pier at nine in the morning and comes back at half past six, every day but Sunday,"
    " unless the wind is above eight or the harbour office hangs out the red flag on the tower by the quay."
)


def text(value: str, document: str = "d") -> Passage:
    return Passage(document, 0, len(value), value)


def distinct(*values: str) -> list[str]:
    return [p.text for p in Repeats().distinct([text(value) for value in values])]


def test_the_same_text_is_said_once() -> None:
    assert distinct(LONG, LONG) == [LONG]
    assert distinct(LONG, LONG.upper(), LONG.replace(",", ";")) == [LONG]


def test_a_near_copy_is_left_out_and_its_better_is_named() -> None:
    repeats = Repeats()
    near = LONG.replace("Sunday", "Monday")
    kept = list(repeats.distinct([text(LONG, "first"), text("Something else is here.", "other"), text(near, "second")]))
    assert [p.document_id for p in kept] == ["first", "other"]
    assert [(p.document_id, twin.document_id) for p, twin in repeats.dropped] == [("second", "first")]
    assert repeats.kept == kept


def test_another_text_stays() -> None:
    other = LONG.replace("ferry", "steamer").replace("nine", "ten").replace("north", "south").replace("half past", "a")
    assert distinct(LONG, "Lamps burn all night.") == [LONG, "Lamps burn all night."]
    assert distinct(LONG, other.replace("harbour", "port").replace("wind", "sea").replace("every", "each")) != [LONG]


def test_a_short_passage_inside_a_long_one_stays() -> None:
    short = "The ferry leaves the north pier at nine in the morning"
    assert distinct(LONG, short) == [LONG, short]
    assert distinct(short, LONG) == [short, LONG]


def test_texts_of_one_or_two_words() -> None:
    assert distinct("Closed", "closed", "Open", "Closed today", "CLOSED TODAY") == ["Closed", "Open", "Closed today"]


def test_texts_without_words_are_told_apart() -> None:
    assert distinct("🚢🚢", "⚓", "🚢🚢") == ["🚢🚢", "⚓"]


def test_chinese_is_compared_by_its_words() -> None:
    assert distinct("渡轮九点开。", "渡轮九点开。", "渡轮十点开。") == ["渡轮九点开。", "渡轮十点开。"]


def test_the_measure_can_be_set() -> None:
    near = LONG.replace("Sunday", "Monday")
    assert len(list(Repeats(similarity=1.0).distinct([text(LONG), text(near)]))) == 2


@given(st.lists(st.sampled_from(["one two three four", "one two three five", "six seven eight nine ten", "a b"])))
def test_what_stays_is_a_subsequence_and_all_is_accounted_for(values: list[str]) -> None:
    repeats = Repeats()
    kept = [p.text for p in repeats.distinct([text(value) for value in values])]
    assert kept == list(dict.fromkeys(values))
    assert len(repeats.kept) + len(repeats.dropped) == len(values)


def test_only_its_own_time_is_counted() -> None:
    repeats = Repeats()
    for _ in repeats.distinct([text("one two three"), text("four five six")]):
        time.sleep(0.02)
    assert 0 < repeats.seconds < 0.02


def test_nothing_is_read_before_it_is_needed() -> None:
    read: list[str] = []

    def source() -> Iterator[Passage]:
        for value in ("one two three", "four five six", "seven eight nine"):
            read.append(value)
            yield text(value)

    stream = Repeats().distinct(source())
    assert read == []
    next(stream)
    assert read == ["one two three"]
