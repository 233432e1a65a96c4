"""Runs of lines for notes: within their budget, in order, the best there are, and the same however they are carried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.notes import Line, Notes, choose, in_order, log_odds, quote, read, score_lines, take_notes
from carrel.errors import InputError
from carrel.types import Passage, Span


def _lines(tokens: Sequence[int], scores: Sequence[float], document: str = "d", gaps: Sequence[int] = ()) -> list[Line]:
    """Lines of four characters a token, one after another; a gap before those whose index is in ``gaps``."""
    out, at = [], 0
    for index, (count, score) in enumerate(zip(tokens, scores, strict=True)):
        at += 3 * (index in gaps)
        out.append(Line(document, at, at + 4 * count, count, score))
        at += 4 * count
    return out


def _value(lines: Sequence[Line], run: range, level: float) -> float:
    return math.fsum(lines[index].tokens * (lines[index].score - level) for index in run)


def _all_runs(lines: Sequence[Line], budget: int) -> list[range]:
    """The plain oracle: every run without a gap that fits."""
    out = []
    for first in range(len(lines)):
        for stop in range(first + 1, len(lines) + 1):
            if stop - 1 > first and not lines[stop - 1].follows(lines[stop - 2]):
                break
            if sum(line.tokens for line in lines[first:stop]) <= budget:
                out.append(range(first, stop))
    return out


_numbers = st.integers(-8, 8).map(float)
_texts = st.lists(st.tuples(st.integers(1, 9), _numbers, st.booleans()), max_size=14).map(
    lambda rows: _lines(
        [tokens for tokens, _, _ in rows],
        [score for _, score, _ in rows],
        gaps=[index for index, (_, _, gap) in enumerate(rows) if gap and index],
    )
)


def test_one_run_holds_the_stretch_that_scores_best_not_the_highest_line() -> None:
    lines = _lines([10] * 8, [0, 5, 0, 0, 3, 4, 3, 0])
    assert choose(lines, 30) == [range(4, 7)]


def test_a_line_below_the_level_is_quoted_where_it_joins_two_good_ones() -> None:
    lines = _lines([10] * 6, [0, 6, 1, 6, 0, 0])
    assert choose(lines, 30, level=2.0) == [range(1, 4)]


def test_what_is_left_of_the_budget_goes_to_the_better_neighbour() -> None:
    lines = _lines([10] * 5, [-2, -1, 9, -3, -2])
    assert choose(lines, 20, level=0.0) == [range(1, 3)]
    assert choose(lines, 30, level=0.0) == [range(0, 3)]


def test_a_second_run_takes_what_is_left_of_the_budget() -> None:
    lines = _lines([10] * 7, [0, 9, 0, 0, 0, 8, 0])
    assert choose(lines, 20, level=5.0, most=2) == [range(1, 2), range(5, 6)]
    assert choose(lines, 20, level=5.0, most=1) != choose(lines, 20, level=5.0, most=2)


def test_the_sharpest_lines_come_first_and_a_stretch_that_holds_one_does_not_pay_for_it_twice() -> None:
    plain = _lines([10] * 8, [1, 0, 0, 0, 4, 5, 4, 0])
    lines = [replace(line, sharp={0: 0.5, 5: 0.9, 7: 0.4}.get(index, 0.0)) for index, line in enumerate(plain)]
    assert choose(lines, 40, sharp_tokens=20) == [range(0, 1), range(4, 7)]
    assert choose(lines, 20, sharp_tokens=20) == [range(0, 1), range(5, 6)]
    assert choose(lines, 30, sharp_tokens=10) == choose(lines, 30) == [range(4, 7)]


def test_lines_that_are_not_sharp_leave_their_share_to_the_stretch() -> None:
    lines = _lines([10] * 6, [0, 0, 3, 4, 3, 0])
    assert choose(lines, 30, sharp_tokens=30) == choose(lines, 30) == [range(2, 5)]


def test_every_run_pays_for_its_header() -> None:
    lines = _lines([10] * 5, [9, 0, 0, 0, 8])
    assert choose(lines, 26, level=5.0, most=2, each=3) == [range(0, 1), range(4, 5)]
    assert choose(lines, 25, level=5.0, most=2, each=3) == [range(0, 2)]  # the rest goes to a neighbour, for no header


def test_runs_end_where_text_is_missing_or_another_document_begins() -> None:
    lines = _lines([10] * 4, [1, 2, 2, 1], gaps=[2])
    assert choose(lines, 40) == [range(0, 2)]
    two = [*_lines([10], [2.0], "a"), *_lines([10], [2.0], "b")]
    assert choose(two, 20, level=0.0) == [range(0, 1)]


def test_nothing_is_chosen_of_nothing_or_for_no_tokens() -> None:
    assert choose([], 10) == []
    assert choose(_lines([10], [1.0]), 9) == []
    assert choose(_lines([10], [1.0]), 10, each=1) == []


@pytest.mark.parametrize(("budget", "most", "each"), [(-1, 1, 0), (10, 0, 0), (10, 1, -1)])
def test_numbers_that_mean_nothing_are_refused(budget: int, most: int, each: int) -> None:
    with pytest.raises(InputError, match="runs need a budget"):
        choose([], budget, most=most, each=each)


@given(_texts, st.integers(0, 60), st.integers(1, 4), st.integers(0, 40), st.integers(0, 5), st.data())
def test_runs_are_in_order_disjoint_whole_and_within_the_budget(
    lines: list[Line], budget: int, most: int, sharp_tokens: int, each: int, data: st.DataObject
) -> None:
    sharp = data.draw(st.lists(st.sampled_from([0.0, 0.2, 0.9]), min_size=len(lines), max_size=len(lines)))
    lines = [replace(line, sharp=value) for line, value in zip(lines, sharp, strict=True)]
    runs = choose(lines, budget, most=most, sharp_tokens=sharp_tokens, each=each)
    assert runs == choose(lines, budget, most=most, sharp_tokens=sharp_tokens, each=each)
    assert len(runs) <= most + sum(value > 0 for value in sharp)
    assert sum(each + sum(lines[index].tokens for index in run) for run in runs) <= budget
    assert all(first.stop <= second.start for first, second in pairwise(runs))
    assert all(lines[index].follows(lines[index - 1]) for run in runs for index in run[1:])
    fits = any(line.tokens + each <= budget for line in lines)
    assert bool(runs) == fits


@given(_texts, st.integers(1, 60), st.integers(-4, 4).map(float))
def test_the_run_before_it_grows_is_the_best_of_all(lines: list[Line], budget: int, level: float) -> None:
    possible = _all_runs(lines, budget)
    found = choose(lines, budget, level=level)
    assert bool(found) == bool(possible)
    if found:
        best = max(_value(lines, run, level) for run in possible)
        inside = [run for run in possible if run.start >= found[0].start and run.stop <= found[0].stop]
        assert max(_value(lines, run, level) for run in inside) == pytest.approx(best)
        room = budget - sum(lines[index].tokens for index in found[0])
        first, last = found[0].start, found[0].stop
        if first and lines[first].follows(lines[first - 1]):
            assert lines[first - 1].tokens > room
        if last < len(lines) and lines[last].follows(lines[last - 1]):
            assert lines[last].tokens > room


def test_a_line_has_the_mean_of_the_windows_that_show_it() -> None:
    spans = [Span(0, 10), Span(10, 20), Span(20, 30), Span(30, 40)]
    windows = [(Span(10, 30), 4.0), (Span(0, 20), 2.0), (Span(25, 30), 7.0)]
    lines = score_lines("d", spans, [1, 2, 3, 4], windows)
    assert [line.score for line in lines] == [2.0, 3.0, pytest.approx((10 * 4 + 5 * 7) / 15), 2.0]
    assert [line.tokens for line in lines] == [1, 2, 3, 4]
    assert lines[1].follows(lines[0])
    assert [line.score for line in score_lines("d", spans[:1], [1], [])] == [0.0]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20), _numbers), max_size=8),
    st.lists(st.integers(1, 9), max_size=8),
)
def test_line_scores_are_those_of_a_plain_loop(rows: list[tuple[int, int, float]], lengths: list[int]) -> None:
    windows = [(Span(start, start + length), score) for start, length, score in rows]
    ends = [sum(lengths[: index + 1]) for index in range(len(lengths))]
    spans = [Span(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    lowest = min((score for _, score in windows), default=0.0)
    for line in score_lines("d", spans, lengths, windows):
        shown = [
            (max(0, min(window.end, line.end) - max(window.start, line.start)), score) for window, score in windows
        ]
        weight = sum(part for part, _ in shown)
        expected = sum(part * score for part, score in shown) / weight if weight else lowest
        assert line.score == pytest.approx(expected)


def test_notes_keep_the_better_of_two_pieces() -> None:
    lines = _lines([10] * 6, [5, 5, 0, 0, 1, 1])
    notes = take_notes(take_notes(Notes(), lines[:3], 20), lines[3:], 20)
    assert notes.lines == tuple(lines[:2])
    assert (notes.seen_tokens, notes.level, notes.tokens) == (60, 2.0, 20)


def test_a_run_across_two_pieces_is_found_where_the_edge_was_kept() -> None:
    lines = _lines([10] * 6, [6, 0, 5, 5, 0, 0])
    without = take_notes(take_notes(Notes(), lines[:3], 10), lines[3:], 20)
    assert without.lines != tuple(lines[2:4])
    kept = take_notes(take_notes(Notes(), lines[:3], 10, edge=10), lines[3:], 20)
    assert [lines[2], lines[3]] == [line for line in kept.lines if line.score == 5]
    assert choose(kept.lines, 20, level=kept.level) == [range(0, 2)]


@given(_texts, st.integers(1, 30), st.integers(0, 30), st.integers(1, 5), st.booleans())
def test_notes_are_bounded_in_order_and_count_all_that_was_seen(
    lines: list[Line], budget: int, edge: int, size: int, backwards: bool
) -> None:
    pieces = [lines[first : first + size] for first in range(0, len(lines), size)]
    notes = Notes()
    for piece in reversed(pieces) if backwards else pieces:
        notes = take_notes(notes, piece, budget, edge=edge)
        assert notes.tokens <= budget + 2 * edge
    assert list(notes.lines) == sorted(notes.lines, key=lambda line: line.start)
    assert set(notes.lines) <= set(lines)
    assert notes.seen_tokens == sum(line.tokens for line in lines)
    assert notes.level == pytest.approx(read(Notes(), lines).level)


@given(_texts, st.integers(0, 60), st.integers(1, 5))
def test_a_budget_for_all_keeps_all_of_a_text_without_gaps(lines: list[Line], spare: int, size: int) -> None:
    whole = _lines([line.tokens for line in lines], [line.score for line in lines])
    total = sum(line.tokens for line in whole)
    notes = Notes()
    for first in range(0, len(whole), size):
        notes = take_notes(notes, whole[first : first + size], total + spare)
    assert notes.lines == tuple(whole)


def test_lines_of_several_documents_keep_their_order() -> None:
    first, second = _lines([1, 1], [0, 0], "z"), _lines([1, 1], [0, 0], "a")
    assert in_order([first[1]], [first[0], *second, first[1]]) == [*first, *second]


def test_a_quote_is_the_text_of_its_run() -> None:
    text = "One. Two. Three. Four."
    piece = Passage("d", 100, 100 + len(text), text, title="T", kept=(Span(100, 104),))
    lines = [Line("d", 105, 110, 2, log_odds(0.5)), Line("d", 110, 117, 2, log_odds(0.5))]
    found = quote(lines, piece)
    assert (found.text, found.start, found.end, found.kept, found.title) == ("Two. Three. ", 105, 117, None, "T")
    assert found.scores.relevance == pytest.approx(0.5)
    for wrong in ([], [Line("d", 99, 104, 1, 0.0)], [Line("d", 117, 123, 1, 0.0)], [Line("e", 105, 110, 1, 0.0)]):
        with pytest.raises(InputError, match="holds all of its lines"):
            quote(wrong, piece)


@given(st.floats(0, 1))
def test_log_odds_are_finite_and_rise_with_the_probability(probability: float) -> None:
    assert math.isfinite(log_odds(probability))
    assert log_odds(probability) == pytest.approx(-log_odds(1 - probability), abs=1e-6)
    assert (log_odds(probability) > 0) == (probability > 0.5) or abs(probability - 0.5) < 1e-9


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_what_is_no_probability_has_no_odds(wrong: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        log_odds(wrong)
