"""Values as JSON and back: what is kept of a reply is the reply."""

from __future__ import annotations

import functools
import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import Ask, Fit, Retrieve
from carrel.agents.codec import digest, plain, restored
from carrel.errors import InputError
from carrel.types import Completion, Document, Passage, Prompt, Span


@dataclass(frozen=True)
class _Leaf:
    number: float
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class _Branch:
    leaf: _Leaf | None
    pair: tuple[int, str]
    leaves: tuple[_Leaf, ...] = ()
    words: list[str] = field(default_factory=list)
    either: tuple[Span, ...] | str | None = None
    anything: Any = None


_text = st.text(st.characters(exclude_categories=()), max_size=8)
_leaf = st.builds(_Leaf, st.floats(allow_nan=False), st.sampled_from(["a", "b"]))
_branch = st.builds(
    _Branch, st.none() | _leaf, st.tuples(st.integers(), _text), st.lists(_leaf, max_size=3).map(tuple),
    st.lists(_text, max_size=3), st.none() | _text | st.just((Span(1, 2), Span(3, 4))),
    st.none() | st.booleans() | _text | st.lists(st.integers(), max_size=2),
)  # fmt: skip


@given(_branch)
def test_what_is_restored_is_what_was_given(value: _Branch) -> None:
    said = json.dumps(plain(value), ensure_ascii=False)
    assert restored(_Branch, json.loads(said)) == value


@given(_branch, _branch)
def test_digests_tell_values_apart(one: _Branch, other: _Branch) -> None:
    assert digest(one) == digest(restored(_Branch, json.loads(json.dumps(plain(one), ensure_ascii=False))))
    assert (digest(one) == digest(other)) == (plain(one) == plain(other))


def test_the_kind_of_a_value_counts() -> None:
    passage = Passage("d", 0, 4, "text")
    values = [Retrieve("q"), Ask(Prompt("q")), Fit(Prompt("q"), ()), Fit(Prompt("q"), (passage,)), "q", ["q"], ("q",)]
    assert len({digest(value) for value in values}) == len(values)


def test_numpy_values_are_plain() -> None:
    assert plain(np.float32(0.5)) == 0.5 and plain(np.int64(3)) == 3
    assert plain(np.array([[1.0, 2.0]], np.float32)) == [[1.0, 2.0]]
    array = restored(np.ndarray, [[1.0, 2.0]])
    assert array.dtype == np.float32 and array.shape == (1, 2)


def test_the_order_of_mappings_and_sets_does_not_matter() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert plain({3, 1, 2}) == [1, 2, 3] and plain(OrderedDict(a=1)) == {"a": 1}
    assert plain({1, "a", (2, 3)}) == plain({(2, 3), "a", 1})
    assert plain(frozenset({Span(3, 4), Span(1, 2)})) == [{"start": 1, "end": 2}, {"start": 3, "end": 4}]


def test_functions_and_classes_are_named() -> None:
    assert plain(digest) == "carrel.agents.codec.digest" and plain(Span) == "carrel.types.Span"


@pytest.mark.parametrize("value", [object(), b"bytes", bytearray(b"b"), iter([1]), [1, {"deep": object()}], 1j])
def test_what_is_no_plain_value_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="is no plain value"):
        plain(value)


def test_a_list_of_another_length_than_its_tuple_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        restored(tuple[int, str], [1])


def test_documents_and_completions_come_back() -> None:
    document = Document("text", "d", metadata={"year": 1894, "tags": ["a", "b"], "none": None})
    assert restored(Document, plain(document)) == document
    completion = Completion("😀 \ud800", logprobs=(("a", -0.5), ("b", -1.5)))
    assert restored(Completion, json.loads(json.dumps(plain(completion), ensure_ascii=False))) == completion


def test_what_can_be_called_is_its_name() -> None:
    """Tools are arguments of flows; their functions may be methods, or partial."""
    assert plain("".join) == "builtins.str.join" and plain(sorted) == "builtins.sorted"
    assert plain(functools.partial(sorted, key=len)) == ["builtins.sorted", [], {"key": "builtins.len"}]
