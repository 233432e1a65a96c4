"""Long texts, section by section: a plan, a state of bounded size, checks by code, one revision, cited evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from carrel.agents.base import Retrieve, Steps, flow
from carrel.agents.constraints import Constraint, count_words
from carrel.agents.replying import Note, Written, ask_in_form, gathered, note_of, renumbered, write
from carrel.agents.room import bounded, with_passages
from carrel.agents.tasks import DATA, MARKS
from carrel.agents.writing_plan import (
    MOST_SECTIONS,
    SECTION_WORDS,
    WHY,
    Planned,
    example,
    outline,
    read_plan,
    scaled,
    wanted_sections,
    why_of,
)
from carrel.errors import CarrelError, ContextOverflowError, InputError, RefusalError, ReplyFormatError
from carrel.generation.citations import cite
from carrel.options import check_question
from carrel.retrieval.filters import Where
from carrel.types import Passage, Prompt, UnsupportedMark

PLAN = (
    "Plan a long text for the assignment: one line for each section, with its main point and how many words it has,"
    ' like this: "What the section says - 300 words". Sections follow from one another and repeat nothing. Reply with'
    " the lines alone."
)
REPLAN = (
    "A long text is being written by a plan, and its length has drifted from it. The notes say what was written, what"
    " is left of the plan, and how many words. Revise what is left: the same number of lines, in the same form, each"
    " a main point and its words. Reply with the lines alone."
)
SECTION = (
    "You write one section of a long text for the assignment. The notes tell its plan, what was written so far, how"
    " the last section ended, and what this one must hold to. Go on from there; repeat nothing, and write nothing but"
    " the section."
)
CITED = f"{SECTION} State as facts only what the passages tell. {MARKS} {DATA}"
SUMMARY = (
    "The passage is the newest section of a long text, and the notes are a summary of what comes before it. Write the"
    " summary anew, briefly, with what the newest section adds, so that whoever writes on repeats and contradicts"
    f" nothing. {DATA}"
)
_MOST_REPLANS = 3
_TAIL_WORDS = 80
_RECOVERABLE = (RefusalError, ReplyFormatError, ContextOverflowError)


@dataclass(frozen=True, slots=True)
class Section:
    """A section: as planned, as written, and what is wrong with it still. ``note`` has its evidence."""

    planned: Planned
    note: Note
    faults: tuple[str, ...] = ()
    revised: bool = False

    @property
    def words(self) -> int:
        return count_words(self.note.text)


@dataclass(frozen=True, slots=True)
class LongText:
    """A long text.

    Attributes
    ----------
    text : all sections, with one numbering of citations over the whole.
    sections : each with the faults that its revision left.
    faults : of the text as a whole.
    replanned : numbers of the sections after which the rest of the plan was revised.
    reports : what else did not go as it should: steps that a model declined or got wrong, and what was done instead.
    """

    text: Written
    sections: tuple[Section, ...]
    faults: tuple[str, ...] = ()
    replanned: tuple[int, ...] = ()
    reports: tuple[str, ...] = ()
