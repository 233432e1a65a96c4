import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.replying import Written
from carrel.agents.reviewing import (
    MOST_SENTENCES,
    Paper,
    PlannedSentence,
    Review,
    among,
    best_first,
    check_counts,
    found_papers,
    plain_plan,
    plan_prompt,
    queries_prompt,
    ranked_papers,
    ranks_prompt,
    read_queries,
    read_ranks,
    read_sentences,
    review_prompt,
)
from carrel.errors import InputError
from carrel.types import Citation, Passage


def _passage(document_id, text="The pier was built in 1894.", start=0):
    return Passage(document_id, start, start + len(text), text, title=document_id.title())


def test_counts_are_numbers_from_1():
    check_counts(limit=1)
    for count in (0, True, 1.5, None):
        with pytest.raises(InputError, match="limit"):
            check_counts(limit=count)


def test_prompts_say_what_is_wanted():
    assert "At most 3 queries." in queries_prompt("t", 3).notes and queries_prompt("t", 3).kind == "queries"
    assert ranks_prompt("t", 2).max_tokens < ranks_prompt("t", 3).max_tokens
    assert plan_prompt("t", 2).max_tokens < plan_prompt("t", 3).max_tokens
    (note,) = review_prompt("t", [PlannedSentence("A.", (1, 3)), PlannedSentence("B.")]).notes
    assert note == "The plan:\nA. [1][3]\nB."


def test_queries_are_read_a_line_each_and_once():
    reply = '1. wind limits\n- "Wind  limits"\n\n* fog\n***\n' + "x" * 201 + "\nthird\nfourth"
    assert read_queries(3)(reply) == ("Wind limits", "fog", "third")
    with pytest.raises(ValueError, match="searched for"):
        read_queries(3)("...\n" + "x" * 201)


def test_documents_are_found_once_by_their_best_passage():
    a, a2, b, c = _passage("a"), _passage("a", start=50), _passage("b"), _passage("c")
    assert found_papers([[a, a2, b], [b, a2], [c]]) == (a, b, c)
    assert found_papers([[b, a], [a2]]) == (a2, b)  # twice found beats once found first
    assert found_papers([[], []]) == ()


@given(st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), max_size=8), max_size=4))
def test_every_document_that_was_found_comes_once(found):
    lists = [[_passage(name, start=start) for name, start in row] for row in found]
    papers = found_papers(lists)
    assert sorted(paper.document_id for paper in papers) == sorted({p.document_id for row in lists for p in row})
    assert all(any(paper in row for row in lists) for paper in papers)


def test_ranks_are_read_with_their_words():
    reply = (
        'Here are the scores:\n[2] 80 "built in 1894"\n- [1]: 100% - “so it is”\n3. 5/100: "no"\n[4] Score: 7 "x"\n'
        '[2] 10 "again"\n[9] 50 "nowhere"\n[5] 101 "too much"\n[6] 30'
    )
    assert read_ranks(6)(reply) == {
        2: (80, '"built in 1894"'), 1: (100, "“so it is”"), 3: (5, '"no"'), 4: (7, '"x"'), 6: (30, ""),
    }  # fmt: skip
    for wrong in ("", "All are good.", '[7] 50 "x"', '[1] 0.5 "x"'):
        with pytest.raises(ValueError, match="0 to 100"):
            read_ranks(6)(wrong)


def test_a_rank_counts_with_words_that_stand_in_that_paper():
    a, b, c = _passage("a"), _passage("b", "Gulls nest upon the roof."), _passage("c")
    papers, wrong = ranked_papers([a, b, c], {1: (50, '"pier was built in 1894"'), 2: (90, '"pier was built in 1894"')})
    assert [paper.score for paper in papers] == [0.5, 0.9, 0.0]
    assert papers[0].justification.text == "pier was built in 1894" and papers[0].justification.start == 4
    assert papers[1].justification is None and wrong == ['B: "pier was built in 1894"']
    assert papers[2].ranked_by == "search"
    assert [paper.document_id for paper in best_first(papers)] == ["a", "b", "c"]
    reader = Paper(c, 0.7, "reader")
    assert best_first([*papers, reader])[0] == reader and reader.title == "C"


def test_a_plan_is_read_by_sentence():
    reply = "1. The pier is old [1][3]\n- Gulls [2, 9] nest\n\n---\nWhat is open"
    assert read_sentences(3)(reply) == (
        PlannedSentence("The pier is old", (1, 3)),
        PlannedSentence("Gulls nest", (2,)),
        PlannedSentence("What is open"),
    )
    for wrong in ("", "No plan.", "About all [4]", "A [1]\n" * (MOST_SENTENCES + 1)):
        with pytest.raises(ValueError, match="1 to 40 lines"):
            read_sentences(3)(wrong)


def test_a_plan_without_papers_that_have_no_room():
    plan = (PlannedSentence("a", (1, 3)), PlannedSentence("b", (3,)), PlannedSentence("c"))
    assert among(plan, 3) == plan
    assert among(plan, 2) == (PlannedSentence("a", (1,)), PlannedSentence("c"))


def test_the_plain_plan_has_a_sentence_for_each_paper():
    assert [str(each) for each in plain_plan([_passage("a"), Passage("b", 0, 1, "x")])] == [
        "What A says of the topic. [1]",
        "What it says of the topic. [2]",
    ]


def test_papers_that_were_planned_and_not_cited_are_named():
    text = Written("x [2].", (Citation(2, "b", 0, 1, "x"),))
    assert Review(text, plan=(PlannedSentence("a", (3, 1)), PlannedSentence("b", (2, 3)))).uncited == (1, 3)
