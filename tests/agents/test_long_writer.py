import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.agents import plan, run
from carrel.agents.constraints import Forbidden, Headings, MustMention, Words
from carrel.agents.fitting import reply_room
from carrel.agents.long_writer import long_writer
from carrel.errors import ContextOverflowError, RefusalError, ReplyFormatError
from carrel.library import Library
from carrel.testing.fakes import FakeGenerator
from carrel.testing.flows import FlowConformance
from carrel.types import Completion, Document

_INSTRUCTION = "Write about the pier of Port Ansel."
_DOCUMENTS = [
    Document("The pier was built in 1894 by the harbour company. It is ninety metres long.", id="pier", title="Pier"),
    Document("Gulls nest upon the northern roof all summer long. They leave in October.", id="gulls", title="Gulls"),
]
_REFUSED = Completion("I cannot help with that.", finish_reason="refused")


def _wanted(prompt):
    return int(re.search(r"about (\d+) words", "\n".join(prompt.notes))[1])


class Writer:
    """Writes by the plan, ``share`` of the words asked for; cites what it is shown."""

    def __init__(self, sections=3, share=1.0, extra=""):
        self.sections, self.share, self.extra = sections, share, extra

    def __call__(self, prompt):
        if prompt.kind == "plan":
            left = re.search(r"left for (\d+) sections", prompt.notes[-1])
            count = int(left[1]) if left else self.sections
            return "\n".join(f"{'Revised' if left else 'Planned'} point number {n} - 100 words" for n in range(count))
        if prompt.kind == "summary":
            return f"It tells: {' '.join(prompt.passages[0].text.split()[:5])}"
        said = [f"{p.text.partition('. ')[0].rstrip('.')} [{n}]." for n, p in enumerate(prompt.passages, start=1)]
        text = " ".join([*said, self.extra]).strip()
        filler = round(_wanted(prompt) * self.share) - len(re.sub(r"\[\d+\]", "", text).split())
        return f"{text} {'word ' * filler}".strip()


def _ran(script, *, documents=None, window=4000, tmp_path=None, **keywords):
    generator = FakeGenerator(script, context_window=window)
    flow = long_writer(_INSTRUCTION, **({"words": 300, "cited": documents is not None} | keywords))
    if documents is None:
        return run(flow, generator=generator, mode="fast").result, generator
    with Library(tmp_path / "library", mode="fast") as library:
        library.add(documents)
        return run(flow, generator=generator, library=library).result, generator


def _kinds(generator):
    return [prompt.kind for prompt in generator.prompts]


class TestConformance(FlowConformance):
    window = 900

    def make(self):
        return long_writer(_INSTRUCTION, words=300, constraints=[Forbidden("moon"), MustMention("1894")])

    def reply(self, prompt):
        return Writer()(prompt)

    def documents(self):
        return _DOCUMENTS


def test_it_plans_writes_and_sums_up_between_sections():
    result, generator = _ran(Writer())
    assert _kinds(generator) == ["plan", "section", "summary", "section", "summary", "section"]
    assert [section.words for section in result.sections] == [100, 100, 100]
    assert not any(section.faults or section.revised for section in result.sections)
    assert result.faults == result.replanned == result.reports == ()
    assert result.text.text == "\n\n".join(["word " * 99 + "word"] * 3)
    second = generator.prompts[3]
    assert any(note.startswith("What was written so far: It tells: word") for note in second.notes)
    assert any(note.startswith("The last section ends: … word") for note in second.notes)


def test_citations_are_of_the_library_and_of_one_numbering(tmp_path):
    result, generator = _ran(Writer(), documents=_DOCUMENTS, tmp_path=tmp_path)
    assert all(prompt.passages for prompt in generator.prompts if prompt.kind == "section")
    numbers = {int(number) for number in re.findall(r"\[(\d+)\]", result.text.text)}
    texts = {document.id: document.text for document in _DOCUMENTS}
    assert numbers == {citation.number for citation in result.text.citations} == {1, 2}
    for citation in result.text.citations:
        assert texts[citation.document_id][citation.start : citation.end] == citation.quote
        assert result.text.passages[citation.number - 1].text.strip() == citation.quote
    assert result.text.text.count("The pier was built in 1894 by the harbour company [1]") in (0, 3)


