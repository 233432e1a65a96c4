import pytest

from carrel.agents.constraints import Forbidden, MustMention
from carrel.agents.replying import Note, Written
from carrel.agents.writing import CITED, SECTION, Job, Section, drafted, put_together, without_unsupported
from carrel.agents.writing_plan import Planned
from carrel.errors import InputError
from carrel.generation.citations import cite
from carrel.types import Passage, UnsupportedMark

_TEXT = "The pier was built in 1894. It is ninety metres long. Gulls nest there."


def _job(**changes):
    options = {
        "instruction": "Write about the pier.", "words": 900, "cited": True, "limit": 3, "where": None,
        "constraints": (), "tolerance": 0.25, "summary_tokens": 50,
    }  # fmt: skip
    return Job(**(options | changes))


def _passage(start, end):
    return Passage("pier", start, end, _TEXT[start:end])


@pytest.mark.parametrize(
    "changes",
    [
        {"words": 0}, {"words": True}, {"words": 2.5}, {"tolerance": 0}, {"tolerance": 1}, {"constraints": ("short",)},
        {"limit": 0}, {"summary_tokens": 0},
    ],
)  # fmt: skip
def test_jobs_of_no_use_are_errors(changes):
    with pytest.raises(InputError):
        _job(**changes)


def test_marks_of_what_is_not_borne_out_are_taken_out_and_others_stay():
    text = "The pier was built in 1894 [1]. The moon is green [1][2]. Gulls nest there [2, 1]."
    moon, gulls = text.index("The moon"), text.index("Gulls")
    wrong = (
        UnsupportedMark(1, moon, gulls - 1, "The moon is green [1][2]."),
        UnsupportedMark(2, moon, gulls - 1, "The moon is green [1][2]."),
        UnsupportedMark(2, gulls, len(text), "Gulls nest there [2, 1]."),
    )
    assert without_unsupported(Written(text, unsupported=wrong)) == (
        "The pier was built in 1894 [1]. The moon is green. Gulls nest there [1]."
    )


def test_a_section_is_judged_by_words_constraints_and_marks():
    plan = [Planned("its age", 10), Planned("its length", 10)]
    job = _job(constraints=(MustMention("gulls", section=1), MustMention("storm"), Forbidden("moon")))
    text = "The moon is green [1]."
    wrong = (UnsupportedMark(1, 0, len(text), text),)
    section = job.judged(Written(text, passages=(_passage(0, 27),), unsupported=wrong), plan, [])
    assert section.faults == (
        "it has 4 words, and is to have 8 to 12",
        'it does not mention "gulls"',
        'it says "moon", which it must not',
        'passage [1] does not bear out "The moon is green [1]."',
    )
    assert section.note.text == "The moon is green." and section.words == 4
    assert job.judged(Written("word " * 10), plan, [section]).faults == ('the text mentions "storm" nowhere',)
    assert job.judged(Written("storm " * 10), plan, [section]).faults == ()
    assert job.judged(Written("No.", abstained=True), plan, [section]).words == 0


def test_a_section_is_looked_up_by_its_point():
    assert _job().query(Planned("How the pier was built", 10)) == "How the pier was built"
    assert _job().query(Planned("History", 10)) == "History: Write about the pier."


def test_the_prompt_of_a_section_does_not_grow():
    plan = [Planned(f"point {number}", 300) for number in range(50)]
    done = [Section(each, Note("word [1]. " * 3000)) for each in plan]
    sizes = {len(" ".join(_job().section_prompt(plan, done[:number], "told", True).notes)) for number in range(8, 40)}
    assert max(sizes) - min(sizes) < 20
    first = _job(constraints=(Forbidden("moon"),)).section_prompt(plan, [], "", False)
    assert first.task == SECTION and len(first.notes) == 3 and "moon" in first.notes[-1] and first.max_tokens == 664
    later = _job().section_prompt(plan, done[:2], "told", True)
    assert later.task == CITED and "What was written so far: told" in later.notes
    assert "[1]" not in "".join(later.notes)


def test_a_section_is_summarised_without_marks():
    draft = drafted(Section(Planned("its age", 10), Note("Built in 1894 [1].", (_passage(0, 27),))))
    assert draft.text == "Built in 1894." and draft.end == len(draft.text)


def test_citations_are_numbered_over_the_whole_text():
    age, length, gulls = _passage(0, 27), _passage(28, 53), _passage(54, 71)
    sections = [
        Section(Planned("a", 1), Note("Built in 1894 [1]. Ninety metres [2].", (age, length))),
        Section(Planned("b", 1), Note()),
        Section(Planned("c", 1), Note("Gulls nest [1]. It is long [2].", (gulls, length))),
    ]
    text = put_together(sections)
    assert text.text == "Built in 1894 [1]. Ninety metres [2].\n\nGulls nest [3]. It is long [2]."
    assert text.passages == (age, length, gulls)
    assert text.citations == tuple(cite(p, n, p.start, p.end) for n, p in enumerate((age, length, gulls), start=1))
