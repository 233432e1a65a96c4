"""Promise 3: whatever happened, and through whichever open library, the answers are those of what is stored now."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrel.library import Library
from carrel.retrieval.indexes.lexical import LexicalIndex
from carrel.retrieval.store import documents as stored
from carrel.types import Document

fixtures = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
WORDS = "lamp rope gull harbour night pier salt crab".split()
texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=4).map(
    "\n\n".join
)
steps = st.tuples(
    st.integers(0, 1),  # through which library
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.tuples(st.sampled_from("abcdef"), texts), min_size=1, max_size=3)),
        st.tuples(st.just("remove"), st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3)),
        st.tuples(st.just("search"), st.none()),
        st.tuples(st.just("purge"), st.none()),
        st.tuples(st.just("reopen"), st.none()),
        st.tuples(st.just("repair"), st.none()),
    ),
)


def put(library: Library, truth: dict[str, str], texts: dict[str, str]) -> None:
    library.add([Document(text, id=key) for key, text in texts.items()])
    for key, text in texts.items():  # what is replaced goes to the end; what is unchanged stays
        if truth.get(key) != text:
            truth.pop(key, None)
            truth[key] = text


@fixtures
@given(history=st.lists(steps, min_size=1, max_size=12))
def test_results_equal_those_of_a_fresh_library(make, answers, contents, history) -> None:  # noqa: C901 -- a step each
    first = make()
    libraries = [first, make(first.path)]
    truth: dict[str, str] = {}
    try:
        for which, (step, argument) in history:
            library = libraries[which]
            if step == "put":
                put(library, truth, dict(argument))
            elif step == "remove":
                gone = sorted(argument & truth.keys())
                assert sorted(library.remove(gone)) == gone
                for key in gone:
                    del truth[key]
            elif step == "search":
                library.search("lamp gull")
            elif step == "purge":
                library.purge()
            elif step == "repair":
                library.doctor(repair=True)
            else:
                library.close()
                libraries[which] = make(first.path)
        for library in libraries:
            assert {key: document.text for key, document in contents(library).items()} == truth
            assert all(check.ok for check in library.doctor())
        with make() as fresh:
            fresh.add([Document(text, id=key) for key, text in truth.items()])
            expected = answers(fresh)
            for library in libraries:
                assert answers(library) == expected
    finally:
        for library in libraries:
            library.close()


def test_a_transaction_that_fails_leaves_no_trace(make, answers, contents, monkeypatch) -> None:
    """A failure at each stage of the write: the documents before it are as they were."""
    with make() as library:
        library.add([Document("the lamp", id="a"), Document("the rope", id="b")])
        before, documents = answers(library), contents(library)
        stages = [
            (stored, "insert_documents"),
            (stored, "log_change"),
            (LexicalIndex, "catch_up"),
            (LexicalIndex, "add"),
        ]
        for owner, name in stages:
            with monkeypatch.context() as patch:
                original = getattr(owner, name)

                def broken(*arguments, original=original):
                    original(*arguments)
                    raise OSError("the disk is gone")

                patch.setattr(owner, name, broken)
                with pytest.raises(OSError, match="the disk is gone"):
                    library.add([Document("the gull", id="a"), Document("the crab", id="c")])
                if name != "insert_documents" and (owner, name) != (LexicalIndex, "add"):
                    with pytest.raises(OSError, match="the disk is gone"):
                        library.remove("b")
            assert contents(library) == documents
            assert answers(library) == before
            assert all(check.ok for check in library.doctor())
