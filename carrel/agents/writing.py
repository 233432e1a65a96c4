"""What a long text is written by: the job, its prompts, the checks of a section, and the text put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from carrel.agents.constraints import Constraint, count_words
from carrel.agents.replying import Note, Written, gathered, note_of, renumbered
from carrel.agents.room import bounded
from carrel.agents.tasks import DATA, MARKS
from carrel.agents.writing_plan import Planned, outline, wanted_sections
from carrel.errors import InputError
from carrel.generation.citations import cite
from carrel.generation.marks import SPACES, find_runs
from carrel.retrieval.filters import Where
from carrel.types import Passage, Prompt

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
_TAIL_WORDS = 80
_MOST_UNSUPPORTED = 5  # that a reviser is told of
_FEW_WORDS = 4


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
    faults : of the text as a whole; its last section has them, too.
    replanned : numbers of the sections after which the rest of the plan was revised.
    reports : what else did not go as it should: steps that a model declined or got wrong, and what was done instead.
    """

    text: Written
    sections: tuple[Section, ...]
    faults: tuple[str, ...] = ()
    replanned: tuple[int, ...] = ()
    reports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be written, as ``long_writer`` was asked."""

    instruction: str
    words: int
    cited: bool
    limit: int
    where: Where | None
    constraints: tuple[Constraint, ...]
    tolerance: float
    summary_tokens: int

    def __post_init__(self) -> None:
        for name in ("words", "limit", "summary_tokens"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise InputError(f"the {name} of a long text are a number, 1 or more, not {number!r}")
        if not 0 < self.tolerance < 1:
            raise InputError(
                f"the tolerance of a section's words is a share above 0 and below 1, not {self.tolerance!r}"
            )
        for constraint in self.constraints:
            if not isinstance(constraint, Constraint):
                raise InputError(f"constraints are of carrel.agents.constraints, not {constraint!r:.80}")

    def query(self, planned: Planned) -> str:
        """What a section is looked up by: its main point, with the assignment where that says little by itself."""
        return planned.point if len(planned.point.split()) >= _FEW_WORDS else f"{planned.point}: {self.instruction}"

    def plan_prompt(self) -> Prompt:
        count = wanted_sections(self.words)
        size = f"The text has {self.words:,} words: plan about {count} sections of {self.words // count} words."
        told = (constraint.told(None) for constraint in self.constraints)
        notes = (size, *(each for each in told if each))
        return Prompt(self.instruction, task=PLAN, notes=notes, kind="plan", max_tokens=_plan_tokens(count))

    def replan_prompt(self, rest: Sequence[Planned], left: int, summary: str) -> Prompt:
        plan = "\n".join(map(str, rest))
        so_far = f"What was written: {summary}" if summary else ""
        notes = (so_far, f"What is left of the plan:\n{plan}", f"{left:,} words are left for {len(rest)} sections.")
        most = _plan_tokens(len(rest))
        return Prompt(self.instruction, task=REPLAN, notes=tuple(filter(None, notes)), kind="plan", max_tokens=most)

    def section_prompt(self, plan: Sequence[Planned], before: Sequence[Section], summary: str, cited: bool) -> Prompt:
        """The prompt of the next section; its size does not grow with what was written."""
        number, planned = len(before) + 1, plan[len(before)]
        told = [constraint.told(number) for constraint in self.constraints]
        tail = unmarked(before[-1].note.text).split()[-_TAIL_WORDS:] if before else []
        notes = (
            outline(plan, number),
            f"What was written so far: {summary}" if summary else "",
            f"The last section ends: … {bounded(' '.join(tail), _TAIL_WORDS)}" if tail else "",
            f"Write section {number}: {planned.point}. It has about {planned.words} words.",
            *told,
        )
        shown, most = tuple(filter(None, notes)), 2 * planned.words + 64
        return Prompt(self.instruction, task=CITED if cited else SECTION, notes=shown, kind="section", max_tokens=most)

    def summary_prompt(self, summary: str) -> Prompt:
        notes = (summary,) if summary else ()
        return Prompt(self.instruction, task=SUMMARY, notes=notes, kind="summary", max_tokens=self.summary_tokens)

    def judged(self, written: Written, plan: Sequence[Planned], before: Sequence[Section]) -> Section:
        """A section with all that is wrong with it, each as the end of a sentence; with the last, of the whole text."""
        number, planned = len(before) + 1, plan[len(before)]
        note = note_of(replace(written, text=without_unsupported(written)))
        count = count_words(note.text)
        least, most = round(planned.words * (1 - self.tolerance)), round(planned.words * (1 + self.tolerance))
        faults = [] if least <= count <= most else [f"it has {count} words, and is to have {least} to {most}"]
        faults += [constraint.fault(note.text, number) for constraint in self.constraints]
        for mark in note.unsupported[:_MOST_UNSUPPORTED]:
            faults.append(f'passage [{mark.number}] does not bear out "{mark.sentence.strip():.200}"')
        if number == len(plan):
            faults += self.whole_faults([*(section.note for section in before), note])
        return Section(planned, note, tuple(filter(None, faults)))

    def whole_faults(self, notes: Sequence[Note]) -> tuple[str, ...]:
        """What is wrong with the text of all sections."""
        texts = [note.text for note in notes]
        return tuple(filter(None, (constraint.whole_fault(texts) for constraint in self.constraints)))


def _plan_tokens(sections: int) -> int:
    return 64 + 40 * sections


def unmarked(text: str) -> str:
    """A text without its citation marks."""
    return renumbered(text, {})


def without_unsupported(written: Written) -> str:
    """The text without the marks of statements that their passages do not bear out."""
    text = written.text
    for mark in reversed([mark for run in find_runs(text) for mark in run]):
        wrong = {each.number for each in written.unsupported if each.start <= mark.start < each.end}
        if mark.is_plain and wrong.intersection(mark.numbers):
            left = "".join(f"[{number}]" for number in mark.numbers if number not in wrong)
            before = text[: mark.start] if left else text[: mark.start].rstrip(SPACES)
            text = before + left + text[mark.end :]
    return text


def drafted(section: Section) -> Passage:
    """A section as a passage that can be summarised."""
    text = unmarked(section.note.text)
    return Passage("draft", 0, len(text), text, title=section.planned.point)


def put_together(sections: Sequence[Section]) -> Written:
    """The whole text: marks are the numbers of one list of evidence, and each is cited once."""
    texts, evidence = gathered(section.note for section in sections)
    citations = tuple(cite(passage, number, passage.start, passage.end) for number, passage in enumerate(evidence, 1))
    return Written("\n\n".join(text.strip() for text in texts), citations, evidence)
