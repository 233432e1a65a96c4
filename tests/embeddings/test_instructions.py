"""Prefixes, instructions and worked examples: as the models' papers and cards write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.embeddings.instructions import (
    BGE,
    E5,
    GRIT,
    ICL,
    NOMIC,
    Example,
    Prompts,
    Template,
    declared,
    few_shot,
    instruct,
)
from carrel.errors import InputError

TASK = "Given a web search query, retrieve relevant passages that answer the query"


def test_an_instruction_is_that_of_e5_mistral() -> None:
    assert instruct(TASK).around("how much protein?") == f"Instruct: {TASK}\nQuery: how much protein?"
    assert instruct(TASK).after == ""


def test_other_forms() -> None:
    assert instruct("Find it", GRIT).around("why?") == "<|user|>\nFind it\n<|embed|>\nwhy?"
    assert instruct("Find it", ICL).around("why?") == "<instruct>Find it\n<query>why?"
    turned = instruct("find it", "{query} -- {task}!")
    assert (turned.before, turned.after) == ("", " -- find it!")


@pytest.mark.parametrize("form", ["{task}", "{query}", "{query}{query}{task}", "", "{task}{query}{task}"])
def test_a_form_that_is_none(form: str) -> None:
    with pytest.raises(InputError, match="has {task} and {query} once each"):
        instruct("Find it", form)


@pytest.mark.parametrize("task", [3, None, b"find"])
def test_a_task_that_is_none(task: object) -> None:
    with pytest.raises(InputError, match="a task is a text"):
        instruct(task)  # type: ignore[arg-type]


def test_examples_stand_before_the_question_as_bge_en_icl_reads_them() -> None:
    examples = [Example("what is a pier?", "A pier stands in the sea."), Example("who?", "She.", task="Name them")]
    assert few_shot("Find it", examples).around("why?") == (
        "<instruct>Find it\n<query>what is a pier?\n<response>A pier stands in the sea.\n\n"
        "<instruct>Name them\n<query>who?\n<response>She.\n\n"
        "<instruct>Find it\n<query>why?\n<response>"
    )


def test_without_examples_it_is_the_zero_shot_prompt() -> None:
    assert few_shot("Find it").around("why?") == "<instruct>Find it\n<query>why?\n<response>"


def test_an_example_that_is_none() -> None:
    with pytest.raises(
        InputError, match=r"an example is a carrel\.embeddings\.instructions\.Example, not \('a', 'b'\)"
    ):
        few_shot("Find it", [("a", "b")])  # type: ignore[list-item]


@given(st.text(), st.text(), st.lists(st.tuples(st.text(), st.text())))
def test_braces_in_texts_are_text(task: str, question: str, pairs: list[tuple[str, str]]) -> None:
    shown = few_shot(task, [Example(*pair) for pair in pairs]).around(question)
    assert shown.endswith(f"<instruct>{task}\n<query>{question}\n<response>")
    assert all(f"<query>{query}\n<response>{response}\n\n" in shown for query, response in pairs)
    assert instruct(task).around(question) == f"Instruct: {task}\nQuery: {question}"


@pytest.mark.parametrize(
    ("names", "default", "query", "document"),
    [
        ({}, None, "", ""),
        ({"query": "query: ", "passage": "passage: "}, None, "query: ", "passage: "),
        ({"query": "q", "document": "d", "passage": "p"}, None, "q", "d"),
        ({"corpus": "c"}, None, "", "c"),
        ({"query": "q", "usual": "u"}, "usual", "q", "u"),
        ({"query": "", "usual": "u"}, "usual", "", "u"),
        ({"query": None, "document": 3, "usual": "u"}, "usual", "u", "u"),
        ({"query": "q"}, "missing", "q", ""),
    ],
)
def test_declared_prompts(names: dict[str, object], default: str | None, query: str, document: str) -> None:
    found = declared(names, default)
    assert (found.query, found.document) == (Template(query), Template(document))


def test_what_a_user_gives_takes_the_place_of_what_is_declared() -> None:
    assert E5.overridden(None, None) == E5
    assert E5.overridden("", Template("a", "b")) == Prompts(Template(), Template("a", "b"))
    with pytest.raises(InputError, match="query_prompt is a text, not 3"):
        E5.overridden(3, None)  # type: ignore[arg-type]


def test_known_prefixes() -> None:
    assert E5.parts == ("query: ", "", "passage: ", "")
    assert NOMIC.document.around("x") == "search_document: x"
    assert BGE.document == Template() and BGE.query.before.endswith("passages: ")
