"""Filters against the same conditions in plain Python, over random metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import FilterError
from carrel.library import Library
from carrel.retrieval.store import Scope, Store, schema
from carrel.retrieval.store import documents as stored
from carrel.testing import HashEncoder
from carrel.types import Document

KEYS = [
    "year",
    "größe",
    'a"b',
    "$.x",
    "'; drop table documents; --",
    "a.b",
    "",
    "back\\slash",
    "tab\t",
    "a[0]",
    "%",
    "tenant",
]
TEXTS = ["", "a", "ab", "B", "10", "true", "null", "é", "Ωmega", "a'b", 'a"b', "%"]
scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from([0, 1, -1, 10, 2**53, 2**63 - 1, -(2**63)]),
    st.sampled_from([0.0, 1.0, 0.5, -2.25, 10.0, 1e300]), st.sampled_from(TEXTS),
)  # fmt: skip
values = st.one_of(scalars, st.lists(st.sampled_from(TEXTS), max_size=3))
metadata = st.dictionaries(st.sampled_from(KEYS), values, max_size=5)
numbers = st.sampled_from([0, 1, 10, 0.5, -2.25, 2**53, 1e300, float("inf")])
compared = st.one_of(st.booleans(), numbers, st.sampled_from(TEXTS))
conditions = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.fixed_dictionaries({"==": scalars}),
    st.fixed_dictionaries({"!=": scalars}),
    st.fixed_dictionaries({"in": st.lists(scalars, max_size=3)}),
    st.fixed_dictionaries({"not in": st.lists(scalars, max_size=3)}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.fixed_dictionaries({"contains": compared}),
    st.dictionaries(
        st.sampled_from(["<", "<=", ">", ">="]), st.one_of(numbers, st.sampled_from(TEXTS)), min_size=1, max_size=2
    ),
)
wheres = st.recursive(
    st.dictionaries(st.sampled_from(KEYS), conditions, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"any": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
        st.builds(lambda part, more: {**part, "any": more}, inner, st.lists(inner, max_size=2)),
    ),
    max_leaves=4,
)


# -- the same in Python -------------------------------------------------------------------------


def kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return {int: "number", float: "number", str: "text", list: "list", type(None): "null"}[type(value)]


def equals(found: object, value: object) -> bool:
    return kind(found) == kind(value) and found == value


def operator_holds(found: Any, operator: str, value: Any) -> bool:
    if operator == "==":
        return equals(found, value)
    if operator == "!=":
        return not equals(found, value)
    if operator == "in":
        return any(equals(found, item) for item in value)
    if operator == "not in":
        return not any(equals(found, item) for item in value)
    if operator == "exists":
        return (found is not None) == value
    if operator == "contains":
        if isinstance(found, list):
            return any(equals(item, value) for item in found)
        return isinstance(found, str) and isinstance(value, str) and value in found
    if kind(found) != kind(value):
        return False
    return {"<": found < value, "<=": found <= value, ">": found > value, ">=": found >= value}[operator]


def holds(where: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    return all(clause_holds(field, condition, data) for field, condition in where.items())


def clause_holds(field: str, condition: Any, data: Mapping[str, Any]) -> bool:
    if field == "any":
        return any(holds(part, data) for part in condition)
    if field == "not":
        return not holds(condition, data)
    if isinstance(condition, dict):
        return all(operator_holds(data.get(field), operator, value) for operator, value in condition.items())
    return operator_holds(data.get(field), "in" if isinstance(condition, list) else "==", condition)


# -- the tests ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Scope]]:
    store = Store(tmp_path_factory.mktemp("filters"))
    scope = store.scope("local", "default", create=True)
    assert scope
    with store.write() as connection:
        stored.adopt_encoder(connection, scope, HashEncoder())
    yield store, scope
    store.close()


def selected(shelf: tuple[Store, Scope], items: Mapping[str, Mapping[str, Any]], where: Any) -> list[str]:
    """Keys of the documents with such metadata that pass; nothing of it stays in the store."""
    store, scope = shelf
    prepared = [stored.Prepared(Document("x", id=key, metadata=data), "", [], [], []) for key, data in items.items()]
    connection = store.engine.connect()
    try:
        stored.insert_documents(connection, scope, 1, prepared)
        return [info.id for info in stored.list_documents(connection, scope, where)]
    finally:
        connection.rollback()
        connection.close()


@given(items=st.lists(metadata, min_size=1, max_size=6), where=wheres)
def test_a_filter_selects_what_the_condition_means(shelf, items, where) -> None:
    named = {f"d{number}": data for number, data in enumerate(items)}
    expected = sorted(key for key, data in named.items() if holds(where, data))
    assert selected(shelf, named, where) == expected


@given(field=st.text(max_size=8), value=st.one_of(st.text(max_size=8), st.integers(-5, 5), st.booleans()))
def test_any_name_and_text_can_be_looked_for(shelf, field: str, value: object) -> None:
    if (
        field in ("any", "not", "id", "title", "source", "media_type", "modified_at", "added_at")
        or "\0" in f"{field}{value}"
    ):
        return
    items = {"has": {field: value}, "lacks": {f"{field}x": value}, "other": {field: f"{value}x"}}
    assert selected(shelf, items, {field: value}) == ["has"]
    assert selected(shelf, items, {"not": {field: value}}) == ["lacks", "other"]
    assert selected(shelf, items, {field: {"exists": True}}) == ["has", "other"]


def test_numbers_texts_and_booleans_are_never_mixed(shelf) -> None:
    items = {
        "number": {"v": 1},
        "real": {"v": 1.0},
        "text": {"v": "1"},
        "true": {"v": True},
        "null": {"v": None},
        "none": {},
    }
    assert selected(shelf, items, {"v": 1}) == ["number", "real"]
    assert selected(shelf, items, {"v": "1"}) == ["text"]
    assert selected(shelf, items, {"v": True}) == ["true"]
    assert selected(shelf, items, {"v": None}) == ["none", "null"]
    assert selected(shelf, items, {"v": {"!=": 1}}) == ["none", "null", "text", "true"]
    assert selected(shelf, items, {"v": {">=": 0}}) == ["number", "real"]
    assert selected(shelf, items, {"v": {"exists": False}}) == ["none", "null"]


def test_the_documents_own_fields(tmp_path: Path) -> None:
    with Library(tmp_path, encoder=HashEncoder()) as library:
        library.add([
            Document("one", id="a", title="First", source="x/a.txt", modified_at=100.0),
            Document("two", id="b", title="Second", source="y/b.txt", media_type="text/html",
                     metadata={"id": "a", "title": 3}),
        ])  # fmt: skip
        ids = {
            "a": [{"id": "a"}, {"title": "First"}, {"source": {"contains": "x/"}}, {"modified_at": {"<=": 100}},
                  {"modified_at": {"exists": True}}, {"id": {"<": "b"}}, {"id": ["a", "c"]}, {"not": {"id": "b"}}],
            "b": [{"media_type": "text/html"}, {"modified_at": None}, {"title": {"!=": "First"}},
                  {"modified_at": {"!=": 100.0}}],
            "": [{"title": 3}, {"id": 1}, {"modified_at": {">": 100}}, {"any": []}],
            "ab": [None, {}, {"added_at": {">": 0}}, {"not": {"id": 1}}, {"id": {"not in": []}}],
        }  # fmt: skip
        for expected, filters in ids.items():
            for where in filters:
                assert [info.id for info in library.documents(where=where)] == list(expected), where


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"year": {"=>": 3}}, "unknown operator '=>'"),
        ({"year": {}}, "is empty"),
        ({"year": {">": None}}, "NoneType"),
        ({"year": {">": True}}, "number or a text"),
        ({"year": {"in": "abc"}}, "list of values"),
        ({"year": {"contains": None}}, "text or a number"),
        ({"year": {"contains": ["a"]}}, "text or a number"),
        ({"year": b"x"}, "bytes"),
        ({"year": float("nan")}, "no number"),
        ({"year": {"<": 2**63}}, "64 bits"),
        ({"year": {"in": [-(2**64)]}}, "64 bits"),
        ({"year": {"contains": 2**70}}, "64 bits"),
        ({"year": "\ud800"}, "valid text"),
        ({"\ud800": 1}, "valid text"),
        ({1: 2}, "name of a field"),
        ({"any": {"year": 1}}, "list of filters"),
        ({"any": "year"}, "list of filters"),
        ({"not": [1]}, "takes a filter"),
        ({"added_at": {">": "yesterday"}}, "seconds since 1970"),
        ({"title": {">": 3}}, "compared with a text"),
        (["year"], "mapping"),
        ([], "mapping"),
        ({"any": [[]]}, "mapping"),
        ({"year": {"exists": "false"}}, "true or false"),
        ({"year": {"exists": None}}, "true or false"),
        ({"year": {"exists": []}}, "true or false"),
        ({"any": [{"year": {"contains": n}} for n in range(101)]}, "has 101 conditions, and can have 100"),
        ({f"f{n}": n for n in range(101)}, "has 101 conditions"),
        ({"year": [1, "\ud800"]}, "valid text"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_advice(shelf, where: Any, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        selected(shelf, {"a": {"year": 1}}, where)


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    where: Any = {"n": {"not in": [3, "3", None, True]}}
    for _ in range(levels - 1):
        where = wrap(where)
    return where


WRAPS: list[Callable[[Any], Any]] = [
    lambda inner: {"not": inner},
    lambda inner: {"any": [inner]},
    lambda inner: {"k": {"!=": "z"}, "any": [*({"n": {"contains": str(n)}} for n in range(12)), inner]},
    lambda inner: {"k": {"!=": "z"}, "not": {"n": {">": 5, "<": 4}}, "any": [{"n": 1, "k": "2"}, inner]},
]


@pytest.fixture(scope="module")
def lamps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with Library(tmp_path_factory.mktemp("lamps"), encoder=HashEncoder()) as library:
        library.add([Document("the lamp", id=f"d{n}", metadata={"n": n, "t": str(n), "b": n > 2}) for n in range(6)])
        yield library


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_filter_within_the_limits_is_one_that_every_search_can_run(lamps: Library, wrap: Any) -> None:
    for retriever in ("dense", "lexical"):
        lamps.search("lamp", where=nested(7, wrap), retriever=retriever)
    for levels in (9, 2000):
        with pytest.raises(FilterError, match="more than 8 levels"):
            lamps.documents(where=nested(levels, wrap))


@pytest.mark.parametrize("condition", [{"contains": "x"}, {"!=": 1}, {"exists": True}, {"not in": [1, "1", True]}])
def test_as_many_conditions_as_there_can_be(lamps: Library, condition: Any) -> None:
    for where in ({"any": [{"n": condition, "t": condition}] * 50}, {f"f{n}": condition for n in range(100)}):
        assert len(lamps.documents(where=where)) <= 6
        for retriever in ("dense", "lexical"):
            lamps.search("lamp", where={**where}, retriever=retriever)


def test_a_list_can_be_long(lamps: Library) -> None:
    many = range(5, 100_000)
    named, floats = [f"d{n}" for n in many], [float(n) for n in many]
    lists = ({"id": named}, {"n": list(many)}, {"n": floats}, {"t": [str(n) for n in many]}, {"id": set(named)})
    for where in (*lists, {"any": [{"id": name} for name in named[:2000]]}, {"not": {"n": {"not in": floats}}}):
        assert [info.id for info in lamps.documents(where=where)] == ["d5"]
        for retriever in ("dense", "lexical"):
            assert [found.document_id for found in lamps.search("lamp", where=where, retriever=retriever)] == ["d5"]
    assert len(lamps.documents(where={"id": {"not in": named}})) == 5


def test_a_list_may_mix_types(lamps: Library) -> None:
    assert [info.id for info in lamps.documents(where={"n": [1, 2.0, "3", None, True, float("inf")]})] == ["d1", "d2"]
    assert [info.id for info in lamps.documents(where={"b": [True, 0, "x"]})] == ["d3", "d4", "d5"]
    assert lamps.documents(where={"id": [1, True, None, "d1\0", "\0"]}) == []
    assert lamps.documents(where={"added_at": ["now"]}) == []
    assert len(lamps.documents(where={"added_at": {"not in": [5, 6.5]}})) == 6


def test_searches_take_the_same_filters(tmp_path: Path) -> None:
    with Library(tmp_path, encoder=HashEncoder()) as library:
        library.add([Document("the lamp", id=f"d{n}", metadata={'a"b': n, "größe": str(n)}) for n in range(6)])
        for retriever in ("fused", "dense", "lexical", "rank_fused"):
            found = library.search("lamp", where={'a"b': {">=": 2}, "größe": {"!=": "4"}}, retriever=retriever)
            assert [passage.document_id for passage in found] == ["d2", "d3", "d5"], retriever


def test_a_filter_is_no_way_into_the_database(tmp_path: Path) -> None:
    with Library(tmp_path, encoder=HashEncoder()) as library:
        library.add(Document("the lamp", id="a"))
        for evil in ("'; DROP TABLE documents; --", '") OR 1=1 --', "$", "$.*", "1) OR (1=1", ":id", "?"):
            assert library.search("lamp", where={evil: "x"}) == []
            assert library.search("lamp", where={"x": evil}) == []
        with library._store.read() as connection:
            assert connection.execute(schema.documents.select()).all()
