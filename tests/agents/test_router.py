"""The router: difficulty from relevance, the way it chooses, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrel
from carrel.agents import router, run
from carrel.agents.router import Difficulty, choose, difficulty
from carrel.testing import FakeGenerator, FlowConformance
from carrel.types import Document, Passage, Prompt, Scores

DOCUMENTS = [Document(f"Harbour {n} has a pier. It was built in {1800 + n}. " * 12, f"h{n}") for n in range(8)]


def found(*scores: float, documents: int = 1) -> list[Passage]:
    return [
        Passage(f"d{n % documents}", n, n + 1, "x", scores=Scores(relevance=score)) for n, score in enumerate(scores)
    ]


class TestRouter(FlowConformance):
    def make(self) -> Any:
        return router("When was the pier of harbour 3 built?", budget=150)

    def reply(self, prompt: Prompt) -> str:
        return "It was built in 1803 [1]."

    def documents(self) -> list[Document]:
        return DOCUMENTS


@pytest.mark.parametrize(
    ("passages", "route"),
    [
        (found(0.9, 0.2, 0.1), "direct"),
        (found(0.9, 0.8, 0.1), "context"),
        (found(*[0.6] * 10), "chain"),
        (found(*[0.6] * 12, documents=6), "clustered"),
        (found(0.1, 0.1), "context"),
        ([], "context"),
    ],
)
def test_what_was_measured_chooses_the_way(passages: list[Passage], route: str) -> None:
    chosen, reason = choose(difficulty(passages))
    assert chosen == route and reason


def test_the_measures() -> None:
    measured = difficulty(found(0.8, 0.4, 0.4, documents=2))
    assert (measured.best, measured.drop, measured.relevant, measured.documents) == (0.8, 0.5, 3, 2)
    assert difficulty(found(0.5, 0.5, 0.5)).spread == pytest.approx(1.0)
    assert difficulty(found(0.5, 0.0, 0.0)).spread == 0.0
    assert difficulty([]) == Difficulty(0.0, 0.0, 0.0, 0, 0)
    assert difficulty(found(0.5)).drop == 1.0


@given(st.lists(st.floats(0, 1), max_size=32), st.integers(1, 8))
def test_measures_stay_in_their_ranges(scores: list[float], documents: int) -> None:
    measured = difficulty(found(*scores, documents=documents))
    assert 0 <= measured.best <= 1 and 0 <= measured.drop <= 1 and -1e-9 <= measured.spread <= 1 + 1e-9
    assert measured.documents <= min(documents, measured.relevant) or measured.relevant == 0
    assert choose(measured)[0] in ("direct", "context", "chain", "clustered")


@pytest.mark.parametrize("route", ["direct", "context", "chain", "clustered"])
def test_every_way_gives_a_cited_answer_and_its_reason(tmp_path: Path, route: Any) -> None:
    with carrel.open(tmp_path, mode="fast") as library:
        library.add(DOCUMENTS)
        generator = FakeGenerator("It was built in 1803 [1].")
        result = run(router("When was the pier built?", route=route), generator=generator, library=library).result
        assert result.route == route and result.reason == "as asked for"
        assert result.ledger.entries[0].stage == "route" and route in result.ledger.entries[0].reason
        assert (result.detail is not None) == (route in ("chain", "clustered"))
        assert result.answer.text


def test_an_empty_library_abstains(tmp_path: Path) -> None:
    with carrel.open(tmp_path) as library:
        for route in (None, "direct", "chain", "clustered"):
            assert run(router("When was it built?", route=route), library=library).result.answer.abstained  # type: ignore[arg-type]
