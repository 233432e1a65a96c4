"""The desk: every request other than an Ask, against a real library and the shipped models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import carrel
from carrel.agents import Ask, Bind, Embed, Fit, Read, Retrieve, Score, Steps, flow, run
from carrel.agents.base import Fitted
from carrel.agents.desk import Desk
from carrel.agents.reader_worker import ReaderWorker
from carrel.errors import DocumentNotFoundError, InputError
from carrel.testing import FakeGenerator, HashEncoder
from carrel.types import Completion, Document, Passage, Prompt

FERRY = Document("The ferry leaves the north pier at nine. It comes back at six.", "ferry", metadata={"year": 1894})
GULLS = Document("Gulls nest on the roof of the harbour office.", "gulls", metadata={"year": 1931})
PASSAGES = tuple(Passage(each.id, 0, len(each.text), each.text) for each in (FERRY, GULLS))
QUESTION = "When does the ferry leave?"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[carrel.Library]:
    with carrel.open(tmp_path_factory.mktemp("desk"), encoder=HashEncoder(256), mode="fast") as library:
        library.add([FERRY, GULLS])
        yield library


def test_retrievals_are_those_of_the_library(library: carrel.Library) -> None:
    desk = Desk(FakeGenerator(), library)
    assert desk.mode == "fast"
    found = desk.perform(Retrieve(QUESTION, limit=1))
    assert found == tuple(library.search(QUESTION, limit=1)) and found[0].document_id == "ferry"
    assert [p.document_id for p in desk.perform(Retrieve(QUESTION, where={"year": {">": 1900}}))] == ["gulls"]
    context = desk.perform(Retrieve(QUESTION, budget=40))
    assert context == library.context(QUESTION, budget=40).passages and isinstance(context, tuple)
    only = desk.perform(Retrieve(QUESTION, budget=40, where={"year": 1931}))
    assert {passage.document_id for passage in only} == {"gulls"}


def test_documents_are_read_by_their_id(library: carrel.Library) -> None:
    desk = Desk(FakeGenerator(), library)
    assert desk.perform(Read("ferry")).text == FERRY.text
    with pytest.raises(DocumentNotFoundError):
        desk.perform(Read("nothing"))


@pytest.mark.parametrize("request_", [Retrieve(QUESTION), Read("ferry")])
def test_without_a_library_that_is_an_error(request_: Any) -> None:
    with pytest.raises(InputError, match=r"this flow wants to .*: give the driver a library="):
        Desk(FakeGenerator()).perform(request_)


def test_fit_counts_with_the_generator() -> None:
    fitted = Desk(FakeGenerator(context_window=40)).perform(Fit(Prompt(QUESTION, max_tokens=10), PASSAGES, whole=True))
    assert fitted == Fitted(PASSAGES[:1], PASSAGES[1:])


@pytest.mark.parametrize("mode", ["fast", "balanced"])
def test_scores_tell_what_answers_from_what_does_not(mode: str) -> None:
    desk = Desk(FakeGenerator(), mode=mode)
    ferry, gulls = desk.perform(Score(QUESTION, PASSAGES))
    assert 0 <= gulls < ferry <= 1 and type(ferry) is float
    assert desk.perform(Score(QUESTION, ())) == ()
    assert desk.perform(Score(QUESTION, PASSAGES[::-1])) == pytest.approx((gulls, ferry), abs=0.05)


def test_vectors_are_those_of_the_library_or_the_shipped_model(library: carrel.Library) -> None:
    own = Desk(FakeGenerator(), library).perform(Embed(("a text", "another")))
    assert own.shape == (2, 256) and own.dtype == np.float32
    shipped = Desk(FakeGenerator()).perform(Embed(("the ferry leaves", "gulls nest")))
    query = Desk(FakeGenerator()).perform(Embed((QUESTION,), queries=True))
    assert shipped.shape == (2, 384) and np.allclose(np.linalg.norm(shipped, axis=1), 1, atol=1e-3)
    assert shipped[0] @ query[0] > shipped[1] @ query[0]


@pytest.mark.parametrize("mode", ["fast", "balanced"])
def test_marks_are_bound_or_reported(mode: str) -> None:
    text = "The ferry leaves the north pier at nine [1]. The mayor resigned in 1931 [2]."
    bound = Desk(FakeGenerator(), mode=mode).perform(Bind(text, PASSAGES, QUESTION))
    (citation,) = bound.citations
    assert (citation.number, citation.quote) == (1, "The ferry leaves the north pier at nine.")
    assert [mark.number for mark in bound.unsupported] == [2]


def test_the_reader_answers_where_no_generator_is_named() -> None:
    assert isinstance(Desk().generator, ReaderWorker) and Desk().mode == "balanced"


def test_the_name_says_who_answers_and_who_scores(library: carrel.Library) -> None:
    class Named(FakeGenerator):
        model = "tiny"

    names = [
        Desk(FakeGenerator()).name, Desk(Named()).name, Desk(FakeGenerator(), mode="fast").name,
        Desk(FakeGenerator(), library, "thorough").name,
    ]  # fmt: skip
    assert len(set(names)) == 4 and "fake" in names[0] and "tiny" in names[1]
    assert Desk(FakeGenerator(), library).name == names[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("gpt",), "a generator"), ((FakeGenerator(), "folder"), "a library"), ((None, None, "quick"), "quick")],
)
def test_what_cannot_serve_is_said(arguments: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Desk(*arguments)


def test_an_ask_is_not_for_the_desk() -> None:
    with pytest.raises(InputError, match="put to the generator"):
        Desk(FakeGenerator()).perform(Ask(Prompt("q")))


def test_a_flow_gets_all_of_it_by_one_driver(library: carrel.Library) -> None:
    @flow()
    def everything() -> Steps[str]:
        passages = yield Retrieve(QUESTION, limit=2)
        document, scores, fitted = yield [Read("ferry"), Score(QUESTION, passages), Fit(Prompt(QUESTION), passages)]
        assert document.text == FERRY.text and len(scores) == 2 and fitted.taken == passages
        reply: Completion = yield Ask(Prompt(QUESTION, fitted.taken))
        bound = yield Bind(reply.text, fitted.taken, QUESTION)
        return str(bound.citations[0].quote)

    generator = FakeGenerator("The ferry leaves the north pier at nine [1].")
    assert run(everything(), generator=generator, library=library).result == "The ferry leaves the north pier at nine."
