from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from carrel.retrieval.loaders.markdown import MarkdownLoader, front_matter, scan
from carrel.types import Document

Load = Callable[..., Document]
Kinds = Callable[[Document], list[tuple[str, str]]]

PAGE = """---
title: "The Page"
draft: false
---
# Heading *one*

A paragraph
of two lines.

- first
  - inner

  more of the first
- second

1) one
2) two

```python
# not a heading

x = 1
```

Table 1. A caption

| a | b |
|---|:-:|
| 1 | 2 |

> a quotation
goes on

***

Second
------

    indented code

    more of it
end
"""


def test_blocks(load: Load, kinds: Kinds) -> None:
    document = load(MarkdownLoader(), PAGE, "x.md")
    assert document.text == PAGE
    assert document.title == "The Page"
    assert document.metadata == {"draft": False}
    assert kinds(document) == [
        ("heading", "# Heading *one*"),
        ("paragraph", "A paragraph\nof two lines."),
        ("list", "- first\n  - inner\n\n  more of the first\n- second\n\n1) one\n2) two"),
        ("code", "```python\n# not a heading\n\nx = 1\n```"),
        ("paragraph", "Table 1. A caption"),
        ("table", "| a | b |\n|---|:-:|\n| 1 | 2 |"),
        ("paragraph", "> a quotation\ngoes on"),
        ("heading", "Second\n------"),
        ("code", "    indented code\n\n    more of it"),
        ("paragraph", "end"),
    ]
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 2]
    table = document.blocks[5]
    assert (table.header, table.joined) == ("| a | b |", True)
    assert not any(block.joined for block in document.blocks if block is not table)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a | b\n--|--\n1 | 2\n\nx", ["table", "paragraph"]),
        ("caption\n| a |\n|---|\n| 1 |", ["paragraph", "table"]),
        ("text with a | bar\nand more", ["paragraph"]),
        ("#no heading\n####### nor this", ["paragraph"]),
        ("#\ntext", ["heading", "paragraph"]),
        ("text\n# Heading\ntext", ["paragraph", "heading", "paragraph"]),
        ("text\n- item", ["paragraph", "list"]),
        ("text\n2. not an item", ["paragraph"]),
        ("- item\n# Heading", ["list", "heading"]),
        ("- item\nlazy\n\ntext", ["list", "paragraph"]),
        ("~~~\nunclosed\n\n# x\n", ["code"]),
        ("````\n```\n````\nafter", ["code", "paragraph"]),
        ("* * *\ntext", ["paragraph"]),
        ("a\n===\n\n---\n", ["heading"]),
        ("\n\n   \nlast", ["paragraph"]),
        ("\tcode", ["code"]),
    ],
)
def test_single_constructs(load: Load, text: str, expected: list[str]) -> None:
    assert [block.kind for block in load(MarkdownLoader(), text).blocks] == expected


@pytest.mark.parametrize(
    ("above", "joined"),
    [("Table 1. x", True), ("## x", True), ("x\ny", False), ("- x", False), ("word " * 60, False), ("", False)],
)
def test_a_caption_is_joined_to_its_table(load: Load, above: str, joined: bool) -> None:
    document = load(MarkdownLoader(), f"{above}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    assert document.blocks[-1].kind == "table"
    assert document.blocks[-1].joined is joined


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# The [**log**](x.md 'y') of `Petrel` #\n\ntext", "The log of Petrel"),
        ("Log\n===\ntext", "Log"),
        ("## Only second\n\ntext", "folder-name"),
        ("---\ntitle: 1987\n---\n# Other", "1987"),
        ("text", "folder-name"),
    ],
)
def test_title(load: Load, text: str, title: str) -> None:
    assert load(MarkdownLoader(), text, "x/folder-name.md").title == title


def test_front_matter() -> None:
    text = (
        "---\ntitle: A: b\nn: 3\nf: 1.10\ng: 2.5\nz: 007\nyes: true\nempty:\nquoted: 'x y'\n"
        "tags: [a, \"b c\"]\nlist:\n  - one\n  - 'two'\n# comment\nnested:\n  key: value\n---\nbody\n"
    )
    metadata, end = front_matter(text)
    assert text[end:] == "body\n"
    assert metadata == {
        "title": "A: b", "n": 3, "f": "1.10", "g": 2.5, "z": "007", "yes": True, "quoted": "x y",
        "tags": ["a", "b c"], "list": ["one", "two"],
    }  # fmt: skip


@pytest.mark.parametrize("text", ["---\n\ntext", "--- x\na: b\n---\n", "text\n---\na: b\n---\n", "---\na: b\n"])
def test_what_is_no_front_matter(text: str) -> None:
    assert front_matter(text) == ({}, 0)


# -- the scanner against a full parser ---------------------------------------------------------------------------

