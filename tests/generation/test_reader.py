"""The default answerer: the words that answer, in their sentence, or an abstention."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import carrel
from carrel.errors import InputError
from carrel.generation.answerer import Answerer, FoundAnswer
from carrel.generation.base import Generator
from carrel.generation.extractive import ABSTENTION
from carrel.generation.reader import ReaderGenerator
from carrel.testing import GeneratorConformance, WordTokenizer
from carrel.types import CitationsEvent, Completion, Passage, Prompt, Span

PIER = "The pier was built in 1894 by Ada Grey. It is ninety metres long."
LOG = "Storm. The pier, built in 1894, lost three planks."
TABLE = "| boat | built |\n|---|---|\n| Heron | 1901 |\n| Gull | 1910 |\n"
QUESTION = "When was the pier built?"


def passage(text: str, document: str, start: int = 0, **more) -> Passage:
    return Passage(document, start, start + len(text), text, title=document, **more)


class Told(Answerer):
    """Finds the words it is told to, with the probabilities it is told to."""

    name = "told"
    languages = frozenset({"English"})
    threshold = 0.5

    def __init__(self, *wanted: tuple[int, str, float]) -> None:
        self.wanted = wanted

    def find(self, question: str, passages: Sequence[Passage]) -> list[FoundAnswer]:
        out = []
        for number, words, probability in self.wanted:
            shown = passages[number - 1]
            start = shown.start + shown.text.index(words)
            out.append(FoundAnswer(number, start, start + len(words), words, probability))
        return out


def answer(*wanted: tuple[int, str, float], passages=None, question: str = QUESTION, **options) -> Completion:
    shown = passages or (passage(PIER, "pier", 100), passage(LOG, "log"), passage(TABLE, "boats"))
    return ReaderGenerator(Told(*wanted), **options).complete(Prompt(question, tuple(shown)))


def test_the_words_are_quoted_in_their_sentence() -> None:
    found = answer((1, "1894", 0.9), (1, "ninety metres", 0.3))
    assert found.text == "The pier was built in 1894 by Ada Grey. [1]"
    [citation] = found.citations
    assert (citation.number, citation.document_id, citation.start, citation.end) == (1, "pier", 100, 139)
    assert citation.quote == PIER[:39]
    first, second = found.answers
    assert (first.text, first.start, first.end, first.confidence) == ("1894", 122, 126, 0.9)
    assert (second.text, second.citation.quote) == ("ninety metres", "It is ninety metres long.")
    assert found.confidence == 0.9 and found.finish_reason == "stop"
    assert found.usage.prompt_tokens > 0 and found.usage.completion_tokens > 0


def test_passages_that_agree_are_all_cited_and_make_it_surer() -> None:
    found = answer((2, "1894", 0.6), (1, "1894", 0.7))
    assert found.text == "The pier was built in 1894 by Ada Grey. [1][2]"
    assert [citation.quote for citation in found.citations] == [
        PIER[:39],
        "The pier, built in 1894, lost three planks.",
    ]
    assert found.confidence == pytest.approx(1 - 0.3 * 0.4)


def test_a_row_of_a_table_is_quoted_alone() -> None:
    assert answer((3, "1910", 0.9)).text == "| Gull | 1910 | [3]"


def test_words_over_two_sentences_bring_both() -> None:
    assert answer((1, "Ada Grey. It", 0.9)).citations[0].quote == PIER


def test_a_pruned_passage_is_quoted_from_what_was_kept() -> None:
    pruned = passage(PIER, "pier", kept=(Span(13, 39),))
    assert answer((1, "1894", 0.9), passages=[pruned]).citations[0].quote == "built in 1894 by Ada Grey."


def test_below_the_threshold_it_abstains() -> None:
    found = answer((1, "1894", 0.4))
    assert (found.text, found.finish_reason, found.citations, found.answers) == (ABSTENTION, "abstained", (), ())
    assert found.confidence == 0.4
    assert answer((1, "1894", 0.4), threshold=0.3).finish_reason == "stop"
    assert answer((1, "1894", 0.0), threshold=0).finish_reason == "stop"
    nothing = ReaderGenerator(Told()).complete(Prompt(QUESTION))
    assert (nothing.finish_reason, nothing.confidence) == ("abstained", 0.0)


def test_a_repetition_of_the_question_is_no_answer() -> None:
    echo = passage('Ask: "When was the pier built?"', "faq")
    found = answer((1, "pier", 0.9), (2, "1894", 0.6), passages=[echo, passage(PIER, "pier")])
    assert found.text.endswith("[2]") and found.confidence == 0.6


CODE = "Ask it:\n\n```python\nimport asyncio\nlibrary.ask(question)  # 1894\n```\n"


def test_code_answers_only_what_no_prose_does() -> None:
    code, pier = passage(CODE, "sdk"), passage(PIER, "pier")
    assert answer((1, "1894", 0.9), (2, "Ada Grey", 0.6), passages=[code, pier]).answers[0].text == "Ada Grey"
    assert answer((1, "1894", 0.9), (2, "Ada Grey", 0.2), passages=[code, pier]).citations[0].document_id == "sdk"
    asked = answer((1, "1894", 0.9), (2, "Ada Grey", 0.6), passages=[code, pier], question="What does ask() say?")
    assert asked.citations[0].document_id == "sdk"


def test_code_that_asks_the_question_does_not_answer_it() -> None:
    echo = passage(CODE.replace("question", f'"{QUESTION}"'), "sdk")
    assert answer((1, "asyncio", 0.9), passages=[echo]).finish_reason == "abstained"
    assert answer((1, "asyncio", 0.9), (2, "1894", 0.6), passages=[echo, passage(PIER, "pier")]).confidence == 0.6


def test_another_language_goes_to_the_fallback() -> None:
    class Other(Generator):
        name = "other"
        tokenizer = WordTokenizer()

        def complete(self, prompt: Prompt) -> Completion:
            return Completion("Andere.")

    question = "Когда построили этот причал?"
    assert answer((1, "1894", 0.9), question=question).finish_reason == "abstained"
    assert answer((1, "1894", 0.9), question=question, fallback=Other()).text == "Andere."


def test_only_so_many_alternatives() -> None:
    wanted = ((1, "1894", 0.9), (1, "Ada Grey", 0.5), (1, "ninety metres", 0.3), (2, "three planks", 0.2))
    assert len(answer(*wanted).answers) == 3
    assert [a.text for a in answer(*wanted, alternatives=1).answers] == ["1894"]
    with pytest.raises(InputError, match="alternatives is a number of answers, 1 or more, not 0"):
        answer(alternatives=0)
    with pytest.raises(InputError, match="the threshold of an answer is between 0 and 1, not 1.5"):
        answer(threshold=1.5)


def test_a_stream_brings_the_short_answers() -> None:
    generator = ReaderGenerator(Told((1, "1894", 0.9)))
    events = list(generator.stream(Prompt(QUESTION, (passage(PIER, "pier"),))))
    [cited] = [event for event in events if isinstance(event, CitationsEvent)]
    assert cited.answers[0].text == "1894"


def test_a_false_short_answer_does_not_leave_the_library(tmp_path) -> None:
    class Liar(ReaderGenerator):
        def complete(self, prompt: Prompt) -> Completion:
            from dataclasses import replace

            found = super().complete(prompt)
            wrong = replace(found.answers[0], text="1895")
            return replace(found, answers=(wrong, *found.answers))

    with carrel.open(tmp_path) as library:
        library.add_text(PIER, id="pier")
        answer = library.ask(QUESTION, generator=Liar(Told((1, "1894", 0.9))))
        assert [short.text for short in answer.answers] == ["1894"]
        assert answer.answers[0].citation == answer.citations[0]
        [cited] = [e for e in library.stream(QUESTION) if isinstance(e, CitationsEvent)]
        assert cited.answers == library.ask(QUESTION).answers


def test_the_shipped_reader_answers_and_abstains(tmp_path) -> None:
    with carrel.open(tmp_path) as library:
        library.add_text(PIER, id="pier", title="Pier")
        library.add_text("The keeper of the lighthouse is called Tamsin. She has a dog.", id="keeper")
        found = library.ask("Who built the pier?")
        assert found.answers[0].text == "Ada Grey" and found.text.startswith("The pier was built in 1894 by Ada Grey.")
        assert library.ask("What is the capital of Peru?").abstained


def test_the_example_questions(tmp_path) -> None:
    """Tables, sums and reasons are beyond it; what it quotes when it is sure is mostly right."""
    root = Path(__file__).parents[2] / "examples"
    questions = [json.loads(line) for line in (root / "questions.jsonl").read_text("utf-8").splitlines()]
    with carrel.open(tmp_path) as library:
        library.add(root / "library")
        found = [(question, library.ask(question["question"])) for question in questions]
    given = [(question, answer) for question, answer in found if not answer.abstained]
    right = [
        question["question"]
        for question, answer in given
        if question["document"]
        and any(question["quote"] in c.quote or c.quote in question["quote"] for c in answer.citations)
    ]
    assert len(right) >= 11 and len(right) >= 0.6 * len(given)
    assert sum(answer.abstained for question, answer in found if not question["document"]) >= 3


class TestConformance(GeneratorConformance):
    def make(self) -> Generator:
        return ReaderGenerator()
