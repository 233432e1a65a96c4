"""Promise 11: at the limits every stage gives back what it was given."""

from __future__ import annotations

import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

import carrel
from carrel.retrieval.cutoff import FixedK
from carrel.retrieval.merging import Repeats
from carrel.retrieval.packing import Packer, render
from carrel.testing import HashEncoder, WordTokenizer
from carrel.types import Block, Document, Passage, Span

nouns = st.sampled_from("ferry pier lamp keeper flag quay boat rope tide storm".split())
numbers = st.integers(0, 10**6)
sentences = st.builds(lambda noun, number, other: f"The {noun} of {number} meets the {other}. ", nouns, numbers, nouns)
paragraphs = st.lists(sentences, min_size=1, max_size=12).map("".join)
texts = st.lists(paragraphs, min_size=1, max_size=12).map("\n\n".join)


@settings(max_examples=15)
@given(texts, st.sampled_from(["fused", "dense"]))
def test_a_large_budget_returns_the_document_whole(text: str, retriever: str) -> None:
    with tempfile.TemporaryDirectory() as folder, carrel.open(folder, encoder=HashEncoder()) as library:
        library.add_text(text, id="d", title="Title")
        chunks = library.documents()[0].chunks
        options = {"order": "document", "retriever": retriever, "limit": chunks}
        context = library.context("the ferry", budget=20_000, **options)
        whole = [p for p in context.passages if p.text == text.strip()]
        if any("repeat" in entry.reason or "said what" in entry.reason for entry in context.ledger.entries):
            return  # two chunks of the random text are alike
        assert whole == list(context.passages)
        assert context.text == f"[1] Title\n{text.strip()}"
        assert whole[0].chunks == tuple(range(chunks))


@settings(max_examples=15)
@given(texts)
def test_no_cutoff_and_no_limit_keep_all_that_fits(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder, carrel.open(folder, encoder=HashEncoder()) as library:
        library.add_text(text, id="d", title="Title")
        plain = library.context("the ferry", budget=20_000)
        named = library.context("the ferry", budget=20_000, cutoff=None, limit=None)
        wide = library.context("the ferry", budget=20_000, cutoff=FixedK(10_000))
        assert plain.text == named.text == wide.text
        pack = next(entry for entry in plain.ledger.entries if entry.stage == "pack")
        assert pack.reason == "all fit in 20000 tokens"


@given(texts)
def test_keeping_every_span_is_keeping_the_passage(text: str) -> None:
    whole = Passage("d", 5, 5 + len(text), text)
    kept = Passage("d", 5, 5 + len(text), text, kept=(Span(5, 5 + len(text)),))
    assert whole.pieces == kept.pieces
    assert render([whole]) == render([kept])
    packed = [Packer(WordTokenizer(), 10**6, "ferry").pack([passage]) for passage in (whole, kept)]
    assert packed[0].text == packed[1].text
    assert not packed[0].cut and not packed[1].cut


@given(st.lists(sentences, unique=True, max_size=10))
def test_repeats_that_must_be_exact_drop_nothing_else(found: list[str]) -> None:
    passages = [Passage(str(number), 0, len(text), text) for number, text in enumerate(found)]
    exact = {text.lower(): text for text in found}
    assert len(list(Repeats(similarity=1.01).distinct(passages))) == len(passages)
    assert len(exact) == len(found)


def test_structure_is_not_lost_either() -> None:
    parts = ["# Lights", "The lamp burns at night. " * 30, "## Oil", "It burns whale oil. " * 30]
    text, blocks = "", []
    for part in parts:
        kind = "heading" if part.startswith("#") else "paragraph"
        blocks.append(Block(len(text), len(text) + len(part), kind, part.count("#")))  # type: ignore[arg-type]
        text += f"{part}\n\n"
    with tempfile.TemporaryDirectory() as folder, carrel.open(folder, encoder=HashEncoder()) as library:
        library.add(Document(text, id="d", title="Handbook", blocks=tuple(blocks)))
        found = library.search("lamp oil", limit=100)
        assert sorted(chunk for passage in found for chunk in passage.chunks) == list(range(len(found)))
        covered = sorted((passage.start, passage.end) for passage in found)
        assert " ".join(text[start:end] for start, end in covered).split() == text.split()
