"""The pipeline with a reranker and a pruner: their order, their account, and what stays as it was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

import carrel
from carrel.compression.base import Pruner
from carrel.errors import InputError, ScoreKindError
from carrel.retrieval.cutoff import AdaptiveK, Threshold
from carrel.retrieval.reranking import Reranker
from carrel.testing import HashEncoder
from carrel.types import Context, Document, LedgerEntry, Passage, Span

QUESTION = "When does the ferry leave the pier?"
_WORDS = re.compile(r"\w+")


def share(question: str, text: str) -> float:
    wanted = set(_WORDS.findall(question.lower()))
    return len(wanted & set(_WORDS.findall(text.lower()))) / len(wanted)


class Last(Reranker):
    """Prefers what was found last, so that a test sees who decides."""

    name = "last"

    def __init__(self) -> None:
        self.read: list[int] = []

    def scores(self, question: str, passages: list[Passage]) -> np.ndarray:
        self.read.append(len(passages))
        scores = (1 + np.arange(len(passages))) / (1 + len(passages))
        scores[-1] = 1.0  # the largest drop is after the best
        return scores


class Words(Pruner):
    """Scores a sentence by its share of the question's words."""

    name = "words"
    threshold = 0.25

    def scores(self, question: str, passages: list[Passage], sentences: list[list[Span]]) -> list[list[float]]:
        return [
            [share(question, p.text[span.start - p.start : span.end - p.start]) for span in spans]
            for p, spans in zip(passages, sentences, strict=True)
        ]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[carrel.Library]:
    """Sixty documents of three sentences; one answers."""
    with carrel.open(tmp_path_factory.mktemp("reading"), encoder=HashEncoder(256)) as library:
        library.add(
            [
                Document(
                    f"Boat {n} lies at the pier. It has {n * 7} ropes and {n * 3} lamps. Grey{n} is its captain.",
                    f"boat-{n:02d}",
                    f"Boat {n}",
                )
                for n in range(59)
            ]
        )
        asked = "The harbour is old. When does the ferry leave the pier? "
        library.add(Document(f"{asked}The ferry leaves the pier at nine. Gulls nest here.", "ferry", "Ferry"))
        yield library


def entries(context: Context) -> dict[str, LedgerEntry]:
    return {entry.stage: entry for entry in context.ledger.entries}


def test_the_reranker_decides_over_the_best_32_and_the_rest_follows(library) -> None:
    fast = [p.document_id for p in library.search(QUESTION, limit=60, mode="fast")]
    reranker = Last()
    found = library.search(QUESTION, limit=60, reranker=reranker)
    assert [p.document_id for p in found] == [*reversed(fast[:32]), *fast[32:]]
    assert reranker.read == [32]
    assert [p.scores.relevance for p in found[:2]] == pytest.approx([1.0, 31 / 33])
    assert all(p.scores.relevance is None for p in found[32:])
    assert found[0].scores.fused is not None


def test_a_limit_comes_after_the_reranker(library) -> None:
    fast = [p.document_id for p in library.search(QUESTION, limit=32, mode="fast")]
    assert [p.document_id for p in library.search(QUESTION, limit=3, reranker=Last())] == fast[:-4:-1]
    context = library.context(QUESTION, limit=3, reranker=Last(), pruner="none")
    assert [p.document_id for p in context.passages] == fast[:-4:-1]
    assert entries(context)["limit"].reason == "limit 3"


def test_thorough_reads_more(library) -> None:
    reranker = Last()
    library.search(QUESTION, reranker=reranker, mode="thorough")
    assert reranker.read == [60]


