"""The example collection loads, and its questions quote what is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carrel.retrieval.loaders import load_file
from carrel.retrieval.walk import FoundFile, walk
from carrel.types import Document

EXAMPLES = Path(__file__).parents[3] / "examples"
LIBRARY = EXAMPLES / "library"
QUESTIONS = [json.loads(line) for line in (EXAMPLES / "questions.jsonl").read_text("utf-8").splitlines()]


def documents_of(name: str) -> list[Document]:
    return [item for item in load_file(LIBRARY / name) if isinstance(item, Document)]


def test_every_file_of_the_collection_loads() -> None:
    found = [item for item in walk(LIBRARY) if isinstance(item, FoundFile)]
    documents = [document for file in found for document in load_file(file.path)]
    assert len(found) == 16
    assert len(documents) == 27
    assert all(isinstance(document, Document) and document.title for document in documents)
    assert len({document.id for document in documents if isinstance(document, Document)}) == 27


def test_there_are_questions_with_and_without_an_answer() -> None:
    assert sum(question["answer"] is None for question in QUESTIONS) == 5
    assert len(QUESTIONS) == 30
    assert len({question["document"] for question in QUESTIONS}) > 12


@pytest.mark.parametrize("question", [q for q in QUESTIONS if q["answer"]], ids=lambda q: q["question"])
def test_the_quote_stands_in_one_document(question: dict[str, str]) -> None:
    hits = [document for document in documents_of(question["document"]) if question["quote"] in document.text]
    assert len(hits) == 1
    assert hits[0].text.count(question["quote"]) == 1


def test_the_pages_of_the_report() -> None:
    report = documents_of("annual-report-2023.pdf")[0]
    assert [report.text[start:].split("\n")[0] for start in report.pages] == [
        "Annual Report 2023",
        "Traffic",
        "Money",
        "Safety and the environment",
    ]
    assert "Page 2 of 4" not in report.text
    assert report.text.count("Annual Report 2023") == 1
    assert report.metadata["author"] == "Port Ansel Harbour Authority"


def test_the_tables_of_the_report_keep_caption_and_header() -> None:
    report = documents_of("annual-report-2023.pdf")[0]
    tables = [block for block in report.blocks if block.kind == "table"]
    assert [table.header for table in tables] == ["Cargo | 2022 | 2023", "Item | 2022 | 2023"]
    assert all(table.joined for table in tables)
    assert report.text[tables[0].start : tables[0].end].splitlines()[3] == "General cargo | 12,460 | 13,120"


def test_the_headings_of_the_report() -> None:
    report = documents_of("annual-report-2023.pdf")[0]
    headings = [(report.text[b.start : b.end], b.level) for b in report.blocks if b.kind == "heading"]
    assert headings[1] == ("Traffic", 1)
    assert headings[-1] == ("Looking ahead", 2)
