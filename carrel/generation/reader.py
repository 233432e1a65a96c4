"""Answers without a language model: the words that answer, quoted in their sentence, or an abstention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from carrel.errors import InputError
from carrel.generation.answerer import Answerer, Candidate, FoundAnswer
from carrel.generation.base import Generator
from carrel.generation.citations import cite
from carrel.generation.echoes import asks_for_code, code_spans, is_echo, plain
from carrel.generation.extractive import ABSTENTION, table_rows
from carrel.modes import foreign_language
from carrel.retrieval.merging import kept_spans
from carrel.retrieval.packing import SEPARATOR, render
from carrel.retrieval.sentences import split_sentences
from carrel.tokens import Tokenizer, shipped_tokenizer
from carrel.types import Citation, Completion, Passage, Prompt, ShortAnswer, Span, Usage

_MOST_SUPPORT = 2  # further passages cited for the same answer


class ReaderGenerator(Generator):
    """Finds the answer with the reader and quotes its sentence; abstains when it is not sure enough.

    It cannot make anything up, and it cannot write, add up, or draw conclusions from several passages.

    Parameters
    ----------
    answerer : finds short answers; the shipped reader by default.
    tokenizer : counts the usage; the shipped embedder's by default.
    alternatives : short answers given in ``answers``, the first included.
    threshold : least probability of an answer, 0 to 1; the answerer's own by default. 0 always answers.
    fallback : what answers in a language that the answerer cannot read; without one, it abstains there.

    Raises
    ------
    InputError : the threshold is not between 0 and 1, or no alternative is asked for.
    """

    name: ClassVar[str] = "reader"
    citation: ClassVar[str] = "Chen et al., Reading Wikipedia to Answer Open-Domain Questions, arXiv 1704.00051"
    cites = True

    def __init__(
        self,
        answerer: Answerer | None = None,
        *,
        tokenizer: Tokenizer | None = None,
        alternatives: int = 3,
        threshold: float | None = None,
        fallback: Generator | None = None,
    ) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"the threshold of an answer is between 0 and 1, not {threshold}")
        if alternatives < 1:
            raise InputError(f"alternatives is a number of answers, 1 or more, not {alternatives}")
        self.answerer = answerer or _shipped_answerer()
        self.alternatives, self.fallback, self._threshold = alternatives, fallback, threshold
        self._tokenizer = tokenizer or shipped_tokenizer()

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def threshold(self) -> float:
        return self.answerer.threshold if self._threshold is None else self._threshold

    def complete(self, prompt: Prompt) -> Completion:
        """Quote the sentence of the likeliest answer, and list the next ones."""
        used = self.tokenizer.count(f"{render(prompt.passages)}{SEPARATOR}{prompt.question}")
        if foreign_language(prompt.question, prompt.passages, self.answerer.languages):
            return self.fallback.complete(prompt) if self.fallback else self._abstain(used, 0.0)
        found = self.answerer.candidates(prompt.question, prompt.passages, 2 * self.alternatives + 2)
        answers = [answer for answer in (self._answer(prompt, candidate) for candidate in found) if answer]
        if not asks_for_code(prompt.question):  # then code answers only what no prose does
            prose = [answer for answer in answers if not _is_code(prompt, answer[0])]
            if prose and prose[0][0].confidence >= self.threshold:
                answers = prose
        if not answers or answers[0][0].confidence < self.threshold:
            return self._abstain(used, answers[0][0].confidence if answers else 0.0)
        best, support = answers[0]
        citations = (best.citation, *support)
        marks = "".join(f"[{number}]" for number in dict.fromkeys(citation.number for citation in citations))
        text = f"{' '.join(best.citation.quote.split())} {marks}"
        usage = Usage(used, self.tokenizer.count(text), 0, self.tokenizer.name)
        shorts = tuple(answer for answer, _ in answers[: self.alternatives])
        return Completion(text, usage, "stop", self.name, citations, best.confidence, shorts)

    def _abstain(self, used: int, confidence: float) -> Completion:
        usage = Usage(prompt_tokens=used, tokenizer=self.tokenizer.name)
        return Completion(ABSTENTION, usage, "abstained", self.name, (), confidence)

    def _answer(self, prompt: Prompt, candidate: Candidate) -> tuple[ShortAnswer, list[Citation]] | None:
        """The answer in its surest sentence, and citations of other passages that give it; None for an echo."""
        cited = [(place, _cited(prompt.passages, place)) for place in candidate.places]
        real = [(place, found) for place, found in cited if not _echoes(prompt, place, found)]
        if not real:
            return None
        place, sentence = real[0]
        support: list[Citation] = []
        for _, other in real[1:]:
            if other.number != sentence.number and other.number not in {c.number for c in support}:
                support.append(other)
        short = ShortAnswer(place.text, place.start, place.end, candidate.probability, sentence)
        return short, support[:_MOST_SUPPORT]


def _shipped_answerer() -> Answerer:
    from carrel.reader.methods import ReaderAnswerer, shipped_reader

    return ReaderAnswerer(shipped_reader())


def _cited(passages: Sequence[Passage], found: FoundAnswer) -> Citation:
    """The sentence, or the row of a table, in which an answer stands."""
    passage = passages[found.number - 1]
    span = _sentence(passage, found)
    return cite(passage, found.number, span.start, span.end)


def _sentence(passage: Passage, found: FoundAnswer) -> Span:
    """From the start of the sentence that an answer begins in to the end of the one that it ends in."""
    shift = passage.start
    start, end = found.start, found.end
    for part in kept_spans(passage):
        if not (part.start <= found.start and found.end <= part.end):
            continue
        for sentence in split_sentences(passage.text, part.start - shift, part.end - shift):
            for row in table_rows(passage.text, sentence):
                if row.start < found.end - shift and found.start - shift < row.end:
                    start, end = min(start, row.start + shift), max(end, row.end + shift)
    return Span(start, end)


def _echoes(prompt: Prompt, place: FoundAnswer, sentence: Citation) -> bool:
    """Whether the sentence merely repeats the question, or is code with the question in it."""
    passage = prompt.passages[place.number - 1]
    around = _code_around(passage, place.start, place.end)
    if around and plain(prompt.question) in plain(passage.text[around.start : around.end]):
        return True
    return is_echo(prompt.question, sentence.quote, is_code=around is not None)


def _is_code(prompt: Prompt, answer: ShortAnswer) -> bool:
    return _code_around(prompt.passages[answer.citation.number - 1], answer.start, answer.end) is not None


def _code_around(passage: Passage, start: int, end: int) -> Span | None:
    """The fenced code of a passage in which a span of its document stands."""
    first, last = start - passage.start, end - passage.start
    return next((span for span in code_spans(passage.text) if span.start < last and first < span.end), None)