def test_cutoffs_read_relevance(library) -> None:
    found = library.search(QUESTION, reranker=Last(), cutoff=Threshold(0.9), limit=60)
    assert len(found) == 3 and min(p.scores.relevance for p in found) >= 0.9
    assert len(library.search(QUESTION, reranker=Last(), cutoff=AdaptiveK(buffer=2), limit=60)) == 3
    fused = library.search(QUESTION, reranker=Last(), cutoff=AdaptiveK(buffer=2), retriever="rank_fused", limit=60)
    assert len(fused) == 3  # what fused ranks cannot tell, relevance can
    with pytest.raises(ScoreKindError):
        library.search(QUESTION, mode="fast", cutoff="adaptive", retriever="rank_fused")
    few = library.context(QUESTION, reranker=Last(), cutoff=AdaptiveK(buffer=9, max_tokens=60), pruner="none")
    assert entries(few)["cutoff"].reason.endswith("capped at 60 tokens")


def test_age_weighs_after_reading_too(tmp_path) -> None:
    class Sure(Reranker):
        name = "sure"

        def scores(self, question, passages):
            return np.array([0.9 if p.document_id == "old" else 0.8 for p in passages])

    with carrel.open(tmp_path, encoder=HashEncoder(64)) as library:
        day = 86_400.0
        library.add(Document("The ferry leaves the pier at nine.", "old", modified_at=1000 * day))
        library.add(Document("The ferry leaves the pier at ten.", "new", modified_at=1400 * day))
        assert library.search(QUESTION, reranker=Sure())[0].document_id == "old"
        best = library.search(QUESTION, reranker=Sure(), recency=100)[0]
        assert (best.document_id, best.scores.relevance) == ("new", 0.8)


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({"pruner": Words(), "reranker": Last()}, "embed retrieve read rerank prune deduplicate pack"),
        ({"pruner": "none", "reranker": Last()}, "embed retrieve read rerank deduplicate pack"),
        ({"pruner": Words(), "reranker": "none"}, "embed retrieve read prune deduplicate pack"),
        (
            {"pruner": Words(), "reranker": Last(), "cutoff": 5, "limit": 4},
            "embed retrieve read rerank cutoff limit prune deduplicate pack",
        ),
    ],
    ids=["both", "reranker", "pruner", "all"],
)
def test_the_ledger_tells_every_stage(library, options, stages: str) -> None:
    context = library.context(QUESTION, budget=60, **options)
    found = context.ledger.entries
    assert [entry.stage for entry in found] == stages.split()
    for before, after in pairwise(found[1:]):
        assert after.items_in == before.items_out and after.items_out <= after.items_in
    assert all(entry.reason for entry in found if entry.items_out < entry.items_in)
    assert found[-1].tokens_out == context.tokens <= 60
    if options["pruner"] != "none":
        assert entries(context)["prune"].details["sentences"] >= 3 * min(4, len(context.passages))
        assert found[-1].details["tokens_pruned"] > 0


def test_pruning_makes_room_and_leaves_nothing_out_where_there_is_room(library) -> None:
    options = {"reranker": "none", "limit": 6}
    small = library.context(QUESTION, budget=45, pruner=Words(), **options)
    assert "The ferry leaves the pier at nine." in small.text and "Gulls" not in small.text
    whole = library.context(QUESTION, budget=45, pruner="none", **options)
    assert len(small.passages) > len(whole.passages)
    for passage in small.passages:
        source = library.document(passage.document_id).text
        assert all(piece in source for piece in passage.pieces)
    room = library.context(QUESTION, budget=1000, pruner=Words(), **options)
    assert room.text == library.context(QUESTION, budget=1000, pruner="none", **options).text
    assert all(passage.kept is None for passage in room.passages)


def test_what_is_protected_stays_though_the_pruner_would_leave_it_out(library) -> None:
    options = {"reranker": "none", "limit": 6, "budget": 45, "pruner": Words()}
    pruned = library.context(QUESTION, **options)
    first = pruned.passages[0]
    text = library.document(first.document_id).text
    gulls = text.index("Gulls")
    protected = [(first.document_id, Span(gulls, gulls + 1)), ("another", Span(0, 9))]
    context = library.context(QUESTION, **options, protected=protected)
    assert "Gulls" not in pruned.text and "Gulls" in context.text and context.tokens <= 45
    elsewhere = library.context(QUESTION, **options, protected=[("another", Span(0, 9))])
    assert elsewhere.text == pruned.text


