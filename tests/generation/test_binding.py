"""Marks that a generator wrote, bound to the sentences they rest on, or reported."""

from __future__ import annotations

from pathlib import Path

import pytest

import carrel
from carrel.generation.binding import bind
from carrel.generation.rules import RuleVerifier
from carrel.reader.verifier import ReaderVerifier
from carrel.testing import FakeGenerator
from carrel.types import CitationsEvent, Passage, UsageEvent

PIER = "The pier was built in 1894 by the harbour company. It is ninety metres long."
FERRY = "The ferry leaves at nine in the morning. The last ferry returns at eighteen."
PASSAGES = (
    Passage("pier", 0, len(PIER), PIER, title="Pier"),
    Passage("ferry", 100, 100 + len(FERRY), FERRY, title="Ferry"),
)
VERIFIERS = [RuleVerifier(), ReaderVerifier()]


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_a_mark_leads_to_the_sentence_that_bears_it_out(verifier) -> None:
    text = "The pier was built in 1894 [1]. The last ferry returns at eighteen [2]."
    bound = bind(text, PASSAGES, None, verifier)
    assert [(c.number, c.document_id, c.quote) for c in bound.citations] == [
        (1, "pier", "The pier was built in 1894 by the harbour company."),
        (2, "ferry", "The last ferry returns at eighteen."),
    ]
    assert [c.start for c in bound.citations] == [0, 100 + FERRY.index("The last")]
    assert bound.unsupported == ()


@pytest.mark.parametrize("verifier", VERIFIERS)
@pytest.mark.parametrize(
    ("sentence", "number"),
    [
        ("The pier was built in 1984 [1].", 1),  # another number
        ("The ferry leaves at nine in the morning [1].", 1),  # another passage says so
        ("The pier was built by Ada Falk [1].", 1),
    ],
)
def test_a_mark_that_its_passage_does_not_bear_out_is_reported(verifier, sentence: str, number: int) -> None:
    text = f"The pier is ninety metres long [1]. {sentence}"
    bound = bind(text, PASSAGES, None, verifier)
    assert [c.quote for c in bound.citations] == ["It is ninety metres long."]
    [mark] = bound.unsupported
    assert (mark.number, text[mark.start : mark.end]) == (number, mark.sentence)
    assert mark.sentence.startswith(sentence[:20])


def test_each_of_two_marks_is_judged_alone_and_then_together() -> None:
    one = bind("The pier was built in 1894 [1][2].", PASSAGES, None, RuleVerifier())
    assert [c.number for c in one.citations] == [1] and [mark.number for mark in one.unsupported] == [2]
    both = bind("The pier was built in 1894 and the ferry leaves at nine [1][2].", PASSAGES, None, RuleVerifier())
    assert {c.number for c in both.citations} == {1, 2} and both.unsupported == ()


@pytest.mark.parametrize("text", ["", "No marks at all.", "Is it old [1]?", "Nothing [7].", "I do not know [1]."])
def test_nothing_to_bind(text: str) -> None:
    bound = bind(text, PASSAGES, None, RuleVerifier())
    assert bound.citations == () and bound.unsupported == ()


@pytest.mark.parametrize("mode", ["fast", "balanced"])
def test_a_library_cites_for_a_generator_that_writes(tmp_path: Path, mode: str) -> None:
    text = "It was built in 1894 [1]. It is made of gold [1]."
    with carrel.open(tmp_path / "library", mode=mode) as library:
        library.add_text(PIER, id="pier")
        answer = library.ask("When was the pier built?", generator=FakeGenerator(text))
        events = list(library.stream("When was the pier built?", generator=FakeGenerator(text)))
    assert answer.text == text  # reported, not patched
    assert [c.quote for c in answer.citations] == ["The pier was built in 1894 by the harbour company."]
    assert [mark.sentence.split(" [")[0] for mark in answer.unsupported] == ["It is made of gold"]
    assert "1 mark that the passage does not support" in answer.ledger.entries[-1].reason
    [cited] = [event for event in events if isinstance(event, CitationsEvent)]
    assert (cited.citations, cited.unsupported) == (answer.citations, answer.unsupported)
    assert isinstance(events[-1], UsageEvent)
