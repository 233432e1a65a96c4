"""Promise 2: every span comes from the source, to the character."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import carrel
from carrel.errors import BudgetError
from carrel.generation.reader import ReaderGenerator
from carrel.retrieval.packing import Packer
from carrel.testing import HashEncoder, WordTokenizer
from carrel.types import Document, Passage, Span

UNICODE = [
    "The ferry leaves at nine. ",
    "Cafe\u0301 and nai\u0308ve\u0323. ",
    "👩‍🔬 measures 🚢🇫🇷 twice! ",
    "渡轮九点离开。",
    "המעבורת יוצאת בתשע. ",
    "العبارة تغادر في التاسعة. ",
    "ﬁne ﬂags Å K ſ. ",
    "İstanbul ǅ ß STRASSE. ",
    "\u202eright to left\u202c and \u200bzero width. ",
    "tab\tand\u00a0hard space.\r\n",
    "\n\n",
    "# A heading\n\n",
    "a | b | 3.5\n",
    "   \n",
    "x" * 700,
]
texts = st.one_of(
    st.lists(st.sampled_from(UNICODE), min_size=1, max_size=14).map("".join),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200),
).filter(str.strip)
questions = st.sampled_from(["When does the ferry leave?", "渡轮", "Café naïve", "בתשע", "x", "twice heading"])


def check(passages: list[Passage] | tuple[Passage, ...], sources: dict[str, str]) -> None:
    for passage in passages:
        source = sources[passage.document_id]
        assert 0 <= passage.start < passage.end <= len(source)
        assert passage.text == source[passage.start : passage.end]
        assert passage.text == passage.text.strip()
        for piece, span in zip(passage.pieces, passage.kept or [Span(passage.start, passage.end)], strict=True):
            assert piece == source[span.start : span.end]


@settings(max_examples=20)
@given(st.lists(texts, min_size=1, max_size=3, unique=True), questions, st.integers(8, 400))
def test_a_library_quotes_its_documents(found: list[str], question: str, budget: int) -> None:
    sources = {f"d{number}": text for number, text in enumerate(found)}
    with tempfile.TemporaryDirectory() as folder, carrel.open(folder, encoder=HashEncoder()) as library:
        report = library.add([Document(text, id=key, title="Title") for key, text in sources.items()])
        assert not report.skipped
        assert {key: library.document(key).text for key in sources} == sources
        check(library.search(question, limit=50), sources)
        for order in ("relevance", "sides", "document"):
            try:
                answer = library.ask(question, budget=budget, order=order)
            except BudgetError:
                continue
            check(answer.context.passages, sources)
            for citation in answer.citations:
                assert citation.quote == sources[citation.document_id][citation.start : citation.end] != ""
                passage = answer.context.passages[citation.number - 1]
                assert passage.document_id == citation.document_id
                assert passage.start <= citation.start < citation.end <= passage.end


@given(texts, st.lists(st.integers(0, 10_000), min_size=2, max_size=8), st.integers(4, 120), questions)
def test_merged_and_cut_passages_quote_their_document(text: str, cuts: list[int], budget: int, question: str) -> None:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    parts = [Passage("d", a, b, text[a:b]) for a, b in pairwise(places) if text[a:b].strip()]
    try:
        packed = Packer(WordTokenizer(), budget, question).pack(parts)
    except BudgetError:
        return
    check(packed.passages, {"d": text})


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[carrel.Library]:
    """Many languages and marks, with the shipped encoder."""
    with carrel.open(tmp_path_factory.mktemp("spans")) as library:
        library.add([Document("".join(UNICODE[:10]) * 12, id="long"), Document("".join(UNICODE[:6]), id="short")])
        yield library


@pytest.mark.parametrize("budget", [25, 60, 300, 5000])
def test_the_shipped_encoder_quotes_them_too(library: carrel.Library, budget: int) -> None:
    sources = {key: library.document(key).text for key in ("long", "short")}
    answer = library.ask("When does the ferry leave?", budget=budget, generator=ReaderGenerator(threshold=0))
    check(answer.context.passages, sources)
    assert answer.citations and answer.answers
    for citation in answer.citations:
        assert citation.quote == sources[citation.document_id][citation.start : citation.end]
