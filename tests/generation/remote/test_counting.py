"""Counting for models that are elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from carrel.generation.remote.counting import MarginTokenizer, ServerTokenizer
from carrel.testing import TokenizerConformance, WordTokenizer
from carrel.tokens import shipped_tokenizer

ROOT = Path(__file__).resolve().parents[3]


def byte_level() -> RustTokenizer:
    """A small tokenizer of the kind that most language models have."""
    made = RustTokenizer(BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    made.train([str(ROOT / "README.md")], trainer)
    return made


BYTES = byte_level()


def as_server(text: str) -> tuple[int, list[str]]:
    tokens = BYTES.encode(text).tokens
    return len(tokens), tokens


class TestServerTokenizer(TokenizerConformance):
    def make(self) -> ServerTokenizer:
        return ServerTokenizer("tiny", as_server)


class TestServerTokenizerThatShowsNoTokens(TokenizerConformance):
    def make(self) -> ServerTokenizer:
        return ServerTokenizer("tiny", lambda text: (as_server(text)[0], []))


class TestServerTokenizerThatSpellsOtherwise(TokenizerConformance):
    def make(self) -> ServerTokenizer:
        return ServerTokenizer("tiny", lambda text: (len(text.split()), [f"▁{word}" for word in text.split()]))

    texts = ("", "one", "one two three", "a b c d e f g h")


class TestMarginTokenizer(TokenizerConformance):
    def make(self) -> MarginTokenizer:
        return MarginTokenizer("tiny")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_offsets_are_those_of_the_bytes(text: str) -> None:
    """A token that ends inside a character has all of it; together the tokens cover the text."""
    offsets = ServerTokenizer("tiny", as_server).offsets(text)
    assert len(offsets) == as_server(text)[0]
    assert {place for start, end in offsets for place in range(start, end)} == set(range(len(text)))
    for (start, end), token in zip(offsets, BYTES.encode(text).offsets, strict=True):
        assert (start, end) == token


def test_the_server_is_asked_once_for_each_text() -> None:
    asked: list[str] = []

    def tokenize(text: str) -> tuple[int, list[str]]:
        asked.append(text)
        return as_server(text)

    tokenizer = ServerTokenizer("tiny", tokenize)
    assert [tokenizer.count(text) for text in ("a", "b", "a", "")] == [1, 1, 1, 0]
    assert asked == ["a", "b"]


@given(st.text(max_size=80))
def test_a_margin_is_never_below_what_it_stands_on(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    margin = MarginTokenizer(base=shipped_tokenizer())
    assert margin.count(text) >= 1.25 * shipped_tokenizer().count(text)
    assert margin.count(text) >= len(text.encode()) / 4


def test_a_margin_says_so_in_its_name() -> None:
    assert MarginTokenizer("tiny", 0.5, WordTokenizer()).name == "words + 50%, in place of tiny's"
    assert json.dumps(MarginTokenizer().name) == '"all-MiniLM-L6-v2 + 25%"'


def test_tiktoken_is_only_asked_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from carrel.generation.remote.counting import TiktokenTokenizer

    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(ImportError):
        TiktokenTokenizer("gpt-4o")