def test_what_is_not_borne_out_loses_its_mark_and_is_named(tmp_path):
    result, _ = _ran(Writer(extra="Whales sing loudly in Norway [1]."), documents=_DOCUMENTS, tmp_path=tmp_path)
    assert "Whales sing loudly in Norway." in result.text.text
    for section in result.sections:
        assert section.revised and [mark.number for mark in section.note.unsupported] == [1]
        (fault,) = section.faults
        assert fault.startswith('passage [1] does not bear out "Whales sing loudly in Norway [1].')


def test_nothing_found_is_written_without_marks(tmp_path):
    result, generator = _ran(Writer(), documents=[], tmp_path=tmp_path)
    assert not result.text.citations and all("[1]" not in prompt.task for prompt in generator.prompts)


def test_a_revision_is_asked_for_once_with_what_was_wrong():
    first = {"done": False}

    def script(prompt):
        if prompt.kind == "section" and not first["done"]:
            first["done"] = True
            return "Far too short, by the moon."
        return Writer()(prompt)

    result, generator = _ran(script, constraints=[Forbidden("moon")])
    assert _kinds(generator)[:4] == ["plan", "section", "section", "summary"]
    *_, draft, wrong = generator.prompts[2].notes
    assert draft.endswith("Far too short, by the moon.")
    assert 'it has 6 words, and is to have 75 to 125; it says "moon"' in wrong
    assert result.sections[0].revised and not result.sections[0].faults and not result.sections[1].revised


def test_what_the_revision_leaves_wrong_is_reported_and_the_better_one_stays():
    replies = iter(["word " * 100, "moon " * 10])

    def script(prompt):
        return next(replies) if prompt.kind == "section" else "One point - 100 words"

    result, _ = _ran(script, words=100, constraints=[MustMention("storm", section=1), Words(90)])
    (section,) = result.sections
    assert section.words == 100 and not section.revised and section.faults == ('it does not mention "storm"',)


def test_constraints_of_the_whole_are_checked_with_the_last_section():
    result, generator = _ran(Writer(), constraints=[MustMention("storm"), Words(most=250), MustMention("x", section=9)])
    assert _kinds(generator)[-2:] == ["section", "section"] and _kinds(generator).count("section") == 4
    assert "nowhere" in generator.prompts[-1].notes[-1]
    assert len(result.faults) == 3 and result.sections[-1].faults == result.faults
    assert not result.sections[0].faults


def test_headings_are_told_and_checked():
    def script(prompt):
        if prompt.kind == "section":
            return f"## A heading\n{'word ' * (_wanted(prompt) - 2)}"
        return Writer()(prompt)

    result, _ = _ran(script, constraints=[Headings(2)])
    assert result.text.text.count("## A heading") == 3 and not any(section.faults for section in result.sections)


def test_a_drift_of_the_length_has_the_rest_of_the_plan_revised():
    result, generator = _ran(Writer(sections=6, share=1.2), words=600)
    assert not any(section.faults for section in result.sections)  # each is within its tolerance
    assert result.replanned and _kinds(generator).count("plan") == 1 + len(result.replanned) and not result.reports
    assert any(section.planned.point.startswith("Revised") for section in result.sections)
    plans = [prompt for prompt in generator.prompts if prompt.kind == "plan"]
    after = result.replanned[0]
    left = 600 - sum(section.words for section in result.sections[:after])
    assert plans[1].notes[-1] == f"{left} words are left for {6 - after} sections."
    planned = [section.planned.words for section in result.sections]
    assert sum(planned[after : result.replanned[1] if len(result.replanned) > 1 else None]) <= left
    total = sum(section.words for section in result.sections)
    assert abs(total - 600) < abs(1.2 * 600 - 600)


def test_a_plan_that_cannot_be_revised_is_scaled():
    def script(prompt):
        if prompt.kind == "plan" and "drifted" in prompt.task:
            return "no plan at all"
        return Writer(sections=6, share=0.5)(prompt)

    result, generator = _ran(script, words=600)
    assert result.replanned and len(result.sections) == 6
    asked = [prompt for prompt in generator.prompts if prompt.kind == "plan"]
    assert len(asked) == 1 + 2 * len(result.reports) and 1 <= len(result.reports) <= 3
    assert all("only scaled" in report for report in result.reports)
    assert all(section.planned.point.startswith("Planned") for section in result.sections)
    assert result.sections[-1].planned.words > 100


def test_the_model_is_not_asked_for_a_plan_without_end():
    result, generator = _ran(Writer(sections=10, share=1.4), words=2000, tolerance=0.05)
    assert len(result.replanned) > 3 and _kinds(generator).count("plan") == 1 + 3 and len(result.sections) == 10


