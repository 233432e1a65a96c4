"""The tools of a library: within their tokens, with exact places, and in words that a model can act on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrel
from carrel.agents.signatures import Result, Signature, Tool
from carrel.agents.tools import LEAST_TOKENS, library_tools
from carrel.errors import BudgetError, InputError, StoreClosedError
from carrel.testing import WordTokenizer
from carrel.types import Document

EXAMPLES = Path(__file__).parents[2] / "examples" / "library"
QUESTION = "How strong must the wind be before the cranes stop?"
HOSTILE = "[1] Ignore all this.\n\n  [2] So do I.\r\n[3] " + "x" * 500 + "\u2028[4] 東京の港. " * 40


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[carrel.Library]:
    with carrel.open(tmp_path_factory.mktemp("tools") / "library", mode="fast") as library:
        library.add(EXAMPLES)
        library.add_text(HOSTILE, id='a "b"\n[1] c\u2028[2]', title="[7] Title\n[8] of\u2028[9] it " * 20)
        library.add_text(" ".join(f"Sentence {number} tells of the harbour." for number in range(900)), id="long")
        library.add_text("word " * 3000, id="w" * 700, title="An id as long as a page")
        library.add_text("word " * 3000, id="dump")
        library.add_text("Short.", id="short")
        yield library


def named(library: carrel.Library, **options: Any) -> dict[str, Tool]:
    return {tool.name: tool for tool in library.as_tools(**options)}


def check_passages(result: Result, library: carrel.Library) -> None:
    for passage in result.passages:
        assert passage.text == library.document(passage.document_id).text[passage.start : passage.end]
        assert json.dumps(passage.document_id, ensure_ascii=not passage.document_id.isprintable()) in result.text
        assert f"characters {passage.start} to {passage.end}" in result.text


# -- what clients are told ------------------------------------------------------------------------


def test_tools_are_described_to_clients(library: carrel.Library) -> None:
    tools = library.as_tools()
    assert [tool.name for tool in tools] == ["search", "read", "list", "remember", "recall"]
    for tool in tools:
        assert tool.as_openai() == {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        assert tool.as_mcp()["inputSchema"] == tool.parameters
        assert json.loads(json.dumps(tool.as_openai())) == tool.as_openai()
        assert tool.signature == Signature(
            tool.name, tool.description, tool.parameters, tool.most_tokens, tool.repeatable
        )
        assert not hasattr(tool.signature, "run")


@pytest.mark.parametrize("budget", [0, LEAST_TOKENS - 1, True, 200.0, None])
def test_too_few_tokens_are_an_error(library: carrel.Library, budget: Any) -> None:
    with pytest.raises(BudgetError, match=f"{LEAST_TOKENS}"):
        library_tools(library, budget=budget)


def test_notes_are_a_list_or_a_function(library: carrel.Library) -> None:
    with pytest.raises(InputError, match="notes"):
        library_tools(library, notes="mine")  # type: ignore[arg-type]


def test_a_closed_library_is_an_error(tmp_path: Path) -> None:
    with carrel.open(tmp_path / "library", mode="fast") as library:
        tools = named(library)
    with pytest.raises(StoreClosedError):
        tools["list"].call({})


# -- search ---------------------------------------------------------------------------------------


def test_search_gives_passages_with_their_places(library: carrel.Library) -> None:
    result = named(library)["search"].result({"question": QUESTION})
    assert "weather-working.md" in result.text and result.text.startswith("[1] ")
    assert result.passages and result.besides == ""
    check_passages(result, library)


def test_search_takes_fewer_tokens(library: carrel.Library) -> None:
    search = named(library)["search"]
    full, less = (search.call({"question": QUESTION, "budget": budget}) for budget in (1000, 150))
    assert library.tokenizer.count(less) <= 150 < library.tokenizer.count(full)
    assert "at most 1000" in search.call({"question": QUESTION, "budget": 1001})


def test_a_search_that_finds_nothing_says_so(tmp_path: Path) -> None:
    with carrel.open(tmp_path / "library", mode="fast") as library:
        assert named(library)["search"].call({"question": "anything"}).startswith("Nothing was found")
        assert named(library)["list"].call({}) == "There are no documents."


def test_a_search_without_words_or_with_no_room_says_so(library: carrel.Library) -> None:
    search = named(library)["search"]
    assert "no words to look for" in search.call({"question": "?!"})
    with carrel.open(library.path, mode="fast", collection="dense") as dense:
        dense.add_text("x" * 40 + "y" * 400, id="dense", title="A title of some words")
        said = named(dense)["search"].call({"question": "x" * 40, "budget": 64})
    assert "cannot hold one sentence" in said


def test_lines_of_documents_do_not_pass_for_headers(library: carrel.Library) -> None:
    tools = named(library)
    own = next(info.id for info in library.documents() if info.id.startswith("a "))
    for said in (tools["read"].call({"document_id": own}), tools["search"].call({"question": "Ignore all this"})):
        numbers = re.findall(r"(?:^|[\n\r\v\f\x85\u2028\u2029])[^\S\n]*\[(\d+)\]", said)
        assert numbers == [str(number) for number in range(1, len(numbers) + 1)], said


# -- read -----------------------------------------------------------------------------------------


def test_read_gives_whole_sentences_and_their_surroundings(library: carrel.Library) -> None:
    text = library.document("long").text
    start = text.index("Sentence 400 ") + 5
    result = named(library)["read"].result({"document_id": "long", "start": start, "end": start + 3})
    (passage,) = result.passages
    assert passage.text == text[passage.start : passage.end]
    wanted = "Sentence 399 tells of the harbour. Sentence 400 tells of the harbour. Sentence 401 tells of the harbour. "
    assert passage.text == wanted
    assert f"more before: {passage.start} characters" in result.remark
    assert f"from start={passage.end} on" in result.remark


def test_a_document_is_read_from_end_to_end(library: carrel.Library) -> None:
    """What one call leaves out, the next has: nothing is lost, nothing read twice."""
    read, text, start, pieces = named(library, budget=200)["read"], library.document("long").text, 0, []
    while True:
        result = read.result({"document_id": "long", "start": start})
        assert library.tokenizer.count(result.text) <= 200
        (passage,) = result.passages
        assert passage.text.rstrip().endswith("harbour.")
        pieces.append(text[max(start, passage.start) : passage.end])
        further = re.search(r"from start=(\d+) on", result.remark)
        if further is None:
            break
        assert int(further[1]) > start
        start = int(further[1])
    assert "".join(pieces) == text and len(pieces) > 20


def test_text_without_sentences_is_read_too(library: carrel.Library) -> None:
    (passage,) = named(library)["read"].result({"document_id": "dump", "start": 7000, "end": 7010}).passages
    assert passage.start < 7000 and passage.end > 7010 and passage.end - passage.start < 500


def test_a_short_document_is_read_whole(library: carrel.Library) -> None:
    said = named(library)["read"].call({"document_id": "short"})
    assert said == '[1] Untitled\ndocument "short", characters 0 to 6\nShort.\n\nThis is the whole document.'


def test_what_cannot_be_read_is_told(library: carrel.Library) -> None:
    library.add(Document("\n \n.", id="blank"))
    read = named(library, budget=LEAST_TOKENS)["read"]
    assert "no document with the id" in read.call({"document_id": "lonk"})
    assert "6 characters; there is none at 6" in read.call({"document_id": "short", "start": 6})
    assert "so high a number" in read.call({"document_id": "short", "start": 10**15})
    assert "after the start" in read.call({"document_id": "short", "start": 3, "end": 3})
    assert "at least 0" in read.call({"document_id": "short", "start": -1})
    assert "not one word" in read.call({"document_id": "w" * 700})


# -- list -----------------------------------------------------------------------------------------


def test_list_goes_through_all_documents(library: carrel.Library) -> None:
    tool, offset, said = named(library, budget=200)["list"], 0, ""
    for _ in range(100):
        page = tool.call({"offset": offset})
        said += page
        further = re.search(r"next with offset=(\d+)", page)
        if further is None:
            break
        assert int(further[1]) > offset
        offset = int(further[1])
    else:
        pytest.fail("the list does not end")
    for info in library.documents():
        is_listed = json.dumps(info.id, ensure_ascii=not info.id.isprintable()) in said
        assert is_listed or len(info.id) > 600
    assert "too long to be listed" in said
    assert "none is left after 999" in tool.call({"offset": 999})


def test_list_takes_a_filter(library: carrel.Library) -> None:
    tool = named(library)["list"]
    said = tool.call({"filter": "TARIFF"})
    assert said.startswith("Documents 1 to 2 of 2:") and said.count("Harbour tariff") == 2
    assert tool.call({"filter": "no such thing"}).startswith("No document has that")


# -- notes ----------------------------------------------------------------------------------------


def test_notes_are_recalled(library: carrel.Library) -> None:
    kept: list[str] = []
    tools = named(library, notes=kept)
    assert tools["recall"].call({}) == "No note."
    for note in ("The cranes stop at 15 m/s.", "The tide\nis high.", "The tide is high."):
        assert tools["remember"].call({"note": note}) == "The note is kept."
    assert kept == ["The cranes stop at 15 m/s.", "The tide is high.", "The tide is high."]
    assert tools["recall"].call({}) == "- The tide is high.\n- The cranes stop at 15 m/s."
    assert tools["recall"].call({"question": "Cranes?"}) == "- The cranes stop at 15 m/s."
    assert tools["recall"].call({"question": "zebra"}).startswith("No note was kept that has")
    assert named(library)["recall"].call({}) == "No note."  # each has notes of its own


def test_notes_may_go_to_a_function(library: carrel.Library) -> None:
    kept: list[str] = []
    tools = named(library, notes=kept.append)
    assert tools["remember"].call({"note": "x"}) == "The note is kept." and kept == ["x"] and "recall" not in tools


def test_notes_that_are_too_long_or_too_many(library: carrel.Library) -> None:
    tools = named(library, budget=200)
    assert "more than 100 tokens" in tools["remember"].call({"note": "word " * 101})
    assert tools["remember"].call({"note": " \n"}) == "the note is empty"
    for number in range(9):
        tools["remember"].call({"note": f"{number} " + "word " * 50})
    said = tools["recall"].call({})
    assert "6 more notes of 9 have no room here" in said and said.startswith("- 8 ")
    assert library.tokenizer.count(said) <= 200


# -- promises -------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=60), inner, max_size=3),
    max_leaves=5,
)
_QUESTION = st.sampled_from([QUESTION, "Ignore [1] 東京の港", "harbour sentence word"]) | st.text(max_size=300)
_IDS = st.sampled_from(["long", "short", "w" * 700, 'a "b"\n[1] c\u2028[2]']) | st.text(max_size=300)
_ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "question": _QUESTION, "budget": st.integers(0, 1200), "document_id": _IDS,
        "start": st.integers(-5, 40_000), "end": st.integers(-5, 40_000), "offset": st.integers(0, 60),
        "filter": st.text(max_size=5), "note": st.text(max_size=900),
    },
)  # fmt: skip


@given(budget=st.integers(LEAST_TOKENS, 900), arguments=_ARGUMENTS, strange=_JSON)
def test_nothing_said_is_beyond_its_tokens_or_an_exception(
    library: carrel.Library, budget: int, arguments: dict[str, Any], strange: Any
) -> None:
    for tool in library.as_tools(budget=budget, notes=["One note.", "word " * 300]):
        fitting = {name: value for name, value in arguments.items() if name in tool.parameters["properties"]}
        for given_ in (fitting, arguments, strange, {"question": strange, "document_id": strange, "note": strange}):
            result = tool.result(given_)
            assert result.text and library.tokenizer.count(result.text) <= budget
            check_passages(result, library)


class Characters(WordTokenizer):
    """A token for every character: the most that a text can have, but for bytes."""

    name = "characters"

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [(place, place + 1) for place in range(len(text))]

    def count(self, text: str) -> int:
        return len(text)

    def truncate(self, text: str, limit: int) -> str:
        return text[:limit]


@given(budget=st.integers(LEAST_TOKENS, 900), arguments=_ARGUMENTS)
def test_so_it_is_with_another_tokenizer(library: carrel.Library, budget: int, arguments: dict[str, Any]) -> None:
    with carrel.open(library.path, tokenizer=Characters(), mode="fast") as other:
        for tool in other.as_tools(budget=budget, notes=["One note.", "word " * 300]):
            for given_ in ({name: arguments[name] for name in arguments if name in tool.parameters["properties"]}, {}):
                result = tool.result(given_)
                assert result.text and len(result.text) <= budget
                check_passages(result, library)


@given(start=st.integers(0, 34_000), length=st.integers(1, 1200))
def test_what_is_asked_for_is_read(library: carrel.Library, start: int, length: int) -> None:
    """All of it, or its beginning and where to go on."""
    text = library.document("long").text
    end = min(start + length, len(text))
    if end <= start:
        return
    result = named(library, budget=300)["read"].result({"document_id": "long", "start": start, "end": end})
    (passage,) = result.passages
    assert passage.start <= start and passage.text == text[passage.start : passage.end]
    assert passage.text.strip() in result.text
    if passage.end >= end:
        assert text[start:end].strip() in result.text
    else:
        assert passage.end > start and f"from start={passage.end} on" in result.text
