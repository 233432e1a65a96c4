"""Dialogues with questions, read from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from carrel.errors import InputError
from carrel.evaluation.dialogues import load_dialogue, load_dialogues
from carrel.memory.days import day_of
from tests.evaluation.dialogue_files import queries, turns, write


@pytest.mark.parametrize("packed", [True, False])
def test_turns_questions_and_evidence(tmp_path: Path, packed: bool) -> None:
    found = load_dialogue(write(tmp_path / "x", packed=packed))
    assert (found.name, len(found.turns), len(found.questions)) == ("x", 9, 5)
    assert [turn.id for turn in found.turns] == list(range(1, 10))
    assert [question.evidence for question in found.questions] == [(3,), (6,), (3, 9), (6,), ()]
    assert str(day_of(found.turns[0].said_at)) == "2023-05-08"
    assert found.ends_at == found.turns[-1].said_at


def test_turns_of_a_session_follow_one_another_in_time(tmp_path: Path) -> None:
    times = [turn.said_at for turn in load_dialogue(write(tmp_path / "x")).turns]
    assert times == sorted(set(times))


def test_a_photo_is_told_by_its_caption(tmp_path: Path) -> None:
    texts = [turn.text for turn in load_dialogue(write(tmp_path / "x")).turns]
    assert "Look at my new bicycle! (shares a photo: a green bicycle)" in texts


def test_equal_fingerprints_equal_dialogues(tmp_path: Path) -> None:
    one, two = load_dialogue(write(tmp_path / "x")), load_dialogue(write(tmp_path / "y"))
    rows = turns()
    rows[0]["text"] += "!"
    assert one.fingerprint == two.fingerprint != load_dialogue(write(tmp_path / "z", turn_rows=rows)).fingerprint


def test_all_below_a_folder_or_those_named(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / "dialogues" / name)
    assert [each.name for each in load_dialogues(tmp_path)] == ["a", "b"]
    assert [each.name for each in load_dialogues(tmp_path / "dialogues", ("b",))] == ["b"]
    assert [each.name for each in load_dialogues(tmp_path / "dialogues" / "a")] == ["a"]


def changed(rows: list[dict[str, object]], key: str, value: object) -> list[dict[str, object]]:
    return [{**rows[0], key: value}, *rows[1:]]


@pytest.mark.parametrize(
    ("of_turns", "of_queries", "what"),
    [
        (changed(turns(), "when", "soon"), None, "turns.jsonl, line 1: 'when' is 'soon', not a time"),
        (changed(turns(), "text", 3), None, "turns.jsonl, line 1: 'text' must be a string"),
        (changed(turns(), "id", "D1:2"), None, "line 2: the turn id 'D1:2' was used before"),
        (None, changed(queries(), "question", " "), "queries.jsonl, line 1: 'question' is empty"),
        (None, changed(queries(), "evidence", [3]), "'evidence' must be a list of turn ids"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, of_turns: object, of_queries: object, what: str) -> None:
    with pytest.raises(InputError) as caught:
        load_dialogue(write(tmp_path / "x", turn_rows=of_turns, query_rows=of_queries, packed=False))
    assert what in str(caught.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        load_dialogues(tmp_path / "none")
    with pytest.raises(InputError, match="holds no dialogue"):
        load_dialogues(tmp_path)
    write(tmp_path / "a")
    with pytest.raises(InputError, match="no dialogue 'c'.*there are a"):
        load_dialogues(tmp_path, ("c",))
