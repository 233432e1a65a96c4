"""The marks that a generator writes, bound to the sentences of the passages that they name; nothing is patched.

A mark says that its sentence rests on a passage. Whether it does is a verifier's to say, mark by mark; what it finds
is cited, and what it does not find is reported, in the words of the answer. A sentence can be judged while the next
one is still being written.

Reference: Gao et al., "Enabling Large Language Models to Generate Text with Citations", arXiv 2305.14627 (a statement
is supported by the passages it cites together, and a citation is needed or not).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from carrel.generation.citations import cite
from carrel.generation.evidence import Evidence, Source
from carrel.generation.verification import Statement, Verifier, claims_something, statements_of
from carrel.retrieval.sentences import split_sentences
from carrel.types import Citation, Passage, Span, UnsupportedMark

_MARKS_AFTER = re.compile(r"(?:\s*[\[【][^\[\]【】\n]{0,60}[\]】])*")
_BRACKETS = re.compile(r"[\[【][^\[\]【】\n]{0,60}[\]】]")
# A word or a bracket of which more may come; East Asian text has no spaces, and is not one word.
_UNFINISHED = re.compile(r"(?:\w{1,20}|[\[【][^\[\]【】\n]{0,60})\Z")
_LOOK = 80  # characters at the end of a text that may hold it

_Found = dict[int, tuple[Source, ...]]  # by the number of the passage


@dataclass(frozen=True, slots=True)
class Bound:
    """What an answer's marks lead to: citations in the order of the text, and the marks that lead to nothing.

    ``places`` are, for each citation, the sentences of the text that it supports, with the marks after them.
    """

    citations: tuple[Citation, ...]
    unsupported: tuple[UnsupportedMark, ...]
    places: tuple[tuple[Span, ...], ...] = field(default=(), compare=False)


def bind(text: str, passages: Sequence[Passage], question: str | None, verifier: Verifier) -> Bound:
    """Find, for every mark of a text, what of its passage supports its sentence.

    Where no passage of a sentence's marks supports it alone, all of them may together. Marks of passages that there
    are not, and sentences that claim nothing, are left out.
    """
    return Binder(passages, question, verifier).finish(text)


class Binder:
    """Binds a text that is being written: each sentence with marks once the next has begun, the rest at the end.

    A beginning may be parted otherwise than the whole: a bracket turns out to be code or a footnote, a claim a
    question. So the end is decided by the whole text. What was judged of the very same sentence with the same marks
    is kept, all else is judged then: the result is always that of ``bind``.
    """

    def __init__(self, passages: Sequence[Passage], question: str | None, verifier: Verifier) -> None:
        self._passages, self._question, self._verifier = passages, question, verifier
        self._evidence: dict[frozenset[int], Evidence] = {}
        self._found: dict[Statement, _Found] = {}
        self._text = ""
        self._open = 0  # where the last sentence that claims something begins: marks may still join it

    def add(self, piece: str) -> list[tuple[Span, Bound]]:
        """Take the next piece; each sentence with marks that it finished, as its place in the text and what it has."""
        self._text += piece
        settled = self._settled()
        if settled is None:
            return []
        statements = statements_of(settled, len(self._passages))
        if statements:
            self._open = statements[-1].span.start
        new = [statement for statement in statements[:-1] if statement.cited and statement not in self._found]
        self._judge(new)
        return [(statement.span, self._bound([statement], settled)) for statement in new]

    def finish(self, text: str) -> Bound:
        """What the marks of the whole text lead to."""
        statements = [statement for statement in statements_of(text, len(self._passages)) if statement.cited]
        self._judge([statement for statement in statements if statement not in self._found])
        return self._bound(statements, text)

    def _settled(self) -> str | None:
        """The text without an end that may go on; None where no sentence with a mark can be over yet.

        A backtick without its twin may make code of what follows, and footnotes stand at the end.
        """
        if all(self._text.find(bracket, self._open) < 0 for bracket in "]】"):
            return None
        unfinished = _UNFINISHED.search(self._text, max(self._open, len(self._text) - _LOOK))
        end = unfinished.start() if unfinished else len(self._text)
        tail, marks = _BRACKETS.subn(lambda match: " " * len(match[0]), self._text[self._open : end])
        if not marks or self._text.count("`") % 2 or "[^" in self._text:
            return None
        if not any(claims_something(tail[span.start : span.end].strip()) for span in split_sentences(tail)[1:]):
            return None  # the whole text is only taken apart where a claim has begun
        return self._text[:end]

    def _judge(self, statements: Sequence[Statement]) -> None:
        """Look for what supports each statement, for all that name a passage at once."""
        found: dict[Statement, _Found] = {
            statement: dict.fromkeys(sorted(statement.cited), ()) for statement in statements
        }
        for number in sorted(frozenset[int]().union(*(statement.cited for statement in statements))):
            citing = [statement for statement in statements if number in statement.cited]
            judged = self._verifier.judge(citing, self._only({number}), self._question)
            for statement, judgement in zip(citing, judged, strict=True):
                if judgement.supported:
                    found[statement][number] = judgement.sources
        for statement, sources in found.items():
            if len(statement.cited) > 1 and not any(sources.values()):
                self._judge_together(statement, sources)
        self._found.update(found)

    def _judge_together(self, statement: Statement, found: _Found) -> None:
        """The sources of each cited passage, where only all of them support the statement."""
        (judged,) = self._verifier.judge([statement], self._only(statement.cited), self._question)
        for source in judged.sources if judged.supported else ():
            found[source.number] += (source,)

    def _only(self, numbers: Collection[int]) -> Evidence:
        key = frozenset(numbers)
        if key not in self._evidence:
            self._evidence[key] = Evidence([(number, self._passages[number - 1]) for number in sorted(key)])
        return self._evidence[key]

    def _bound(self, statements: Sequence[Statement], text: str) -> Bound:
        """What was found for statements, in their order."""
        places: dict[Citation, list[Span]] = {}
        unsupported: list[UnsupportedMark] = []
        for statement in statements:
            for number, sources in self._found[statement].items():
                passage = self._passages[number - 1]
                for source in sources:
                    citation = cite(passage, number, source.span.start, source.span.end)
                    places.setdefault(citation, []).append(_with_marks(statement.span, text))
                if not sources:
                    span = statement.span
                    unsupported.append(UnsupportedMark(number, span.start, span.end, statement.written))
        return Bound(tuple(places), tuple(unsupported), tuple(map(tuple, places.values())))


def _with_marks(span: Span, text: str) -> Span:
    """A sentence with the marks that follow it."""
    after = _MARKS_AFTER.match(text, span.end)
    return Span(span.start, after.end() if after else span.end)
