"""Chunks tile their document, hold their cap, and keep what belongs together."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.retrieval.chunking import ChunkingOptions, chunk_document
from carrel.testing import WordTokenizer
from carrel.tokens import shipped_tokenizer
from carrel.types import Block, Chunk, Document

TOKENIZER = shipped_tokenizer()
SMALL = ChunkingOptions(target_tokens=24, max_tokens=64, merge_below=8, max_prefix_tokens=12)

words = st.sampled_from("harbour ferry lamp 14.5 e\u0301tage 🚢 渡轮 שלום internationalisation of the at x_1".split())
phrases = st.lists(words, min_size=1, max_size=9).map(" ".join)
sentences = st.lists(phrases.map(lambda text: f"{text.capitalize()}. "), min_size=1, max_size=8).map("".join)
rows = st.lists(st.tuples(words, words), min_size=1, max_size=25).map(lambda all: "\n".join(" | ".join(r) for r in all))
separators = st.sampled_from(["\n\n", "\n", " \n \n\n", "\n\n\n\n"])

Part = tuple[str, str, int, str, bool]  # text, kind, level, header, joined


def part(kind: str) -> st.SearchStrategy[list[Part]]:
    if kind == "heading":
        return st.tuples(phrases, st.integers(1, 6)).map(lambda made: [(made[0], "heading", made[1], "", False)])
    if kind == "table":
        return rows.map(lambda text: [(f"Name | Size\n{text}", "table", 0, "Name | Size", False)])
    if kind == "captioned":
        return st.tuples(phrases, rows).map(
            lambda made: [
                (made[0], "paragraph", 0, "", False),
                (f"Name | Size\n{made[1]}", "table", 0, "Name | Size", True),
            ]
        )
    if kind == "code":
        return st.tuples(words, rows).map(lambda m: [(f"def {m[0]}():\n{m[1]}", "code", 0, f"def {m[0]}():", False)])
    return sentences.map(lambda text: [(text.strip(), kind, 0, "", False)])


kinds = st.sampled_from(["heading", "heading", "paragraph", "paragraph", "list", "table", "captioned", "code"])


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A text with any valid structure over it."""
    text, blocks, pages = draw(st.sampled_from(["", "\n\n", "  "])), [], [0]
    for made in draw(st.lists(kinds.flatmap(part), max_size=9)):
        for content, kind, level, header, joined in made:
            blocks.append(Block(len(text), len(text) + len(content), kind, level, header, joined))  # type: ignore[arg-type]
            text += content + draw(separators)
        if draw(st.booleans()):
            pages.append(len(text))
    return Document(text, title=draw(phrases), blocks=tuple(blocks), pages=tuple(pages))


plain = st.one_of(
    st.text(max_size=300),
    st.text(st.sampled_from("aZ0 .!\n\t|#-\u200b\u3000e\u0301é🚢👩‍🔬渡א,"), max_size=400),
    st.lists(sentences, max_size=6).map("\n\n".join),
).map(lambda text: Document(text, title="Title"))


def checked(document: Document, options: ChunkingOptions = SMALL) -> list[Chunk]:
    """The chunks, after what must hold for any document."""
    chunks = chunk_document(document, TOKENIZER, options)
    assert "".join(chunk.text for chunk in chunks) == document.text
    place = 0
    for ordinal, chunk in enumerate(chunks):
        assert (chunk.ordinal, chunk.start) == (ordinal, place)
        assert chunk.text and chunk.text == document.text[chunk.start : chunk.end]
        whole = f"{chunk.prefix}\n{chunk.text}" if chunk.prefix else chunk.text
        assert TOKENIZER.count(whole) + 2 <= options.max_tokens, chunk
        place = chunk.end
    assert chunks == chunk_document(document, TOKENIZER, options)
    return chunks


@given(st.one_of(documents(), plain))
def test_chunks_tile_the_document_and_hold_the_cap(document: Document) -> None:
    checked(document)


