"""Windows, sentence scores and answer spans, each against a slow and obvious way to the same."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.reader.reading import Reading, SpanScore, seams, windows, without_surrogates
from carrel.types import Span

LOGITS = st.integers(-3, 3)  # few values, so that there are ties


@st.composite
def readings(draw: st.DrawFn, most: int = 24) -> Reading:
    """Tokens with and without gaps between them, and logits with ties."""
    count = draw(st.integers(0, most))
    sizes = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=count, max_size=count))
    offsets, place = [], 0
    for gap, size in sizes:
        offsets.append((place + gap, place + gap + size))
        place += gap + size
    start, end = (draw(st.lists(LOGITS, min_size=count, max_size=count)) for _ in range(2))
    keep = draw(st.lists(st.floats(0, 1, width=32), min_size=count, max_size=count))
    return Reading(
        0.0, 0.0, np.array(offsets, np.int64).reshape(-1, 2),
        np.array(keep, np.float32), np.array(start, np.float32), np.array(end, np.float32),
    )  # fmt: skip


spans = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 30)), max_size=6).map(
    lambda pairs: [Span(start, start + length) for start, length in pairs]
)


# -- windows --------------------------------------------------------------------------------------


sizes = st.tuples(st.integers(0, 2000), st.integers(2, 300), st.integers(0, 299)).filter(lambda s: s[2] < s[1])


@given(sizes)
def test_windows_cover_every_token_evenly_and_overlap(size: tuple[int, int, int]) -> None:
    tokens, room, overlap = size
    found = windows(tokens, room, overlap)
    assert found[0][0] == 0 and found[-1][1] == tokens
    if tokens <= room:
        assert found == [(0, tokens)]
        return
    assert all(last - first == room for first, last in found)
    steps = [after[0] - before[0] for before, after in pairwise(found)]
    assert all(0 < step <= room - overlap for step in steps)
    assert max(steps) - min(steps) <= 1
    assert len(found) == 1 + math.ceil((tokens - room) / (room - overlap)), "no window more than needed"


def owner(token: int, covering: list[tuple[int, int]]) -> int:
    """The window in which a token stands farthest from an edge that cuts the text; the later of equals."""
    best = (-1.0, -1)
    for number, (first, last) in enumerate(covering):
        if first <= token < last:
            before = math.inf if number == 0 else token - first
            after = math.inf if number == len(covering) - 1 else last - 1 - token
            best = max(best, (min(before, after), number))
    return best[1]


@given(sizes)
def test_a_token_belongs_to_the_window_in_which_it_is_farthest_from_an_edge(size: tuple[int, int, int]) -> None:
    tokens, room, overlap = size
    covering = windows(tokens, room, overlap)
    own = seams(covering)
    assert [number for number, (first, last) in enumerate(own) for _ in range(first, last)] == [
        owner(token, covering) for token in range(tokens)
    ]


# -- sentences ------------------------------------------------------------------------------------


@given(readings(), spans)
def test_a_span_scores_the_mean_of_the_tokens_that_begin_in_it(reading: Reading, asked: list[Span]) -> None:
    for span, score in zip(asked, reading.keep_scores(asked), strict=True):
        inside = [
            float(keep)
            for (start, _), keep in zip(reading.offsets.tolist(), reading.keep, strict=True)
            if span.start <= start < span.end
        ]
        assert 0 <= score <= 1
        assert score == pytest.approx(sum(inside) / len(inside) if inside else 0.0, abs=1e-12)


def test_certainty_stays_certain() -> None:
    """Sums of many numbers would round to more than 1."""
    keep = np.array([0.3] + [1.0] * 40, np.float32)
    offsets = np.array([(n, n + 1) for n in range(41)], np.int64)
    reading = Reading(0.0, 0.0, offsets, keep, keep, keep)
    assert reading.keep_scores([Span(1, 41), Span(0, 1), Span(41, 50)]) == [1.0, float(np.float32(0.3)), 0.0]
    assert reading.keep_scores([]) == []


# -- answers --------------------------------------------------------------------------------------


def slow_answers(reading: Reading, count: int, longest: int, within: list[Span] | None) -> list[SpanScore]:
    """Every span, sorted; those that overlap a better one are left out."""
    every = []
    for first in range(len(reading.start)):
        for last in range(first, min(first + longest, len(reading.start))):
            start, end = int(reading.offsets[first, 0]), int(reading.offsets[last, 1])
            if within is None or any(span.start <= start and end <= span.end for span in within):
                every.append((-float(reading.start[first] + reading.end[last]), first, last, start, end))
    out: list[SpanScore] = []
    taken: list[tuple[int, int]] = []
    for score, first, last, start, end in sorted(every):
        if len(out) < count and not any(first <= b and a <= last for a, b in taken):
            taken.append((first, last))
            out.append(SpanScore(start, end, -score))
    return out


@given(readings(), st.integers(0, 6), st.integers(1, 40))
def test_answers_are_those_of_the_slow_way(reading: Reading, count: int, longest: int) -> None:
    assert reading.answers(count, longest) == slow_answers(reading, count, longest, None)


@given(readings(), st.integers(0, 6), st.lists(st.integers(0, 100), max_size=8, unique=True))
def test_answers_inside_spans_are_those_of_the_slow_way(reading: Reading, count: int, cuts: list[int]) -> None:
    within = [Span(start, end) for start, end in zip(sorted(cuts)[::2], sorted(cuts)[1::2], strict=False)]
    assert reading.answers(count, within=within) == slow_answers(reading, count, 32, within)


@pytest.mark.parametrize("seed", range(5))
def test_answers_of_a_real_length(seed: int) -> None:
    random = np.random.default_rng(seed)
    offsets = np.array([(5 * n, 5 * n + 4) for n in range(200)], np.int64)
    start, end = random.normal(size=(2, 200)).astype(np.float32)
    reading = Reading(0.0, 0.0, offsets, np.abs(start), start, end)
    assert reading.answers(10) == slow_answers(reading, 10, 32, None)
    assert reading.answers(10, within=[Span(100, 480), Span(700, 701)]) == slow_answers(
        reading, 10, 32, [Span(100, 480), Span(700, 701)]
    )


# -- texts ----------------------------------------------------------------------------------------


@given(st.text(st.one_of(st.characters(), st.characters(categories=["Cs"])), max_size=30))
def test_surrogates_are_replaced_one_by_one(text: str) -> None:
    sound = without_surrogates(text)
    assert len(sound) == len(text)
    sound.encode()
    for before, after in zip(text, sound, strict=True):
        assert after == ("\ufffd" if 0xD800 <= ord(before) < 0xE000 else before)
