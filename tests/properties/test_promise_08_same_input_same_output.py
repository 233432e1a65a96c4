"""Promise 8: the same documents and the same question give the same answer, to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrel.embeddings.minilm import MiniLM
from carrel.types import Document

fixtures = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
WORDS = "lamp rope gull harbour night pier salt crab".split()
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
corpora = st.lists(texts, min_size=1, max_size=12)


def documents(corpus: list[str]) -> list[Document]:
    return [Document(text, id=f"d{number}", modified_at=1e9 + 86_400 * number) for number, text in enumerate(corpus)]


@fixtures
@given(corpus=corpora, cuts=st.sets(st.integers(1, 11), max_size=4))
def test_however_the_documents_were_added(make, answers, corpus: list[str], cuts: set[int]) -> None:
    """In one call or in several, in one library or the next: duplicates and ties included."""
    items = documents(corpus)
    with make() as whole, make() as parts:
        whole.add(items)
        bounds = [0, *sorted(cut for cut in cuts if cut < len(items)), len(items)]
        for start, end in pairwise(bounds):
            parts.add(items[start:end])
            parts.search("lamp")
        assert answers(whole) == answers(whole) == answers(parts)
        assert answers(whole, recency=30.0) == answers(parts, recency=30.0)
        with make(whole.path) as again:
            assert answers(again) == answers(whole)


@fixtures
@given(corpus=corpora, others=corpora, interleaved=st.booleans())
def test_whatever_other_tenants_do(make, answers, corpus: list[str], others: list[str], interleaved: bool) -> None:
    with make() as alone, make(tenant="x") as shared, make(shared.path, tenant="y") as other:
        alone.add(documents(corpus))
        if not interleaved:
            other.add(documents(others))
        for number, item in enumerate(documents(corpus)):
            shared.add(item)
            if interleaved and number < len(others):
                other.add_text(others[number], id=f"o{number}")
        assert answers(alone) == answers(shared)


@fixtures
@given(corpus=corpora, limit=st.integers(1, 12))
def test_a_smaller_limit_gives_the_beginning(make, corpus: list[str], limit: int) -> None:
    with make() as library:
        library.add(documents(corpus))
        for retriever in ("fused", "dense", "lexical", "rank_fused"):
            everything = library.search("lamp gull", retriever=retriever, limit=50)
            assert library.search("lamp gull", retriever=retriever, limit=limit) == everything[:limit]


def test_twins_come_in_the_order_they_were_added(make) -> None:
    with make() as library:
        library.add([Document("The lamp burns.", id=f"d{number:02}") for number in range(40)])
        expected = [f"d{number:02}" for number in range(40)]
        for retriever in ("fused", "dense", "lexical", "rank_fused"):
            assert [p.document_id for p in library.search("lamp", retriever=retriever, limit=50)] == expected, retriever
        library.remove([f"d{number:02}" for number in range(0, 40, 3)])
        expected = [key for number, key in enumerate(expected) if number % 3]
        for retriever in ("fused", "dense", "lexical", "rank_fused"):
            assert [p.document_id for p in library.search("lamp", retriever=retriever, limit=50)] == expected, retriever


def test_filters_do_not_change_scores_or_the_order_of_twins(make) -> None:
    with make() as library:
        items = [
            Document("The lamp burns." if n % 2 else f"The rope {n}", id=f"d{n:02}", metadata={"n": n})
            for n in range(30)
        ]
        library.add(items)
        for retriever in ("fused", "dense", "lexical", "rank_fused"):
            everything = {p.document_id: p for p in library.search("lamp", retriever=retriever, limit=50)}
            narrowed = library.search("lamp", retriever=retriever, limit=50, where={"n": {"<": 17}})
            assert [p.document_id for p in narrowed] == [key for key in everything if int(key[1:]) < 17]
            if retriever != "rank_fused":  # ranks are among those that pass
                assert narrowed == [everything[p.document_id] for p in narrowed]


_PROGRAM = """
import sys
from pathlib import Path
from carrel.library import Library
from carrel.testing import HashEncoder
from carrel.types import Document
words = "lamp rope gull harbour night pier".split()
with Library(Path(sys.argv[1]), encoder=HashEncoder(64)) as library:
    texts = [" ".join(words[n % 6:] + words[: n % 4]) for n in range(20)]
    library.add([Document(text, id=f"d{n}", metadata={w: n for w in words}) for n, text in enumerate(texts)])
    for retriever in ("fused", "dense", "lexical", "rank_fused"):
        print(library.search("lamp gull night", retriever=retriever, limit=20))
    context = library.context("lamp gull night", budget=150)
    print(context.text, context.tokens)
"""


def test_in_every_process(tmp_path) -> None:
    """Whatever the seed of Python's hashes."""
    outputs = set()
    for seed in ("0", "1", "77"):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(tmp_path / seed)],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert "lamp" in outputs.pop()


def test_the_shipped_embedder_gives_a_text_one_vector_whatever_else_is_in_the_batch() -> None:
    texts = [
        "The lamp burns.",
        "",
        "A much longer text about ropes, gulls and the harbour at night. " * 8,
        "lamp",
        "The lamp burns.",
    ]
    encoder = MiniLM(threads=2)
    together = encoder.encode_texts(texts)
    assert np.array_equal(together[0], together[4])
    assert np.array_equal(together, encoder.encode_texts(texts[::-1])[::-1])
    for text, vector in zip(texts, together, strict=True):
        assert np.array_equal(MiniLM(threads=1).encode_texts([text])[0], vector)


def test_ledgers_differ_in_their_times_only(make) -> None:
    with make() as library:
        library.add([Document(f"The lamp {n} burns.", id=f"d{n}") for n in range(5)])

        def plain(context):
            entries = [
                replace(e, seconds=0.0, details={k: v for k, v in e.details.items() if not k.endswith("_s")})
                for e in context.ledger.entries
            ]
            return replace(context, ledger=replace(context.ledger, entries=tuple(entries)))

        assert plain(library.context("lamp")) == plain(library.context("lamp"))
