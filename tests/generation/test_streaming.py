"""An answer while it is written: text first, then the marks of each finished sentence, in the end what counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import carrel
from carrel.generation import streaming
from carrel.generation.binding import Binder
from carrel.generation.messages import ABSTENTION
from carrel.generation.verification import Verifier
from carrel.reader.verifier import ReaderVerifier
from carrel.testing import FakeGenerator
from carrel.types import (
    Citation,
    CitationsEvent,
    Completion,
    Event,
    MarksEvent,
    SourcesEvent,
    TextEvent,
    UsageEvent,
)

PIER = "The pier was built in 1894 by the harbour company. It is ninety metres long."
QUESTION = "When was the pier built?"
TEXT = "It was built in 1894 [1]. It is made of gold [1]. It is ninety metres long [1]."
MODES = ["fast", "balanced"]


@pytest.fixture
def library(tmp_path: Path) -> Iterator[carrel.Library]:
    with carrel.open(tmp_path / "library") as library:
        library.add_text(PIER, id="pier")
        yield library


def marks_of(events: list[Event]) -> list[MarksEvent]:
    return [event for event in events if isinstance(event, MarksEvent)]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextEvent))


@pytest.mark.parametrize("mode", MODES)
def test_each_sentence_is_bound_when_the_next_has_begun(library, mode: str) -> None:
    events = list(library.stream(QUESTION, generator=FakeGenerator(TEXT), mode=mode))
    first, second = marks_of(events)
    assert (TEXT[first.start : first.end], TEXT[second.start : second.end]) == (
        "It was built in 1894 [1].",
        "It is made of gold [1].",
    )
    assert [c.quote for c in first.citations] == ["The pier was built in 1894 by the harbour company."]
    assert (first.unsupported, second.citations) == ((), ())
    assert [(m.number, m.start, m.end) for m in second.unsupported] == [(1, second.start, second.end)]
    assert text_of(events[: events.index(first)]) == "It was built in 1894 [1]. It is made of"
    answer, last = library.ask(QUESTION, generator=FakeGenerator(TEXT), mode=mode), events[-2]
    assert text_of(events) == answer.text == TEXT
    assert last == CitationsEvent(answer.citations, (), answer.unsupported)
    assert len(last.citations) == 2 and last.unsupported == second.unsupported
    assert isinstance(events[0], SourcesEvent) and isinstance(events[-1], UsageEvent)


@pytest.mark.parametrize(("mode", "verifier"), [("fast", "RuleVerifier"), ("balanced", "ReaderVerifier")])
def test_who_judges_depends_on_the_mode(library, monkeypatch: pytest.MonkeyPatch, mode: str, verifier: str) -> None:
    made: list[Verifier] = []
    original = Binder.__init__

    def init(self, passages, question, verifier) -> None:
        made.append(verifier)
        original(self, passages, question, verifier)

    monkeypatch.setattr(Binder, "__init__", init)
    list(library.stream(QUESTION, generator=FakeGenerator(TEXT), mode=mode))
    assert [type(verifier).__name__ for verifier in made] == [verifier]  # one for the whole stream


def test_a_piece_of_text_comes_before_anything_is_judged(library, monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[str] = []
    original = Binder.add
    monkeypatch.setattr(Binder, "add", lambda self, piece: added.append(piece) or original(self, piece))
    come: list[str] = []
    for event in library.stream(QUESTION, generator=FakeGenerator(TEXT), mode="fast"):
        if isinstance(event, TextEvent):
            come.append(event.text)
            assert "".join(added) == ("".join(come[:-1]) if "[" in "".join(come[:-1]) else "")
    assert "".join(added) == TEXT


@pytest.mark.parametrize(
    "reply",
    [
        "It was built in 1894. It is ninety metres long. It is made of oak.",
        Completion(TEXT, citations=(Citation(1, "pier", 0, 50, PIER[:50]),)),
        Completion(ABSTENTION, finish_reason="abstained"),
    ],
)
def test_nothing_is_bound_where_there_is_nothing_to_bind(library, monkeypatch: pytest.MonkeyPatch, reply) -> None:
    made: list[object] = []
    original = Binder.__init__

    def init(self, *arguments) -> None:
        made.append(self)
        original(self, *arguments)

    monkeypatch.setattr(Binder, "__init__", init)
    events = list(library.stream(QUESTION, generator=FakeGenerator(reply), mode="fast"))
    given = reply.citations if isinstance(reply, Completion) else ()
    assert not made and not marks_of(events)
    assert events[-2] == CitationsEvent(given)
    assert events[-1].finish_reason == (reply.finish_reason if isinstance(reply, Completion) else "stop")


def test_an_abstention_has_no_marks_in_the_end(library) -> None:
    reply = Completion(TEXT, finish_reason="abstained")
    events = list(library.stream(QUESTION, generator=FakeGenerator(reply), mode="fast"))
    assert events[-2] == CitationsEvent(())


@pytest.mark.parametrize("mode", MODES)
def test_the_built_in_answerers_cite_themselves(library, mode: str) -> None:
    events = list(library.stream(QUESTION, mode=mode))
    assert not marks_of(events) and events[-2].citations


@pytest.mark.parametrize("broken", ["make_binder", "judge"])
def test_an_error_of_early_binding_does_not_end_the_stream(
    library, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    calls = []

    def fail_once(original):
        def call(*arguments):
            calls.append(broken)
            if len(calls) == 1:
                raise RuntimeError("the reader is gone")
            return original(*arguments)

        return call

    if broken == "judge":
        monkeypatch.setattr(ReaderVerifier, "judge", fail_once(ReaderVerifier.judge))
    else:
        monkeypatch.setattr(streaming, "make_binder", fail_once(streaming.make_binder))
    events = list(library.stream(QUESTION, generator=FakeGenerator(TEXT), mode="balanced"))
    assert calls and not marks_of(events)
    answer = library.ask(QUESTION, generator=FakeGenerator(TEXT), mode="balanced")
    assert text_of(events) == TEXT
    assert events[-2] == CitationsEvent(answer.citations, (), answer.unsupported)


def test_a_citation_of_a_document_that_is_gone_is_not_passed_on(library) -> None:
    events = []
    for event in library.stream(QUESTION, generator=FakeGenerator(TEXT), mode="fast"):
        if isinstance(event, SourcesEvent):
            library.remove("pier")
        events.append(event)
    first, second = marks_of(events)
    assert first.citations == events[-2].citations == ()
    assert second.unsupported == events[-2].unsupported != ()


def test_a_stream_can_be_left_between_sentences(library) -> None:
    stream = library.stream(QUESTION, generator=FakeGenerator(TEXT), mode="fast")
    assert any(isinstance(event, MarksEvent) for event in stream)
    stream.close()
    assert list(stream) == []


async def test_the_async_stream_has_them_too(library) -> None:
    events = [event async for event in library.astream(QUESTION, generator=FakeGenerator(TEXT), mode="fast")]
    assert marks_of(events) == marks_of(list(library.stream(QUESTION, generator=FakeGenerator(TEXT), mode="fast")))
    assert len(marks_of(events)) == 2


def test_marks_of_another_style_are_bound_too(library) -> None:
    text = TEXT.replace("[1]", "【1†pier】")
    events = list(library.stream(QUESTION, generator=FakeGenerator(text), mode="fast"))
    assert len(marks_of(events)) == 2
    assert len(events[-2].citations) == 2 and len(events[-2].unsupported) == 1
    assert library.ask(QUESTION, generator=FakeGenerator(text), mode="fast").citations == events[-2].citations