@pytest.mark.parametrize("protected", ["terms", Span(0, 1), [("terms", (0, 1))], ["terms"], [("terms", Span(0, 1), 2)]])
def test_what_protects_nothing_is_an_error_that_shows_what_would(library, protected) -> None:
    with pytest.raises(InputError, match=r"protected is a list of \(document id, Span\)"):
        library.context(QUESTION, protected=protected)


def test_repeats_are_dropped_in_the_rerankers_order(tmp_path) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder(64)) as library:
        library.add(Document("The ferry leaves the pier at nine in the morning.", "one"))
        library.add(Document("The ferry leaves the pier at nine in the morning!", "two"))
        first = library.context(QUESTION, mode="fast").passages
        last = library.context(QUESTION, reranker=Last()).passages
        assert [len(first), len(last)] == [1, 1] and first[0].document_id != last[0].document_id


def test_another_language_is_left_as_it_was_found(tmp_path) -> None:
    with carrel.open(tmp_path) as library:
        for n in range(4):
            text = (
                f"Die Fähre Nummer {n} legt um neun Uhr von der Mole ab und kommt um sechs wieder zurück in den Hafen."
            )
            library.add_text(text, id=str(n))
        context = library.context("Wann legt die Fähre von der Mole ab?", cutoff=3)
        assert entries(context)["rerank"].reason == "left out, and so is pruning: the model cannot read German"
        assert "prune" not in entries(context) and entries(context)["cutoff"].items_out == 3
        fast = library.context("Wann legt die Fähre von der Mole ab?", cutoff=3, mode="fast")
        assert context.text == fast.text
        answer = library.ask("Wann legt die Fähre von der Mole ab?")
        assert answer.abstained or answer.ledger.entries[-1].details["generator"] == "extractive"


def test_a_library_has_a_mode_of_its_own(tmp_path) -> None:
    with carrel.open(tmp_path, encoder=HashEncoder(64), mode="fast") as library:
        library.add_text("The ferry leaves the pier at nine.", id="ferry")
        assert "rerank" not in entries(library.context(QUESTION))
        assert "rerank" in entries(library.context(QUESTION, mode="balanced"))
    with pytest.raises(carrel.CarrelError, match="unknown mode 'slow'"):
        carrel.open(tmp_path, mode="slow")


def test_a_pruner_that_breaks_its_contract_is_named(library) -> None:
    class Broken(Words):
        name = "broken"

        def scores(self, question, passages, sentences):
            return [[2.0] * len(spans) for spans in sentences]

    with pytest.raises(ScoreKindError, match="the pruner 'broken' must give one score"):
        library.context(QUESTION, pruner=Broken())


def test_nothing_found_is_nothing_read(library) -> None:
    reranker = Last()
    context = library.context("submarine", retriever="lexical", reranker=reranker, pruner=Words())
    assert context.passages == () and reranker.read == []
    assert library.search("submarine", retriever="lexical", reranker=reranker, cutoff="adaptive") == []


def test_why_tells_what_reading_did(library) -> None:
    trace = library.why("ferry", QUESTION, reranker=Last(), pruner="none")
    assert [step.stage for step in trace.steps][:3] == ["store", "retrieve", "rerank"]
    assert re.match(r"rank 32 of the 32 that were read, relevance 0\.030", trace.steps[2].message)
    cut = library.why("ferry", QUESTION, reranker=Last(), cutoff=3)
    assert cut.fell_out_at == "cutoff" and cut.steps[-1].message == "below the cut: fixed at 3"
    below = next(p.document_id for p in library.search(QUESTION, limit=40, reranker=Last())[35:])
    assert "below the 32 passages" in library.why(below, QUESTION, reranker=Last()).steps[2].message
