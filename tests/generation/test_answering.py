"""What is around a generator: its window, and what of its reply is shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import carrel
from carrel.errors import BudgetError, ContextOverflowError, EmptyQuestionError, InputError
from carrel.generation.answering import MOST_REPLY_TOKENS, check_generator
from carrel.generation.base import Generator
from carrel.testing import HashEncoder, WordTokenizer
from carrel.types import Citation, CitationsEvent, Completion, Document, Prompt, TextEvent, Usage, UsageEvent

FERRY = "The ferry leaves the north pier at nine. It comes back at six."
QUESTION = "When does the ferry leave the north pier?"
ASKED = 9  # tokens of the question


class Windowed(Generator):
    """Says what it is told to, and keeps its prompts."""

    name = "windowed"

    def __init__(self, window: int | None = None, text: str = "At nine.", citations: tuple[Citation, ...] = ()) -> None:
        self.context_window, self.text, self.citations = window, text, citations
        self.prompts: list[Prompt] = []

    @property
    def tokenizer(self) -> WordTokenizer:
        return WordTokenizer()

    def complete(self, prompt: Prompt) -> Completion:
        self.prompts.append(prompt)
        return Completion(self.text, Usage(7, 2, 0, "words"), "stop", self.name, self.citations)

    def __len__(self) -> int:
        return 0  # a generator that is false is one, too


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[carrel.Library]:
    """A ferry on two pages, and forty boats."""
    with carrel.open(tmp_path_factory.mktemp("answering"), encoder=HashEncoder(256)) as library:
        boats = [Document(f"Boat {n} of the pier has {n * 7} ropes and {n * 3} lamps.", f"boat-{n}") for n in range(40)]
        library.add([Document(FERRY, "ferry", "Ferry", pages=(0, 41)), *boats])
        yield library


# -- what is a generator ------------------------------------------------------------------------


class Lookalike:
    name = "lookalike"

    def complete(self, prompt: Prompt) -> Completion:
        return Completion("No.")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (Lookalike(), "a Lookalike"),
        ("gpt", "a str"),
        (Windowed, "the class Windowed itself"),
        (0, "a int"),
        ({}, "a dict"),
    ],
)
def test_what_is_no_generator_is_refused(library, given: object, named: str) -> None:
    message = rf"derived from carrel\.generation\.base\.Generator, with a name, a tokenizer and complete.*not {named}$"
    with pytest.raises(InputError, match=message):
        check_generator(given)
    with pytest.raises(InputError, match=message):
        library.ask(QUESTION, generator=given)
    with pytest.raises(InputError, match=message):
        next(library.stream(QUESTION, generator=given))


def test_a_generator_is_used_though_it_is_false(library) -> None:
    assert library.ask(QUESTION, generator=Windowed()).text == "At nine."


# -- windows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [30, 60, 100, 200, 700, 3000])
@pytest.mark.parametrize("budget", [20, 300, 1000])
def test_a_context_leaves_room_in_the_window(library, window: int, budget: int) -> None:
    generator = Windowed(window)
    reply = min(MOST_REPLY_TOKENS, window // 4)
    try:
        answer = library.ask(QUESTION, budget=budget, generator=generator)
    except ContextOverflowError:
        assert window - ASKED - reply < 15
        assert not generator.prompts
        return
    assert answer.context.budget == min(budget, window - ASKED - reply)
    assert answer.context.tokens + ASKED + reply <= window
    told = f"the window left {answer.context.budget:,} of {budget:,} tokens for the context"
    assert (told in answer.ledger.entries[-1].reason) == (answer.context.budget < budget)


def test_no_window_and_a_large_one_change_nothing(library) -> None:
    contexts = [library.ask(QUESTION, generator=Windowed(window)).context for window in (None, 10**6)]
    assert contexts[0].text == contexts[1].text
    assert contexts[0].budget == contexts[1].budget == 1000


@pytest.mark.parametrize("window", [1, 5, 12, 20])
def test_a_window_that_holds_no_sentence_is_an_overflow(library, window: int) -> None:
    generator = Windowed(window)
    with pytest.raises(ContextOverflowError, match=rf"windowed reads {window} tokens \(counted by words\)"):
        library.ask(QUESTION, generator=generator)
    with pytest.raises(ContextOverflowError, match=f"The question has {ASKED}, {window // 4} are kept for the reply"):
        list(library.stream(QUESTION, generator=generator))
    assert not generator.prompts


@pytest.mark.parametrize("window", [0, -4, True, "4096", 0.5, float("inf")])
def test_a_window_that_is_no_number_of_tokens_is_refused(library, window) -> None:
    for call in (library.ask, lambda *given, **more: list(library.stream(*given, **more))):
        with pytest.raises(InputError, match=f"above 0, or None where any prompt fits, not {window!r} as windowed"):
            call(QUESTION, generator=Windowed(window))


def test_what_is_senseless_is_refused_before_windows(library) -> None:
    with pytest.raises(BudgetError, match="a budget is a number of tokens"):
        library.ask(QUESTION, budget=0, generator=Windowed(5))
    with pytest.raises(EmptyQuestionError):
        library.ask(" ?", generator=Windowed(5))


def test_a_budget_of_ones_own_that_is_too_small_is_no_overflow(library) -> None:
    with pytest.raises(BudgetError, match="a budget of 3 tokens"):
        library.ask(QUESTION, budget=3, generator=Windowed(500))


# -- what is shown ------------------------------------------------------------------------------


def test_marks_and_citations_that_lead_nowhere_are_dropped_and_told(library) -> None:
    second = FERRY.index("It comes")
    true = Citation(1, "ferry", second, len(FERRY), FERRY[second:], page=1)
    false = Citation(2, "ferry", 0, 3, "Tha")
    generator = Windowed(text="At nine [99]. It comes back at six. [1] And so they do [2].", citations=(true, false))
    answer = library.ask(QUESTION, generator=generator)
    assert answer.text == "At nine. It comes back at six. [1] And so they do."
    assert [(citation.number, citation.page) for citation in answer.citations] == [(1, 2)]
    entry = answer.ledger.entries[-1]
    assert entry.reason == (
        "1 citation verified; 1 citation dropped, not in the source as quoted; 2 marks without a source removed from"
        " the text"
    )
    assert (entry.details["citations_dropped"], entry.details["marks_without_source"]) == (1, 2)


def test_a_stream_says_that_marks_stayed(library) -> None:
    events = list(library.stream(QUESTION, generator=Windowed(text="At nine [99].")))
    assert events[1] == TextEvent("At nine [99].")
    assert events[-2] == CitationsEvent(())
    assert isinstance(events[-1], UsageEvent)
    assert events[-1].ledger.entries[-1].reason == "0 citations verified; 1 mark without a source left in the text"


def test_a_mark_in_doubt_stays_and_is_told(library) -> None:
    answer = library.ask(QUESTION, generator=Windowed(text="It lies in [200, 900]. At nine [99]."))
    assert answer.text == "It lies in [200, 900]. At nine."
    told = "0 citations verified; 1 mark without a source removed from the text; 2 marks without a source left in the"
    assert answer.ledger.entries[-1].reason == f"{told} text"
