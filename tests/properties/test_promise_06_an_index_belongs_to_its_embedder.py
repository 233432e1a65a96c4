"""Promise 6: another encoder is an error that says what to do, before anything is read or written."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrel.errors import EncoderMismatchError
from carrel.library import Library
from carrel.testing import HashEncoder
from carrel.types import Document

fixtures = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
OPERATIONS = {
    "search": lambda library: library.search("lamp"),
    "dense": lambda library: library.search("lamp", retriever="dense"),
    "lexical": lambda library: library.search("lamp", retriever="lexical"),
    "context": lambda library: library.context("lamp"),
    "ask": lambda library: library.ask("lamp"),
    "add": lambda library: library.add_text("new", id="n"),
    "dry run": lambda library: library.add(Document("new", id="n"), dry_run=True),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_use_is_refused_with_advice(make, name: str) -> None:
    with make() as library, make(library.path, seed=1) as other:
        library.add_text("The lamp burns.", id="a")
        with pytest.raises(EncoderMismatchError, match=r"'default' was indexed with hash \(64 dim.*carrel reindex"):
            OPERATIONS[name](other)
        assert [info.id for info in other.documents()] == ["a"]
        assert library.search("lamp")


@fixtures
@given(dimension=st.sampled_from([8, 64, 65]), seed=st.integers(0, 2))
def test_a_fingerprint_decides(make, dimension: int, seed: int) -> None:
    with make() as library:
        library.add_text("The lamp burns.", id="a")
        with Library(library.path, encoder=HashEncoder(dimension, seed=seed)) as other:
            if (dimension, seed) == (64, 0):
                assert other.search("lamp") == library.search("lamp")
            else:
                with pytest.raises(EncoderMismatchError):
                    other.search("lamp")


def test_documents_can_be_listed_and_removed_with_any_encoder(make) -> None:
    with make() as library, make(library.path, seed=1) as other:
        library.add([Document("The lamp burns.", id="a"), Document("The rope.", id="b")])
        assert other.document("a").text == "The lamp burns."
        assert other.remove("a") == ("a",)
        assert [passage.document_id for passage in library.search("lamp rope")] == ["b"]


def test_collections_may_have_different_encoders(make) -> None:
    with make() as first, make(first.path, seed=1, collection="second") as second:
        for library in (first, second):
            library.add_text("The lamp burns.", id="a")
        assert first.search("lamp") and second.search("lamp")


def test_reindex_is_the_way_out(make) -> None:
    with make() as library, make(library.path, seed=1) as other:
        library.add([Document(f"The lamp {n} burns.", id=f"d{n}") for n in range(5)])
        seen = []
        other.reindex(progress=lambda progress: seen.append(len(library.search("lamp"))))
        assert seen == [5]
        assert len(other.search("lamp")) == 5
        with pytest.raises(EncoderMismatchError):
            library.search("lamp")


def test_an_encoder_that_is_changed_underway_is_noticed(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process reindexes between the embedding and the commit: nothing of the old encoder is written."""
    with make() as library, make(library.path, seed=1) as other:
        library.add_text("The lamp burns.", id="a")
        encode = library.encoder.encode_many

        def late(items):
            vectors = encode(items)
            other.reindex()
            return vectors

        monkeypatch.setattr(library.encoder, "encode_many", late)
        with pytest.raises(EncoderMismatchError):
            library.add_text("new", id="n")
        assert [info.id for info in other.documents()] == ["a"]
        assert all(check.ok for check in other.doctor())
