"""The router: difficulty from relevance, the way it chooses, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import carrel
from carrel.agents import router, run
from carrel.agents.fitting import reply_room
from carrel.agents.router import Difficulty, choose, difficulty
from carrel.agents.tasks import NOTES
from carrel.errors import ContextOverflowError, InputError, RefusalError
from carrel.testing import FakeGenerator, FlowConformance
from carrel.types import Citation, Completion, Document, Passage, Prompt, Scores

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
            result = run(router("When was it built?", route=route), library=library).result  # type: ignore[arg-type]
            assert result.answer.abstained and result.route == "context" and result.detail is None


@pytest.mark.parametrize("wrong", [{"route": "sideways"}, {"threshold": 2.0}, {"threshold": -0.1}, {"budget": 0}])
def test_parameters_are_checked(wrong: Any, library: carrel.Library) -> None:
    with pytest.raises(InputError):
        run(router("When was the pier built?", **wrong), generator=FakeGenerator(), library=library)


@pytest.mark.parametrize("route", ["direct", "context", "chain", "clustered"])
def test_a_model_that_declines_is_an_error(library: carrel.Library, route: Any) -> None:
    generator = FakeGenerator(Completion("I cannot.", finish_reason="refused"))
    with pytest.raises(RefusalError, match="I cannot"):
        run(router("When was the pier built?", route=route), generator=generator, library=library)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with carrel.open(tmp_path_factory.mktemp("router"), mode="fast") as opened:
        opened.add(DOCUMENTS)
        yield opened


# -- any lengths -----------------------------------------------------------------------------------

_words = st.sampled_from(["pier ", "built? ", "港は静かだ。", "🚢 ", "x" * 90 + " ", "\n\n", "[1] so. "])


class Hostile(FakeGenerator):
    """Says what it is given, as long as the reply may be, and cites whole passages; every prompt must fit."""

    def __init__(self, window: int, filling: str, cites: int) -> None:
        super().__init__(self.play, context_window=window)
        self.window, self.filling, self.cited = window, filling, cites

    def play(self, prompt: Prompt) -> Completion:
        room = reply_room(prompt, self.window)
        assert self.prompt_tokens(prompt) + room <= self.window, prompt.kind
        chosen = list(enumerate(prompt.passages, start=1))[: self.cited]
        text = "".join(f"So it says [{number}]. " for number, _ in chosen) + self.filling * 40
        citations = tuple(Citation(n, p.document_id, p.start, p.end, p.text) for n, p in chosen)
        return Completion(self.tokenizer.truncate(text, room), citations=citations)


@given(
    st.lists(_words, min_size=1, max_size=30).map("".join).filter(lambda text: any(map(str.isalnum, text))),
    st.lists(_words, min_size=1, max_size=60).map("".join), st.integers(40, 1200), st.integers(40, 500),
    st.none() | st.sampled_from(["direct", "context", "chain", "clustered"]), st.integers(0, 20),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_whatever_the_lengths_every_prompt_fits_and_every_citation_is_a_quotation(
    library: carrel.Library, question: str, filling: str, window: int, budget: int, route: Any, cites: int
) -> None:
    generator = Hostile(window, filling, cites)
    texts = {document.id: document.text for document in DOCUMENTS}
    try:
        result = run(router(question, budget=budget, route=route), generator=generator, library=library).result
    except ContextOverflowError:
        notes = 2 * min(256, window // 2) if route in (None, "chain", "clustered") else 0
        bare = Prompt(question, task=NOTES if notes else "")
        assert generator.prompt_tokens(bare) + reply_room(bare, window) + notes > window - 60, "there was room"
        return
    for citation in result.answer.citations:
        assert texts[citation.document_id][citation.start : citation.end] == citation.quote
