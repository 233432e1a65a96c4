import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.agents import plan, run
from carrel.agents.fitting import reply_room
from carrel.agents.literature_review import literature_review
from carrel.errors import ContextOverflowError, InputError, RefusalError
from carrel.generation.extractive import ABSTENTION
from carrel.library import Library
from carrel.testing.fakes import FakeGenerator
from carrel.testing.flows import FlowConformance
from carrel.types import Completion, Document

_TOPIC = "Piers of Port Ansel"
_FACTS = (
    "The pier was built in 1894 by the harbour company.", "Gulls nest upon the northern roof of the pier.",
    "Storms have damaged the wooden pier four times.", "Ferries leave from the southern pier at nine.",
    "The lighthouse on Greyhorn was automated in 1987.",
)  # fmt: skip
_DOCUMENTS = [Document(f"{fact} It was noted down with care.", id=f"d{n}", title=f"Paper {n}")
              for n, fact in enumerate(_FACTS)]  # fmt: skip
_REFUSED = Completion("I cannot help with that.", finish_reason="refused")


def _first(passage):
    return passage.text.partition(". ")[0]


def _reviewer(prompt):
    if prompt.kind == "queries":
        return "pier history\ngulls and storms\nferries"
    if prompt.kind == "ranks":
        return "\n".join(f'[{n}] {90 - 10 * _number(p)} "{_first(p)}"' for n, p in enumerate(prompt.passages, start=1))
    if prompt.kind == "plan":
        return "\n".join(f"Sentence about it [{n}]" for n in range(1, len(prompt.passages) + 1))
    return " ".join(f"{_first(p)} [{n}]." for n, p in enumerate(prompt.passages, start=1))


def _number(passage):
    return int(passage.document_id[1:].partition("x")[0])


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    with Library(tmp_path_factory.mktemp("papers") / "library", mode="fast") as library:
        library.add(_DOCUMENTS)
        yield library


def _ran(library, script, window=2000, topic=_TOPIC, **keywords):
    generator = FakeGenerator(script, context_window=window)
    return run(literature_review(topic, **keywords), generator=generator, library=library).result, generator


def _instead(kind, reply):
    return lambda prompt: reply(prompt) if prompt.kind == kind else _reviewer(prompt)


class TestConformance(FlowConformance):
    def make(self):
        return literature_review(_TOPIC, limit=3)

    def reply(self, prompt):
        return _reviewer(prompt)

    def documents(self):
        return _DOCUMENTS


def test_papers_are_searched_ranked_planned_and_cited(library):
    result, generator = _ran(library, _reviewer, limit=3)
    assert [prompt.kind for prompt in generator.prompts] == ["queries", "ranks", "plan", "review"]
    assert result.queries == (_TOPIC, "pier history", "gulls and storms", "ferries")
    assert [paper.document_id for paper in result.papers] == ["d0", "d1", "d2", "d3", "d4"]
    assert [paper.score for paper in result.papers] == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert all(paper.justification.text == _first(paper.passage) for paper in result.papers)
    assert result.reviewed == 3 and [sentence.papers for sentence in result.plan] == [(1,), (2,), (3,)]
    assert [passage.document_id for passage in result.text.passages] == ["d0", "d1", "d2"]
    assert {citation.number: citation.quote for citation in result.text.citations} == dict(enumerate(
        ("The pier was built in 1894 by the harbour company.", "Gulls nest upon the northern roof of the pier.",
         "Storms have damaged the wooden pier four times."), start=1))  # fmt: skip
    assert result.uncited == result.reports == result.hallucinated == ()
    assert "Sentence about it [2]" in generator.prompts[-1].notes[0]


def test_made_up_justifications_rank_last(library):
    def ranks(prompt):
        return "\n".join(
            f'[{n}] {90 - 10 * _number(p)} "{_first(p) if _number(p) else "Words that stand nowhere in it"}"'
            for n, p in enumerate(prompt.passages, start=1)
        )

    result, _ = _ran(library, _instead("ranks", ranks))
    assert [paper.document_id for paper in result.papers] == ["d1", "d2", "d3", "d4", "d0"]
    assert result.papers[-1].justification is None and result.papers[-1].score == 0.9
    assert result.hallucinated == ('Paper 0: "Words that stand nowhere in it"',)


def test_papers_that_the_model_leaves_out_come_last(library):
    result, _ = _ran(library, _instead("ranks", lambda prompt: f'[2] 10 "{_first(prompt.passages[1])}"'))
    assert [paper.ranked_by for paper in result.papers] == ["model", *["search"] * 4]


@pytest.mark.parametrize("reply", ["All of them are fine papers.", _REFUSED])
def test_without_ranks_the_reader_scores(library, reply):
    result, generator = _ran(library, _instead("ranks", lambda prompt: reply))
    assert {paper.ranked_by for paper in result.papers} == {"reader"} and len(result.papers) == 5
    scores = [paper.score for paper in result.papers]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) > 1
    assert len(result.reports) == 1 and "5 papers were scored by the reader" in result.reports[0]
    assert sum(prompt.kind == "ranks" for prompt in generator.prompts) == (1 if reply is _REFUSED else 2)


def test_many_papers_are_scored_in_several_prompts(library):
    def script(prompt):
        if prompt.kind == "ranks" and any(_number(p) == 0 for p in prompt.passages):
            return _REFUSED
        return _reviewer(prompt)

    result, generator = _ran(library, script, window=460)
    assert sum(prompt.kind == "ranks" for prompt in generator.prompts) > 1
    assert sorted(paper.document_id for paper in result.papers) == [document.id for document in _DOCUMENTS]
    assert {paper.ranked_by for paper in result.papers} == {"model", "reader"}


