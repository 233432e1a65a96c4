"""What all flows do with replies: bind their marks, carry the evidence on, ask once more where the form is wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from carrel.agents.base import Ask, Bind, Fit, Fitted, Steps
from carrel.agents.tasks import REPAIR
from carrel.errors import RefusalError, ReplyFormatError
from carrel.generation.answering import may_have_marks
from carrel.generation.binding import Bound
from carrel.generation.marks import SPACES, Mark, find_runs
from carrel.types import Citation, Completion, Passage, Prompt, Span, UnsupportedMark

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Note:
    """What was noted of a text: its marks ``[1]``, ``[2]`` are the numbers of ``evidence``, which are quotations.

    ``unsupported`` are marks of the reply that nothing bears out: no longer in the text, and never cited.
    """

    text: str = ""
    evidence: tuple[Passage, ...] = ()
    unsupported: tuple[UnsupportedMark, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """A text that a flow gives: an answer, a summary, a section. Marks are the numbers of ``passages``.

    ``citations`` are verified; ``unsupported`` are marks that nothing bears out, left in the text as written.
    ``places`` are, for each citation, the parts of the text that it stands for; where there are none, every mark of
    its number. ``prompt_tokens`` are those of the prompt that it replies to, as the model counts them.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    passages: tuple[Passage, ...] = ()
    unsupported: tuple[UnsupportedMark, ...] = ()
    abstained: bool = False
    confidence: float | None = None
    places: tuple[tuple[Span, ...], ...] = ()
    prompt_tokens: int = 0


def write(prompt: Prompt, *, example: str = "", stream: bool = False) -> Steps[Written]:
    """Ask for a text and bind its marks.

    Raises
    ------
    RefusalError : the model declines.
    """
    _, written = yield from write_with_sign(prompt, "", example=example, stream=stream)
    return written


def write_with_sign(
    prompt: Prompt, sign: str, *, example: str = "", stream: bool = False
) -> Steps[tuple[bool, Written]]:
    """``write``, and whether the reply began with a line of one word in capitals, which is no part of the text."""
    reply: Completion = yield from _accepted(Ask(prompt, example, stream))
    first, _, rest = reply.text.partition("\n")
    signed = bool(sign) and first.strip().rstrip(":.").upper() == sign
    if signed:
        reply = replace(reply, text=rest)
    bound = yield from bound_marks(reply, prompt)
    abstained = reply.finish_reason == "abstained"
    citations, places = ((), ()) if abstained else (bound.citations, bound.places)
    written = Written(reply.text, citations, prompt.passages, bound.unsupported, abstained, reply.confidence, places)
    return signed, replace(written, prompt_tokens=reply.usage.prompt_tokens)


def _accepted(ask: Ask) -> Steps[Completion]:
    """The reply to a request; RefusalError where the model declines."""
    reply: Completion = yield ask
    if reply.finish_reason == "refused":
        raise RefusalError(f"the model declined to reply to {ask.prompt.question!r:.80}: {reply.text:.200}")
    return reply


def take_note(prompt: Prompt, *, example: str = "") -> Steps[Note]:
    """Ask for notes; what they cite becomes their evidence, and their marks its numbers."""
    text = yield from write(prompt, example=example)
    return note_of(text)


def note_of(written: Written) -> Note:
    """A text with its citations as a note."""
    if written.abstained:
        return Note(unsupported=written.unsupported)
    quotations = {(c.document_id, c.start, c.end): quoted(c, written.passages) for c in written.citations}
    evidence = side_by_side(quotations.values())
    places = written.places or ((),) * len(written.citations)
    standing = [
        (citation.number, spans, _number_in(evidence, citation))
        for citation, spans in zip(written.citations, places, strict=True)
    ]

    def new(mark: Mark) -> list[int]:
        here = (
            place
            for number, spans, place in standing
            if number in mark.numbers and (not spans or any(span.start <= mark.start < span.end for span in spans))
        )
        return sorted(set(here))

    return Note(_remarked(written.text, new), evidence, written.unsupported)


def _number_in(evidence: Sequence[Passage], citation: Citation) -> int:
    """The number of the evidence that holds a citation."""
    return next(
        number
        for number, passage in enumerate(evidence, start=1)
        if passage.document_id == citation.document_id
        and passage.start <= citation.start
        and citation.end <= passage.end
    )


def side_by_side(passages: Iterable[Passage]) -> tuple[Passage, ...]:
    """Passages in the order given, but those that continue one another are one."""
    out: list[Passage] = []
    for passage in passages:
        last = out[-1] if out else None
        if last is not None and last.document_id == passage.document_id and last.end == passage.start:
            out[-1] = replace(last, end=passage.end, text=last.text + passage.text)
        else:
            out.append(passage)
    return tuple(out)


def quoted(citation: Citation, passages: Sequence[Passage]) -> Passage:
    """A citation as a passage of its own, with the title and the heading of the one that it was quoted from."""
    parent = passages[citation.number - 1]
    return replace(parent, start=citation.start, end=citation.end, text=citation.quote, kept=None)


