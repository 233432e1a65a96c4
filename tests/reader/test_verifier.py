"""The reader over the rules: the shipped model on real texts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from carrel.generation.verification import Verifier, verify
from carrel.reader.methods import Reader
from carrel.reader.verifier import LIMIT, Contest, ReaderVerifier, odds
from carrel.testing.verifiers import VerifierConformance
from carrel.types import Passage, Span

PIER = (
    "The north pier was designed by Edith Hale and built by Thomas Wren. The lamp at its end was paid for by the widow"
    " of Captain Rudd, who drowned near it."
)
QUESTION = "Who designed the north pier?"


READER = Reader()  # it reads a passage once for each question


@pytest.fixture
def reader() -> Reader:
    return READER


class TestReaderVerifier(VerifierConformance):
    def make(self) -> Verifier:
        return ReaderVerifier(READER)


def passage(text: str = PIER, **more) -> Passage:
    return Passage("pier", 100, 100 + len(text), text, **more)


def test_the_reader_has_its_say_on_short_answers(reader) -> None:
    verifier = ReaderVerifier(reader)
    right = verify("Edith Hale", [passage()], question=QUESTION, verifier=verifier)
    assert right.supported
    wrong = verify("Captain Rudd", [passage()], question=QUESTION, verifier=verifier)
    assert not wrong.supported
    assert "Hale" in wrong.unsupported[0].problems[0]


def test_sentences_that_do_not_answer_are_left_to_the_rules(reader) -> None:
    answer = "It was designed by Edith Hale. Captain Rudd drowned near the lamp, whose end was paid for by his widow."
    assert verify(answer, [passage()], question=QUESTION, verifier=ReaderVerifier(reader)).supported


def test_without_a_question_the_rules_decide(reader) -> None:
    assert verify("Captain Rudd", [passage()], verifier=ReaderVerifier(reader)).supported


def test_what_was_pruned_is_no_other_answer(reader) -> None:
    lamp = PIER.index("The lamp")
    pruned = passage(kept=(Span(100 + lamp, 100 + len(PIER)),))
    found = verify("Captain Rudd", [pruned], question=QUESTION, verifier=ReaderVerifier(reader))
    assert all("Hale" not in problem for verdict in found.sentences for problem in verdict.problems)


def test_the_default_is_the_reader_over_the_rules() -> None:
    assert verify("Edith Hale", [passage()], question=QUESTION).verifier == "reader"


@pytest.mark.parametrize(("own", "rival"), [(9.0, -9.0), (0.0, 20.0)])
def test_a_better_other_answer_raises_the_odds_against(own: float, rival: float) -> None:
    """Where a name fits a little worse than another would, the reader decides."""
    case: Any = SimpleNamespace(fits=(SimpleNamespace(token=SimpleNamespace(kind="name"), worse_by=1.0),))
    contest = Contest(own, rival, "x")
    assert (odds(case, contest) > LIMIT) == (rival > own)
    assert -6 <= contest.margin <= 12
