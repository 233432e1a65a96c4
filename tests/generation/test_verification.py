"""Which sentences of an answer the passages support: the contract, the rules, and what holds of every verdict."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.generation.evidence import Evidence
from carrel.generation.rules import RuleVerifier
from carrel.generation.verification import (
    Judgement,
    SentenceVerdict,
    Statement,
    Verification,
    Verifier,
    statements_of,
    verify,
)
from carrel.testing.verifiers import VerifierConformance
from carrel.types import Answer, Context, Ledger, Passage, Span

PIER = "The pier was built in 1894 by the harbour company. It is ninety metres long. The lamps were first lit in 1902."
CURIE = (
    "Marie Curie won the Nobel Prize in Physics in 1903. She was born in Warsaw on 7 November 1867. Her husband Pierre"
    " Curie died in Paris in 1906. About 4.36 million francs were not paid. Exports increased by 40% after the war."
)
RULES = RuleVerifier()


def passage(text: str, document: str = "harbour", start: int = 0, title: str = "", **more) -> Passage:
    return Passage(document, start, start + len(text), text, title=title, **more)


PASSAGES = (passage(PIER, "pier", 50, "The pier"), passage(CURIE, "curie", 7))


def judged(answer: str, question: str | None = None, passages: Sequence[Passage] = PASSAGES) -> SentenceVerdict:
    (verdict,) = verify(answer, passages, question=question, verifier=RULES).sentences
    return verdict


def context(question: str) -> Context:
    return Context(question, PASSAGES, "", 0, 100, Ledger("words"))


class TestRules(VerifierConformance):
    def make(self) -> Verifier:
        return RuleVerifier()


# -- the rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "The pier was built in 1894 by the harbour company.",
        "the harbour company built the pier in 1894",
        "The pier is 90 metres long.",
        "The pier is 90 m long.",
        "Marie Curie was born on November 7, 1867, in Warsaw.",
        "Marie Curie was born in Warsaw on 1867-11-07.",
        "4,360,000 francs were not paid.",
        "Exports increased by forty percent after the war.",
        "Exports increased by 40 per cent after the war.",
        "M. Curie's husband died in 1906.",
        "The pier was built in 1894, and its lamps were first lit in 1902.",
        "In 1903, Marie Curie won the Nobel Prize.",
    ],
)
def test_what_the_passages_say_in_other_words_is_supported(answer: str) -> None:
    verdict = judged(answer)
    assert verdict.supported, verdict
    assert verdict.evidence


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("The pier was built in 1895 by the harbour company.", "the number “1895” is nowhere"),
        ("The pier was built in 1902 by the harbour company.", "“1894”, not “1902”"),
        ("The pier is 90 miles long.", "with “metre”, not with “mile”"),
        ("Marie Curie was born on November 8, 1867.", "the number “8” is nowhere"),
        ("Marie Curie was born in Paris on 7 November 1867.", "“Paris”, the passages say “Warsaw”"),
        ("Marie Curie died in Paris in 1906.", "“Marie”, the passages say “Pierre”"),
        ("Albert Curie won the Nobel Prize in Physics in 1903.", "the name “Albert” is nowhere"),
        ("The pier was not built in 1894 by the harbour company.", "negated"),
        ("About 4.36 million francs were paid.", "negated"),
        ("Exports decreased by 40% after the war.", "“increased”, not “decreased”"),
        ("Exports increased by 40% before the war.", "“after”, not “before”"),
        ("The pier has “a very fine view of the sea”.", "is no quotation"),
        ("Warsaw Curie was born on 7 November 1867.", "nowhere stand together"),
        ("Whales sing at night.", "nothing in the passages"),
        ("The pier sells ice cream, tickets and balloons.", "most of its words"),
        ("Yes.", "yes or no"),
    ],
)
def test_what_they_do_not_say_is_flagged_with_its_reason(answer: str, problem: str) -> None:
    verdict = judged(answer)
    assert not verdict.supported
    assert any(problem in found for found in verdict.problems), verdict.problems


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("When was the pier built?", "1894", "1902"),
        ("When was the pier built?", "In 1894.", "1867"),
        ("When did Pierre Curie die?", "1906", "1903"),
        ("In what year did Marie Curie win the Nobel Prize?", "1903 [2]", "1906 [2]"),
    ],
)
def test_a_short_answer_is_judged_with_its_question(question: str, right: str, wrong: str) -> None:
    assert judged(right, question).supported
    verdict = judged(wrong, question)
    assert not verdict.supported
    assert "not “" in verdict.problems[0]


def test_a_short_answer_without_its_question_is_said_to_be_hard_to_judge() -> None:
    (note,) = judged("1902").notes
    assert "without its question" in note
    assert not judged("1894", "When was the pier built?").notes


def test_a_second_fact_is_not_measured_by_the_question() -> None:
    found = verify(
        "It was built in 1894. It is 90 metres long.", PASSAGES, question="When was it built?", verifier=RULES
    )
    assert [verdict.supported for verdict in found.sentences] == [True, True]


def test_two_names_that_change_places_are_noticed() -> None:
    text = "In the final of 1911 the team of Rodmouth beat the team of Greyhorn by three goals."
    turned = "In the final of 1911 the team of Greyhorn beat the team of Rodmouth by three goals."
    assert judged(text, passages=[passage(text)]).supported
    assert not judged(turned, passages=[passage(text)]).supported


# -- what is a sentence, what is a mark -----------------------------------------------------------


def test_marks_are_no_part_of_a_sentence_and_name_its_passages() -> None:
    first, second = statements_of('He said: "It is 1894." [2] The lamps were lit [1][3].', 3)
    assert (first.text, first.cited) == ('He said: "It is 1894."', {2})
    assert (second.text, second.cited) == ("The lamps were lit .", {1, 3})


def test_an_interval_is_no_mark() -> None:
    (statement,) = statements_of("The value lies in [2, 3].", 3)
    assert statement.text == "The value lies in [2, 3]."
    assert statement.cited == frozenset()


def test_a_cited_passage_is_preferred_and_support_from_elsewhere_is_said() -> None:
    twice = (*PASSAGES, passage(PIER, "copy"))
    for number in (1, 3):
        found = judged(f"The pier is 90 metres long. [{number}]", passages=twice).evidence
        assert {citation.number for citation in found} == {number}
    verdict = judged("The pier is 90 metres long. [2]")
    assert verdict.supported
    assert verdict.notes == ("supported by [1], not by [2], which it cites",)


def test_verdicts_stand_at_their_place_in_the_answer() -> None:
    answer = "The pier was built in 1894. [1]  It is 61 metres long!"
    first, second = verify(answer, PASSAGES, verifier=RULES).sentences
    assert (first.text, second.text) == ("The pier was built in 1894.", "It is 61 metres long!")
    assert answer[second.span.start : second.span.end] == second.text
    assert (first.supported, second.supported) == (True, False)


@pytest.mark.parametrize(
    "answer",
    [
        "The documents do not seem to answer this question.",
        "I don't know.",
        "The context does not provide enough information to answer.",
        "There is no mention of this in the passages.",
        "This is not mentioned in the documents.",
        "Here is what I found:",
    ],
)
def test_an_abstention_claims_nothing(answer: str) -> None:
    found = verify(answer, PASSAGES, verifier=RULES)
    assert (found.sentences, found.supported) == ((), True)


@pytest.mark.parametrize("answer", ["The pier does not contain iron.", "He did not say it.", "There is no lamp."])
def test_a_denial_is_no_abstention(answer: str) -> None:
    assert statements_of(answer)


# -- other languages ------------------------------------------------------------------------------

GERMAN = (
    "Die Mole wurde im Jahr 1894 von der Hafengesellschaft gebaut und ist neunzig Meter lang. Sie steht in Rodmund."
)


def test_of_another_language_numbers_and_names_are_judged_and_that_is_said() -> None:
    german = [passage(GERMAN)]
    assert judged(GERMAN.split(". ")[0] + ".", passages=german).score == 1.0
    right = judged(
        "Im Jahr 1894 wurde die Mole von der Hafengesellschaft gebaut, und sie ist neunzig Meter lang.", passages=german
    )
    assert right.supported
    assert "its words could not be judged: German" in right.notes[0]
    wrong = judged(
        "Im Jahr 1895 wurde die Mole von der Hafengesellschaft gebaut, und sie ist neunzig Meter lang.", passages=german
    )
    assert not wrong.supported
    blank = judged("die mole ist nicht das, was wir alle dort von ihr noch wollen und auch haben.", passages=german)
    assert not blank.supported
    assert any("could not be judged" in problem for problem in blank.problems)


def test_a_script_without_spaces_is_found_when_it_is_quoted() -> None:
    text = "桟橋は1894年に建てられた。長さは90メートルで、港の会社が所有している。"
    assert judged("桟橋は1894年に建てられた。", passages=[passage(text)]).supported
    assert not judged("桟橋は1895年に建てられた。", passages=[passage(text)]).supported


# -- the call -------------------------------------------------------------------------------------


class Recording(Verifier):
    """Supports all, and keeps what it was asked."""

    name = "recording"

    def __init__(self) -> None:
        self.questions: list[str | None] = []

    def judge(self, statements: Sequence[Statement], evidence: Evidence, question: str | None) -> list[Judgement]:
        self.questions.append(question)
        return [Judgement(1.0, (evidence.sources[0],)) for _ in statements]


def test_the_question_is_that_of_the_answer_or_the_context_unless_given() -> None:
    verifier = Recording()
    answer = Answer("Of the answer?", "1894", (), context("Of the context?"))
    verify(answer, answer.context, verifier=verifier)
    verify("1894", answer.context, verifier=verifier)
    verify("1894", PASSAGES, verifier=verifier)
    verify(answer, answer.context, question="Given?", verifier=verifier)
    assert verifier.questions == ["Of the answer?", "Of the context?", None, "Given?"]


def test_an_answer_that_abstained_is_not_judged() -> None:
    verifier = Recording()
    answer = Answer("When?", "It was 1777.", (), context("When?"), abstained=True)
    assert verify(answer, answer.context, verifier=verifier) == Verification((), "recording")
    assert verifier.questions == []


@pytest.mark.parametrize(("answer", "passages"), [(1894, PASSAGES), ("1894", "pier"), ("1894", [PIER]), ("1894", None)])
def test_other_kinds_are_refused(answer, passages) -> None:
    with pytest.raises(InputError, match="verify takes a text or an Answer"):
        verify(answer, passages, verifier=RULES)


def test_evidence_has_the_page_and_the_title() -> None:
    (citation,) = judged(
        "It is ninety metres long.", passages=[passage(PIER, start=50, title="T", pages=(0, 60))]
    ).evidence
    assert (citation.page, citation.title, citation.start) == (2, "T", 50 + PIER.index("It is"))


def test_twenty_sentences_over_fifty_passages_are_fast() -> None:
    def text(number: int) -> str:
        boats = [(number * 8 + n, n) for n in range(8)]
        return " ".join(f"Boat {boat} of Captain Hale{n} carried {n * 7} ropes to port {n}." for boat, n in boats)

    passages = [passage(text(number), f"d{number}") for number in range(50)]
    answer = " ".join(f"Captain Hale{n % 8} took {n * 7 % 56} ropes on boat {n * 20}." for n in range(20))
    verify(answer, passages, verifier=RULES)
    started = time.perf_counter()
    found = verify(answer, [passage(f"{p.text} ", p.document_id) for p in passages], verifier=RULES)
    assert len(found.sentences) == 20
    assert time.perf_counter() - started < 2.0  # 0.1 s on an idle machine


# -- properties -----------------------------------------------------------------------------------

NOUNS = ["pier", "harbour", "ferry", "lamp", "Rodmouth", "Marie Curie", "the U.S.", "Dr. Hale", "St. Ives", "gulls"]
VERBS = ["built", "did not build", "never saw", "was opened by", "is larger than", "sold", "increased"]
TAILS = ["in 1894", "on 12 March 1998", "for 4.36 million dollars", "after the war", "by 40%", "(see [2])", "twice"]
sentences = st.builds(
    lambda a, verb, b, tail: f"{a[0].upper()}{a[1:]} {verb} {b} {tail}.",
    *map(st.sampled_from, (NOUNS, VERBS, NOUNS, TAILS)),
)
texts = st.lists(sentences, min_size=1, max_size=5).map(" ".join)
passages_of = st.lists(texts, min_size=1, max_size=4, unique=True).map(
    lambda found: [passage(text, f"d{n}", 10 * n) for n, text in enumerate(found)]
)


@given(passages_of, st.data())
def test_a_sentence_of_a_passage_is_always_supported(passages: list[Passage], data: st.DataObject) -> None:
    source = data.draw(st.sampled_from(Evidence(list(enumerate(passages, start=1))).sources))
    question = data.draw(st.sampled_from([None, "When was the pier built?", "Who sold Rodmouth?"]))
    found = verify(source.text, passages, question=question, verifier=RULES)
    assert found.sentences and found.supported, found


@given(passages_of, texts)
def test_evidence_is_quoted_exactly(passages: list[Passage], answer: str) -> None:
    for verdict in verify(answer, passages, verifier=RULES).sentences:
        for citation in verdict.evidence:
            source = passages[citation.number - 1]
            assert citation.quote == source.text[citation.start - source.start : citation.end - source.start]
            assert citation.quote == citation.quote.strip() != ""


@given(passages_of, sentences, st.integers(2200, 99_999), st.sampled_from([None, "When was the pier built?"]))
def test_a_number_that_stands_nowhere_is_never_supported(
    passages: list[Passage], sentence: str, number: int, question: str | None
) -> None:
    claim = f"{sentence[:-1]} with {number}."
    assert not verify(claim, passages, question=question, verifier=RULES).supported
    assert not verify(str(number), passages, question=question, verifier=RULES).supported


@given(passages_of, texts, st.randoms(use_true_random=False))
def test_verdicts_do_not_depend_on_the_order_of_the_passages(passages: list[Passage], answer: str, random) -> None:
    mixed = list(passages)
    random.shuffle(mixed)

    def seen(given_passages: list[Passage]) -> list[tuple]:
        verdicts = verify(answer, given_passages, verifier=RULES).sentences
        places = [[(c.document_id, c.start, c.quote) for c in v.evidence] for v in verdicts]
        return [(v.supported, v.score, v.problems, place) for v, place in zip(verdicts, places, strict=True)]

    assert seen(passages) == seen(mixed)


@given(passages_of, sentences, st.integers(1, 4))
def test_marks_case_and_white_space_do_not_count(passages: list[Passage], sentence: str, mark: int) -> None:
    assume("[2]" not in sentence)

    def seen(answer: str) -> list[tuple]:
        verdicts = verify(answer, passages, verifier=RULES).sentences
        return [(v.supported, v.score, [problem.lower() for problem in v.problems]) for v in verdicts]

    plain = seen(sentence)
    assert seen(f" {sentence} [{mark}]\n") == plain
    assert seen(sentence[0].lower() + sentence[1:]) == plain
    assert seen(sentence.replace(" ", "  ")) == plain


def test_a_verdict_says_where_it_stands() -> None:
    verdict = judged("It is ninety metres long.")
    assert verdict.span == Span(0, len("It is ninety metres long."))
