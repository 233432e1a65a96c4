"""Many notes made one: pieces read side by side, notes merged in groups that the window holds, a tree of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from carrel.agents.base import Fit, Fitted, Score, Steps
from carrel.agents.pieces import halves
from carrel.agents.quotations import says_nothing
from carrel.agents.replying import Note, Written, gathered, note_of, renumbered, with_evidence, write
from carrel.agents.room import with_passages
from carrel.agents.tasks import ENOUGH
from carrel.errors import CarrelError, ContextOverflowError, InputError, RefusalError
from carrel.generation.citations import cite
from carrel.generation.extractive import ABSTENTION
from carrel.types import Passage, Prompt

_HEADER_TOKENS = 8  # of a passage without a title


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of a piece: a note, empty where it says nothing, or the error for which it could not be read."""

    note: Note = field(default_factory=Note)
    prompt_tokens: int = 0
    error: CarrelError | None = None
    skipped: str = ""


def check_tokens(**tokens: int | None) -> None:
    """Raise InputError where one is neither None nor a whole number from 16."""
    for name, number in tokens.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 16):
            raise InputError(f"{name} is a number of tokens, 16 or more, not {number!r}")


def cut_up(prompt: Prompt, passages: tuple[Passage, ...], limit: int | None = None) -> Steps[list[Prompt]]:
    """A text as prompts that it fills, in its order; nothing is lost between them."""
    prompts: list[Prompt] = []
    while passages:
        made, passages = yield from with_passages(prompt, passages, limit=limit)
        prompts.append(made)
    return prompts


def read_piece(prompt: Prompt) -> Steps[list[Reading]]:
    """The note of a piece; of its halves, where whoever serves the model counts otherwise and finds it too long."""
    try:
        written = yield from write(prompt)
    except RefusalError as error:
        return [Reading(error=error, skipped=skipped(prompt, error))]
    except ContextOverflowError as error:
        parts = halves(prompt.passages)[::-1]
        if not parts:
            return [Reading(error=error, skipped=skipped(prompt, error))]
        readings: list[list[Reading]] = yield [read_piece(replace(prompt, passages=part)) for part in parts]
        return [reading for each in readings for reading in each]
    note = yield from kept_short(said(written), prompt.max_tokens)
    return [Reading(note, written.prompt_tokens)]


def said(written: Written) -> Note:
    """A reply as a note: empty where it says that there is nothing, without a first line ENOUGH."""
    if written.abstained or says_nothing(written.text):
        return Note(unsupported=written.unsupported)
    note = note_of(written)
    first, _, rest = note.text.partition("\n")
    return replace(note, text=rest) if first.strip(" .:*").upper() == ENOUGH else note


def kept_short(note: Note, tokens: int | None) -> Steps[Note]:
    """A note cut at the end of a sentence, where a model said more than it was allowed."""
    if tokens is None or len(note.text) <= tokens:
        return note
    passage = Passage("", 0, len(note.text), note.text)
    try:
        fitted: Fitted = yield Fit(Prompt(""), (passage,), limit=tokens + _HEADER_TOKENS)
    except ContextOverflowError:
        return replace(note, text=note.text[:tokens])
    return replace(note, text=fitted.taken[0].text.rstrip())


