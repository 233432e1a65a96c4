"""The largest scores against a stable sort."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from carrel.generation.kv.ordering import order_keys, ranking, top_indices  # noqa: E402

pytestmark = pytest.mark.extras
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf")]), st.floats(width=32, allow_nan=False)
)


@given(st.lists(FLOATS, min_size=1, max_size=20), st.data())
def test_the_largest_are_those_of_a_stable_sort(values: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(values)))
    expected = sorted(sorted(range(len(values)), key=lambda i: -values[i])[:count])
    assert top_indices(torch.tensor(values), count).tolist() == expected


@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_a_ranking_is_a_stable_sort(values: list[float]) -> None:
    assert ranking(torch.tensor(values)).tolist() == sorted(range(len(values)), key=lambda i: -values[i])


def test_of_equals_the_earlier_is_larger_and_none_are_equal() -> None:
    keys = order_keys(torch.tensor([[2.0, 2.0, 0.0, -0.0]])).tolist()[0]
    assert keys == sorted(keys, reverse=True)
    assert len(set(keys)) == 4


def test_rows_are_ranked_by_themselves() -> None:
    scores = torch.tensor([[[1.0, 5.0, 3.0], [9.0, 7.0, 8.0]]])
    assert top_indices(scores, 2).tolist() == [[[1, 2], [0, 2]]]