@pytest.mark.parametrize(("sentences", "window"), [(15, 360), (7, 430)])
def test_papers_longer_than_a_prompt_are_scored_once_by_their_beginning(tmp_path, sentences, window):
    texts = [" ".join(f"Pier {n} has plank {i} of old wood." for i in range(sentences)) for n in range(3)]
    with Library(tmp_path / "library", mode="fast") as library:
        library.add([Document(text, id=f"d{n}") for n, text in enumerate(texts)])
        result, generator = _ran(library, _reviewer, window=window)
    scored = [prompt.passages for prompt in generator.prompts if prompt.kind == "ranks"]
    assert [len(passages) for passages in scored] == [1, 1, 1]
    cut = [passage.text != texts[_number(passage)] for (passage,) in scored]
    assert all(cut) if sentences == 15 else not any(cut)
    assert {paper.document_id: paper.passage.text for paper in result.papers} == {
        f"d{n}": text for n, text in enumerate(texts)
    }


@pytest.mark.parametrize("reply", ["...", _REFUSED])
def test_without_queries_the_topic_alone_is_searched_for(library, reply):
    result, _ = _ran(library, _instead("queries", lambda prompt: reply))
    assert result.queries == (_TOPIC,) and "only the topic itself" in result.reports[0] and result.text.citations


@pytest.mark.parametrize("reply", ["I have no plan.", _REFUSED])
def test_without_a_plan_each_paper_has_a_sentence(library, reply):
    result, _ = _ran(library, _instead("plan", lambda prompt: reply), limit=2)
    assert [sentence.papers for sentence in result.plan] == [(1,), (2,)] and "sentence for each" in result.reports[0]
    assert str(result.plan[0]) == "What Paper 0 says of the topic. [1]"


def test_a_form_is_asked_for_once_more(library):
    replies = iter(["...", "pier"])
    result, generator = _ran(library, _instead("queries", lambda prompt: next(replies)))
    assert result.queries == (_TOPIC, "pier") and not result.reports
    assert "could not be used" in generator.prompts[1].notes[-1]


def test_a_refused_review_is_an_error(library):
    with pytest.raises(RefusalError):
        _ran(library, _instead("review", lambda prompt: _REFUSED))


def test_what_is_not_borne_out_and_what_is_not_cited_is_named(library):
    result, _ = _ran(library, _instead("review", lambda prompt: "Whales sing loudly in Norway [1]."), limit=2)
    assert [mark.number for mark in result.text.unsupported] == [1] and result.uncited == (1, 2)


def test_an_empty_library_has_nothing_to_review(tmp_path):
    with Library(tmp_path / "library", mode="fast") as library:
        result, generator = _ran(library, _reviewer)
    assert result.text.abstained and result.text.text == ABSTENTION and not result.papers
    assert [prompt.kind for prompt in generator.prompts] == ["queries"]


def test_a_budget_bounds_the_papers_that_are_reviewed(library):
    result, _ = _ran(library, _reviewer, budget=40)
    assert 0 < result.reviewed < 5 == len(result.papers)
    assert {number for sentence in result.plan for number in sentence.papers} <= set(range(1, result.reviewed + 1))


def test_a_plan_too_long_for_the_window_is_cut(library):
    def plan_(prompt):
        return "\n".join(f"{'what is to be said of it ' * 10} [1]" for _ in range(30))

    result, generator = _ran(library, _instead("plan", plan_), window=700)
    assert 0 < len(result.plan) < 30 and "the window holds" in result.reports[0] and result.text.citations
    generator = FakeGenerator(_instead("plan", lambda prompt: f"{'x ' * 149} [1]"), context_window=340)
    with pytest.raises(ContextOverflowError):
        run(literature_review("pier " * 30, limit=1, queries=1), generator=generator, library=library)
    assert generator.prompts[-1].kind == "plan"  # one sentence alone is too long


def test_what_is_asked_must_be_of_use(library):
    for keywords in ({"limit": 0}, {"queries": True}, {"topic": " "}):
        with pytest.raises(InputError):
            _ran(library, _reviewer, **keywords)
    with pytest.raises(ContextOverflowError):
        _ran(library, _reviewer, topic="pier " * 3000)


def test_a_plan_of_the_costs_is_made_without_a_model(library):
    generator = FakeGenerator("unused", context_window=2000)
    assert plan(literature_review(_TOPIC), generator=generator, library=library).calls == 4


@settings(max_examples=30)
@given(st.integers(1, 120), st.integers(1, 200), st.integers(1, 60), st.integers(1, 6))
def test_no_prompt_goes_beyond_the_window(library, asked, said, points, limit):
    def script(prompt):
        if prompt.kind == "plan":
            reply = "\n".join([f"{'point ' * said} [{1 + n % 9}]" for n in range(points)])
        else:
            reply = _reviewer(prompt) + " word" * said
        return " ".join(reply.split(" ")[: 3 * (prompt.max_tokens or 100)])

    generator = FakeGenerator(script, context_window=450)
    try:
        flow = literature_review("pier " * asked, limit=limit)
        run(flow, generator=generator, library=library)
    except ContextOverflowError:
        assert asked > 40 or said > 20
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, 450) <= 450
