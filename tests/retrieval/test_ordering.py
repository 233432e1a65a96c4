"""The three orders of a context."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.retrieval.ordering import arrange
from carrel.types import Passage

passages = st.lists(
    st.builds(
        lambda document, start: Passage(document, start, start + 1, "x"), st.sampled_from("abc"), st.integers(0, 99)
    ),
    unique_by=lambda passage: (passage.document_id, passage.start),
    max_size=12,
)


@given(passages, st.sampled_from(["relevance", "sides", "document"]))
def test_nothing_is_lost_or_doubled(given_: list[Passage], order: str) -> None:
    key = lambda passage: (passage.document_id, passage.start)  # noqa: E731
    assert sorted(arrange(given_, order), key=key) == sorted(given_, key=key)  # type: ignore[arg-type]


@given(passages)
def test_relevance_leaves_them_as_they_are(given_: list[Passage]) -> None:
    assert arrange(given_, "relevance") == given_


@given(passages)
def test_sides_puts_the_worst_in_the_middle(given_: list[Passage]) -> None:
    arranged = arrange(given_, "sides")
    ranks = [given_.index(passage) for passage in arranged]
    worst = ranks.index(max(ranks)) if ranks else 0
    assert ranks[: worst + 1] == sorted(ranks[: worst + 1])
    assert ranks[worst:] == sorted(ranks[worst:], reverse=True)
    assert abs(worst - (len(ranks) - 1 - worst)) <= 1


def test_sides_of_five() -> None:
    given_ = [Passage(str(rank), 0, 1, "x") for rank in range(1, 6)]
    assert [passage.document_id for passage in arrange(given_, "sides")] == ["1", "3", "5", "4", "2"]


@given(passages)
def test_document_order_is_reading_order(given_: list[Passage]) -> None:
    arranged = arrange(given_, "document")
    documents = [passage.document_id for passage in arranged]
    assert list(dict.fromkeys(documents)) == list(dict.fromkeys(passage.document_id for passage in given_))
    for document in set(documents):
        places = [index for index, found in enumerate(documents) if found == document]
        assert places == list(range(places[0], places[-1] + 1))
        starts = [arranged[index].start for index in places]
        assert starts == sorted(starts)


@pytest.mark.parametrize("given_", [[], [Passage("a", 0, 1, "x")]])
def test_an_unknown_order_is_refused(given_: list[Passage]) -> None:
    with pytest.raises(InputError, match="unknown order 'best'. Use one of: relevance, sides, document"):
        arrange(given_, "best")  # type: ignore[arg-type]
