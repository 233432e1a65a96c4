"""The journal: every kind of reply comes back as it was."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import Ask, Bind, Embed, Journal, Read, Retrieve, Score
from carrel.generation.binding import Bound
from carrel.types import (
    Block,
    Citation,
    Completion,
    Document,
    Passage,
    Prompt,
    Scores,
    ShortAnswer,
    Span,
    UnsupportedMark,
    Usage,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.journal"


_text = st.text(st.characters(exclude_categories=()), max_size=12)
_number = st.floats(allow_nan=False, allow_infinity=False)
_small = st.integers(0, 2**40)
_span = st.builds(Span, _small, _small)
_citation = st.builds(Citation, _small, _text, _small, _small, _text, _text, _text, st.none() | _small)
_metadata = st.dictionaries(
    _text, st.none() | st.booleans() | _small | _number | _text | st.lists(_text, max_size=2), max_size=2
)
_passage = st.builds(
    Passage, _text, _small, _small, _text, _text, _text, _text, st.tuples(_small, _small), st.tuples(_small), _metadata,
    st.builds(Scores, st.none() | _number, st.none(), _number), st.none() | st.tuples() | st.tuples(_span, _span),
)  # fmt: skip
_completion = st.builds(
    Completion, _text, st.builds(Usage, _small, _small, _small, _text), st.sampled_from(["stop", "refused"]), _text,
    st.tuples() | st.tuples(_citation), st.none() | _number,
    st.tuples() | st.tuples(st.builds(ShortAnswer, _text, _small, _small, _number, _citation)),
    st.tuples() | st.tuples(st.tuples(_text, _number), st.tuples(_text, _number)),
    st.dictionaries(_text, _number, max_size=2),
)  # fmt: skip
_document = st.builds(
    Document, _text, _text, _text, _text, _metadata, _text, _text,
    st.tuples() | st.tuples(st.builds(Block, _small, _small, st.just("table"), _small, _text, st.booleans())),
    st.tuples() | st.tuples(_small, _small), st.none() | _number,
)  # fmt: skip
_bound = st.builds(
    Bound, st.tuples(_citation), st.tuples() | st.tuples(st.builds(UnsupportedMark, _small, _small, _small, _text))
)
_REPLIES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Ask(Prompt("q")), _completion),
    (Retrieve("q"), st.lists(_passage, max_size=2).map(tuple)),
    (Read("d"), _document),
    (Score("q", ()), st.lists(_number, max_size=3).map(tuple)),
    (Bind("t", ()), _bound),
]


@given(st.data())
def test_every_reply_comes_back_as_it_was(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = []
        with Journal(Path(folder) / "j") as journal:
            for place, (request, replies) in enumerate(_REPLIES):
                kept.append((request, data.draw(replies)))
                journal.keep("flow", str(place), *kept[-1])
                assert journal.find("flow", str(place), request) == (True, kept[-1][1])
        with Journal(Path(folder) / "j") as journal:
            for place, (request, reply) in enumerate(kept):
                found, value = journal.find("flow", str(place), request)
                assert found and value == reply and type(value) is type(reply)
                if isinstance(reply, Completion):
                    assert value.metrics == reply.metrics


def test_two_halves_of_a_character_stay_two(path: Path) -> None:
    reply = Completion("\ud83d\ude00 and 😀")
    with Journal(path) as journal:
        journal.keep("f", "0", Ask(Prompt("q")), reply)
    with Journal(path) as journal:
        assert journal.find("f", "0", Ask(Prompt("q"))) == (True, reply)


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3), min_size=1, max_size=4))
def test_arrays_come_back_bit_by_bit(rows: list[list[float]]) -> None:
    array = np.asarray(rows, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        with Journal(Path(folder) / "j") as journal:
            journal.keep("f", "0", Embed(("a",)), array)
        with Journal(Path(folder) / "j") as journal:
            found, value = journal.find("f", "0", Embed(("a",)))
    assert found and value.dtype == np.float32 and np.array_equal(value, array)


@pytest.mark.parametrize("shape", [(0, 384), (2, 0)])
def test_an_empty_array_keeps_its_shape(path: Path, shape: tuple[int, int]) -> None:
    with Journal(path) as journal:
        journal.keep("f", "0", Embed(()), np.zeros(shape, np.float32))
    with Journal(path) as journal:
        found, value = journal.find("f", "0", Embed(()))
    assert found and value.shape == shape and value.dtype == np.float32
