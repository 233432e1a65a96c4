"""Cutoffs: Adaptive-k against its definition, the caps, and the scores they refuse."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carrel.errors import InputError, ScoreKindError
from carrel.retrieval.cutoff import AdaptiveK, Cutoff, FixedK, Threshold
from carrel.testing import CutoffConformance

numbers = st.floats(-1, 1, allow_nan=False, width=32)
descending = st.lists(numbers, min_size=1, max_size=60).map(lambda scores: sorted(scores, reverse=True))


class TestAdaptiveK(CutoffConformance):
    def make(self) -> Cutoff:
        return AdaptiveK()


class TestFixedK(CutoffConformance):
    def make(self) -> Cutoff:
        return FixedK(3)


class TestThreshold(CutoffConformance):
    def make(self) -> Cutoff:
        return Threshold(0.5)


def oracle(scores: list[float], buffer: int, skip_tail: float, skip_head: float) -> int:
    """In words: of the drops outside both shares take the largest, the first of equals; add the buffer."""
    size = len(scores)
    if size < 2:
        return size
    head, tail = int(size * skip_head), int(size * skip_tail)
    drops = {rank: scores[rank - 1] - scores[rank] for rank in range(1, size)}  # after which rank, how far
    allowed = [rank for rank in drops if rank > head and rank <= size - 1 - tail]
    allowed = allowed or [min(max(drops), head + 1)]
    best = allowed[0]
    for rank in allowed:
        if drops[rank] > drops[best]:
            best = rank
    return min(size, best + buffer)


@given(descending, st.integers(0, 8), st.floats(0, 0.6), st.floats(0, 0.35))
@example([0.9, 0.9, 0.2, 0.2], 0, 0.0, 0.0)
@example([0.5] * 30, 5, 0.1, 0.05)
@example([0.9, 0.1], 0, 0.6, 0.35)
def test_adaptive_k_is_its_definition(scores: list[float], buffer: int, tail: float, head: float) -> None:
    cutoff = AdaptiveK(buffer, skip_tail=tail, skip_head=head, max_passages=None)
    assert cutoff.cut(scores, "dense").count == oracle(scores, buffer, tail, head)


def test_the_largest_drop_decides() -> None:
    cut = AdaptiveK(buffer=0).cut([0.9, 0.88, 0.85, 0.4, 0.38, 0.37, 0.36, 0.35, 0.34, 0.33], "fused")
    assert cut.count == 3
    assert cut.reason == "largest drop 0.450 after rank 3, plus 0"
    assert cut.details["rank"] == 3 and cut.details["candidates"] == 10
    assert cut.details["gap"] == pytest.approx(0.45)


def test_the_buffer_is_added() -> None:
    scores = [0.9, 0.3, 0.2, 0.1, 0.09, 0.08, 0.07, 0.06, 0.05, 0.04]
    assert [AdaptiveK(buffer=buffer).cut(scores, "dense").count for buffer in (0, 1, 5, 50)] == [1, 2, 6, 10]


def test_a_drop_in_the_tail_is_not_looked_at() -> None:
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.35, 0.3, -0.9]
    assert AdaptiveK(buffer=0, skip_tail=0.0).cut(scores, "dense").count == 9
    assert AdaptiveK(buffer=0, skip_tail=0.1).cut(scores, "dense").count < 9


def test_a_drop_in_the_head_is_not_looked_at() -> None:
    scores = [1.0, 0.3, *(0.29 - rank / 100 for rank in range(8)), *(0.1 - rank / 1000 for rank in range(10))]
    assert AdaptiveK(buffer=0, skip_head=0.0).cut(scores, "dense").count == 1
    assert AdaptiveK(buffer=0, skip_head=0.05).cut(scores, "dense").count == 10


def test_the_first_of_equal_drops_is_taken() -> None:
    assert AdaptiveK(buffer=0, skip_tail=0).cut([4.0, 3.0, 2.0, 1.0], "lexical").count == 1
    assert AdaptiveK(buffer=0, skip_tail=0).cut([0.5] * 9, "dense").count == 1


def test_one_and_none() -> None:
    assert AdaptiveK(buffer=0).cut([0.7], "dense").count == 1
    assert AdaptiveK().cut([], "dense").count == 0
    assert AdaptiveK().cut([], "dense").reason == "no candidates"


def test_the_cap_is_said() -> None:
    cut = AdaptiveK(buffer=100, max_passages=4).cut([0.9 - rank / 100 for rank in range(40)], "dense")
    assert cut.count == 4
    assert cut.reason.endswith("; capped at 4 passages")


@given(descending, st.floats(0.1, 10), st.floats(-5, 5))
def test_scale_and_shift_do_not_matter(scores: list[float], scale: float, shift: float) -> None:
    exact = [round(score, 3) for score in scores]  # drops that differ by rounding alone are no drops
    cutoff = AdaptiveK(buffer=0)
    before, after = cutoff.cut(exact, "dense"), cutoff.cut([score * scale + shift for score in exact], "dense")
    if before.count != after.count:  # only between drops that are equal but for rounding
        rank = after.count
        assert exact[rank - 1] - exact[rank] == pytest.approx(float(str(before.details["gap"])), abs=1e-6)


@pytest.mark.parametrize("cutoff", [AdaptiveK(), Threshold()])
def test_fused_ranks_are_refused_with_a_way_out(cutoff: Cutoff) -> None:
    with pytest.raises(ScoreKindError, match="cannot read 'rank_fused' scores") as error:
        cutoff.cut([0.03, 0.02], "rank_fused")
    for kind in ("dense", "lexical", "fused"):
        assert kind in str(error.value)


def test_a_fixed_count_reads_any_score() -> None:
    assert FixedK(1).cut([0.03, 0.02], "rank_fused").count == 1


@pytest.mark.parametrize("cutoff", [AdaptiveK(), FixedK(2), Threshold()])
def test_scores_must_be_sorted_numbers(cutoff: Cutoff) -> None:
    with pytest.raises(InputError, match="sorted from best to worst"):
        cutoff.cut([0.1, 0.9], "dense")
    with pytest.raises(InputError, match="not a number"):
        cutoff.cut([0.9, math.nan, 0.1], "dense")
    assert cutoff.cut([0.5, 0.5], "dense").count >= 1


@given(descending, st.integers(1, 80))
def test_fixed_k_is_k_or_all(scores: list[float], k: int) -> None:
    assert FixedK(k).cut(scores, "dense").count == min(k, len(scores))


@given(descending, numbers)
def test_a_threshold_keeps_what_reaches_it_and_always_the_best(scores: list[float], minimum: float) -> None:
    kept = len([score for score in scores if score >= minimum])
    assert Threshold(minimum, max_passages=None).cut(scores, "dense").count == max(1, kept)


@pytest.mark.parametrize(
    "options",
    [{"buffer": -1}, {"skip_tail": 1.0}, {"skip_tail": -0.1}, {"skip_head": 1.0}, {"skip_tail": 0.5, "skip_head": 0.5}],
)
def test_senseless_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="AdaptiveK"):
        AdaptiveK(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [0, -3])
def test_a_senseless_count_is_refused(k: int) -> None:
    with pytest.raises(InputError, match=f"k must be 1 or more, not {k}"):
        FixedK(k)


@given(descending, st.lists(st.integers(1, 300), min_size=60, max_size=60), st.integers(1, 4000))
def test_the_cap_in_tokens_keeps_as_many_as_fit_and_the_best_anyway(
    scores: list[float], lengths: list[int], most: int
) -> None:
    for cutoff in (AdaptiveK(max_tokens=most), FixedK(8, max_tokens=most), Threshold(0.0, max_tokens=most)):
        whole = cutoff.cut(scores, "dense")
        cut = cutoff.within_tokens(whole, lengths[: whole.count])
        assert 1 <= cut.count <= whole.count
        assert cut.count == 1 or sum(lengths[: cut.count]) <= most
        assert cut.count == whole.count or sum(lengths[: cut.count + 1]) > most
        assert ("capped at" in cut.reason.removeprefix(whole.reason)) == (cut.count < whole.count)


def test_without_a_cap_in_tokens_the_cut_stays() -> None:
    cut = FixedK(3).cut([0.9, 0.8, 0.7], "dense")
    assert FixedK(3).within_tokens(cut, [10**6] * 3) is cut


@pytest.mark.parametrize("make", [AdaptiveK, FixedK, Threshold])
@pytest.mark.parametrize("cap", ["max_passages", "max_tokens"])
def test_a_cap_below_one_is_refused(make: type, cap: str) -> None:
    with pytest.raises(InputError, match=f"{cap} must be 1 or more"):
        make(**{cap: 0})
