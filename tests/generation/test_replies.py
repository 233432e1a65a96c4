"""Whatever a generator of one's own returns or raises, an application meets a reply or a GenerationError."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import carrel
from carrel.errors import BudgetError, GenerationError
from carrel.generation import replies
from carrel.generation.base import Generator
from carrel.generation.rendering import render_prompt
from carrel.testing import GeneratorConformance, HashEncoder, WordTokenizer
from carrel.types import (
    Citation,
    CitationsEvent,
    Completion,
    Ledger,
    MarksEvent,
    Passage,
    Prompt,
    ShortAnswer,
    TextEvent,
    Usage,
    UsageEvent,
)

PROMPT = Prompt("When does it leave?", (Passage("ferry", 0, 11, "It is nine."),), system="Be brief.")


class Told(Generator):
    """Returns or raises what it is told to, and streams it."""

    name = "told"

    def __init__(self, reply: object, events: object = None) -> None:
        self.reply, self.events = reply, events

    @property
    def tokenizer(self) -> WordTokenizer:
        return WordTokenizer()

    def complete(self, prompt: Prompt) -> Completion:
        if isinstance(self.reply, BaseException):
            raise self.reply
        return self.reply  # type: ignore[return-value]

    def stream(self, prompt: Prompt):
        return super().stream(prompt) if self.events is None else self.events


class TestUncounted(GeneratorConformance):
    """A generator that gives no more than its text holds to the contract."""

    def make(self) -> Told:
        return Told(Completion("At nine."))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[carrel.Library]:
    """One document."""
    with carrel.open(tmp_path_factory.mktemp("replies"), encoder=HashEncoder()) as library:
        library.add_text("The ferry leaves at nine.", id="ferry")
        yield library


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        ("At nine.", "'At nine.'"),
        (None, "None"),
        (Completion(None), "None"),
        (Completion(b"At nine."), "b'At nine.'"),
        (Completion("", usage=None), "None"),
        (Completion("", Usage(-1, 2)), "Usage"),
        (Completion("", Usage(1.5, 2)), "Usage"),
        (Completion("", finish_reason="done"), "'done'"),
        (Completion("", finish_reason=[]), "[]"),
        (Completion("", citations=("ferry",)), "('ferry',)"),
        (Completion("", citations=None), "None"),
        (Completion("", confidence=2), "2"),
        (Completion("", confidence=float("nan")), "nan"),
        (Completion("", confidence="high"), "'high'"),
        (Completion("", model=None), "None"),
        (Completion("", logprobs=None), "None"),
        (Completion("", metrics=[0.5]), "[0.5]"),
    ],
    ids=repr,
)
def test_what_is_no_completion_is_refused(library, reply: object, named: str) -> None:
    with pytest.raises(GenerationError, match="^the generator told returned ") as caught:
        library.ask("ferry?", generator=Told(reply))
    assert named in str(caught.value)
    with pytest.raises(GenerationError, match="^the generator told returned "):
        list(library.stream("ferry?", generator=Told(reply)))


@pytest.mark.parametrize(
    "events",
    ["text", 3, TextEvent("a"), [TextEvent("a"), "b"], [TextEvent(None)], [CitationsEvent(None)], [None]],
    ids=repr,
)
def test_what_is_no_stream_is_refused(library, events: object) -> None:
    with pytest.raises(GenerationError, match=r"^the generator told returned .* from stream\(prompt\)"):
        list(library.stream("ferry?", generator=Told(None, events)))


def _failing(error: BaseException) -> Iterator[TextEvent]:
    yield TextEvent("a")
    raise error


@pytest.mark.parametrize("error", [ValueError("no key"), KeyError("x"), TimeoutError()], ids=repr)
def test_an_error_of_its_own_becomes_a_generation_error(library, error: Exception) -> None:
    said = f"the generator told failed in complete(prompt): {type(error).__name__}"
    with pytest.raises(GenerationError) as caught:
        library.ask("ferry?", generator=Told(error))
    assert str(caught.value).startswith(said) and caught.value.__cause__ is error
    for events in (_failing(error), None):
        with pytest.raises(GenerationError) as caught:
            list(library.stream("ferry?", generator=Told(error, events)))
        assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), BudgetError("b"), GenerationError("g")], ids=repr
)
def test_other_errors_pass(library, error: BaseException) -> None:
    for generator in (Told(error), Told(error, _failing(error))):
        with pytest.raises(type(error)) as caught:
            list(library.stream("ferry?", generator=generator))
        assert caught.value is error
    with pytest.raises(type(error)) as caught:
        library.ask("ferry?", generator=Told(error))
    assert caught.value is error


def test_an_error_of_the_reader_is_not_the_generators() -> None:
    events = iter(replies.stream(Told(None, iter([TextEvent("a"), TextEvent("b")])), PROMPT))
    next(events)
    with pytest.raises(ValueError, match="mine"):
        events.throw(ValueError("mine"))  # type: ignore[attr-defined]


def test_who_stops_reading_stops_the_generator() -> None:
    closed = []

    def endless() -> Iterator[TextEvent]:
        try:
            while True:
                yield TextEvent("a")
        finally:
            closed.append(True)

    events = replies.stream(Told(None, endless()), PROMPT)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_what_is_missing_is_filled_in() -> None:
    count = WordTokenizer().count
    counted = Usage(count(render_prompt(PROMPT)), count("At nine."), 0, "words")
    assert counted.prompt_tokens > 0
    assert replies.complete(Told(Completion("At nine.")), PROMPT) == Completion("At nine.", counted, "stop", "told")
    pieces = [TextEvent("At "), TextEvent("nine.")]
    assert list(replies.stream(Told(None, pieces), PROMPT))[-1] == Completion("At nine.", counted, "stop", "told")


def test_what_is_given_stays() -> None:
    given = Completion("At nine.", Usage(5, 2, 1, "own"), "length", "big", (Citation(1, "d", 0, 1, "I"),), 0.5)
    assert replies.complete(Told(given), PROMPT) == given
    events = [TextEvent("a"), CitationsEvent(given.citations), UsageEvent(given.usage, Ledger("own"), "length")]
    assert list(replies.stream(Told(None, events), PROMPT))[-1] == Completion(
        "a", given.usage, "length", "told", given.citations
    )
    events[-1] = replace(events[-1], model="big", confidence=0.5)
    assert list(replies.stream(Told(None, events), PROMPT))[-1] == replace(given, text="a")


def test_what_ends_a_stream_is_the_rest_of_the_completion() -> None:
    citation = Citation(1, "d", 0, 1, "I")
    answer = ShortAnswer("I", 0, 1, 0.5, citation)
    whole = Completion(
        "a", Usage(5, 2, 1, "own"), "length", "big", (citation,), 0.75, (answer,), (("a", -0.5),), {"decode_s": 0.25}
    )
    events = [TextEvent("a"), *replies.ending(whole)]
    assert [type(event) for event in events[1:]] == [CitationsEvent, UsageEvent]
    assert list(replies.stream(Told(None, events), PROMPT))[-1] == whole
    assert list(replies.stream(Told(whole), PROMPT))[-1] == whole


@pytest.mark.parametrize("confidence", [1.5, -0.1, "sure"])
def test_a_streams_confidence_is_a_probability(confidence: object) -> None:
    event = UsageEvent(Usage(), Ledger("own"), confidence=confidence)  # type: ignore[arg-type]
    with pytest.raises(GenerationError, match="not a number from 0 to 1, or None, as its confidence"):
        list(replies.stream(Told(None, [TextEvent("a"), event]), PROMPT))


def test_a_stream_and_an_answer_name_the_same_model_and_confidence(library) -> None:
    for whole in (Completion("At nine.", model="big", confidence=0.75), Completion("At nine.")):
        answer = library.ask("ferry?", generator=Told(whole))
        *_, end = library.stream("ferry?", generator=Told(whole))
        asked, streamed = (ledger.entries[-1].details for ledger in (answer.ledger, end.ledger))
        assert streamed["generator"] == asked["generator"] == end.model == (whole.model or "told")
        assert streamed["confidence"] == asked["confidence"] == end.confidence == answer.confidence == whole.confidence


def test_a_streams_measurements_are_in_the_ledger_and_the_last_event(library) -> None:
    whole = Completion("At nine.", Usage(5, 2, 0, "own"), logprobs=(("At", -0.5),), metrics={"decode_s": 0.25})
    asked = library.ask("ferry?", generator=Told(whole)).ledger.entries[-1]
    *_, end = library.stream("ferry?", generator=Told(whole))
    assert end.ledger.entries[-1].details["decode_s"] == asked.details["decode_s"] == 0.25
    assert (end.logprobs, end.metrics) == (whole.logprobs, whole.metrics)


@pytest.mark.parametrize(
    ("error", "most", "said"),
    [
        (ValueError(" no\n  key "), None, "ValueError: no\n  key"),
        (ValueError(" no\n  key "), 4, "ValueError: no k"),
        (TimeoutError(), None, "TimeoutError"),
        (TimeoutError(" "), 9, "TimeoutError"),
    ],
)
def test_an_error_in_a_few_words(error: Exception, most: int | None, said: str) -> None:
    assert replies.reason_of(error, most) == said


def test_the_ledger_names_the_generator_and_its_tokens(library) -> None:
    answer = library.ask("ferry?", generator=Told(Completion("At nine.")))
    last = answer.ledger.entries[-1]
    assert last.details["generator"] == "told"
    assert (last.tokens_in, last.tokens_out) == (answer.usage.prompt_tokens, 3)
    *_, end = library.stream("ferry?", generator=Told(None, [TextEvent("At nine.")]))
    assert end.usage == answer.usage


def test_a_stream_of_another_library_may_be_passed_on() -> None:
    told = Told(None, [TextEvent("At nine [1]. It"), MarksEvent(0, 12, ()), TextEvent(" is late.")])
    *texts, whole = replies.stream(told, PROMPT)
    assert [text.text for text in texts] == ["At nine [1]. It", " is late."]
    assert isinstance(whole, Completion) and whole.text == "At nine [1]. It is late."
