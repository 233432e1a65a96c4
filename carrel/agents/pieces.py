"""Long texts in pieces: what they are made of, and reading them one prompt at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

from carrel.agents.base import Fit, Fitted, Steps
from carrel.agents.fitting import part
from carrel.agents.replying import Note, with_evidence
from carrel.errors import ContextOverflowError, InputError
from carrel.inputs import well_formed
from carrel.retrieval.sentences import split_sentences
from carrel.types import Document, Passage, Prompt, Span

UNIT_CHARACTERS = 1200
"""What is numbered in a prompt: paragraphs, or sentences of long ones, as far as they have no more characters."""

Text = Document | Passage
Texts = Text | Sequence[Text]
"""One long text, or several in their order."""


def units(texts: Texts) -> tuple[Passage, ...]:
    """Documents as passages of a few paragraphs, in their order; joined they are the text. Passages stay whole.

    Raises
    ------
    InputError : there is no text to read.
    """
    one = isinstance(texts, (Document, Passage, str)) or not isinstance(texts, Iterable)
    given: Iterable[object] = [texts] if one else cast("Iterable[object]", texts)
    out: list[Passage] = []
    for text in given:
        if not isinstance(text, (Document, Passage)):
            raise InputError(
                "a flow reads documents and passages, such as library.document(id) or carrel.Document(text, id=...),"
                f" not {text!r:.80}"
            )
        out += [text] if isinstance(text, Passage) else _units(text)
    out = [unit for unit in out if unit.text.strip()]
    if not out:
        raise InputError("there is no text to read: every document given is empty")
    return tuple(out)


def _units(document: Document) -> list[Passage]:
    text, starts = well_formed(document.text), [0]
    for start, end in _paragraphs(text):
        if end - starts[-1] > UNIT_CHARACTERS and start > starts[-1]:
            starts.append(start)
    ends = [*starts[1:], len(text)]
    parts = [
        Passage(document.id, start, end, text[start:end], document.title, document.source, pages=document.pages)
        for start, end in zip(starts, ends, strict=True)
    ]
    return [replace(part, metadata=document.metadata) for part in parts]


def _paragraphs(text: str) -> Iterable[tuple[int, int]]:
    """Lines with what parts them from the next; of a line that is longer than a unit, the sentences."""
    start = 0
    for line in text.splitlines(keepends=True):
        spans = split_sentences(line) if len(line) > UNIT_CHARACTERS else [Span(0, len(line))]
        for span in spans:
            yield start + span.start, start + span.end
        start += len(line)


def halves(piece: tuple[Passage, ...], *, backwards: bool = False) -> list[tuple[Passage, ...]]:
    """A piece in two, the one to be read first last; between passages, or sentences. Empty where it is one sentence."""
    if len(piece) > 1:
        parts = [piece[: len(piece) // 2], piece[len(piece) // 2 :]]
    else:
        (passage,) = piece
        length = len(passage.text)
        ends = [] if passage.kept is not None else [span.end for span in split_sentences(passage.text)][:-1]
        if not ends:
            return []
        cut = min(ends, key=lambda end: abs(2 * end - length))
        parts = [(part(passage, 0, cut),), (part(passage, cut, length),)]
    return parts if backwards else parts[::-1]


def next_piece(
    prompt: Prompt, left: tuple[Passage, ...], limit: int | None, *, backwards: bool = False
) -> Steps[Fitted]:
    """As much of a text as a prompt takes, from its beginning; or from its end, in whole passages."""
    if not backwards:
        fitted: Fitted = yield Fit(prompt, left, limit)
        return fitted
    reversed_: Fitted = yield Fit(prompt, left[::-1], limit, whole=True)
    return Fitted(reversed_.taken[::-1], reversed_.left[::-1])


def piece_beside(
    note: Note, prompt: Prompt, left: tuple[Passage, ...], limit: int | None, *, backwards: bool = False
) -> Steps[tuple[Note, Fitted]]:
    """The next piece for a prompt with a note, and the note with no more evidence than leaves as much room for it.

    A note that leaves no room at all, since a model said more than it was allowed, is cut.
    """
    while True:
        full = replace(prompt, passages=note.evidence, notes=(note.text,) if note.text else ())
        fitted: Fitted | None = None
        try:
            fitted = yield from next_piece(full, left, limit, backwards=backwards)
        except ContextOverflowError:
            if not note.evidence and not note.text:
                raise
        if fitted and (not fitted.left or _length(fitted.taken) >= _length(note.evidence)):
            return note, fitted
        shorter = note.text if note.evidence else note.text[: len(note.text) // 2].rpartition(" ")[0]
        note = with_evidence(replace(note, text=shorter), len(note.evidence) * 3 // 4)


def _length(passages: Iterable[Passage]) -> int:
    return sum(len(passage.text) for passage in passages)
