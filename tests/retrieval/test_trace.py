"""Why a document is, or is not, in the context: every stage where it can fall out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import carrel
from carrel.errors import BudgetError, DocumentNotFoundError, EmptyQuestionError, FilterError, InputError
from carrel.retrieval import trace as tracing
from carrel.testing import HashEncoder
from carrel.types import Document

FERRY = "The ferry leaves the north pier at nine in the morning and comes back at six."
QUESTION = "When does the ferry leave the north pier?"


@pytest.fixture
def library(tmp_path: Path) -> Iterator[carrel.Library]:
    """The answer, its copy, and others that fit less and less."""
    with carrel.open(tmp_path, encoder=HashEncoder(512), mode="fast") as library:
        library.add(
            [
                Document(FERRY, "ferry", "ferry", metadata={"year": 1894}),
                Document(FERRY, "copy", "copy"),
                Document("The pier of the ferry was built in 1894. Nobody knows by whom.", "pier", "pier"),
                Document("The north wind blows over the quay when lamps burn.", "wind", "wind"),
                Document("Whale oil is dear.", "oil", "oil"),
            ]
        )
        yield library


def stages(trace: tracing.Trace) -> list[str]:
    return [step.stage for step in trace.steps]


def test_a_document_that_is_in_the_context(library) -> None:
    trace = library.why("ferry", QUESTION)
    assert trace.fell_out_at is None
    assert stages(trace) == ["store", "retrieve", "read", "deduplicate", "pack"]
    assert [passage.document_id for passage in trace.passages] == ["ferry"]
    assert trace.steps[0].message == f"1 chunks, {library.tokenizer.count(FERRY)} tokens"
    assert "fused rank 1 of" in trace.steps[1].message
    assert trace.steps[-1].message.startswith("in the context as [1] of")
    assert (trace.document_id, trace.question) == ("ferry", QUESTION)


def test_it_says_what_the_context_does(library) -> None:
    for options in (
        {},
        {"limit": 2},
        {"budget": 30},
        {"cutoff": 2},
        {"where": {"year": 1894}},
        {"retriever": "lexical"},
    ):
        context = library.context(QUESTION, **options)
        for info in library.documents():
            inside = tuple(p for p in context.passages if p.document_id == info.id)
            trace = library.why(info.id, QUESTION, **options)
            assert (trace.fell_out_at is None) == bool(inside), (info.id, options)
            assert trace.passages == inside


def test_an_unknown_document(library) -> None:
    with pytest.raises(DocumentNotFoundError, match="no document has the id 'nothing'"):
        library.why("nothing", QUESTION)


def test_the_filter(library) -> None:
    trace = library.why("pier", QUESTION, where={"year": 1894})
    assert trace.fell_out_at == "filter"
    assert stages(trace) == ["store", "filter"]
    assert trace.steps[-1].message == "does not pass the filter {'year': 1894}"
    passed = library.why("ferry", QUESTION, where={"year": 1894})
    assert passed.steps[1].message == "passes the filter {'year': 1894}"
    assert passed.fell_out_at is None


def test_the_retrieval(library) -> None:
    trace = library.why("oil", QUESTION, retriever="lexical")
    assert trace.fell_out_at == "retrieve"
    assert "not among the" in trace.steps[-1].message and "lexical index" in trace.steps[-1].message


def test_nothing_was_found_at_all(library) -> None:
    trace = library.why("oil", "submarine", retriever="lexical")
    assert (trace.fell_out_at, trace.steps[-1].message) == ("retrieve", "nothing was found")


def test_the_cutoff(library) -> None:
    trace = library.why("wind", QUESTION, cutoff=2)
    assert trace.fell_out_at == "cutoff"
    assert trace.steps[-1].message == "below the cut: fixed at 2"
    assert library.why("ferry", QUESTION, cutoff=2).steps[2].message == "fixed at 2"


def test_the_limit(library) -> None:
    trace = library.why("wind", QUESTION, limit=2)
    assert trace.fell_out_at == "read"
    assert "not among the 2 best passages" in trace.steps[-1].message


def test_the_limit_is_not_taken_for_the_cutoff(library) -> None:
    trace = library.why("wind", QUESTION, limit=2, cutoff=50)
    assert trace.fell_out_at == "read"
    assert stages(trace)[-2:] == ["cutoff", "read"]


def test_a_repeat(library) -> None:
    trace = library.why("copy", QUESTION)
    assert trace.fell_out_at == "deduplicate"
    assert trace.steps[-1].message == "says what ferry says, which ranks higher"


def test_the_budget(library) -> None:
    trace = library.why("wind", QUESTION, budget=25)
    assert trace.fell_out_at == "pack"
    assert "the budget of 25 tokens was spent on" in trace.steps[-1].message


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"budget": 0}, BudgetError),
        ({"budget": 2}, BudgetError),
        ({"limit": 0}, InputError),
        ({"where": {"year": {"~": 1}}}, FilterError),
        ({"order": "best"}, InputError),
        ({"retriever": "bm25"}, InputError),
        ({"colour": 1}, TypeError),
    ],
)
def test_it_refuses_what_a_context_refuses(library, options: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error) as of_context:
        library.context(QUESTION, **options)
    with pytest.raises(error) as of_why:
        library.why("ferry", QUESTION, **options)
    assert str(of_why.value) == str(of_context.value).replace("context()", "why()")


def test_an_empty_question(library) -> None:
    with pytest.raises(EmptyQuestionError):
        library.why("ferry", " ?")
