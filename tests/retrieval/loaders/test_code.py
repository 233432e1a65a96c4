from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.retrieval.loaders.code import CodeLoader
from carrel.types import Document

Load = Callable[..., Document]
Kinds = Callable[[Document], list[tuple[str, str]]]

PYTHON = '''"""Tides."""

import math


# the zero
# of the gauge
@cache
def height(minute):
    """Say it.

    def not_this(): ...
    """
    return math.pi


class Desk(Base):
    """Says whether."""

    limit = 3

    def one(self):
        return 1

    async def two(self):
        return 2


MAX = "\\d"
if MAX:
    pass
'''


def test_python_definitions(load: Load, kinds: Kinds) -> None:
    document = load(CodeLoader(), PYTHON, "a/tides.py")
    assert document.text == PYTHON
    assert (document.title, document.metadata) == ("tides.py", {"language": "python"})
    firsts = [(text.splitlines()[0], text.splitlines()[-1]) for _, text in kinds(document)]
    assert firsts == [
        ('"""Tides."""', "import math"),
        ("# the zero", "    return math.pi"),
        ("class Desk(Base):", "    limit = 3"),
        ("    def one(self):", "        return 1"),
        ("    async def two(self):", "        return 2"),
        ('MAX = "\\d"', "    pass"),
    ]
    assert [block.header for block in document.blocks] == ["", "", "", "class Desk(Base):", "class Desk(Base):", ""]
    assert {block.kind for block in document.blocks} == {"code"}


def test_python_that_does_not_parse_is_divided_by_its_layout(load: Load, kinds: Kinds) -> None:
    document = load(CodeLoader(), "print 'old'\n\ndef f():\n    x = 1\n\n    return x\n\n\ndef g(): pass\n", "a.py")
    assert [text for _, text in kinds(document)] == [
        "print 'old'", "def f():\n    x = 1\n\n    return x", "def g(): pass",
    ]  # fmt: skip


def test_other_languages(load: Load, kinds: Kinds) -> None:
    source = "package main\n\nfunc a() {\n\n\treturn\n\n}\n\n// b does it\nfunc b() {}\n"
    document = load(CodeLoader(), source, "main.go")
    assert document.text == source
    assert document.metadata == {"language": "go"}
    assert [text for _, text in kinds(document)] == [
        "package main", "func a() {\n\n\treturn\n\n}", "// b does it\nfunc b() {}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        "(" * 5_000,
        "x = " + "-" * 50_000 + "1",
        "a." * 30_000 + "a",
        "[" * 90 + "]" * 90,
        "x = 'unclosed",
        "\x0cx = 1\n",
    ],
    ids=lambda source: source[:6],
)
def test_source_that_is_hard_to_parse(load: Load, source: str) -> None:
    assert load(CodeLoader(), source, "a.py").text == source


PIECE = st.sampled_from(
    [
        "import os",
        "def f():\n    return 1",
        "class A:\n    x = 1\n\n    def g(self):\n        pass",
        "# note",
        "x = [\n1,\n]",
        "@d\ndef h(): pass",
        "class B: pass",
        "if x:\n    def k():\n        pass",
        "def m(): pass; y = 1",
        "'''a\n\ndef z():\n'''",
        "broken (",
    ]
)


@given(st.lists(st.tuples(PIECE, st.sampled_from(["\n", "\n\n", "\n\n\n"])), min_size=1, max_size=6))
def test_blocks_hold_every_line(load: Load, pieces: list[tuple[str, str]]) -> None:
    source = "".join(piece + gap for piece, gap in pieces)
    document = load(CodeLoader(), source, "a.py")
    covered = "".join(source[block.start : block.end] for block in document.blocks)
    assert "".join(covered.split()) == "".join(source.split())
