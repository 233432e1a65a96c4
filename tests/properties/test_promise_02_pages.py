"""Promise 2, pages: a passage and a citation are on the page on which they start, however they came about."""

from __future__ import annotations

import re
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

import carrel
from carrel.errors import BudgetError
from carrel.generation.base import Generator
from carrel.retrieval.merging import merge_spans, tight
from carrel.retrieval.packing import Packer, header
from carrel.testing import HashEncoder, WordTokenizer
from carrel.types import Citation, Completion, Document, Passage, Prompt, Span

QUESTION = "When does the ferry leave the pier?"
sentences = st.sampled_from(
    [
        "The ferry leaves at nine. ",
        "The pier is white.\n\n",
        "Lamps burn 🚢 whale oil! ",
        "渡轮九点离开。",
        "\n \n",
        "a | b\n",
    ]
)
pages_of_text = st.lists(st.lists(sentences, max_size=14).map("".join), min_size=1, max_size=6)  # a page may be empty


@st.composite
def documents(draw: st.DrawFn, key: str = "d") -> Document:
    """Pages of sentences; some documents have none."""
    found = draw(pages_of_text.filter(lambda pages: "".join(pages).strip()))
    starts = [sum(map(len, found[:number])) for number in range(len(found))]
    return Document("".join(found), id=key, title="Plan", pages=tuple(starts) if draw(st.booleans()) else ())


def page_of(document: Document, offset: int) -> int | None:
    """By the definition: how many pages start at or before the offset."""
    return sum(start <= offset for start in document.pages) or None


def check(found: Sequence[Passage | Citation], sources: dict[str, Document]) -> None:
    for item in found:
        assert item.page == page_of(sources[item.document_id], item.start), item


def check_header(passage: Passage, document: Document) -> None:
    shown = re.search(r"\(pp?\. (\d+)(?:–(\d+))?\)$", header(passage, 1))
    if not document.pages:
        assert shown is None
        return
    assert shown is not None
    last = shown[2] or shown[1]
    spans = passage.kept or (Span(passage.start, passage.end),)  # the header is that of what is shown
    assert (int(shown[1]), int(last)) == (page_of(document, spans[0].start), page_of(document, spans[-1].end - 1))


class Misnumbering(Generator):
    """Cites the first word of every passage, on page 99."""

    name = "misnumbering"

    @property
    def tokenizer(self) -> WordTokenizer:
        return WordTokenizer()

    def complete(self, prompt: Prompt) -> Completion:
        quotes = [(p, p.text.split()[-1]) for p in prompt.passages]
        places = [(p, p.start + p.text.rindex(quote), quote) for p, quote in quotes]
        return Completion(
            "So.",
            citations=tuple(
                Citation(number, p.document_id, start, start + len(quote), quote, page=99)
                for number, (p, start, quote) in enumerate(places, start=1)
            ),
        )


@settings(max_examples=20)
@given(documents("one"), documents("two"), st.integers(12, 300), st.sampled_from(["relevance", "document"]))
def test_whatever_a_library_returns_is_on_its_page(one: Document, two: Document, budget: int, order: str) -> None:
    sources = {"one": one, "two": two}
    with tempfile.TemporaryDirectory() as folder, carrel.open(folder, encoder=HashEncoder()) as library:
        library.add(sources.values())
        found = library.search(QUESTION, limit=50)
        check(found, sources)
        assert all(passage.pages == sources[passage.document_id].pages for passage in found)
        for generator in (None, Misnumbering()):
            try:
                answer = library.ask(QUESTION, budget=budget, order=order, generator=generator)
            except BudgetError:
                continue
            check(answer.context.passages, sources)
            check(answer.citations, sources)
            assert generator is None or len(answer.citations) == len(answer.context.passages)
            for passage in answer.context.passages:
                check_header(passage, sources[passage.document_id])


@given(documents(), st.lists(st.integers(0, 10_000), min_size=2, max_size=10), st.integers(4, 150), st.randoms())
def test_merging_tightening_and_cutting_keep_to_the_page(document: Document, cuts, budget: int, random) -> None:
    places = sorted({cut % (len(document.text) + 1) for cut in cuts})
    parts = [Passage("d", a, b, document.text[a:b], pages=document.pages) for a, b in pairwise(places)]
    parts = [part for part in parts if part.text.strip()]
    random.shuffle(parts)
    check([*merge_spans(parts), *map(tight, parts)], {"d": document})
    try:
        packed = Packer(WordTokenizer(), budget, QUESTION).pack(parts)
    except BudgetError:
        return
    check(packed.passages, {"d": document})
    for passage in packed.passages:
        check_header(passage, document)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 60))
def test_before_the_first_page_it_is_the_first(starts: list[int], offset: int) -> None:
    pages = tuple(sorted(starts))
    assert Passage("d", offset, offset + 1, "x", pages=pages).page == max(1, bisect_right(pages, offset))
