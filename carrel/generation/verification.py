"""Is what an answer says in the passages? Sentence by sentence, for any generator's text."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

from carrel.errors import InputError
from carrel.generation.citations import cite
from carrel.generation.claims import claim_of
from carrel.generation.evidence import Evidence, Source
from carrel.generation.marks import Mark, find_runs
from carrel.retrieval.merging import trimmed
from carrel.retrieval.sentences import split_sentences
from carrel.types import Answer, Citation, Context, Passage, Span

_SENTENCE_END = re.compile(r"[.!?…][”\"'’)\]]*\s*$")
LEAST_SCORE = 0.5  # of a sentence that is supported
_NOTHING_CLAIMED = re.compile(
    r"\b(?:I|we) (?:do not|don[’']t|cannot|can[’']t|could not|couldn[’']t|am unable to|am not able to|was unable to)"
    r" (?:seem to )?(?:know|answer|find|determine|tell|say|see)\b"
    r"|\b(?:documents?|passages?|contexts?|texts?|sources?|information|excerpts?|materials?)\b.{0,40}"
    r"\b(?:do|does|did|is|are|was|were|has|have|can) ?(?:not|n[’']t)\b.{0,30}\b(?:answer|mention|say|state|specif\w+|"
    r"provide|contain|give|include|enough|sufficient|available|tell|cover|discuss|address)"
    r"|\bnot (?:mentioned|stated|specified|provided|given|found|answered|covered|discussed|addressed)\b.{0,20}"
    r"\b(?:documents?|passages?|contexts?|texts?|sources?|excerpts?|information)\b"
    r"|\bno (?:information|answer|mention)\b.{0,40}\b(?:documents?|passages?|contexts?|texts?|sources?|available|found)"
    r"|^\W*(?:unanswerable|no answer|unknown|not answerable|n/a)\W*$",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class SentenceVerdict:
    """One sentence of an answer.

    ``span`` is its place in the answer, ``score`` from 0 to 1 how well the evidence supports it (at least 0.5 where
    it does), ``evidence`` the sentences that are nearest to it, ``problems`` what speaks against it and ``notes``
    what a reader should know besides, both in plain words.
    """

    text: str
    span: Span
    supported: bool
    score: float
    evidence: tuple[Citation, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict on every sentence that claims something; an abstention claims nothing and has none."""

    sentences: tuple[SentenceVerdict, ...]
    verifier: str

    @property
    def supported(self) -> bool:
        """Whether no sentence is unsupported."""
        return all(sentence.supported for sentence in self.sentences)

    @property
    def unsupported(self) -> tuple[SentenceVerdict, ...]:
        return tuple(sentence for sentence in self.sentences if not sentence.supported)


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of an answer without its citation marks, and as it was ``written``.

    ``span`` is its place in the answer, ``cited`` the numbers of the passages that its marks name.
    """

    text: str
    span: Span
    cited: frozenset[int] = frozenset()
    written: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a verifier says of one statement: a score from 0 to 1, the evidence, the best first, and why."""

    score: float
    sources: tuple[Source, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def supported(self) -> bool:
        return not self.problems and self.score >= LEAST_SCORE


class Verifier(ABC):
    """Judges the sentences of an answer by the passages; the base parts the answer and cites the evidence."""

    name: ClassVar[str]
    citation: ClassVar[str] = ""
    languages: ClassVar[frozenset[str]] = frozenset({"English"})
    """Those whose words it can judge; empty: any."""

    @abstractmethod
    def judge(self, statements: Sequence[Statement], evidence: Evidence, question: str | None) -> list[Judgement]:
        """One judgement for each statement. What a statement cites must not change it."""

    def verify(self, answer: str, passages: Sequence[Passage], question: str | None = None) -> Verification:
        """Check a text against the passages it rests on, with the question it answers, if there is one."""
        statements = statements_of(answer, len(passages))
        if not statements:
            return Verification((), self.name)
        evidence = Evidence(list(enumerate(passages, start=1)))
        verdicts = []
        for statement, found in zip(statements, self.judge(statements, evidence, question), strict=True):
            found = self._cited_first(statement, found, evidence, question)
            citations = tuple(_cited(source, evidence) for source in found.sources)
            span, text = trimmed(statement.span.start, answer[statement.span.start : statement.span.end])
            verdicts.append(
                SentenceVerdict(text, span, found.supported, found.score, citations, found.problems, found.notes)
            )
        return Verification(tuple(verdicts), self.name)

    def _cited_first(
        self, statement: Statement, found: Judgement, evidence: Evidence, question: str | None
    ) -> Judgement:
        """The same judgement with evidence from the passages that the sentence cites, or a note that there is none."""
        if not statement.cited or not found.supported:
            return found
        if {source.number for source in found.sources} <= statement.cited:
            return found
        (there,) = self.judge([statement], evidence.only(statement.cited), question)
        if there.supported:
            return replace(found, sources=there.sources)
        where = ", ".join(f"[{number}]" for number in sorted({source.number for source in found.sources}))
        cited = ", ".join(f"[{number}]" for number in sorted(statement.cited))
        if statement.cited & {source.number for source in found.sources}:
            return replace(found, notes=(*found.notes, f"supported by {where} together; it cites {cited}"))
        return replace(found, notes=(*found.notes, f"supported by {where}, not by {cited}, which it cites"))


def verify(
    answer: str | Answer,
    context: Context | Sequence[Passage],
    *,
    question: str | None = None,
    verifier: Verifier | None = None,
) -> Verification:
    """Which sentences of an answer the passages support, and which not.

    Parameters
    ----------
    answer : any generator's text; citation marks such as ``[2]`` name passages of the context, from 1.
    context : what the answer rests on.
    question : what was asked; by default that of the answer or of the context. It may be absent, but a short
        answer ("1985") can hardly be judged without it.
    verifier : the rules and the shipped reader by default.

    Raises
    ------
    InputError : an argument is of another kind.
    """
    text = answer.text if isinstance(answer, Answer) else answer
    passages = context.passages if isinstance(context, Context) else context
    given: object = passages
    if not isinstance(text, str) or not isinstance(given, Sequence) or not all(isinstance(p, Passage) for p in given):
        raise InputError("verify takes a text or an Answer, and a Context or a list of Passages")
    if question is None:
        asked = answer.question if isinstance(answer, Answer) else ""
        question = asked or (context.question if isinstance(context, Context) else "")
    verifier = _default() if verifier is None else verifier
    if isinstance(answer, Answer) and answer.abstained:
        return Verification((), verifier.name)
    return verifier.verify(text, tuple(passages), question.strip() or None)


@lru_cache(maxsize=1)
def _default() -> Verifier:
    from carrel.reader.verifier import ReaderVerifier

    return ReaderVerifier()


def statements_of(answer: str, passages: int = 0) -> list[Statement]:
    """The sentences of an answer that claim something, without their citation marks.

    A mark belongs to the claim that it stands in or after. One of a question, or of a sentence that says what the
    documents do not say, is no claim's.
    """
    marks = [mark for run in find_runs(answer) for mark in run if mark.is_plain or _is_mark(answer, mark, passages)]
    blank = list(answer)
    for mark in marks:
        blank[mark.start : mark.end] = " " * (mark.end - mark.start)
    text = "".join(blank)
    out: list[tuple[Span, str]] = []
    owners: list[tuple[int, int | None]] = []  # where a sentence begins that marks belong to, and which claim it is
    for span in split_sentences(text):
        span, part = trimmed(span.start, text[span.start : span.end])
        if claims_something(part):
            owners.append((span.start, len(out)))
            out.append((span, " ".join(part.split())))
        elif _asks_or_declines(part):
            owners.append((span.start, None))
    cited: list[set[int]] = [set() for _ in out]
    for mark in marks:
        owner = next((owner for start, owner in reversed(owners) if start < mark.start), None)
        if owner is not None:
            cited[owner] |= {number for number in mark.numbers if 1 <= number <= passages}
    return [
        Statement(part, span, frozenset(numbers), answer[span.start : span.end])
        for (span, part), numbers in zip(out, cited, strict=True)
    ]


def _is_mark(text: str, mark: Mark, passages: int) -> bool:
    """Whether a bracket in doubt names a passage: after a word without a space, or after a sentence."""
    if not all(1 <= number <= passages for number in mark.numbers):
        return False
    return text[mark.start - 1 : mark.start].isalpha() or bool(_SENTENCE_END.search(text[: mark.start][-9:]))


def claims_something(sentence: str) -> bool:
    """Not a question, a heading, a phrase without words, or a word that the documents do not say."""
    if _asks_or_declines(sentence):
        return False
    content = claim_of(sentence).content
    if sentence.endswith(":"):
        return any(token.kind in ("number", "year", "name") for token in content)
    return bool(content) or re.fullmatch(r"\W*(?:yes|no)\W*", sentence, re.IGNORECASE) is not None


def _asks_or_declines(sentence: str) -> bool:
    return sentence.endswith("?") or _NOTHING_CLAIMED.search(sentence) is not None


def _cited(source: Source, evidence: Evidence) -> Citation:
    return cite(evidence.passages[source.number].passage, source.number, source.span.start, source.span.end)
