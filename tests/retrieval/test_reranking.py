"""Ordering passages by a reranker's scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import ScoreKindError
from carrel.retrieval.reranking import Reranker
from carrel.types import Passage, Scores


class Given(Reranker):
    name: ClassVar[str] = "given"

    def __init__(self, values: Any) -> None:
        self.values = values

    def scores(self, question: str, passages: Sequence[Passage]) -> Any:
        return self.values


def passages(count: int) -> list[Passage]:
    return [Passage(f"{n}", n, n + 4, "text", scores=Scores(dense=n / 9, lexical=1.0)) for n in range(count)]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=12))
def test_best_first_and_ties_as_they_came(values: list[float]) -> None:
    ranked = Given(np.array(values)).rerank("?", passages(len(values)))
    expected = sorted(range(len(values)), key=lambda n: (-values[n], n))
    assert [int(passage.document_id) for passage in ranked] == expected
    assert [passage.scores.relevance for passage in ranked] == [values[n] for n in expected]
    for passage in ranked:
        assert passage.scores.dense == int(passage.document_id) / 9 and passage.scores.lexical == 1.0


def test_a_list_of_numbers_will_do() -> None:
    assert [p.document_id for p in Given([0, 1, 0.5]).rerank("?", passages(3))] == ["1", "2", "0"]


@pytest.mark.parametrize(
    "values",
    [[0.1], [0.1, 0.2, 0.3], [0.1, float("nan")], [0.1, 1.01], [-0.01, 0.5], [[0.1], [0.2]], [0.1, float("inf")], 0.5],
)
def test_what_is_no_probability_for_each_passage_is_refused(values: Any) -> None:
    with pytest.raises(ScoreKindError, match="'given' must give one probability, from 0 to 1, for each of 2 passages"):
        Given(values).rerank("?", passages(2))


def test_for_no_passages_nothing_is_asked() -> None:
    assert Given(None).rerank("?", []) == []
    assert Given(None).checked_scores("?", []).shape == (0,)