WORD = st.text(alphabet="abcdefghij", min_size=1, max_size=6)
LINE = st.lists(WORD, min_size=1, max_size=5).map(" ".join)
LINES = st.lists(LINE, min_size=1, max_size=4)
PIECES = st.one_of(
    LINES.map("\n".join),
    st.tuples(st.integers(1, 6), LINE).map(lambda pair: "#" * pair[0] + " " + pair[1]),
    st.tuples(LINES, st.sampled_from(["=", "=====", "---"])).map(lambda pair: "\n".join(pair[0]) + "\n" + pair[1]),
    st.tuples(st.lists(LINE | st.just("") | LINE.map("# {}".format), max_size=5), st.sampled_from(["```", "~~~~"]))
    .map(lambda pair: "\n".join([pair[1] + "py", *pair[0], pair[1]])),
    LINES.map(lambda lines: "\n".join(f"- {line}" for line in lines)),
    LINES.map(lambda lines: "\n\n".join(f"* {line}\n\n  {line}" for line in lines)),
    LINES.map(lambda lines: "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))),
    LINES.map(lambda lines: "\n".join(f"> {line}" for line in lines)),
    st.lists(st.tuples(WORD, WORD), min_size=1, max_size=4).map(
        lambda rows: "\n".join(["| x | y |", "|---|--:|", *(f"| {a} | {b} |" for a, b in rows)])
    ),
    LINES.map(lambda lines: "\n".join(f"    {line}" for line in lines)),
    st.sampled_from(["***", "- - -", "___"]),
)  # fmt: skip
KIND_OF_TOKEN = {
    "heading_open": "heading", "paragraph_open": "paragraph", "blockquote_open": "paragraph", "table_open": "table",
    "fence": "code", "code_block": "code", "bullet_list_open": "list", "ordered_list_open": "list",
}  # fmt: skip


def parsed(text: str) -> list[tuple[str, int, int]]:
    """Return the kind, first line and heading level of the outermost blocks, as markdown-it finds them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return [
        (KIND_OF_TOKEN[token.type], token.map[0], int(token.tag[1]) if token.type == "heading_open" else 0)
        for token in tokens
        if token.level == 0 and token.map and token.type in KIND_OF_TOKEN
    ]


def without_joined_lists(blocks: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Leave out a list or code block after a list: the scanner makes one block of both."""
    return [
        block
        for number, block in enumerate(blocks)
        if not (number and blocks[number - 1][0] == "list" and block[0] in ("list", "code"))
    ]


@given(st.lists(st.tuples(PIECES, st.sampled_from(["\n\n", "\n\n\n", "\n \n"])), max_size=8))
def test_the_scanner_finds_what_a_full_parser_finds(pieces: list[tuple[str, str]]) -> None:
    text = "".join(piece + gap for piece, gap in pieces)
    scanned = [(b.kind, text.count("\n", 0, b.start), b.level) for b in scan(text)]
    expected = parsed(text)
    merged = [b for n, b in enumerate(expected) if not (n and b[0] == "list" and expected[n - 1][0] == "list")]
    assert without_joined_lists(scanned) == without_joined_lists(merged)


@given(st.text(alphabet="ab #-*|>`~=_1.\t\n", max_size=120))
def test_any_text_gives_ordered_blocks(text: str) -> None:
    end = 0
    for block in scan(text):
        assert end <= block.start < block.end <= len(text)
        assert text[block.start : block.end].strip()
        end = block.end


@given(st.text(alphabet="ab #-*|>`\n", max_size=120))
def test_no_word_is_outside_the_blocks(text: str) -> None:
    covered = "".join(text[block.start : block.end] for block in scan(text))
    assert covered.count("a") == text.count("a")


@pytest.mark.parametrize(
    "text",
    [
        "|" * 200_000, "- " * 100_000, "`" * 200_000, "```\n" * 50_000, "#" * 200_000, "a\n" * 100_000,
        "- a\n\n\n" * 30_000, "a|b\n" * 50_000, "|-" * 100_000, ">" * 200_000, "a\n=\n" * 30_000,
        "a|\n" + "|-" * 50_000 + "x", "- a\n" + " \n" * 100_000 + "b", "    a\n" + " \n" * 100_000 + "b",
        "---\n" * 50_000, "[" * 100_000,
    ],
    ids=lambda text: text[:8],
)  # fmt: skip
def test_hostile_text_takes_no_longer_than_its_size_warrants(load: Load, text: str) -> None:
    started = time.perf_counter()
    load(MarkdownLoader(), text + "\nend\n")
    assert time.perf_counter() - started < 3


def test_speed() -> None:
    data = (PAGE[PAGE.index("# Heading") :] * 2_000).encode()
    seconds = min(timed(data) for _ in range(3))
    assert len(data) / seconds > 2e6  # of the processor; measured: about 15 MB/s


def timed(data: bytes) -> float:
    started = time.process_time()
    list(MarkdownLoader().load(data, "x.md"))
    return time.process_time() - started
