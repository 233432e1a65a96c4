"""Quotations in replies: what a model says it quotes counts only where it stands in what the model was shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from carrel.agents.tasks import NOTHING
from carrel.generation.extractive import ABSTENTION
from carrel.retrieval.merging import kept_spans
from carrel.retrieval.sentences import split_sentences
from carrel.types import Passage, Span

LEAST_CHARACTERS = 12
"""Fewer letters and signs stand in any text, and prove nothing."""
_LONGEST_SENTENCE = 600  # characters; a longer one is a table or a list, and is not quoted whole
_ALIKE = str.maketrans("“”„«»‘’‚–—‑", '"""""\'\'\'---')
_LETTER = r"[^\W\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]"  # of scripts that part words by spaces
_QUOTES = "\"“”„«»'‘’ "
_BULLET = re.compile(r"^\s*(?:[-*•>]\s+|\d{1,3}[.)]\s+|\(\d\.\d+\)\s+)+")
_NUMBERED_FIRST = re.compile(r"^[\[【](\d{1,3})[\]】]\s*[:–—-]?\s*(\S.*)$")
_NUMBERED_LAST = re.compile(r"^(.*\S)\s*[\[【](\d{1,3})[\]】]\W*$")


@dataclass(frozen=True, slots=True)
class Quoted:
    """A line of a reply that says it quotes: the number of a passage, 0 where it names none, and the words."""

    number: int
    words: str


def says_nothing(text: str) -> bool:
    """Whether a reply is the word for nothing, or declines to answer from what it was shown."""
    return text.strip() == ABSTENTION or text.strip(" .\n\"'*").upper() == NOTHING


def bare(line: str) -> str:
    """A line without the bullet or number of a list before it."""
    return _BULLET.sub("", line).strip()


def read_quotations(text: str) -> list[Quoted]:
    """The quotations of a reply, one a line, as ``[2] "the words"`` or ``"the words" [2]``; other lines are talk."""
    out: list[Quoted] = []
    for line in map(bare, text.splitlines()):
        first, last = _NUMBERED_FIRST.match(line), _NUMBERED_LAST.match(line)
        if first is not None:
            out.append(Quoted(int(first[1]), first[2].strip(_QUOTES)))
        elif last is not None:
            out.append(Quoted(int(last[2]), last[1].strip(_QUOTES)))
        elif len(line) > 1 and line[0] in '"“„«' and line.rstrip(".")[-1:] in '"”“»':
            out.append(Quoted(0, line.strip(_QUOTES + ".")))
    return [quoted for quoted in out if quoted.words]


def quotation(words: str, passage: Passage) -> Passage | None:
    """The place of a passage where these words stand, as a passage of its own; None where they do not.

    They stand there exactly, from whole word to whole word, but for white space, the shape of quotation marks and
    dashes, and a stop at their end. Of a pruned passage only what is shown is looked at.
    """
    written = words.translate(_ALIKE).replace("\\[", "[").strip(_QUOTES)
    for wanted in dict.fromkeys((written, written.rstrip(".,;:…" + _QUOTES))):
        if sum(map(len, wanted.split())) < LEAST_CHARACTERS:
            continue
        pattern = re.compile(
            rf"(?:(?<!{_LETTER})(?<!{_LETTER}['.,-])|(?!\w))" + r"\s+".join(map(re.escape, wanted.split()))
            + rf"(?:(?!['.,-]?{_LETTER})|(?<!\w))"
        )  # fmt: skip
        for span in kept_spans(passage):
            found = pattern.search(_between(passage, span.start, span.end).translate(_ALIKE))
            if found is not None:
                return _part(passage, span.start + found.start(), span.start + found.end())
    return None


def find_quotation(quoted: Quoted, passages: Sequence[Passage]) -> tuple[int, Passage] | None:
    """Where a quotation stands: the place of its passage, from 0, and the quotation; that it names is looked at first.

    A part of a sentence brings the sentence: half of one may say the opposite.
    """
    named = [quoted.number - 1] if 1 <= quoted.number <= len(passages) else []
    for place in (*named, *(place for place in range(len(passages)) if place not in named)):
        found = quotation(quoted.words, passages[place])
        if found is not None:
            return place, _whole_sentences(found, passages[place])
    return None


def distinct(quotes: Iterable[Passage]) -> tuple[Passage, ...]:
    """Quotations in their order, without those that stand inside another."""
    out: list[Passage] = []
    for quote in quotes:
        if not any(_holds(other, quote) for other in out):
            out = [*(other for other in out if not _holds(quote, other)), quote]
    return tuple(out)


def _holds(outer: Passage, inner: Passage) -> bool:
    return outer.document_id == inner.document_id and outer.start <= inner.start and inner.end <= outer.end


def _whole_sentences(quote: Passage, passage: Passage) -> Passage:
    around = next(s for s in kept_spans(passage) if s.start <= quote.start and quote.end <= s.end)
    spans = split_sentences(passage.text, around.start - passage.start, around.end - passage.start)
    touched = [s for s in spans if s.start + passage.start < quote.end and quote.start < s.end + passage.start]
    span = Span(touched[0].start + passage.start, touched[-1].end + passage.start)
    if len(span) > max(_LONGEST_SENTENCE, len(quote.text)):
        return quote
    text = _between(passage, span.start, span.end)
    start = span.start + len(text) - len(text.lstrip())
    return _part(passage, start, span.start + len(text.rstrip()))


def _between(passage: Passage, start: int, end: int) -> str:
    return passage.text[start - passage.start : end - passage.start]


def _part(passage: Passage, start: int, end: int) -> Passage:
    return replace(passage, start=start, end=end, text=_between(passage, start, end), kept=None)
