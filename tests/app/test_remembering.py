"""memory observe, recall, list, import and forget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import carrel
from carrel.app.failing import Code


@pytest.fixture
def told(run, tmp_path: Path) -> Path:
    """A folder whose library knows three things of "me", and one of "bob"."""
    said = [
        ("My goat is called Zora.",), ("We moved to Bern.", "--at", "2024-05-03", "--session", "spring"),
        ("My daughter is Mia.", "--speaker", "Ann"), ("Bob keeps bees.", "--user", "bob"),
    ]  # fmt: skip
    for arguments in said:
        assert run("memory", "observe", *arguments, cwd=tmp_path).code == 0
    return tmp_path


def test_observe_says_where_it_is_kept(run, tmp_path: Path) -> None:
    done = run("memory", "observe", "My", "goat", "is", "Zora.", "--user", "ann", "-s", "monday", cwd=tmp_path)
    assert done.out == "Kept as turn 1 of the user 'ann', in the conversation 'monday'.\n"
    turn = run("memory", "observe", "--json", "--at", "1970-01-02T00:00:00Z", "x", cwd=tmp_path).json["turn"]
    assert (turn["id"], turn["text"], turn["said_at"], turn["speaker"]) == (2, "x", 86400, "user")


def test_observe_reads_stdin(spawn, tmp_path: Path) -> None:
    done = spawn("memory", "observe", "-", cwd=tmp_path, stdin=b"It rained.\nAll day.\n")
    assert done.code == 0
    with carrel.open(tmp_path / ".carrel") as library:
        assert library.memory(user="me").turns()[0].text == "It rained.\nAll day.\n"


def test_recall_prints_what_a_prompt_takes(run, told: Path) -> None:
    done = run("memory", "recall", "What", "is", "my", "goat", "called?", "-s", "new", cwd=told)
    assert done.code == 0
    assert "My goat is called Zora." in done.out
    found = run("memory", "recall", "goat?", "--json", "-s", "new", "-b", "200", cwd=told).json
    assert set(found) == {
        "query", "rewritten", "needed", "answerable", "recent", "recalled", "stable", "text", "tokens", "budget",
        "best",
    }  # fmt: skip
    assert found["tokens"] <= found["budget"] == 200
    explained = run("memory", "recall", "Where did we move last May?", "--at", "2024-11-01", "--explain", cwd=told)
    assert "tokens" in explained.out.splitlines()[0]
    assert "We moved to Bern." in explained.out


def test_recall_of_nothing_exits_with_3(run, told: Path) -> None:
    done = run("memory", "recall", "goat", "--user", "nobody", cwd=told)
    assert (done.code, done.out) == (Code.NO_ANSWER, "")
    assert done.err == "Nothing was said by the user 'nobody' yet. Name another with --user.\n"


def test_list_is_a_table_in_the_order_of_time(run, told: Path) -> None:
    done = run("memory", "list", cwd=told)
    lines = done.out.splitlines()
    assert lines[0].split() == ["id", "said", "session", "speaker", "text"]
    assert [line.split()[0] for line in lines[2:]] == ["2", "1", "3"]
    assert done.err == "3 turns of me\n"
    assert [turn["id"] for turn in run("memory", "list", "-k", "1", "--json", cwd=told).json["turns"]] == [3]
    dated = run("memory", "list", "--since", "2024-05-01", "--before", "2024-06-01", "--json", cwd=told).json
    assert [turn["id"] for turn in dated["turns"]] == [2]
    assert run("memory", "list", "-s", "spring", cwd=told).err == "1 turn of me\n"
    sessions = run("memory", "list", "--sessions", "--json", cwd=told).json["conversations"]
    assert [(each["name"], each["turns"]) for each in sessions] == [("spring", 1), ("default", 2)]
    assert run("memory", "list", "--sessions", cwd=told).out.splitlines()[2].startswith("spring")
    assert run("memory", "list", "--notes", cwd=told).err == "0 notes of me\n"


def test_import_takes_json_lines(run, tmp_path: Path) -> None:
    rows = [
        {"text": "Hello.", "speaker": "Bob", "said_at": "2024-01-02T10:00:00Z", "session": "old", "id": 7},
        {"text": "Hi.", "said_at": 5}, {"text": " "},
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert run("memory", "import", "a.jsonl", cwd=tmp_path).out == "Kept 2 turns of me.\n"
    turns = run("memory", "list", "--json", cwd=tmp_path).json["turns"]
    assert [(turn["text"], turn["session"], turn["speaker"], turn["said_at"]) for turn in turns] == [
        ("Hi.", "default", "user", 5), ("Hello.", "old", "Bob", 1704189600),
    ]  # fmt: skip
    assert run("memory", "import", "a.jsonl", "--json", cwd=tmp_path).json == {
        "user": "me", "turns": 2, "first": 3, "last": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 of a.jsonl is no JSON"),
        ('{"said": "x"}', "line 2 of a.jsonl is no turn"),
        ('{"text": "x", "when": 3}', "line 2 of a.jsonl has 'when'"),
        ('{"text": "x", "said_at": "May"}', "said_at in line 2 of a.jsonl takes a date"),
        ('{"text": "x", "said_at": [1]}', "a time is a number of seconds"),
    ],
)
def test_of_a_faulty_file_nothing_is_kept(run, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "Hello."}\n' + line)
    done = run("memory", "import", "a.jsonl", cwd=tmp_path)
    assert done.code == Code.BAD_INPUT
    assert message in done.err
    assert run("memory", "list", "--json", cwd=tmp_path).json["turns"] == []


def test_forget_shows_and_asks(run, told: Path) -> None:
    planned = run("memory", "forget", "--matching", "GOAT", "--dry-run", cwd=told)
    assert (planned.code, planned.out) == (0, "")
    assert "My goat is called Zora." in planned.err
    refused = run("memory", "forget", "--matching", "goat", cwd=told)
    assert refused.code == Code.BAD_INPUT
    assert "add --yes" in refused.err
    assert len(run("memory", "list", "--json", cwd=told).json["turns"]) == 3
    done = run("memory", "forget", "--matching", "goat", "--yes", cwd=told)
    assert (done.code, done.out) == (0, "Forgotten.\n")
    assert "1 turn of me" in done.err
    assert len(run("memory", "list", "--json", cwd=told).json["turns"]) == 2


def test_forget_by_id_session_and_all(run, told: Path) -> None:
    assert run("memory", "forget", "1", "4", "--yes", cwd=told).err == (
        "error: me has no turn 4. See them with: carrel memory list --user me\n"
    )
    assert run("memory", "forget", "1", "--yes", "--json", cwd=told).json == {
        "user": "me", "turns": [1], "notes": [], "planned": False, "purged": False,
    }  # fmt: skip
    assert run("memory", "forget", "-s", "spring", "--yes", "--json", cwd=told).json["turns"] == [2]
    done = run("memory", "forget", "--everything", "--purge", "--yes", cwd=told)
    assert done.out == "Forgotten, and the bytes are erased.\n"
    assert b"Mia" not in (told / ".carrel" / "carrel.db").read_bytes()
    again = run("memory", "forget", "--everything", "--yes", cwd=told)
    assert (again.code, again.err) == (0, "Nothing of me is to be forgotten here.\n")
    assert len(run("memory", "list", "--user", "bob", "--json", cwd=told).json["turns"]) == 1


def test_bad_use_is_told(run, told: Path, tmp_path: Path) -> None:
    assert "say what to forget" in run("memory", "forget", cwd=told).err
    assert "say what to forget" in run("memory", "forget", "1", "--everything", cwd=told).err
    assert "--at takes a date" in run("memory", "observe", "x", "--at", "May", cwd=told).err
    assert run("memory", "recall", "x", "--json", "--at", "May", cwd=told).json["error"]["type"] == "InputError"
    nowhere = run("memory", "recall", "x", "-l", str(tmp_path / "none"), cwd=told)
    assert nowhere.code == Code.LIBRARY
    assert "nothing was said yet. Begin with: carrel memory observe" in nowhere.err
    assert run("memory", "remember", "x", cwd=told).code == Code.BAD_INPUT


def test_help_has_examples(run, tmp_path: Path) -> None:
    for name in ("observe", "recall", "list", "import", "forget"):
        assert f"carrel memory {name}" in run("memory", name, "--help", cwd=tmp_path).out
    assert "Exit codes" in run("memory", "--help", cwd=tmp_path).out


def test_asking_for_a_user_keeps_what_is_said(run, copied: Path) -> None:
    asked = ("At what wind speed does the pilot stop boarding?", "And who pays for the oil spill?")
    for question in asked:
        assert run("ask", "--user", "ann", "-s", "monday", question, cwd=copied).code in (0, Code.NO_ANSWER)
    turns = run("memory", "list", "--user", "ann", "--json", cwd=copied).json["turns"]
    assert [turn["text"] for turn in turns][::2] == list(asked)
    assert [(turn["speaker"], turn["session"]) for turn in turns] == [("user", "monday"), ("assistant", "monday")] * 2
    explained = run("ask", "--user", "ann", "-s", "monday", "And on Sundays?", "--explain", cwd=copied)
    assert "recall" in explained.out
    run("ask", asked[0], cwd=copied)
    assert len(run("memory", "list", "--user", "ann", "--json", cwd=copied).json["turns"]) == 6


def test_a_conversation_alone_is_the_usual_users(run, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = "Who pays for the oil spill?"
    run("ask", "-s", "monday", question, cwd=copied)
    assert run("memory", "list", "--json", cwd=copied).json["turns"][0]["text"] == question
    monkeypatch.setenv("CARREL_USER", "bob")
    run("ask", "-s", "monday", question, cwd=copied)
    assert len(run("memory", "list", "--user", "bob", "--json", cwd=copied).json["turns"]) == 2
    run("ask", question, cwd=copied)  # without either, nothing is kept
    assert len(run("memory", "list", "--user", "bob", "--json", cwd=copied).json["turns"]) == 2


def test_what_was_said_answers_where_the_documents_do_not(run, copied: Path) -> None:
    run("memory", "observe", "--at", "2026-05-12", "-s", "old", "My sister Marta is a vet in York.", cwd=copied)
    done = run("ask", "-s", "new", "Where does my sister work?", cwd=copied)
    assert (done.code, done.out) == (0, "You said on 12 May 2026: “My sister Marta is a vet in York.”\n")


def test_recall_says_where_it_seems_to_hold_no_answer(run, told: Path) -> None:
    done = run("memory", "recall", "What", "is", "my", "blood", "type?", "-s", "new", cwd=told)
    assert done.code == 0 and done.err.endswith("Nothing in it seems to answer the question.\n")
    assert "seems to" not in run("memory", "recall", "What is my goat called?", "-s", "new", cwd=told).err
