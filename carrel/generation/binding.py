"""The marks that a generator writes, bound to the sentences of the passages that they name; nothing is patched.

A mark says that its sentence rests on a passage. Whether it does is a verifier's to say, mark by mark; what it finds
is cited, and what it does not find is reported, in the words of the answer.

Reference: Gao et al., "Enabling Large Language Models to Generate Text with Citations", arXiv 2305.14627 (a statement
is supported by the passages it cites together, and a citation is needed or not).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carrel.generation.citations import cite
from carrel.generation.evidence import Evidence, Source
from carrel.generation.verification import Statement, Verifier, statements_of
from carrel.types import Citation, Passage, UnsupportedMark


@dataclass(frozen=True, slots=True)
class Bound:
    """What an answer's marks lead to: citations in the order of the text, and the marks that lead to nothing."""

    citations: tuple[Citation, ...]
    unsupported: tuple[UnsupportedMark, ...]


def bind(text: str, passages: Sequence[Passage], question: str | None, verifier: Verifier) -> Bound:
    """Find, for every mark of a text, what of its passage supports its sentence.

    Where no passage of a sentence's marks supports it alone, all of them may together. Marks of passages that there
    are not, and sentences that claim nothing, are left out.
    """
    statements = [statement for statement in statements_of(text, len(passages)) if statement.cited]
    if not statements:
        return Bound((), ())
    evidence = Evidence(list(enumerate(passages, start=1)))
    found: dict[tuple[int, int], tuple[Source, ...]] = {}  # by statement and passage
    for number in sorted(frozenset().union(*(statement.cited for statement in statements))):
        citing = [index for index, statement in enumerate(statements) if number in statement.cited]
        judged = verifier.judge([statements[i] for i in citing], evidence.only(frozenset({number})), question)
        found.update(((index, number), j.sources) for index, j in zip(citing, judged, strict=True) if j.supported)
    citations: dict[Citation, None] = {}
    unsupported: list[UnsupportedMark] = []
    for index, statement in enumerate(statements):
        sources = {number: found.get((index, number), ()) for number in sorted(statement.cited)}
        if len(statement.cited) > 1 and not any(sources.values()):
            sources = _together(statement, evidence, question, verifier)
        for number, those in sources.items():
            passage = evidence.passages[number].passage
            citations.update((cite(passage, number, source.span.start, source.span.end), None) for source in those)
            if not those:
                unsupported.append(UnsupportedMark(number, statement.span.start, statement.span.end, statement.written))
    return Bound(tuple(citations), tuple(unsupported))


def _together(
    statement: Statement, evidence: Evidence, question: str | None, verifier: Verifier
) -> dict[int, tuple[Source, ...]]:
    """The sources of each cited passage, where only all of them support the statement."""
    (judged,) = verifier.judge([statement], evidence.only(statement.cited), question)
    sources = judged.sources if judged.supported else ()
    return {number: tuple(s for s in sources if s.number == number) for number in sorted(statement.cited)}
