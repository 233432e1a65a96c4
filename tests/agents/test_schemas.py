"""Schemas of arguments: what they allow is given as it is meant, and what they do not is told in words."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.schemas import check_schema, checked, shown, strict
from carrel.errors import InputError

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 5},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "share": {"type": "number", "maximum": 1},
        "exact": {"type": "boolean"},
        "order": {"type": "string", "enum": ["up", "down"]},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
        "place": {"type": "object", "properties": {"page": {"type": "integer"}}, "required": ["page"]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def test_what_is_allowed_is_given_as_it_is_meant() -> None:
    given_ = {"name": "ab\ud800", "count": 9.0, "share": 1, "exact": False, "order": "up", "tags": ["x", "y"],
              "place": {"page": 3.0}}  # fmt: skip
    found = checked(given_, SCHEMA)
    assert found == {**given_, "name": "ab\ufffd"}
    assert type(found["count"]) is int and type(found["place"]["page"]) is int
    assert checked({"name": "ab", "count": None}, SCHEMA) == {"name": "ab"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ([], "the arguments are a JSON object, not []"),
        ({}, "name is missing"), ({"name": None}, "name is a text, not None"),
        ({"name": "a"}, "name has at least 2 characters, not 1"),
        ({"name": "abcdef"}, "name has at most 5 characters, not 6"),
        ({"name": 12}, "name is a text, not 12"), ({"name": True}, "name is a text, not True"),
        ({"count": 0}, "count is at least 1, not 0"), ({"count": 10}, "count is at most 9, not 10"),
        ({"count": True}, "count is a whole number, not True"), ({"count": "1"}, "count is a whole number, not '1'"),
        ({"count": 1.5}, "count is a whole number, not 1.5"),
        ({"count": float("inf")}, "count is a whole number, not inf"),
        ({"count": 10**400}, "count is at most 9, not a huge number"),
        ({"share": float("nan")}, "share is a number, not nan"), ({"share": 1.5}, "share is at most 1, not 1.5"),
        ({"exact": 1}, "exact is true or false, not 1"),
        ({"order": "left"}, "order is one of 'up', 'down', not 'left'"),
        ({"tags": "x"}, "tags is a list, not 'x'"), ({"tags": [1]}, "tags[0] is a text, not 1"),
        ({"tags": []}, "tags is empty"), ({"tags": ["x"] * 3}, "tags has at most 2 items, not 3"),
        ({"place": {}}, "place.page is missing"), ({"place": {"page": "x"}}, "place.page is a whole number"),
        ({"place": {"sheet": 1}}, "there is no 'sheet' in place; it takes page"), ({"size": 1}, "there is no 'size'"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_told(wrong: Any, told: str) -> None:
    arguments = {"name": "ab", **wrong} if isinstance(wrong, dict) and wrong else wrong
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        checked(arguments, SCHEMA)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ("object", "is a JSON schema with a type"), ({}, "is a JSON schema with a type"),
        ({"type": ["string", "null"]}, "with a type"), ({"type": "date"}, "with a type"),
        ({"type": "string", "pattern": "a+"}, "has pattern, which is not checked here"),
        ({"type": "object", "additionalProperties": True}, "takes properties that it does not name"),
        ({"type": "object", "properties": ["a"]}, "properties that are no mapping"),
        ({"type": "object", "required": ["a"]}, "requires 'a', which is none of its properties"),
        ({"type": "array"}, "items is a JSON schema"),
        ({"type": "object", "properties": {"a": {"type": "x"}}}, "the schema of the arguments, a is a JSON schema"),
    ],
)  # fmt: skip
def test_a_schema_that_says_more_than_is_checked_is_an_error(schema: Any, told: str) -> None:
    with pytest.raises(InputError) as error:
        check_schema(schema)
    assert told in str(error.value)


def test_the_strict_form_requires_all_and_allows_null() -> None:
    check_schema(SCHEMA)
    found = strict(SCHEMA)
    assert found["required"] == list(SCHEMA["properties"])  # type: ignore[call-overload]
    assert found["properties"]["name"] == {"type": "string"}
    assert found["properties"]["order"] == {"anyOf": [{"type": "string", "enum": ["up", "down"]}, {"type": "null"}]}
    assert found["properties"]["place"]["anyOf"][0]["additionalProperties"] is False


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


_SOME = {name: _ANY for name in ("count", "share", "exact", "order", "tags", "place")}


@given(value=_ANY | st.fixed_dictionaries({"name": st.text(min_size=1, max_size=6)}, optional=_SOME))
def test_every_value_is_allowed_or_told_on_one_short_line(value: Any) -> None:
    said, found = "", None
    try:
        found = checked(value, SCHEMA)
    except ValueError as error:
        said = str(error)
    assert bool(said) != (found is not None)
    assert said.isascii() and (said == "" or said.isprintable()) and len(said) < 150
    if found is not None:
        assert checked(found, SCHEMA) == found and json.dumps(found)


@given(_ANY)
def test_what_is_shown_of_a_value_is_short(value: Any) -> None:
    assert len(shown(value)) <= 40 and shown(value).isascii()