def renumbered(text: str, numbers: Mapping[int, Sequence[int]]) -> str:
    """A text whose marks have other numbers; those without one are taken out. What may be a value stays as it is."""
    return _remarked(text, lambda mark: sorted({new for number in mark.numbers for new in numbers.get(number, ())}))


def _remarked(text: str, numbers: Callable[[Mark], Sequence[int]]) -> str:
    """A text with other numbers in its marks."""
    out: list[str] = []
    position = 0
    for mark in (mark for run in find_runs(text) for mark in run):
        new = numbers(mark)
        if not mark.is_plain and not new:
            continue
        before = text[position : mark.start]
        out += [before if new else before.rstrip(SPACES), "".join(f"[{place}]" for place in new)]
        position = mark.end
    return "".join([*out, text[position:]])


def words(text: str) -> str:
    """The words of a text without its marks: what two texts that say the same have in common."""
    return " ".join(re.findall(r"\w+", renumbered(text, {}).lower()))


def gathered(notes: Iterable[Note]) -> tuple[tuple[str, ...], tuple[Passage, ...]]:
    """The texts of notes with the numbers of one list of evidence, in which nothing is twice; empty ones left out."""
    evidence: dict[tuple[str, int, int], Passage] = {}
    texts: list[str] = []
    for note in notes:
        numbers: dict[int, list[int]] = {}
        for number, passage in enumerate(note.evidence, start=1):
            key = passage.document_id, passage.start, passage.end
            evidence.setdefault(key, passage)
            numbers[number] = [list(evidence).index(key) + 1]
        if note.text.strip():
            texts.append(renumbered(note.text, numbers))
    return tuple(texts), tuple(evidence.values())


def with_evidence(note: Note, most: int) -> Note:
    """A note with its first pieces of evidence; marks of the others are taken out of its text."""
    if most >= len(note.evidence):
        return note
    text = renumbered(note.text, {number: [number] for number in range(1, most + 1)})
    return replace(note, text=text, evidence=note.evidence[:most])


def bound_marks(reply: Completion, prompt: Prompt) -> Steps[Bound]:
    """What a reply's marks rest on: as its generator cited, or as they are found to."""
    if reply.citations or reply.finish_reason == "abstained" or not may_have_marks(reply.text):
        own = tuple(each for each in reply.citations if _is_quotation(each, prompt.passages))
        return Bound(own, (), _marks_of(reply.text, own))
    bound: Bound = yield Bind(reply.text, prompt.passages, prompt.question)
    return bound


def _is_quotation(citation: Citation, passages: Sequence[Passage]) -> bool:
    """Whether what a generator cites stands in the passage that it names, where it says."""
    if not 1 <= citation.number <= len(passages) or not citation.quote:
        return False
    passage = passages[citation.number - 1]
    if citation.document_id != passage.document_id or citation.start < passage.start:
        return False
    return passage.text[citation.start - passage.start : citation.end - passage.start] == citation.quote


def _marks_of(text: str, citations: Sequence[Citation]) -> tuple[tuple[Span, ...], ...]:
    """For each citation its own mark, where a text has as many marks of a number as there are citations of it."""
    marks: dict[int, list[Span]] = {}
    for mark in (mark for run in find_runs(text) for mark in run):
        for number in mark.numbers:
            marks.setdefault(number, []).append(Span(mark.start, mark.end))
    counts = Counter(citation.number for citation in citations)
    left = {number: iter(spans) for number, spans in marks.items() if len(spans) == counts[number]}
    return tuple((next(left[each.number]),) if each.number in left else () for each in citations)


def ask_in_form(prompt: Prompt, read: Callable[[str], T], *, example: str) -> Steps[T]:
    """Ask for a text of a certain form; one that cannot be read is asked for once more, with what was wrong.

    Parameters
    ----------
    read : makes of a text what is wanted; raises ValueError, which says why it cannot.
    example : a reply of the right form.

    Raises
    ------
    ReplyFormatError : the second reply is of the wrong form, too. RefusalError : the model declines.
    """
    return (yield from ask_as(prompt, lambda reply: read(reply.text), example=example))


def ask_as(prompt: Prompt, read: Callable[[Completion], T], *, example: str) -> Steps[T]:
    """``ask_in_form`` for what is read from more of a reply than its text: its citations, its probabilities."""
    why, asked = "", prompt
    for _ in range(2):
        if why:  # passages give way where the window is full
            bare = replace(prompt, passages=(), notes=(*prompt.notes, REPAIR.format(why=f"{why:.300}")))
            fitted: Fitted = yield Fit(bare, prompt.passages)
            asked = replace(bare, passages=fitted.taken)
        reply = yield from _accepted(Ask(asked, example))
        try:
            return read(reply)
        except ValueError as error:
            why = str(error)
    raise ReplyFormatError(f"twice the model's reply could not be used: {why}. It was: {reply.text!r:.200}")


def read_number(most: int) -> Callable[[str], int]:
    """Reads the number from 1 to ``most`` that a reply names first."""

    def read(text: str) -> int:
        found = re.search(r"\d+", text)
        if found is None or not 1 <= int(found[0]) <= most:
            raise ValueError(f"it names no number from 1 to {most}")
        return int(found[0])

    return read
