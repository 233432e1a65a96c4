"""Retrievers and the searcher, on small real libraries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import carrel
from carrel.errors import FilterError, InputError
from carrel.retrieval.retrievers import RETRIEVERS, Candidates, Dense, Fused, Lexical, RankFused, make_retriever
from carrel.testing import HashEncoder, RetrieverConformance
from carrel.types import Document, Scores

TEXTS = {
    "ferry": "The ferry leaves the north pier at nine.",
    "pier": "The north pier was built in 1894.",
    "lamps": "Lamps burn all night on the tower.",
    "whale": "Whale oil was dear, so the lamps were few.",
}
DAY = 86_400.0


class TestFused(RetrieverConformance):
    def make(self):
        return Fused()


class TestDense(RetrieverConformance):
    def make(self):
        return Dense()


class TestLexical(RetrieverConformance):
    def make(self):
        return Lexical()


class TestRankFused(RetrieverConformance):
    def make(self):
        return RankFused()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[carrel.Library]:
    """Four documents of one chunk each."""
    with carrel.open(tmp_path_factory.mktemp("retrievers"), encoder=HashEncoder(), mode="fast") as library:
        library.add([Document(text, id=key, title=key, metadata={"words": len(text)}) for key, text in TEXTS.items()])
        yield library


@pytest.mark.parametrize(
    ("retriever", "present"),
    [
        ("dense", {"dense"}),
        ("lexical", {"lexical"}),
        ("fused", {"dense", "lexical", "fused"}),
        ("rank_fused", {"dense", "lexical", "rank_fused"}),
    ],
)
def test_each_retriever_gives_its_scores_and_keeps_those_it_used(library, retriever: str, present: set[str]) -> None:
    found = library.search("When does the ferry leave the pier?", retriever=retriever)
    assert found[0].document_id == "ferry"
    for passage in found:
        scores = {name: getattr(passage.scores, name) for name in Scores.__dataclass_fields__}
        assert {name for name, value in scores.items() if value is not None} == present
        assert all(isinstance(value, float) for value in scores.values() if value is not None)
    own = [getattr(passage.scores, retriever) for passage in found]
    assert own == sorted(own, reverse=True)


def test_fused_scores_are_the_convex_mix_of_the_others(library) -> None:
    found = library.search("the lamps of the pier", retriever=Fused(0.25), limit=4)
    best = max(passage.scores.lexical for passage in found)
    for passage in found:
        scores = passage.scores
        assert scores.fused == pytest.approx(0.25 * scores.dense + 0.75 * scores.lexical / best)


def test_dense_scores_are_cosines(library) -> None:
    encoder = HashEncoder()
    query = encoder.encode_queries(["lamps"])[0]
    for passage in library.search("lamps", retriever="dense", limit=4):
        vector = encoder.encode_texts([f"{passage.prefix}\n{passage.text}"])[0]
        assert passage.scores.dense == pytest.approx(float(query @ vector), abs=1e-5)


def test_lexical_finds_words_only(library) -> None:
    assert {passage.document_id for passage in library.search("lamp", retriever="lexical")} == {"lamps", "whale"}
    assert library.search("submarine", retriever="lexical") == []
    assert library.search("submarine", retriever="dense") != []


def test_lexical_needs_no_embedding(tmp_path: Path) -> None:
    class Refuses(HashEncoder):
        def encode_queries(self, questions):
            raise AssertionError("the question was embedded")

    with carrel.open(tmp_path, encoder=Refuses()) as library:
        library.add_text("The ferry leaves.", id="ferry")
        assert library.search("ferry", retriever="lexical")[0].document_id == "ferry"
        with pytest.raises(AssertionError, match="embedded"):
            library.search("ferry", retriever="dense")


@pytest.mark.parametrize("retriever", RETRIEVERS)
@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_limits_hold(library, retriever: str, limit: int) -> None:
    found = library.search("the ferry lamps", retriever=retriever, limit=limit)
    every = library.search("the ferry lamps", retriever=retriever, limit=50)
    assert found == every[:limit]
    assert len(every) == len({passage.document_id for passage in every})


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_filters_hold(library, retriever: str) -> None:
    allowed = {"ferry", "whale"}
    found = library.search("lamps ferry pier", retriever=retriever, where={"id": sorted(allowed)}, limit=50)
    assert {passage.document_id for passage in found} == allowed
    assert library.search("lamps", retriever=retriever, where={"words": {">": 1000}}) == []


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_a_removed_document_is_never_found(tmp_path: Path, retriever: str) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        library.add([Document(text, id=key) for key, text in TEXTS.items()])
        assert "lamps" in {passage.document_id for passage in library.search("lamps", retriever=retriever)}
        library.remove("lamps")
        assert "lamps" not in {p.document_id for p in library.search("lamps", retriever=retriever, limit=50)}
        library.add_text("Lamps are back.", id="lamps")
        assert library.search("lamps back", retriever=retriever)[0].text == "Lamps are back."


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_an_empty_library_finds_nothing(tmp_path: Path, retriever: str) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        assert library.search("ferry", retriever=retriever, recency=3.0, where={"a": 1}) == []
        assert library.context("ferry", retriever=retriever).text == ""
        library.add_text("The ferry.", id="ferry")
        library.remove("ferry")
        assert library.search("ferry", retriever=retriever) == []


@pytest.mark.parametrize("filled", [False, True])
def test_a_wrong_filter_is_an_error_in_an_empty_library_too(tmp_path: Path, filled: bool) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        if filled:
            library.add_text("The ferry.", id="ferry")
        for retriever in RETRIEVERS:
            with pytest.raises(FilterError, match="unknown operator"):
                library.search("ferry", retriever=retriever, where={"year": {"~": 1}})


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_ties_are_broken_by_the_order_of_adding(tmp_path: Path, retriever: str) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        names = [f"copy-{number:02d}" for number in (5, 3, 9, 1, 7)]
        for name in names:
            library.add_text("The ferry leaves at nine.", id=name)
        found = [library.search("ferry", retriever=retriever, limit=5) for _ in range(3)]
        assert found[0] == found[1] == found[2]
        assert [passage.document_id for passage in found[0]] == names


def test_a_read_only_library_without_the_collection_is_empty(tmp_path: Path) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        library.add_text("The ferry.", id="ferry")
    with carrel.open(tmp_path, encoder=HashEncoder(), read_only=True, collection="other") as library:
        assert library.search("ferry") == []
        assert library.documents() == []
        assert library.ask("ferry").abstained


# -- pages and sizes ----------------------------------------------------------------------------


def test_passages_know_the_pages_of_their_documents(tmp_path: Path) -> None:
    text = "The ferry leaves at nine.\n\n" + "Lamps burn whale oil. " * 60 + "\n\n" + "It returns at six. " * 30
    pages = (0, text.index("Lamps"), text.index("It returns"))
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        library.add([Document(text, id="paged", pages=pages), Document("The ferry is white.", id="plain")])
        found = library.search("ferry", limit=50)
        assert {passage.pages for passage in found if passage.document_id == "paged"} == {pages}
        assert {passage.pages for passage in found if passage.document_id == "plain"} == {()}
        assert {passage.page for passage in found} == {None, 1, 2, 3}


@pytest.mark.parametrize("retriever", list(RETRIEVERS))
def test_the_size_is_that_of_the_collection_now(tmp_path: Path, retriever: str) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library, carrel.open(tmp_path, collection="other") as other:

        def searched() -> int:
            entries = library.context("ferry", retriever=retriever).ledger.entries
            return next(entry.items_in for entry in entries if entry.stage == "retrieve")

        other.add_text("The ferry of others.", id="o")
        assert searched() == 0
        library.add([Document(text, id=key) for key, text in TEXTS.items()])
        assert searched() == 4
        library.add_text("Lamps burn whale oil. " * 200, id="long")
        assert searched() == sum(info.chunks for info in library.documents()) > 5
        library.remove(["long", "pier"])
        assert searched() == 3


# -- recency ------------------------------------------------------------------------------------


@pytest.fixture
def dated(tmp_path: Path) -> Iterator[carrel.Library]:
    """The same text three times, of different ages."""
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        ages = {"old": 1000, "older": 4000, "new": 0}
        library.add([Document("The ferry leaves.", id=key, modified_at=1e9 - age * DAY) for key, age in ages.items()])
        yield library


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_older_documents_weigh_less(dated, retriever: str) -> None:
    assert [p.document_id for p in dated.search("ferry", retriever=retriever)] == ["old", "older", "new"]
    found = dated.search("ferry", retriever=retriever, recency=1000.0)
    assert [p.document_id for p in found] == ["new", "old", "older"]
    scores = [getattr(passage.scores, retriever) for passage in found]
    assert scores == sorted(scores, reverse=True)
    if retriever == "rank_fused":
        return  # equal texts have ranks of their own
    assert scores[1] / scores[0] == pytest.approx(0.75)  # halfway between 1 and the floor of 0.5
    assert scores[2] / scores[0] == pytest.approx(0.5 + 0.5 * 0.5**4)


def test_age_sinks_a_negative_score_too(dated) -> None:
    class Opposite(Dense):
        def score(self, candidates: Candidates):
            return -np.abs(super().score(candidates))

    found = dated.search("ferry", retriever=Opposite(), recency=1000.0)
    assert [p.document_id for p in found] == ["new", "old", "older"]


@pytest.mark.parametrize("recency", [0, -1.0, math.nan])
def test_a_senseless_half_life_is_refused(dated, recency: float) -> None:
    with pytest.raises(InputError, match="recency is a number of days and must be above 0"):
        dated.search("ferry", recency=recency)


# -- methods ------------------------------------------------------------------------------------


def test_an_unknown_retriever_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown retriever 'bm25'. Use one of: fused, dense, lexical, rank_fused"):
        make_retriever("bm25")


def test_retrievers_by_name_by_default_and_ready_made() -> None:
    assert isinstance(make_retriever(None), Fused)
    assert {name: type(make_retriever(name)) for name in RETRIEVERS} == RETRIEVERS
    own = Fused(0.5)
    assert make_retriever(own) is own


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_a_weight_is_a_share(weight: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        Fused(weight)


def test_passages_carry_their_documents_facts(tmp_path: Path) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        library.add(
            Document("  The ferry leaves.\n", "f", "Ferry", "plan.txt", {"year": 1894, "tags": ["a"]}, pages=(0,))
        )
        (passage,) = library.search("ferry")
        assert (passage.title, passage.source, passage.page) == ("Ferry", "plan.txt", 1)
        assert passage.metadata == {"year": 1894, "tags": ["a"]}
        assert (passage.start, passage.end, passage.text, passage.chunks) == (2, 19, "The ferry leaves.", (0,))


@pytest.mark.parametrize(("candidates", "full"), [(2, True), (50, False)])
def test_what_a_full_lexical_ranking_leaves_out_is_bounded_by_its_last(
    library: carrel.Library, candidates: int, full: bool
) -> None:
    searcher = library._pipeline.searcher
    question = "the north pier ferry lamps"
    query = searcher.encoder.encode_queries([question])[0]
    with searcher.store.read() as connection:
        ranking = searcher.rank(connection, question, query, Fused(), candidates=candidates)
        scores = searcher.lexical.search(connection, question, candidates).scores
    assert len(scores) == (2 if full else 4)
    assert ranking.candidates.lexical_bound == pytest.approx(scores.min() if full else 0.0)
