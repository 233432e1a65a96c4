from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import DocumentError, EmptyDocumentError
from carrel.retrieval.loaders.json_records import JsonLinesLoader, JsonLoader, key_paths
from carrel.types import Document, Skipped

Load = Callable[..., Document]
LoadAll = Callable[..., list[Document | Skipped]]


def test_a_record_is_a_document(load: Load) -> None:
    record = {
        "id": 7, "title": "Log", "text": "line\r\nline", "year": 2024, "ok": True, "tags": ["a", "b"],
        "nested": {"x": 1}, "none": None, "mixed": [1, "a"], "big": 2**70, "nan": float("nan"),
    }  # fmt: skip
    document = load(JsonLinesLoader(), json.dumps(record), "x.jsonl")
    assert (document.id, document.source, document.title) == ("x.jsonl#7", "x.jsonl", "Log")
    assert document.text == "line\nline"
    assert document.metadata == {"year": 2024, "ok": True, "tags": ["a", "b"], "big": str(2**70)}
    assert document.media_type == "text/plain"


@pytest.mark.parametrize("field", ["text", "content", "body", "contents"])
def test_text_fields(load: Load, field: str) -> None:
    document = load(JsonLinesLoader(), json.dumps({"_id": "a/b", field: "words"}), "x.jsonl")
    assert (document.id, document.text, document.title) == ("x.jsonl#a/b", "words", "a/b")


def test_bad_lines_lose_only_themselves(load_all: LoadAll) -> None:
    lines = ['{"text": "one"}', "{broken", "", '{"text": "  "}', '{"text": "two"}', "[" * 100_000]
    items = load_all(JsonLinesLoader(), "\n".join(lines), "x.jsonl")
    documents = [item for item in items if isinstance(item, Document)]
    skipped = [item for item in items if isinstance(item, Skipped)]
    assert [(document.id, document.text) for document in documents] == [("x.jsonl#1", "one"), ("x.jsonl#5", "two")]
    assert [item.id for item in skipped] == ["x.jsonl:2", "x.jsonl:4", "x.jsonl:6"]
    assert "not valid JSON" in skipped[0].reason
    assert "empty" in skipped[1].reason
    assert "deep" in skipped[2].reason


def test_the_same_id_twice_stays_apart(load_all: LoadAll) -> None:
    items = load_all(JsonLinesLoader(), '{"id": 1, "text": "a"}\n{"id": "1", "text": "b"}', "x.jsonl")
    assert [item.id for item in items] == ["x.jsonl#1", "x.jsonl#1@2"]


def test_records_without_a_text_become_key_paths(load_all: LoadAll) -> None:
    lines = '{"a": {"b": [1, {"c": "x  y"}]}, "d": null}\n{"text": "own"}\n{"e": true}\n3\n'
    own, rest = load_all(JsonLinesLoader(), lines, "x.jsonl")
    assert isinstance(own, Document)
    assert isinstance(rest, Document)
    assert own.id == "x.jsonl#2"
    assert rest.id == "x.jsonl"
    assert rest.text == "a.b[0]: 1\na.b[1].c: x y\n\ne: true\n\n3"
    assert len(rest.blocks) == 3


def test_a_json_list_of_records(load_all: LoadAll) -> None:
    items = load_all(JsonLoader(), '[{"id": "a", "body": "one"}, {"body": "two"}]', "x.json")
    assert [item.id for item in items] == ["x.json#a", "x.json#2"]


def test_a_json_object(load: Load) -> None:
    document = load(JsonLoader(), '{\n "name": "Petrel",\n "speed": {"knots": 18.50}\n}', "x.json")
    assert (document.id, document.text) == ("x.json", "name: Petrel\nspeed.knots: 18.5")


@pytest.mark.parametrize("data", [b"{", b"[1,]", b'{"a": 1}\n{"a": 2}', b"[" * 100_000, b"1" * 5_000])
def test_what_is_no_json(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"^x\.json.*"):
        list(JsonLoader().load(data, "x.json"))


@pytest.mark.parametrize("data", [b"{}", b"[]", b"null", b'{"a": [null, {}]}', b'{"text": " "}'])
@pytest.mark.parametrize("loader", [JsonLoader(), JsonLinesLoader()])
def test_json_without_values(loader: JsonLoader | JsonLinesLoader, data: bytes) -> None:
    with pytest.raises((EmptyDocumentError, DocumentError)):
        list(loader.load(data, "x.json"))


def test_no_line_is_json() -> None:
    with pytest.raises(DocumentError, match=r"x\.jsonl: none of its lines .* \(line 1: not valid JSON"):
        list(JsonLinesLoader().load(b"{\n'a': 1\n}\n", "x.jsonl"))


def test_deep_data_is_cut_not_crashed(load: Load) -> None:
    document = load(JsonLoader(), '{"shallow": 1, "deep": ' + '{"a":' * 900 + "1" + "}" * 900 + "}")
    assert document.text == "shallow: 1"


def test_lone_surrogates_and_nul_are_made_storable(load: Load) -> None:
    record = r'{"id": "a\ud800", "title": "t\u0000", "text": "x\ud83dy\u0000z", "k\udc00": "v\udfff", "l": ["\udfff"]}'
    document = load(JsonLinesLoader(), record, "x.jsonl")
    assert document.text == "x\ufffdy\ufffdz"
    assert document.id == "x.jsonl#a\ufffd"
    assert document.metadata == {"k\ufffd": "v\ufffd", "l": ["\ufffd"]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("text"), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.lists(JSON, min_size=1, max_size=5))
def test_any_json_is_read_or_refused(load_all: LoadAll, values: list[object]) -> None:
    for loader, data in ((JsonLoader(), json.dumps(values)), (JsonLinesLoader(), "\n".join(map(json.dumps, values)))):
        try:
            items = load_all(loader, data)
        except DocumentError:
            continue
        ids = [item.id for item in items]
        assert len(ids) == len(set(ids))


@given(JSON)
def test_key_paths_are_single_lines(value: object) -> None:
    assert all(line.strip() and len(line.splitlines()) == 1 for line in key_paths(value))
