"""Long texts, section by section: a plan, a state of bounded size, checks by code, one revision, cited evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from carrel.agents.base import Retrieve, Steps, flow
from carrel.agents.constraints import Constraint
from carrel.agents.replying import Note, Written, ask_in_form, write
from carrel.agents.room import bounded, with_passages
from carrel.agents.writing import Job, LongText, Section, drafted, put_together
from carrel.agents.writing_plan import WHY, Planned, example, read_plan, scaled, wanted_sections, why_of
from carrel.errors import CarrelError, ContextOverflowError, RefusalError, ReplyFormatError
from carrel.options import check_question
from carrel.retrieval.filters import Where
from carrel.types import Passage, Prompt

_Plan = tuple[Planned, ...]
_MOST_REPLANS = 3  # by the model; after that the counts of a plan are scaled


@flow(
    "Bai et al., LongWriter: Unleashing 10,000+ Word Generation from Long Context LLMs, arXiv 2408.07055;"
    " Wan et al., CogWriter, arXiv 2502.12568"
)
def long_writer(
    instruction: str,
    *,
    words: int,
    cited: bool = True,
    limit: int = 6,
    where: Where | None = None,
    constraints: Sequence[Constraint] = (),
    tolerance: float = 0.25,
    summary_tokens: int = 200,
) -> Steps[LongText]:
    """Write a long text: plan it, write section after section, check each by code, and have it revised once.

    A section's prompt holds the plan around it, a summary and the end of what was written: the cost grows with the
    length of the text, not with its square. What can be counted and looked up is checked and reported, not how well
    it reads. The generator's ``max_tokens`` must be two a word of a section: of 300, or a fiftieth of the text.

    Parameters
    ----------
    instruction : the assignment.
    words : of the whole text. The plan has 50 sections at most.
    cited : each section retrieves passages of its own from the library, and cites them.
    limit, where : passages retrieved for a section, and the filter of their metadata.
    constraints : of carrel.agents.constraints, checked by code.
    tolerance : share by which the words of a section may differ from its plan, and those left from the rest of it.
    summary_tokens : the most tokens of the summary of what was written.

    Raises
    ------
    InputError : a parameter is of no use. ContextOverflowError : the assignment fills the window.
    RefusalError, ReplyFormatError : no plan; or the model declines to write any section.
    """
    instruction = check_question(instruction)
    job = Job(instruction, words, cited, limit, where, tuple(constraints), tolerance, summary_tokens)
    prompt, _ = yield from with_passages(job.plan_prompt(), why=WHY)
    count = wanted_sections(words)
    plan = scaled((yield from ask_in_form(prompt, read_plan(), example=example(count, words // count))), words)
    sections: list[Section] = []
    replanned: list[int] = []
    reports: list[str] = []
    errors: list[CarrelError] = []
    summary = ""
    while len(sections) < len(plan):
        try:
            sections.append((yield from _section(job, plan, sections, summary, reports)))
        except (RefusalError, ContextOverflowError) as error:
            errors.append(error)
            sections.append(Section(plan[len(sections)], Note(), (f"it could not be written: {error}",)))
        if len(errors) == len(plan):
            raise errors[0]
        if len(sections) < len(plan):
            summary = yield from _summarised(job, sections[-1], summary, reports)
            plan = yield from _monitored(job, plan, sections, summary, replanned, reports)
    faults = job.whole_faults([section.note for section in sections])
    return LongText(put_together(sections), tuple(sections), faults, tuple(replanned), tuple(reports))


def _section(
    job: Job, plan: Sequence[Planned], before: Sequence[Section], summary: str, reports: list[str]
) -> Steps[Section]:
    """The next section: what it rests on, its draft, and where that has faults, one revision; the better one stays."""
    number, found = len(before) + 1, ()
    if job.cited:
        found = yield Retrieve(job.query(plan[number - 1]), job.limit, where=job.where)
    asked = job.section_prompt(plan, before, summary, bool(found))
    prompt, _ = yield from with_passages(asked, found)
    draft = yield from write(prompt)
    section = job.judged(draft, plan, before)
    if not section.faults:
        return section
    again = yield from _revised(asked, found, draft.text, section.faults)
    if again is None:
        reports.append(f"section {number} was not revised: the model declined, or its window is too small")
        return section
    revision = replace(job.judged(again, plan, before), revised=True)
    return revision if len(revision.faults) <= len(section.faults) else section


def _revised(asked: Prompt, found: tuple[Passage, ...], draft: str, wrong: Sequence[str]) -> Steps[Written | None]:
    """A section written anew, with the draft in view where there is room for it; None where it cannot be had."""
    told = f"What is wrong with your draft: {'; '.join(wrong)}. Write the section anew, without these faults."
    for notes in ((f"Your draft of the section:\n{draft}", told), (told,)):
        try:
            prompt, _ = yield from with_passages(replace(asked, notes=(*asked.notes, *notes)), found)
            return (yield from write(prompt))
        except ContextOverflowError:
            continue
        except RefusalError:
            break
    return None


def _summarised(job: Job, section: Section, summary: str, reports: list[str]) -> Steps[str]:
    """The summary with what a section adds; the old one with its main point, where there is none to be had."""
    if not section.note.text.strip():
        return summary
    try:
        prompt, _ = yield from with_passages(job.summary_prompt(summary), (drafted(section),))
        said = yield from write(prompt)
        return bounded(said.text, job.summary_tokens) or summary
    except (RefusalError, ContextOverflowError) as error:
        reports.append(f"no summary of {section.planned.point!r}: {error}")
        return bounded(f"{section.planned.point}. {summary}", job.summary_tokens)


def _monitored(
    job: Job, plan: _Plan, sections: Sequence[Section], summary: str, replanned: list[int], reports: list[str]
) -> Steps[_Plan]:
    """The plan; its rest revised, where its words no longer add up to those that are left."""
    done, rest, left = plan[: len(sections)], plan[len(sections) :], job.words - sum(each.words for each in sections)
    planned = sum(each.words for each in rest)
    fitting = scaled(rest, left)
    if abs(left - planned) <= job.tolerance * planned or fitting == rest:
        return plan
    replanned.append(len(sections))
    if len(rest) > 1 and len(replanned) <= _MOST_REPLANS:
        try:
            prompt, _ = yield from with_passages(job.replan_prompt(rest, max(left, 0), summary), why=why_of(len(rest)))
            revised = yield from ask_in_form(prompt, read_plan(len(rest)), example=example(len(rest), fitting[0].words))
            return (*done, *scaled(revised, left))
        except (RefusalError, ReplyFormatError, ContextOverflowError) as error:
            reports.append(f"the plan was only scaled after section {len(sections)}: {error}")
    return (*done, *fitting)