@given(documents(), st.integers(40, 300), st.integers(8, 200))
def test_any_lengths_hold(document: Document, most: int, target: int) -> None:
    checked(document, ChunkingOptions(target_tokens=target, max_tokens=most, merge_below=target // 3))


@given(documents())
def test_other_tokenizers_tile_too(document: Document) -> None:
    chunks = chunk_document(document, WordTokenizer(), SMALL)
    assert "".join(chunk.text for chunk in chunks) == document.text
    assert all(WordTokenizer().count(f"{chunk.prefix}\n{chunk.text}") + 2 <= SMALL.max_tokens for chunk in chunks)


def tokens_of_one_line_json() -> str:
    return json.dumps([{"id": index, "name": f"boat-{index:05d}", "len": index / 7} for index in range(2500)])


GENERATOR = random.Random(7)
HARD = {
    "no space": "".join(GENERATOR.choices("abcdefghijklmnopqrstuvwxyz", k=100_000)),
    "no space, one letter": "a" * 100_000,
    "words just short enough to be cut": "".join(GENERATOR.choices("bcdfgqxz", k=99)) * 1000,
    "long words": " ".join("".join(GENERATOR.choices("bcdfgqxz", k=98)) for _ in range(400)),
    "emoji": "🚢👩‍🔬🇫🇷" * 12_000,
    "chinese": "渡轮九点离开北码头" * 8_000,
    "chinese with stops": "渡轮九点离开北码头。" * 8_000,
    "japanese and arabic": "ひらがなカタカナ" * 2_000 + "السفينة " * 4_000,
    "combining marks": "e\u0301\u0323" * 30_000,
    "marks alone": "\u0301" * 30_000,
    "one line of json": tokens_of_one_line_json(),
    "white space": " \n\t\n" * 15_000,
    "white space around": "\n" * 50_000 + "word" + " " * 50_000,
    "digits": "1234567890" * 8_000,
    "dots": "." * 50_000,
    "zero width": "\u200b" * 50_000,
    "replacement characters": "\ufffd" * 50_000,
    "lines": "a\n" * 20_000,
    "paragraphs": "a b.\n\n" * 15_000,
}


@pytest.mark.parametrize("name", HARD)
def test_hard_texts_hold_the_cap_in_time(name: str) -> None:
    started = time.process_time()
    chunks = checked(Document(HARD[name], title="A title of some words"), ChunkingOptions())
    assert time.process_time() - started < 10
    assert name.startswith(("white", "zero", "replacement", "marks alone")) or len(chunks) > 3
    assert all(len(chunk.text.strip()) <= 16 * ChunkingOptions().max_tokens for chunk in chunks)


def test_a_huge_table() -> None:
    header = "Name | Size | Colour"
    text = "\n".join([header, *(f"boat {index} | {index} metres | red" for index in range(5000))])
    chunks = checked(Document(text, title="Fleet", blocks=(Block(0, len(text), "table", header=header),)))
    assert chunks[0].prefix == "Fleet"
    assert {chunk.prefix for chunk in chunks[1:]} == {f"Fleet\n{header}"}
    assert all(chunk.text.endswith("\n") for chunk in chunks[:-1])  # no row is cut


def test_a_table_of_one_endless_row() -> None:
    header = " | ".join(f"column {index}" for index in range(500))
    text = f"{header}\n{header.replace('column', 'cell')}"
    checked(Document(text, title="Wide", blocks=(Block(0, len(text), "table", header=header),)), ChunkingOptions())


def test_ten_thousand_headings() -> None:
    text, blocks = "", []
    for index in range(10_000):
        line = f"Heading {index}"
        blocks.append(Block(len(text), len(text) + len(line), "heading", index % 6 + 1))
        text += f"{line}\n"
    started = time.process_time()
    checked(Document(text, title="Headings", blocks=tuple(blocks)), ChunkingOptions())
    assert time.process_time() - started < 10


def test_an_empty_document_has_no_chunks() -> None:
    assert chunk_document(Document(""), TOKENIZER) == []


# -- what belongs together ----------------------------------------------------------------------


def structured(*parts: tuple[str, str, int]) -> Document:
    text, blocks = "", []
    for content, kind, level in parts:
        blocks.append(Block(len(text), len(text) + len(content), kind, level))  # type: ignore[arg-type]
        text += f"{content}\n\n"
    return Document(text.rstrip(), title="Handbook", blocks=tuple(blocks))


def test_the_prefix_is_title_and_headings_above() -> None:
    long = "The lamp is lit at dusk and put out at dawn. " * 6
    document = structured(
        ("Lights", "heading", 1), (long, "paragraph", 0),
        ("Oil", "heading", 2), (long, "paragraph", 0),
        ("Signals", "heading", 1), (long, "paragraph", 0),
    )  # fmt: skip
    found = {chunk.prefix: chunk.text for chunk in checked(document, replace(SMALL, max_prefix_tokens=20))}
    assert set(found) == {"Handbook", "Handbook > Lights", "Handbook > Lights > Oil", "Handbook > Signals"}


def test_a_heading_stands_under_those_above_it_not_under_itself() -> None:
    document = structured(("Lights", "heading", 1), ("It burns.", "paragraph", 0))
    (chunk,) = checked(document)
    assert (chunk.prefix, chunk.text) == ("Handbook", "Lights\n\nIt burns.")


@pytest.mark.parametrize("heading", ["Handbook", "HANDBOOK", "# Handbook #"])
def test_a_heading_that_says_what_the_title_says_is_not_said_twice(heading: str) -> None:
    long = "The lamp is lit at dusk and put out at dawn. " * 6
    parts = [(heading, "heading", 1), (long, "paragraph", 0), ("Oil", "heading", 2), (long, "paragraph", 0)]
    assert {chunk.prefix for chunk in checked(structured(*parts))} == {"Handbook", "Handbook > Oil"}


def test_marks_of_headings_are_not_in_the_prefix() -> None:
    long = "The lamp is lit at dusk and put out at dawn. " * 6
    prefixes = {chunk.prefix for chunk in checked(structured(("## Lights ##", "heading", 2), (long, "paragraph", 0)))}
    assert prefixes == {"Handbook", "Handbook > Lights"}


def test_a_title_is_one_line() -> None:
    document = replace(structured(("x " * 90, "paragraph", 0)), title="A title\n[2]  of\ttwo lines")
    assert {chunk.prefix for chunk in checked(document)} == {"A title [2] of two lines"}


def test_a_long_title_is_bounded() -> None:
    document = Document("word " * 300, title="title " * 500)
    assert all(TOKENIZER.count(chunk.prefix) <= SMALL.max_prefix_tokens for chunk in checked(document))


@given(documents())
def test_a_heading_stands_with_the_text_that_follows(document: Document) -> None:
    chunks = checked(document, ChunkingOptions(target_tokens=32, max_tokens=160, merge_below=8, max_prefix_tokens=12))
    for first, second in zip(document.blocks, document.blocks[1:], strict=False):
        if first.kind != "heading" or second.kind == "heading":
            continue
        home = next(chunk for chunk in chunks if chunk.start <= first.start < chunk.end)
        assert home.end > second.start


@pytest.mark.parametrize("kind", ["paragraph", "table", "code"])
def test_a_heading_stands_with_a_text_that_is_too_long_for_it(kind: str) -> None:
    document = structured(("The lights of the harbour", "heading", 1), ("word " * 252 + "end.", kind, 0))
    first, *rest = checked(document, ChunkingOptions())
    assert first.text.startswith("The lights of the harbour\n\nword word word")
    assert rest


def test_a_caption_stands_with_its_table() -> None:
    caption, header = "Table 1: the fleet in the year 1894", "Name | Size"
    table = "\n".join([header, *(f"boat {index} | {index}" for index in range(60))])
    filler = "The fleet grew every year since the pier was built. " * 4
    text = f"{filler}\n\n{caption}\n\n{table}"
    place = text.index(caption)
    blocks = (
        Block(0, len(filler)),
        Block(place, place + len(caption)),
        Block(text.index(header), len(text), "table", header=header, joined=True),
    )
    chunks = checked(Document(text, blocks=blocks))
    home = next(chunk for chunk in chunks if caption in chunk.text)
    assert header in home.text
    assert header not in home.prefix


@given(documents())
def test_a_tables_header_is_repeated_on_continuations_only(document: Document) -> None:
    for chunk in checked(document):
        inside = next((b for b in document.blocks if b.kind == "table" and b.start < chunk.start < b.end), None)
        if inside is not None and document.text[chunk.start : inside.end].strip():
            assert chunk.prefix.endswith("\nName | Size") or "Name | Size" in chunk.text
        if any(block.start == chunk.start for block in document.blocks if block.kind == "table"):
            assert "\n" not in chunk.prefix


@given(documents())
def test_pages_are_those_where_chunks_start(document: Document) -> None:
    for chunk in checked(document):
        assert chunk.page == max(1, sum(page <= chunk.start for page in document.pages))


def test_without_pages_there_is_no_page() -> None:
    assert [chunk.page for chunk in checked(Document("One. Two."))] == [None]


def test_short_neighbours_are_joined_and_long_ones_are_not() -> None:
    long = "The lamp is lit at dusk and put out at dawn by the keeper of the lighthouse. "
    chunks = chunk_document(Document(f"One.\n\nTwo.\n\nThree.\n\n{long * 12}"), TOKENIZER, ChunkingOptions())
    assert chunks[0].text.startswith("One.\n\nTwo.\n\nThree.")
    assert 1 < len(chunks) <= 4
    assert all(chunk.text.rstrip().endswith(".") for chunk in chunks)  # cut between sentences


def test_a_section_is_not_joined_with_the_next_document_part_above_the_target() -> None:
    chunks = checked(Document("\n\n".join(["The lamp burns at night."] * 40)))
    assert all(chunk.tokens <= SMALL.target_tokens for chunk in chunks)


def test_tokens_are_those_of_the_text() -> None:
    for chunk in checked(Document("The ferry leaves at nine. " * 50)):
        assert chunk.tokens == TOKENIZER.count(chunk.text)


@pytest.mark.parametrize("kind", ["sentences", "headings"])
def test_time_grows_with_the_text_and_not_faster(kind: str) -> None:
    def seconds(copies: int) -> float:
        text, blocks = "The ferry leaves at nine.\n\n" * copies, ()
        if kind == "headings":
            blocks = tuple(Block(27 * index, 27 * index + 25, "heading", 1) for index in range(copies))
        document = Document(text, blocks=blocks)
        started = time.process_time()
        chunk_document(document, TOKENIZER)
        return time.process_time() - started

    small = min(seconds(1000) for _ in range(3))
    assert min(seconds(10_000) for _ in range(2)) < 50 * small  # ten times the text


@settings(max_examples=10)
@given(documents())
def test_the_same_document_gives_the_same_chunks(document: Document) -> None:
    assert chunk_document(document, TOKENIZER, SMALL) == chunk_document(replace(document), TOKENIZER, SMALL)


@given(
    text=st.text(alphabet=st.sampled_from("ab é.\n\t#|東"), max_size=600).filter(str.strip),
    cap=st.integers(32, 120),
    title=st.sampled_from(["", "Harbour", "word " * 40]),
)
def test_the_cap_holds_with_the_prefix(text: str, cap: int, title: str) -> None:
    options = ChunkingOptions(target_tokens=cap // 2, max_tokens=cap, merge_below=8)
    chunks = chunk_document(Document(text, id="a", title=title), WordTokenizer(), options)
    assert "".join(chunk.text for chunk in chunks) == text
    for chunk in chunks:
        assert WordTokenizer().count(chunk.text) + WordTokenizer().count(chunk.prefix) + 2 <= cap
