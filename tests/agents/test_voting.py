"""Which of several answers stands, branch by branch."""

from __future__ import annotations

from typing import Any

import pytest

from carrel.agents import Flow, run
from carrel.agents.fitting import reply_room
from carrel.agents.replying import Written
from carrel.agents.voting import voted
from carrel.errors import ContextOverflowError, RefusalError
from carrel.generation.citations import cite
from carrel.testing import FakeGenerator
from carrel.types import Completion, Passage

TEXT = "The ferry leaves at nine. The pier has seven lamps."
PASSAGE = Passage("d", 0, len(TEXT), TEXT)
NINE = Written("At nine [1].", (cite(PASSAGE, 1, 0, 25),), (PASSAGE,))
TEN = Written("At ten.", (), (PASSAGE,))
BLANK, ABSTAINED = Written("  "), Written("Not said.", abstained=True)


def vote(answers: list[Written], generator: FakeGenerator) -> tuple[int, str]:
    return run(Flow("test", {}, lambda: voted("when?", answers)), generator=generator, mode="fast").result  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("answers", "place"),
    [
        ([TEN], 0), ([ABSTAINED, TEN], 1), ([BLANK, NINE], 1), ([ABSTAINED, BLANK], 0),
        ([NINE, Written("at NINE")], 0), ([ABSTAINED, NINE, Written("At nine.")], 1),
    ],
)  # fmt: skip
def test_where_there_is_one_nobody_is_asked(answers: list[Written], place: int) -> None:
    generator = FakeGenerator("2")
    assert vote(answers, generator) == (place, "") and generator.prompts == []


def test_numbers_are_those_of_the_candidates_alone() -> None:
    generator = FakeGenerator("2")
    assert vote([ABSTAINED, TEN, NINE], generator) == (2, "")
    (prompt,) = generator.prompts
    assert prompt.notes == ("Answer 1: At ten.", "Answer 2: At nine [1].")
    assert [passage.text for passage in prompt.passages] == ["The ferry leaves at nine."]


@pytest.mark.parametrize(
    "reply", ["3", Completion("No.", finish_reason="refused"), RefusalError("no"), ContextOverflowError("no")]
)
def test_without_a_choice_the_most_citations_win(reply: Any) -> None:
    assert vote([TEN, NINE], FakeGenerator(reply))[0] == 1
    place, why = vote([TEN, Written("At six.")], FakeGenerator(reply))
    assert place == 0 and "that with the most citations stands: " in why


@pytest.mark.parametrize("window", [40, 130, 200, 400])
def test_long_answers_are_cut_to_the_window(window: int) -> None:
    generator = FakeGenerator("2", context_window=window)
    place, why = vote([Written("nine " * 300), Written("ten " * 300)], generator)
    assert (place, bool(why)) == ((0, True) if window == 40 else (1, False))
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, window) <= window
        assert len(prompt.notes) == 2
