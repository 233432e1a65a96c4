"""Scores of answers and rankings, as SQuAD and information retrieval define them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as the benchmarks' workers see it: with their folder on the path."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module("scoring")


@pytest.fixture
def question(scoring: ModuleType) -> Any:
    corpora = import_module("corpora")
    return corpora.Question("q", "Who?", ("The Pier Company", "Pier Co."), (corpora.Gold("a"), corpora.Gold("b")))


def reply(*answers: str) -> Any:
    return import_module("systems.base").Reply(answers, not answers)


@pytest.mark.parametrize(
    ("answers", "em", "em3", "f1"),
    [
        (("the pier company!",), 1, 1, 1),
        (("pier co",), 1, 1, 1),
        (("a board", "Pier Company"), 0, 1, 0),
        (("a board", "x", "y", "Pier Company"), 0, 0, 0),
        (("pier company board",), 0, 0, 4 / 5),
        ((), 0, 0, 0),
    ],
)
def test_answers_are_compared_as_in_squad(
    scoring: ModuleType, question: Any, answers: tuple[str, ...], em: float, em3: float, f1: float
) -> None:
    found = scoring.reply_scores(question, reply(*answers))
    assert found == {"em": em, "em3": em3, "f1": pytest.approx(f1), "abstained": float(not answers)}


def test_the_first_document_counts_for_hit_at_1(scoring: ModuleType, question: Any) -> None:
    piece = import_module("systems.base").Piece
    for ranked, hit in ((("b", "c", "a"), 1.0), (("c", "a", "b"), 0.0), ((), 0.0)):
        assert scoring.ranking_scores(question, [piece(name, "text") for name in ranked])["hit@1"] == hit
