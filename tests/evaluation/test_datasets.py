from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.evaluation.datasets import Dataset, Gold, Question, load_collection, load_dataset
from carrel.types import Document

Write = Callable[..., Path]
QUESTION = {"id": "q", "question": "Why?", "answers": ["so"], "kind": "factoid", "gold": [{"doc": "d"}]}
DOCUMENT = {"id": "d", "title": "D", "text": "It is so."}


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl"])
def test_reads_documents_questions_and_gold(write_dataset: Write, suffix: str) -> None:
    dataset = load_dataset(write_dataset("small", suffix=suffix))
    assert dataset.name == "small"
    assert [document.id for document in dataset.documents] == ["tides", "moon", "tea"]
    assert dataset.documents[1].title == "Moon"
    first = dataset.questions[0]
    assert first.answers == ("Neil Armstrong", "Armstrong")
    assert first.gold == (Gold("moon", 30, 44),)
    assert dataset.documents[1].text[30:44] == "Neil Armstrong"
    assert first.corpus == "small"
    assert dataset.questions[2].gold_documents == {"tides", "moon"}


def test_line_separators_of_unicode_inside_a_text_are_no_line_ends(write_dataset: Write) -> None:
    text = "one\u2028two\u0085three\r\nfour"
    dataset = load_dataset(write_dataset(corpus=[{**DOCUMENT, "text": text}], queries=[QUESTION]))
    assert dataset.documents[0].text == text


def test_blank_lines_and_other_keys_are_passed_over(write_dataset: Write) -> None:
    folder = write_dataset(corpus=["", {**DOCUMENT, "sentences": []}, "  "], queries=[{**QUESTION, "extra": 1}])
    assert len(load_dataset(folder).documents) == 1


def test_written_answers_are_not_looked_for() -> None:
    assert Question("q", "?", ("yes",), "factoid").has_findable_answers
    assert not Question("q", "?", ("A summary.",), "meeting").has_findable_answers
    assert not Question("q", "?", (), "span").has_findable_answers