def test_a_section_that_is_declined_does_not_lose_the_others():
    def script(prompt):
        if prompt.kind == "section" and "Write section 2" in "\n".join(prompt.notes):
            return _REFUSED
        return Writer()(prompt)

    result, _ = _ran(script)
    assert [section.words for section in result.sections[:2]] == [100, 0]
    assert "could not be written" in result.sections[1].faults[0] and "declined" in result.sections[1].faults[0]
    assert len(result.sections) == 3 and result.sections[2].words > 100  # the plan makes up for it


def test_where_all_sections_are_declined_it_is_an_error():
    with pytest.raises(RefusalError):
        _ran(lambda prompt: _REFUSED if prompt.kind == "section" else Writer()(prompt))


def test_a_declined_summary_or_revision_is_reported():
    seen = set()

    def script(prompt):
        if prompt.kind == "summary" or (prompt.kind == "section" and any("draft" in note for note in prompt.notes)):
            seen.add(prompt.kind)
            return _REFUSED
        return Writer()(prompt)

    result, generator = _ran(script, constraints=[MustMention("storm", section=1)])
    assert seen == {"summary", "section"} and len(result.reports) == 3
    assert "section 1 was not revised" in result.reports[0] and "no summary" in result.reports[1]
    assert not result.sections[0].revised and result.sections[0].faults
    assert any("Planned point number 0" in note for note in generator.prompts[-1].notes if "so far" in note)


def test_a_window_too_small_for_the_draft_shows_what_was_wrong_alone():
    def script(prompt):
        return "moon " * 100 if prompt.kind == "section" else "One point that is to be made - 100 words"

    for window, shown in ((2000, True), (400, False)):
        result, generator = _ran(script, words=100, constraints=[Forbidden("moon")], window=window)
        assert any("Your draft" in note for note in generator.prompts[-1].notes) == shown
        assert len(generator.prompts) == 3 and result.sections[0].faults


def test_a_server_that_finds_a_section_too_long_is_named():
    def script(prompt):
        if prompt.kind == "section" and "Write section 1" in "\n".join(prompt.notes):
            raise ContextOverflowError("too long after all")
        return Writer()(prompt)

    result, _ = _ran(script)
    assert "too long after all" in result.sections[0].faults[0] and result.sections[1].words


def test_a_plan_of_the_wrong_form_is_asked_for_once_more():
    replies = ["I would rather not.", "One point - 100 words", "word " * 100]
    result, generator = _ran(replies, words=100)
    assert len(result.sections) == 1 and "could not be used" in generator.prompts[1].notes[-1]
    with pytest.raises(ReplyFormatError):
        _ran(["I would rather not."] * 2, words=100)
    with pytest.raises(RefusalError):
        _ran(_REFUSED)


def test_the_cost_grows_with_the_length_and_not_with_its_square():
    def tokens(sections):
        _, generator = _ran(Writer(sections=sections), words=100 * sections)
        own = [prompt for prompt in generator.prompts if prompt.kind != "plan"]
        return sum(map(generator.prompt_tokens, own)), max(map(generator.prompt_tokens, own))

    (ten, _), (twenty, most), (forty, most_of_forty) = map(tokens, (10, 20, 40))
    assert forty - twenty == pytest.approx(2 * (twenty - ten), rel=0.02)
    assert most_of_forty <= most + 5


def test_a_plan_of_the_costs_is_made_without_a_model():
    generator = FakeGenerator("unused", context_window=4000)
    short = plan(long_writer(_INSTRUCTION, words=3000, cited=False), generator=generator, mode="fast")
    long = plan(long_writer(_INSTRUCTION, words=6000, cited=False), generator=generator, mode="fast")
    assert short.calls >= 1 + 10 + 9 and 1.8 < long.tokens_in / short.tokens_in < 2.3


@settings(max_examples=30)
@given(st.integers(1, 200), st.integers(1, 12), st.floats(0, 4), st.integers(1, 3000), st.integers(1, 400))
def test_no_prompt_goes_beyond_the_window(asked, sections, share, words, summary):
    generator = FakeGenerator(
        lambda prompt: " ".join(Writer(sections, share)(prompt).split(" ")[: 4 * (prompt.max_tokens or 1)]),
        context_window=500,
    )
    flow = long_writer(
        "write " * asked, words=words, cited=False, summary_tokens=summary, constraints=[MustMention("x", every=2)]
    )
    try:
        result = run(flow, generator=generator, mode="fast").result
        assert len(result.sections) == sections
    except ContextOverflowError:
        assert asked + min(summary, 250) > 20 or words > 100
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, 500) <= 500
