"""Figures of eval-kv's cells: intervals, differences to dense, and JSON that loses nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.evaluation.kv_results import Cell, KVEvaluation, Manifest, Row, share_right, shown_budget

MANIFEST = Manifest("tiny", "f00d", "words, 1 hop", 0, 2, 4, (64,), (0.5,), "2026-01-01", {}, {}, {}, {"x": "no"})


def cell(right: str, *, read_s: float = 1.0, first_ms: float = 2.0, size: int = 1000, keys: float = 1.0) -> Cell:
    return Cell(tuple(mark == "1" for mark in right), read_s, first_ms, size, keys)


DENSE = Row(64, "dense", None, "dense", {0: cell("1111"), 1: cell("1110", read_s=3.0)})
HALF = Row(
    64, "random", 0.5, "random:0.5",
    {0: cell("1100", read_s=2.0, first_ms=1.0, size=500, keys=0.5),
     1: cell("0110", read_s=3.0, first_ms=4.0, size=500, keys=0.5)},
)  # fmt: skip
FOUND = KVEvaluation(MANIFEST, (DENSE, HALF))


def test_a_row_against_dense() -> None:
    figures = FOUND.figures(HALF)
    assert figures.right.mean == 0.5
    assert figures.right.questions == 8
    assert (figures.keys, figures.bytes, figures.read_s, figures.first_ms) == (0.5, 500, 2.5, 2.5)
    assert figures.bytes_share == 0.5
    assert figures.read_ratio == 1.5  # the median of 2 / 1 and 3 / 3
    assert figures.first_ratio == 1.25  # of 1 / 2 and 4 / 2
    assert figures.difference is not None
    assert figures.difference.mean == pytest.approx(-0.375)
    assert (figures.difference.low, figures.difference.high) == (-0.5, -0.25)


def test_only_contexts_that_dense_has_are_compared() -> None:
    short = KVEvaluation(MANIFEST, (replace(DENSE, cells={1: DENSE.cells[1]}), HALF))
    figures = short.figures(HALF)
    assert figures.right.questions == 8
    assert figures.difference is not None and figures.difference.mean == -0.25
    assert (figures.difference.low, figures.difference.high) == (-0.75, 0.0)  # of one context: over its questions
    alone = KVEvaluation(MANIFEST, (HALF,)).figures(HALF)
    assert (alone.difference, alone.bytes_share, alone.read_ratio, alone.first_ratio) == (None,) * 4
    assert alone.right.mean == 0.5


def test_rows_by_length() -> None:
    found = KVEvaluation(MANIFEST, (DENSE, replace(DENSE, length=128), replace(HALF, length=128)))
    assert found.lengths == (64, 128)
    assert [row.method for row in found.of(128)] == ["dense", "random"]
    assert found.dense(128) == found.rows[1]
    assert found.dense(7) is None


def test_wilson_where_contexts_are_alike() -> None:
    found = share_right([[True] * 9 + [False]] * 10)  # every context the same: as good as single questions
    assert found.mean == 0.9
    assert (found.low, found.high) == pytest.approx((0.8256, 0.9448), abs=1e-4)  # Wilson, 90 of 100
    assert share_right([[True] * 100]).high == 1
    assert share_right([[True] * 100]).low == pytest.approx(0.9630, abs=1e-4)
    assert share_right([[False] * 100]).high == pytest.approx(0.0370, abs=1e-4)


def test_the_interval_is_wider_where_contexts_differ() -> None:
    apart = share_right([[True] * 10, [False] * 10] * 5)
    alike = share_right([[True, False] * 5] * 10)
    assert apart.mean == alike.mean == 0.5
    # contexts all right or all wrong: worth ten questions, nine by a sample's variance
    half = 1.959964 * (0.25 / 9 + 1.959964**2 / 324) ** 0.5 / (1 + 1.959964**2 / 9)
    assert (apart.low, apart.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert alike.low == pytest.approx(0.4038, abs=1e-4)
    with pytest.raises(InputError, match="at least one question"):
        share_right([])


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=8), min_size=1, max_size=8))
def test_intervals_hold_their_share(right: list[list[bool]]) -> None:
    found, together = share_right(right), [answer for answers in right for answer in answers]
    assert found.mean == pytest.approx(float(np.mean(together)))
    assert 0 <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= 1
    alone = share_right([together])
    assert found.high - found.low >= alone.high - alone.low - 1e-12


def cells() -> Any:
    numbers = st.floats(1e-6, 1e6)
    right = st.lists(st.booleans(), min_size=1, max_size=5).map(tuple)
    return st.builds(Cell, right, numbers, numbers, st.integers(1, 10**12), st.floats(0, 1))


def rows() -> Any:
    measured = st.dictionaries(st.integers(0, 9), cells(), min_size=1, max_size=4)
    budgets = st.none() | st.floats(0.01, 1)
    return st.builds(Row, st.integers(1, 9999), st.text(max_size=9), budgets, st.text(max_size=9), measured)


@given(st.lists(rows(), max_size=4))
def test_json_loses_nothing(made: list[Row]) -> None:
    found = KVEvaluation(MANIFEST, (DENSE, *made))
    again = KVEvaluation.from_json(found.to_json())
    assert again == found
    assert again.to_json() == found.to_json()


def test_json_has_a_row_a_line_with_its_figures() -> None:
    text = FOUND.to_json()
    line = json.loads(next(line for line in text.splitlines() if '"random"' in line).strip().rstrip(","))
    assert line["contexts"]["1"]["right"] == "0110"
    assert line["figures"]["right"]["mean"] == 0.5
    assert line["figures"]["difference"]["low"] == -0.5


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "not JSON"), ("[]", "its format is None"), ('{"format": "other/1"}', "its format is 'other/1'"),
        (FOUND.to_json().replace('"right": "0110"', '"right": "0210"'), "damaged: ValueError: answers '0210'"),
        (FOUND.to_json().replace('"first_ms": 4.0, ', ""), "damaged: TypeError"),
        (FOUND.to_json().replace('"seed": 0,', '"sead": 0,'), "damaged: TypeError"),
        (FOUND.to_json().replace('"manifest"', '"manifests"'), "damaged: KeyError"),
    ],
)  # fmt: skip
def test_what_is_no_evaluation(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        KVEvaluation.from_json(text)


def test_a_row_without_contexts_is_damaged() -> None:
    content = json.loads(FOUND.to_json())
    content["rows"][1]["contexts"] = {}
    with pytest.raises(InputError, match="'random' has no context"):
        KVEvaluation.from_json(json.dumps(content))


def test_budgets_are_fractions() -> None:
    assert [shown_budget(budget) for budget in (None, 0.5, 1 / 16, 1.0, 1 / 3, 0.3)] == [
        "", "1/2", "1/16", "1", "1/3", "3/10",
    ]  # fmt: skip