@pytest.mark.parametrize(
    ("corpus", "queries", "message"),
    [
        ([DOCUMENT, "{"], [QUESTION], r"corpus\.jsonl\.gz, line 2: not a line of JSON"),
        ([DOCUMENT, "[1]"], [QUESTION], r"corpus\.jsonl\.gz, line 2: a JSON object is expected, not list"),
        ([{"id": "d"}], [QUESTION], r"line 1: 'text' must be a string, but is missing"),
        ([{"id": 7, "text": ""}], [QUESTION], r"line 1: 'id' must be a string, but is 7"),
        ([{"id": "", "text": ""}], [QUESTION], r"'id' is empty"),
        ([DOCUMENT, DOCUMENT], [QUESTION], r"corpus\.jsonl\.gz, line 2: the document id 'd' was used before"),
        ([DOCUMENT], [QUESTION, QUESTION], r"queries\.jsonl\.gz, line 2: the question id 'q' was used before"),
        ([DOCUMENT], ["", {**QUESTION, "question": " "}], r"queries\.jsonl\.gz, line 2: .* must not be empty"),
        ([DOCUMENT], [{**QUESTION, "answers": [1]}], r"line 1: 'answers' must be a list of strings"),
        ([DOCUMENT], [{**QUESTION, "answers": "so"}], r"line 1: 'answers' must be a list"),
        ([DOCUMENT], [{**QUESTION, "gold": ["d"]}], r"line 1: each item of 'gold' must be an object"),
        ([DOCUMENT], [{**QUESTION, "gold": [{"doc": "x"}]}], r"line 1: gold names the document 'x'"),
        ([DOCUMENT], [{**QUESTION, "gold": [{"doc": "d", "start": 3, "end": 10}]}], r"range 3 to 10 is not inside"),
        ([DOCUMENT], [{**QUESTION, "gold": [{"doc": "d", "start": -1, "end": 3}]}], r"range -1 to 3"),
        ([DOCUMENT], [{**QUESTION, "gold": [{"doc": "d", "start": 3, "end": 3}]}], r"range 3 to 3"),
        ([DOCUMENT], [{**QUESTION, "gold": [{"doc": "d", "start": 3}]}], r"'end' must be a whole number"),
        ([DOCUMENT], [{**QUESTION, "gold": [{"doc": "d", "start": True, "end": 3}]}], r"'start' must be a whole"),
        ([DOCUMENT], [], r"queries\.jsonl\.gz holds no questions"),
        ([], [{**QUESTION, "gold": []}], r"corpus\.jsonl\.gz holds no documents"),
    ],
)
def test_says_where_a_file_is_wrong(write_dataset: Write, corpus: list, queries: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(write_dataset(corpus=corpus, queries=queries))


def test_says_which_folder_or_file_is_missing(write_dataset: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset folder"):
        load_dataset(tmp_path / "nowhere")
    folder = write_dataset()
    (folder / "queries.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"has no queries\.jsonl\.gz"):
        load_dataset(folder)


def test_a_cut_off_or_wrongly_encoded_file_is_an_input_error(write_dataset: Write) -> None:
    folder = write_dataset(suffix=".jsonl.gz")
    file = folder / "corpus.jsonl.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-12])
    with pytest.raises(InputError, match=r"corpus\.jsonl\.gz"):
        load_dataset(folder)
    file.write_bytes(b"plain text")
    with pytest.raises(InputError, match="cannot be read"):
        load_dataset(folder)
    file.write_bytes(gzip.compress(json.dumps(DOCUMENT).replace("so", "s\xf6").encode("latin-1")))
    with pytest.raises(InputError, match="line 1: not a line of JSON in UTF-8"):
        load_dataset(folder)


def test_a_collection_prefixes_ids_and_keeps_every_document(write_dataset: Write) -> None:
    folders = [write_dataset("one"), write_dataset("two")]
    merged = load_collection(folders, limit=2, seed=3)
    assert [document.id for document in merged.documents][:4] == ["one/tides", "one/moon", "one/tea", "two/tides"]
    assert len(merged.documents) == 6
    assert [question.corpus for question in merged.questions] == ["one", "one", "two", "two"]
    ids = {document.id for document in merged.documents}
    for question in merged.questions:
        assert question.id.startswith(f"{question.corpus}/")
        assert all(gold.doc in ids and gold.doc.startswith(f"{question.corpus}/") for gold in question.gold)


def test_a_collection_needs_folders_of_different_names(write_dataset: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        load_collection([])
    folder = write_dataset("one")
    with pytest.raises(InputError, match="named 'one'"):
        load_collection([folder, folder])


def _numbered(count: int) -> Dataset:
    return Dataset("n", [Document("text", "d")], [Question(f"{index}", "?") for index in range(count)])


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 20), st.integers(0, 5))
def test_a_sample_is_in_order_repeatable_and_part_of_larger_ones(count: int, limit: int, more: int, seed: int) -> None:
    dataset = _numbered(count)
    drawn = [int(question.id) for question in dataset.sample(limit, seed).questions]
    assert len(drawn) == min(limit, count)
    assert drawn == sorted(set(drawn))
    assert drawn == [int(question.id) for question in dataset.sample(limit, seed).questions]
    assert set(drawn) <= {int(question.id) for question in dataset.sample(limit + more, seed).questions}


def test_samples_differ_by_seed_and_refuse_nothing() -> None:
    dataset = _numbered(100)
    assert dataset.sample(10, 0).questions != dataset.sample(10, 1).questions
    assert dataset.sample(None) is dataset
    with pytest.raises(InputError, match="at least 1"):
        dataset.sample(0)


def test_the_fingerprint_follows_every_part_of_a_document_and_their_order() -> None:
    first, second = Document("a", "1", "t"), Document("b", "2")
    prints = {
        Dataset("n", documents, []).fingerprint
        for documents in (
            [first, second],
            [second, first],
            [first],
            [Document("ab", "1", "t"), second],
            [Document("a", "1", "u"), second],
            [Document("", "1", "ta"), second],
        )
    }
    assert len(prints) == 6
    assert Dataset("x", [first], []).fingerprint == Dataset("y", [Document("a", "1", "t")], []).fingerprint
