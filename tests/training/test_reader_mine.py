"""Mining: what is right, wrong or neither, and files that are written whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from config import SMALL
from data import Question, load_pairs, load_questions
from mine import _label, mine_pairs, mine_questions, read_rows, rows_done, write_rows

from carrel.types import Passage

TEXT = "Belford lies on the Arno. It was founded by Ada Falk in 1412."
CONFIG = SMALL.with_changes(examples=8)


def question(answer: str | None) -> Question:
    spans = ((TEXT.index(answer), TEXT.index(answer) + len(answer)),) if answer else ()
    return Question("q", "squad2", "Who founded Belford?", TEXT, "Belford", spans, False)


def passage(document: str, text: str, start: int = 0) -> Passage:
    return Passage(document_id=document, start=start, end=start + len(text), text=text)


@pytest.mark.parametrize(
    ("answer", "own", "text", "start", "label"),
    [
        ("Ada Falk", True, TEXT, 0, 1),
        ("Ada Falk", True, TEXT[:25], 0, 0),  # another chunk of the same paragraph
        ("Ada Falk", False, "Ada Falk was a mayor.", 0, -1),  # it may answer
        ("Ada Falk", False, "The Isar is a river.", 0, 0),
        (None, True, TEXT, 0, 0),
        (None, False, "Ada Falk was a mayor.", 0, 0),
    ],
)
def test_a_candidate_is_right_wrong_or_neither(
    answer: str | None, own: bool, text: str, start: int, label: int
) -> None:
    asked = question(answer)
    found = passage(asked.document if own else "other", text, start)
    assert _label(found, asked, [asked.context[s:e] for s, e in asked.answers]) == label


def test_candidates_are_those_of_the_retriever(data: Path, tmp_path: Path) -> None:
    questions = load_questions(data, CONFIG)
    mine_questions(questions, CONFIG, tmp_path)
    pool = {row["document"]: row for row in read_rows(tmp_path / "pool.jsonl")}
    rows = read_rows(tmp_path / "candidates.jsonl")
    assert [row["id"] for row in rows] == [q.id for q in questions]
    assert set(pool) == {q.document for q in questions}
    right = 0
    for asked, row in zip(questions, rows, strict=True):
        scores = [found["fused"] for found in row["candidates"]]
        assert 0 < len(scores) <= CONFIG.negatives_mined and scores == sorted(scores, reverse=True)
        for found in row["candidates"]:
            text = pool[found["document"]]["text"][found["start"] : found["end"]]
            assert text
            if found["label"] == 1:
                right += 1
                assert any(asked.context[s:e] in text for s, e in asked.answers)
    assert right > len(questions) / 3

    written = (tmp_path / "candidates.jsonl").stat().st_mtime_ns
    mine_questions(questions, CONFIG, tmp_path)
    assert (tmp_path / "candidates.jsonl").stat().st_mtime_ns == written


def test_interrupted_mining_goes_on_to_the_same_file(data: Path, tmp_path: Path) -> None:
    questions = load_questions(data, CONFIG)
    mine_questions(questions, CONFIG, tmp_path / "whole")
    whole = (tmp_path / "whole" / "candidates.jsonl").read_bytes()
    folder = tmp_path / "part"
    folder.mkdir()
    torn = whole.split(b"\n")
    (folder / "candidates.partial").write_bytes(b"\n".join(torn[:5]) + b"\n" + torn[5][:9])
    assert rows_done(folder / "candidates.jsonl", [q.id for q in questions]) == 5
    mine_questions(questions, CONFIG, folder)
    assert (folder / "candidates.jsonl").read_bytes() == whole


def test_rows_of_other_questions_are_not_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert rows_done(path, ["a", "b"]) == 0
    path.with_suffix(".partial").write_text('{"id": "a"}\n{"id": "x"}\n', encoding="utf-8")
    assert rows_done(path, ["a", "b", "c"]) == 0
    path.with_suffix(".partial").write_text('{"id": "a"}\n{"id": "b"}\n', encoding="utf-8")
    assert rows_done(path, ["a", "b", "c"]) == 2
    path.with_suffix(".partial").write_text('{"id": "a', encoding="utf-8")
    assert rows_done(path, ["a", "b", "c"]) == 0


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield {"id": "a", "text": "é"}
        raise KeyboardInterrupt

    path = tmp_path / "deep" / "rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_rows(path, broken())
    assert not path.exists()
    write_rows(path, [{"id": "b"}], go_on=True)
    assert [row["id"] for row in read_rows(path)] == ["a", "b"]
    write_rows(path, [{"id": "c"}])
    assert [row["id"] for row in read_rows(path)] == ["c"]


def test_fillers_are_other_sentences(data: Path, tmp_path: Path) -> None:
    pairs = load_pairs(data, CONFIG, [])
    mine_pairs(pairs, CONFIG, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "fillers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["sentence"] for row in rows] == [pair.sentence for pair in pairs]
    known = {pair.sentence for pair in pairs}
    for row in rows:
        assert row["sentence"] not in row["fillers"] and set(row["fillers"]) <= known
        assert len(row["fillers"]) <= CONFIG.fillers_mined
    assert any(row["fillers"] for row in rows)
