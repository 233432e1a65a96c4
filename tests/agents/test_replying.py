"""What flows do with replies: marks bound, numbers that stay right, and one more try where the form is wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import Steps, flow, run
from carrel.agents.replying import (
    Note,
    Written,
    ask_as,
    ask_in_form,
    gathered,
    note_of,
    quoted,
    read_number,
    renumbered,
    take_note,
    with_evidence,
    words,
    write,
    write_with_sign,
)
from carrel.errors import RefusalError, ReplyFormatError
from carrel.testing import FakeGenerator
from carrel.types import Citation, Completion, Passage, Prompt, Span, TextEvent, Usage

TEXT = "The ferry leaves at nine. The pier has seven lamps. Gulls nest on the roof."
FERRY = Passage("d", 100, 100 + len(TEXT), TEXT, "Harbour", prefix="Harbour > Ferries", kept=(Span(100, 125),))
OTHER = Passage("e", 0, 24, "The crane is painted red")


@flow()
def _of(call: Any, *arguments: Any, **keywords: Any) -> Steps[Any]:
    return (yield from call(*arguments, **keywords))


def _run(said: Any, call: Any, *arguments: Any, **keywords: Any) -> Any:
    generator = said if isinstance(said, FakeGenerator) else FakeGenerator(said)
    return run(_of(call, *arguments, **keywords), generator=generator, mode="fast").result


def _citation(number: int, start: int, quote: str, document: str = "d") -> Citation:
    return Citation(number, document, start, start + len(quote), quote)


# -- writing ---------------------------------------------------------------------------------------

PROMPT = Prompt("When does the ferry leave?", (replace(FERRY, kept=None), OTHER))


def test_marks_are_bound_and_those_that_lead_nowhere_reported() -> None:
    written = _run("The ferry leaves at nine [1]. The mayor resigned in 1931 [2].", write, PROMPT)
    (citation,) = written.citations
    assert (citation.number, citation.start, citation.quote) == (1, 100, "The ferry leaves at nine.")
    assert [mark.number for mark in written.unsupported] == [2] and "[2]" in written.text
    assert written.passages == PROMPT.passages and not written.abstained


def test_a_text_without_marks_needs_no_binding() -> None:
    done = run(_of(write, PROMPT), generator=FakeGenerator("At nine."))
    assert replace(done.result, prompt_tokens=0) == Written("At nine.", (), PROMPT.passages)
    assert [node.kind for node in done.trace.walk()] == ["flow", "ask"]


def test_a_refusal_is_an_error() -> None:
    with pytest.raises(RefusalError, match=r"declined to reply to 'When does the ferry leave\?': I cannot"):
        _run(Completion("I cannot.", finish_reason="refused"), write, PROMPT)


def test_who_abstains_cites_nothing() -> None:
    good = _citation(1, 100, "The ferry leaves at nine.")
    written = _run(Completion("Not said.", finish_reason="abstained", citations=(good,), confidence=0.2), write, PROMPT)
    assert written.abstained and written.citations == () and written.confidence == 0.2


def test_a_generators_own_citations_are_quotations_or_dropped() -> None:
    good = [_citation(1, 100, "The ferry leaves at nine."), _citation(2, 0, "The crane", "e")]
    bad = [
        _citation(3, 0, "The crane", "e"), _citation(0, 0, "The crane", "e"), _citation(-1, 0, "The crane", "e"),
        _citation(1, 100, "The ferry leaves at ten."), _citation(1, 0, "The crane", "e"), _citation(2, -3, "red", "e"),
        _citation(1, 100, ""), _citation(1, 900, ""), _citation(1, 101, "The ferry leaves at nine."),
        replace(good[0], end=126),
    ]  # fmt: skip
    written = _run(Completion("So [1][2].", citations=(*bad, *good)), write, PROMPT)
    assert written.citations == tuple(good)


def test_a_text_is_streamed_where_that_is_wanted() -> None:
    seen: list[Any] = []
    run(_of(write, PROMPT, stream=True), generator=FakeGenerator("At nine."), watch=seen.append)
    assert [each.event for each in seen if each.event] == [TextEvent("At"), TextEvent(" nine.")]


@pytest.mark.parametrize(
    ("said", "signed", "text"),
    [
        ("ENOUGH\nAll is said.", True, "All is said."),
        (" enough: \nAll.", True, "All."),
        ("ENOUGH", True, ""),
        ("Enough is said.\nAll.", False, "Enough is said.\nAll."),
        ("All.\nENOUGH", False, "All.\nENOUGH"),
    ],
)
def test_a_first_line_may_be_a_sign(said: str, signed: bool, text: str) -> None:
    found, written = _run(said, write_with_sign, PROMPT, "ENOUGH")
    assert (found, written.text) == (signed, text)


def test_a_sign_does_not_spoil_the_sentence_after_it() -> None:
    _, written = _run("ENOUGH\nThe ferry leaves at nine [1].", write_with_sign, PROMPT, "ENOUGH")
    assert [citation.quote for citation in written.citations] == ["The ferry leaves at nine."]


# -- notes -----------------------------------------------------------------------------------------


def test_a_note_has_its_quotations_as_evidence() -> None:
    prompt = Prompt("q", (OTHER, replace(FERRY, kept=None)))
    note = _run("The ferry leaves at nine [2]. Nothing else. The crane is painted red [1].", take_note, prompt)
    assert note.text == "The ferry leaves at nine [1]. Nothing else. The crane is painted red [2]."
    assert [passage.text for passage in note.evidence] == ["The ferry leaves at nine.", "The crane is painted red"]
    ferry = note.evidence[0]
    assert (ferry.start, ferry.end, ferry.title, ferry.prefix, ferry.kept) == (100, 125, "Harbour", FERRY.prefix, None)


def test_one_mark_may_become_several_and_several_one() -> None:
    one, two = _citation(1, 100, "The ferry leaves at nine."), _citation(1, 126, "The pier has seven lamps.")
    again = replace(one, number=2)
    written = Written("Both [1]. The first [2].", (one, two, again), (FERRY, FERRY))
    assert note_of(written).text == "Both [1][2]. The first [1]." and len(note_of(written).evidence) == 2


def test_marks_without_a_citation_leave_the_text() -> None:
    written = Written("So the ferry goes [1]. An [2] stays in doubt. So it goes [3].", (), (FERRY,) * 3)
    assert note_of(written).text == "So the ferry goes. An [2] stays in doubt. So it goes."
    assert note_of(Written("Not said [1].", abstained=True)) == Note()


@pytest.mark.parametrize(
    ("text", "numbers", "expected"),
    [
        ("It is so [1].", {1: [2]}, "It is so [2]."),
        ("It is so [1][2].", {1: [2], 2: [1]}, "It is so [2][1]."),
        ("It is so [1, 2].", {1: [4], 2: [3]}, "It is so [3][4]."),
        ("It is so [1].", {}, "It is so."),
        ("It is so [1][2].", {2: [1]}, "It is so[1]."),
        ("lies in [2, 3] of a line", {1: [9]}, "lies in [2, 3] of a line"),
        ("`a[1]` is code [1].", {1: [2]}, "`a[1]` is code [2]."),
        ("", {1: [2]}, ""),
    ],
)
def test_renumbered(text: str, numbers: dict[int, list[int]], expected: str) -> None:
    assert renumbered(text, numbers).replace(" [", "[") == expected.replace(" [", "[")


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=5))
def test_gathered_notes_point_to_what_they_pointed_to(notes: list[list[int]]) -> None:
    passages = [Passage("d", 10 * place, 10 * place + 4, f"fact{place}"[:4]) for place in range(6)]
    given_ = []
    for places in notes:
        evidence = tuple(passages[place] for place in dict.fromkeys(places))
        given_.append(Note(" ".join(f"Fact{p.start} [{n}]." for n, p in enumerate(evidence, start=1)), evidence))
    texts, evidence = gathered(given_)
    assert len(texts) == sum(bool(note.evidence) for note in given_)
    assert len({passage.start for passage in evidence}) == len(evidence)
    for start, number in re.findall(r"Fact(\d+) \[(\d+)\]", " ".join(texts)):
        assert evidence[int(number) - 1].start == int(start)
    assert sum(len(note.evidence) for note in given_) == len(re.findall(r"\[\d+\]", " ".join(texts)))


def test_words_are_what_is_said() -> None:
    assert words("The ferry, at NINE! [1][2]") == words("the ferry at nine") == "the ferry at nine"


def test_quoted_keeps_title_and_heading() -> None:
    made = quoted(_citation(1, 126, "The pier has seven lamps."), [FERRY])
    assert (made.text, made.start, made.prefix, made.kept) == ("The pier has seven lamps.", 126, FERRY.prefix, None)


# -- in a window -----------------------------------------------------------------------------------


def _note(count: int) -> Note:
    evidence = tuple(Passage("d", 50 * n, 50 * n + 30, f"Evidence number {n:02} is this one.") for n in range(count))
    return Note(" ".join(f"Fact {n} [{n + 1}]." for n in range(count)), evidence)


def test_less_evidence_takes_its_marks_along() -> None:
    assert with_evidence(_note(3), 2) == Note("Fact 0 [1]. Fact 1 [2]. Fact 2.", _note(3).evidence[:2])
    assert with_evidence(_note(3), 3) == _note(3) == with_evidence(_note(3), 9)
    assert with_evidence(_note(2), 0).text == "Fact 0. Fact 1."


# -- a reply of a certain form ---------------------------------------------------------------------


def _number(text: str) -> int:
    return read_number(3)(text)


def test_a_reply_of_the_right_form_is_read() -> None:
    generator = FakeGenerator("It is 2.")
    assert _run(generator, ask_in_form, PROMPT, _number, example="1") == 2
    assert generator.prompts == [PROMPT]


def test_one_of_the_wrong_form_is_asked_for_again_with_what_was_wrong() -> None:
    generator = FakeGenerator(["What?", "3"])
    assert _run(generator, ask_in_form, replace(PROMPT, notes=("note",)), _number, example="1") == 3
    first, second = generator.prompts
    assert first.notes == ("note",) and second.notes[0] == "note" and second.passages == first.passages
    assert "could not be used: it names no number from 1 to 3. Reply again" in second.notes[1]


def test_more_of_a_reply_than_its_text_is_read() -> None:
    def read(reply: Completion) -> float:
        if reply.confidence is None:
            raise ValueError("it is not sure of itself")
        return reply.confidence

    generator = FakeGenerator(["Sure.", Completion("Sure.", confidence=0.7)])
    assert _run(generator, ask_as, PROMPT, read, example="1") == 0.7
    assert "could not be used: it is not sure of itself." in generator.prompts[1].notes[-1]


def test_what_is_written_knows_the_tokens_of_its_prompt() -> None:
    generator = FakeGenerator(Completion("Fine.", Usage(prompt_tokens=77)))
    assert _run(generator, write, PROMPT).prompt_tokens == 77


def test_twice_is_an_error_that_quotes_the_reply() -> None:
    generator = FakeGenerator(["What?", "Why?", "2"])
    with pytest.raises(ReplyFormatError, match=r"names no number from 1 to 3\. It was: 'Why\?'"):
        _run(generator, ask_in_form, PROMPT, _number, example="1")
    assert len(generator.prompts) == 2


@pytest.mark.parametrize("script", [["refuse"], ["What?", "refuse"]])
def test_a_refusal_is_no_wrong_form(script: list[str]) -> None:
    said = [Completion("No.", finish_reason="refused") if each == "refuse" else each for each in script]
    with pytest.raises(RefusalError, match="declined"):
        _run(FakeGenerator(said), ask_in_form, PROMPT, _number, example="1")


def test_where_the_window_is_full_passages_give_way_to_what_was_wrong() -> None:
    def read(text: str) -> int:
        raise ValueError("it says " + text * 50)

    passages = tuple(Passage("d", 60 * n, 60 * n + 30, f"Passage number {n} is of eight words.") for n in range(20))
    prompt = Prompt("which?", passages, max_tokens=16)
    window = FakeGenerator().prompt_tokens(prompt) + 16
    generator = FakeGenerator("What on earth? ", context_window=window)
    with pytest.raises(ReplyFormatError):
        _run(generator, ask_in_form, prompt, read, example="1")
    first, second = generator.prompts
    assert all(generator.prompt_tokens(each) + 16 <= window for each in (first, second))
    assert 3 < len(second.passages) < 20 and second.passages[:3] == first.passages[:3]


@pytest.mark.parametrize(("text", "number"), [("2", 2), ("Answer 3, not 1", 3), ("[1]", 1), ("01", 1)])
def test_numbers_are_read(text: str, number: int) -> None:
    assert _number(text) == number


@pytest.mark.parametrize("text", ["", "none", "0", "4", "12"])
def test_what_is_no_number_of_the_list(text: str) -> None:
    with pytest.raises(ValueError, match="from 1 to 3"):
        _number(text)
