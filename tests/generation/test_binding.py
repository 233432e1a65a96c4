"""Marks that a generator wrote, bound to the sentences they rest on, or reported."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrel
from carrel.generation import binding
from carrel.generation.binding import Binder, Bound, bind
from carrel.generation.citations import cite
from carrel.generation.evidence import Evidence
from carrel.generation.rules import RuleVerifier
from carrel.generation.verification import Judgement, Statement, Verifier, statements_of
from carrel.reader.verifier import ReaderVerifier
from carrel.testing import FakeGenerator
from carrel.types import Citation, CitationsEvent, Passage, UnsupportedMark, UsageEvent

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


def test_a_mark_in_a_sentence_that_declines_is_no_mark_of_the_claim_before_it() -> None:
    text = "The pier was built in 1894 [1]. The passages do not say who designed it [2]. Is it old [2]?"
    bound = bind(text, PASSAGES, None, RuleVerifier())
    assert [c.number for c in bound.citations] == [1] and bound.unsupported == ()


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


# -- while the text comes -------------------------------------------------------------------------


class Counting(Verifier):
    """The rules; keeps what it was asked."""

    name = "counting"

    def __init__(self) -> None:
        self.rules, self.asked = RuleVerifier(), []

    def judge(self, statements: Sequence[Statement], evidence: Evidence, question: str | None) -> list[Judgement]:
        self.asked += [(statement, frozenset(evidence.passages)) for statement in statements]
        return self.rules.judge(statements, evidence, question)


def plainly(text: str) -> Bound:
    """The marks of a whole text, one statement and one passage after the other: what ``bind`` must give."""
    rules, evidence = RuleVerifier(), Evidence(list(enumerate(PASSAGES, start=1)))
    citations: list[Citation] = []
    unsupported: list[UnsupportedMark] = []
    for statement in statements_of(text, len(PASSAGES)):
        found = {}
        for number in sorted(statement.cited):
            (judged,) = rules.judge([statement], evidence.only({number}), None)
            found[number] = judged.sources if judged.supported else ()
        if len(found) > 1 and not any(found.values()):
            (judged,) = rules.judge([statement], evidence.only(statement.cited), None)
            found = {n: tuple(s for s in judged.sources if judged.supported and s.number == n) for n in found}
        for number, sources in found.items():
            citations += [cite(PASSAGES[number - 1], number, s.span.start, s.span.end) for s in sources]
            if not sources:
                span = statement.span
                unsupported.append(UnsupportedMark(number, span.start, span.end, text[span.start : span.end]))
    return Bound(tuple(dict.fromkeys(citations)), tuple(unsupported))


def cut(text: str, places: Sequence[int]) -> list[str]:
    at = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(at)]


CLAIMS = (
    "The pier was built in 1894",
    "It is ninety metres long",
    "The pier was built in 1984",
    "The ferry leaves at nine in the morning",
    "The last ferry of Dr. Falk returns at eighteen, i.e. late",
    "Built by the harbour company",
    "The pier was built in 1894 and the ferry leaves at nine",
    "Die Mole ist neunzig Meter lang",
    "码头建于1894年",
)
ODDITIES = (
    *("Is it old", "The passages do not say who designed it", "I do not know", "Sources", "See", "cf", "etc", "Note"),
    *(
        "`row[1]",
        "`",
        "```\nx[1] = 2\n```",
        "[1](http://a)",
        "\n[^1]: a note",
        "lies in [1, 2]",
        "**",
        "(",
        ")",
        "“",
        "”",
    ),
)
MARKS = ("[1]", "[2]", "[1][2]", "[1, 2]", "[1-2]", "[3]", "[^1]", "【1】", "【2†source】", "[1] [2]", "[", "]")
ENDS = (".", ". ", "? ", "! ", "… ", "... ", ": ", "\n", "\n\n", "\n- ", "\n2. ", "。", " ", ", ", ".) ", ".” ", ".\n")
cited = st.tuples(
    st.sampled_from(CLAIMS), st.sampled_from([" ", ""]), st.sampled_from(MARKS[:5]), st.sampled_from(ENDS)
)
oddities = st.sampled_from([*CLAIMS, *ODDITIES, *MARKS, *ENDS, " "]) | st.text(max_size=4)
texts = st.lists(cited.map("".join) | oddities, max_size=14).map("".join)
places = st.lists(st.integers(0, 1_000), max_size=40)


@given(texts, places)
def test_pieces_lead_to_what_the_whole_leads_to(text: str, places: list[int]) -> None:
    verifier = Counting()
    binder = Binder(PASSAGES, None, verifier)
    for piece in cut(text, places):
        for span, bound in binder.add(piece):
            assert 0 <= span.start < span.end <= len(text)
            assert bound.citations or bound.unsupported
    assert binder.finish(text) == plainly(text) == bind(text, PASSAGES, None, RuleVerifier())
    assert len(set(verifier.asked)) == len(verifier.asked)  # nothing is judged twice


sentences = st.tuples(
    st.sampled_from(CLAIMS[:7]),
    st.sampled_from(["", " [1]", " [2]", " [1][2]", " [1, 2]", " [1] [2]", "【1】"]),
    st.sampled_from([". ", "! ", ".\n\n", ".\n- ", ".\n2. "]),
    st.sampled_from(["", "", "", "[1] ", "[2] ", "The passages do not say who designed it [2]. ", "Is it old [2]? "]),
)


@given(st.lists(sentences, min_size=2, max_size=8), places)
def test_every_sentence_but_the_last_is_bound_early_and_rightly(
    parts: list[tuple[str, ...]], places: list[int]
) -> None:
    text = "".join(map("".join, parts)) + "The harbour is deep."
    whole = bind(text, PASSAGES, None, RuleVerifier())
    binder = Binder(PASSAGES, None, RuleVerifier())
    early = [found for piece in cut(text, places) for found in binder.add(piece)]
    statements = statements_of(text, len(PASSAGES))
    assert [span for span, _ in early] == [statement.span for statement in statements[:-1] if statement.cited]
    assert {citation for _, bound in early for citation in bound.citations} <= set(whole.citations)
    before_last = [mark for mark in whole.unsupported if mark.start < statements[-1].span.start]
    assert [mark for _, bound in early for mark in bound.unsupported] == before_last


def test_a_sentence_is_bound_when_the_next_has_a_word() -> None:
    binder = Binder(PASSAGES, None, RuleVerifier())
    said = [(piece, binder.add(piece)) for piece in ("The pier was built in 1894", ". [", "1] ", "The", " fer", "ry ")]
    *before, (piece, [(span, bound)]) = said
    assert piece == "ry " and not any(found for _, found in before)
    assert (span.start, span.end) == (0, len("The pier was built in 1894."))
    assert [c.quote for c in bound.citations] == ["The pier was built in 1894 by the harbour company."]


@pytest.mark.parametrize(
    "text",
    [
        "The pier was built in 1894 [1]. Sources: [2].",
        "The pier was built in 1894. Use `pier [1]. The ferry leaves at nine`.",  # code, as is seen at its end
        "The pier was built in 1894 [^1]. The ferry leaves at nine.\n\n[^1]: My own note.",
        "The pier was built in 1894 [1]. Is it old [2]? It is ninety metres long.",
    ],
)
def test_nothing_is_told_that_the_end_takes_back(text: str) -> None:
    whole = bind(text, PASSAGES, None, RuleVerifier())
    binder = Binder(PASSAGES, None, RuleVerifier())
    early = [bound for character in text for _, bound in binder.add(character)]
    assert early in ([], [whole])
    assert binder.finish(text) == whole


def test_what_was_judged_early_is_not_judged_again() -> None:
    verifier, text = (
        Counting(),
        "The pier was built in 1894 [1]. It is ninety metres long [1][2]. The ferry is new [2].",
    )
    binder = Binder(PASSAGES, None, verifier)
    early = [span for character in text for span, _ in binder.add(character)]
    assert [text[span.start : span.end][-4:] for span in early] == ["[1].", "[2]."]
    assert [sorted(passages) for _, passages in verifier.asked] == [[1], [1], [2]]
    binder.finish(text)
    assert [sorted(passages) for _, passages in verifier.asked[3:]] == [[2]]


def test_the_whole_is_taken_apart_only_where_a_claim_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def counting(text: str, passages: int = 0) -> list[Statement]:
        parsed.append(text)
        return statements_of(text, passages)

    monkeypatch.setattr(binding, "statements_of", counting)
    binder = Binder(PASSAGES, None, RuleVerifier())
    for character in "The pier was built in 1894 [1]. " + "Is it old? " * 30:
        assert binder.add(character) == []
    assert parsed == []
    found = [span for character in "The ferry leaves at nine. " for span, _ in binder.add(character)]
    assert len(found) == 1 and len(parsed) < 3


def test_a_text_without_marks_is_not_looked_at() -> None:
    verifier = Counting()
    binder = Binder(PASSAGES, None, verifier)
    for word in "The pier was built in 1894. It is [sic] ninety metres long. The ferry leaves at nine.".split():
        assert binder.add(f"{word} ") == []
    assert verifier.asked == []