def shorter(note: Note) -> Note:
    """A note with a quarter less evidence; without any, with half the text."""
    if note.evidence:
        return with_evidence(note, len(note.evidence) * 3 // 4)
    return replace(note, text=note.text[: len(note.text) // 2].rpartition(" ")[0])


def with_notes(prompt: Prompt, notes: Sequence[Note]) -> Steps[Prompt | None]:
    """A prompt with notes and all of their evidence; None where the window does not hold them."""
    texts, evidence = gathered(notes)
    try:
        made, left = yield from with_passages(replace(prompt, notes=texts), evidence, whole=True)
    except ContextOverflowError:
        return None
    return made if not left and len(made.passages) == len(evidence) else None


def together(prompt: Prompt, notes: Sequence[Note]) -> Steps[Prompt]:
    """A prompt with all notes, made shorter until the window holds them: first by the evidence that matters least.

    That is what is the least relevant to the question; where there is none, what the longest note has last. When no
    evidence is left, the longest texts are cut.

    Raises
    ------
    ContextOverflowError : the prompt does not fit without any.
    """
    yield from with_passages(prompt)
    shortened, (_, evidence) = list(notes), gathered(notes)
    ranked: list[Passage] = []
    if prompt.question.strip() and evidence:
        scores: tuple[float, ...] = yield Score(prompt.question, evidence)
        ranked = [evidence[place] for place in sorted(range(len(evidence)), key=lambda place: -scores[place])]
    while (made := (yield from with_notes(prompt, shortened))) is None:
        if ranked:
            ranked = ranked[: len(ranked) * 3 // 4]
            shortened = [_with_only(note, ranked) for note in shortened]
        else:
            longest = max(range(len(shortened)), key=lambda place: _length(shortened[place]))
            shortened[longest] = shorter(shortened[longest])
    return made


def _with_only(note: Note, evidence: Sequence[Passage]) -> Note:
    """A note with no other evidence than this; marks of the rest are taken out."""
    keys = {(each.document_id, each.start, each.end) for each in evidence}
    places = [place for place, e in enumerate(note.evidence) if (e.document_id, e.start, e.end) in keys]
    numbers = {place + 1: [number] for number, place in enumerate(places, start=1)}
    text = renumbered(note.text, numbers)
    return replace(note, text=text, evidence=tuple(note.evidence[place] for place in places))


def grouped(prompt: Prompt, notes: Sequence[Note]) -> Steps[list[tuple[Prompt, list[Note]]]]:
    """Neighbouring notes together as far as the window holds them with a prompt: two at least, but for the last."""
    groups: list[tuple[Prompt, list[Note]]] = []
    for note in notes:
        if groups:
            _, group = groups[-1]
            larger = yield from with_notes(prompt, [*group, note])
            if larger is None and len(group) == 1:
                larger = yield from together(prompt, [*group, note])
            if larger is not None:
                groups[-1] = larger, [*group, note]
                continue
        groups.append((prompt, [note]))
    return groups


def merged(prompt: Prompt, notes: Sequence[Note]) -> Steps[tuple[list[Note], list[str]]]:
    """One level of a tree: fewer notes than before, groups merged side by side; and what could not be merged, why.

    A group that a model declines to merge, or of which it makes nothing, is one note of the texts as they are.
    """
    groups: list[tuple[Prompt, list[Note]]] = yield grouped(prompt, notes)
    made: list[tuple[Note, str]] = yield [_merge(asked_with, group) for asked_with, group in groups]
    return [note for note, _ in made if note.text], [why for _, why in made if why]


def _merge(prompt: Prompt, group: Sequence[Note]) -> Steps[tuple[Note, str]]:
    if len(group) == 1:
        return group[0], ""
    texts, evidence = gathered(group)
    joined = Note("\n".join(texts), evidence)
    try:
        written = yield from write(prompt)
    except (RefusalError, ContextOverflowError) as error:
        return joined, skipped(prompt, error)
    note = yield from kept_short(said(written), prompt.max_tokens)
    return (note, "") if note.text.strip() else (joined, "")


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer from notes: those of each round of merging, and what was not merged."""

    answer: Written
    levels: tuple[tuple[Note, ...], ...] = ()
    unmerged: tuple[str, ...] = ()


def answered(final: Prompt, merge: Prompt, notes: Sequence[Note]) -> Steps[Answered]:
    """The answer from all notes, which are merged in rounds until they fit; without any, there is none.

    Raises
    ------
    RefusalError : the model declines to answer.
    """
    if not notes:
        return Answered(as_written(Note()))
    levels, unmerged = [tuple(notes)], list[str]()
    while (prompt := (yield from with_notes(final, levels[-1]))) is None and len(levels[-1]) > 1:
        fewer, failures = yield merged(merge, levels[-1])
        levels.append(tuple(fewer))
        unmerged += failures
    if prompt is None:
        prompt = yield from together(final, levels[-1])
    answer = yield from write(prompt, stream=True)
    return Answered(answer, tuple(levels), tuple(unmerged))


def told(readings: Sequence[Reading]) -> list[Note]:
    """The notes of what was read, without those that say nothing.

    Raises
    ------
    RefusalError, ContextOverflowError : not one piece could be read.
    """
    errors = [reading.error for reading in readings if reading.error is not None]
    if errors and len(errors) == len(readings):
        raise errors[0]
    return [reading.note for reading in readings if reading.note.text.strip()]


def as_written(note: Note, confidence: float | None = None) -> Written:
    """A note as the text of a result; an empty one says that there is no answer."""
    if not note.text.strip():
        return Written(ABSTENTION, unsupported=note.unsupported, abstained=True)
    citations = tuple(cite(each, number, each.start, each.end) for number, each in enumerate(note.evidence, start=1))
    return Written(note.text, citations, note.evidence, note.unsupported, confidence=confidence)


def skipped(prompt: Prompt, error: CarrelError) -> str:
    """What could not be read, by its first words, and why."""
    first = next((passage.text.strip()[:80] for passage in prompt.passages), "") or "notes"
    return f"{first}: {error}"


def _length(note: Note) -> int:
    return len(note.text) + sum(len(passage.text) for passage in note.evidence)
