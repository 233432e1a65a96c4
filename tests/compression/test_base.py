"""What pruning keeps, by the scores alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from carrel.compression.base import Pruner, passage_sentences
from carrel.errors import InputError, ScoreKindError
from carrel.types import Passage, Span

TEXT = "One ferry. Two lamps.  Three gulls.\n\nFour boats."


class Given(Pruner):
    """Scores as they were given, in the order of the sentences of all passages."""

    name: ClassVar[str] = "given"
    threshold = 0.5

    def __init__(self, *values: float) -> None:
        self.values, self.calls = list(values), 0

    def scores(self, question: str, passages: Any, sentences: Sequence[Sequence[Span]]) -> list[list[float]]:
        self.calls += 1
        rest = iter(self.values)
        return [[next(rest) for _ in spans] for spans in sentences]


def passage(text: str = TEXT, start: int = 100, **fields: Any) -> Passage:
    return Passage("d", start, start + len(text), text, **fields)


@pytest.mark.parametrize(
    ("values", "threshold", "pieces"),
    [
        ((0.9, 0.1, 0.6, 0.2), None, ("One ferry.", "Three gulls.")),
        ((0.9, 0.5, 0.1, 0.2), None, ("One ferry. Two lamps.",)),
        ((0.9, 0.1, 0.6, 0.2), 0.2, ("One ferry.", "Three gulls.\n\nFour boats.")),
        ((0.9, 0.1, 0.6, 0.2), 0.05, (TEXT,)),
        ((0.1, 0.1, 0.1, 1.0), 0.999, ("Four boats.",)),
    ],
)
def test_sentences_at_or_above_the_threshold_stay(values: Any, threshold: float | None, pieces: Any) -> None:
    (left,) = Given(*values).prune("?", [passage()], threshold)
    assert left.pieces == pieces


def test_a_passage_of_which_nothing_stays_is_left_out() -> None:
    found = Given(0.9, 0.9, 0.9, 0.9, 0, 0, 0, 0, 0.9, 0, 0, 0).prune("?", [passage(), passage(start=5), passage()])
    assert [(left.start, left.pieces) for left in found] == [(100, (TEXT,)), (100, ("One ferry.",))]


def test_at_0_and_at_1_nothing_is_read() -> None:
    pruner = Given(1, 1, 1, 1)
    whole = passage()
    assert pruner.prune("?", [whole], 0)[0] is whole
    assert pruner.prune("?", [whole], 1) == []
    assert pruner.prune("?", []) == []
    (left,) = pruner.prune("?", [whole], 1, [("d", Span(112, 113)), ("other", Span(100, 148))])
    assert left.pieces == ("Two lamps.",)
    assert pruner.calls == 0


def test_protected_spans_may_cross_sentences() -> None:
    (left,) = Given(0, 0, 0, 0.9).prune("?", [passage()], protected=[("d", Span(105, 115))])
    assert left.pieces == ("One ferry. Two lamps.", "Four boats.")


def test_what_was_pruned_before_stays_out() -> None:
    once = passage(kept=(Span(100, 121), Span(123, 135)))
    assert [once.text[s.start - 100 : s.end - 100] for s in passage_sentences(once)] == [
        "One ferry. ", "Two lamps.", "Three gulls.",
    ]  # fmt: skip
    (left,) = Given(0.1, 0.9, 0.9).prune("?", [once])
    assert left.pieces == ("Two lamps.  Three gulls.",)
    assert Given().prune("?", [passage(kept=())]) == []
    assert Given(0.1, 0.1, 0.1).prune("?", [once], protected=[("d", Span(137, 140))]) == []


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan"), float("inf")])
def test_other_thresholds_are_refused(threshold: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        Given().prune("?", [passage()], threshold)


@pytest.mark.parametrize("values", [(0.1, 0.2, 0.3, 1.5), (0.1, -0.2, 0.3, 0.4), (0.1, 0.2, 0.3, float("nan"))])
def test_scores_that_are_none_are_refused(values: Any) -> None:
    with pytest.raises(ScoreKindError, match="'given' must give one score, from 0 to 1"):
        Given(*values).prune("?", [passage()])


@pytest.mark.parametrize("wrong", [[], [[0.1]], [[0.1, 0.2, 0.3, 0.4], []], [[0.1] * 5]])
def test_another_number_of_scores_is_refused(wrong: list[list[float]]) -> None:
    class Wrong(Given):
        def scores(self, *arguments: Any) -> list[list[float]]:
            return wrong

    with pytest.raises(ScoreKindError, match="one score"):
        Wrong().prune("?", [passage()])


def test_a_row_brings_its_header_unless_told_not_to() -> None:
    table = passage("Boats:\n\nName | Year\nMaria | 1911\nAnna | 1894\n\nAll are red.")
    values = (0.1, 0.1, 0.1, 0.9, 0.1)
    (left,) = Given(*values).prune("?", [table])
    assert left.pieces == ("Boats:\n\nName | Year", "Anna | 1894")
    (bare,) = Given(*values).prune("?", [table], hanging=True)
    assert bare.pieces == ("Anna | 1894",)
    (only,) = Given(*values).prune("?", [table], 1, [("d", Span(100 + 35, 100 + 36))])
    assert only.pieces == ("Anna | 1894",), "what is protected brings nothing"
