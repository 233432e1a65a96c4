"""add, sync, remove, purge and reindex."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import carrel


def ids(folder: Path) -> list[str]:
    with carrel.open(folder / ".carrel", read_only=True) as library:
        return [info.id for info in library.documents()]


def test_add_tells_what_it_did(run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The pier was built in 1887.")
    (tmp_path / "b.md").write_text("# Tides\n\nHigh water is at noon.")
    (tmp_path / "c.png").write_bytes(b"\x89PNG")
    done = run("add", ".", cwd=tmp_path)
    assert done.code == 0
    assert done.out.startswith("2 added, 1 skipped. 2 chunks in ")
    assert "skipped:\n  c.png: an image, which no loader reads\n" in done.out
    assert ids(tmp_path) == [str(tmp_path / "a.txt"), str(tmp_path / "b.md")]
    again = run("add", ".", "--json", cwd=tmp_path).json
    assert set(again) == {
        "library", "added", "updated", "unchanged", "removed", "skipped", "warnings", "chunks", "embedded", "tokens",
        "tokenizer", "seconds", "planned",
    }  # fmt: skip
    assert again["unchanged"] == ids(tmp_path)
    assert again["embedded"] == 0


def test_only_ten_skipped_files_are_listed_unless_asked(run, tmp_path: Path) -> None:
    for number in range(14):
        (tmp_path / f"{number:02}.png").write_bytes(b"x")
    (tmp_path / "zz.txt").write_text("")
    done = run("add", ".", cwd=tmp_path)
    assert done.out.count("\n  ") == 11
    assert "zz.txt" in done.out, "the rare reason comes first"
    assert "and 5 more; see all with --verbose or --json" in done.out
    assert run("add", ".", "--verbose", cwd=tmp_path).out.count(".png") == 14


def test_a_named_file_that_is_skipped_is_a_failure(run, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("The pier was built in 1887.")
    (tmp_path / "empty.txt").write_text("")
    done = run("add", "good.txt", "empty.txt", cwd=tmp_path)
    assert done.code == 1
    assert done.out.startswith("1 added, 1 skipped.")


@pytest.mark.parametrize("command", ["add", "sync"])
def test_a_large_file_is_skipped_and_the_way_out_is_told(run, tmp_path: Path, command: str) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("The pier was built in 1887.")
    with (tmp_path / "files" / "big.txt").open("wb") as file:
        file.truncate(1_200_000)  # NUL bytes: what is read of it is no text
    done = run(command, "files", "--max-file-mb", "1", cwd=tmp_path)
    assert done.code == 0
    assert done.out.startswith("1 added, 1 skipped.")
    told = "it has 1.2 MB, and a file may have 1. To take it, raise the limit: max_file_mb=2, or --max-file-mb 2"
    assert f"skipped:\n  files/big.txt: {told}\n" in done.out
    allowed = run(command, "files", "--max-file-mb", "2", cwd=tmp_path)
    assert "raise the limit" not in allowed.out and "big.txt" in allowed.out
    refused = run(command, "files", "--max-file-mb", "0", "-l", "other", cwd=tmp_path)
    assert refused.code == 2 and "--max-file-mb" in refused.err
    assert not (tmp_path / "other").exists()


def test_a_mistyped_path_adds_nothing(run, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("The pier was built in 1887.")
    done = run("add", "good.txt", "god.txt", cwd=tmp_path)
    assert (done.code, done.err) == (2, "error: there is no file or folder god.txt. Check the name.\n")
    assert not (tmp_path / ".carrel").exists()


def test_a_dry_run_writes_nothing(run, copied: Path) -> None:
    (copied / "docs" / "new.txt").write_text("The pier was built in 1887.")
    (copied / "docs" / "pilotage.md").unlink()
    before = ids(copied)
    done = run("sync", "docs", "--dry-run", cwd=copied)
    assert done.out.startswith("Nothing was written. This is what would be done: 1 added, 2 unchanged, 1 removed.")
    assert "add:\n  docs/new.txt\nremove:\n  docs/pilotage.md\n" in done.out
    assert ids(copied) == before
    elsewhere = run("add", "docs", "-n", "-l", "other", "--json", cwd=copied)
    assert len(elsewhere.json["added"]) == 3
    assert elsewhere.json["planned"] is True
    assert not (copied / "other").exists()


def test_sync_follows_a_folder(run, copied: Path) -> None:
    (copied / "docs" / "pilotage.md").unlink()
    done = run("sync", "docs", cwd=copied)
    assert done.code == 0
    assert done.out.startswith("0 added, 2 unchanged, 1 removed.")
    assert str(copied / "docs" / "pilotage.md") not in ids(copied)
    assert run("sync", "docs/berthing.md", cwd=copied).code == 2
    assert run("sync", "mistyped", cwd=copied).code == 2


def test_stdin_is_one_text(run, tmp_path: Path) -> None:
    text = "The pier was built in 1887.\nNobody knows by whom — really.\n"
    described = ("--id", "pier", "--title", "Pier", "--meta", "year=1887", "--meta", "code='7'")
    done = run("add", "-", *described, cwd=tmp_path, stdin=text)
    assert done.code == 0
    shown = run("show", "pier", "--json", cwd=tmp_path).json
    assert shown["text"] == text
    assert shown["title"] == "Pier"
    assert shown["metadata"] == {"year": 1887, "code": "7"}
    assert shown["extractor"] == "" and "read by" not in run("show", "pier", cwd=tmp_path).out
    assert run("ask", "When was the pier built?", "-w", "year>=1880", cwd=tmp_path).code == 0
    assert run("ask", "When was the pier built?", "-w", "year<1880", cwd=tmp_path).code == 3


def test_stdin_in_a_process(spawn, tmp_path: Path) -> None:
    done = spawn("add", "-", "--id", "pier", cwd=tmp_path, stdin="The pier was built in 1887 by Zoë.".encode())
    assert done.code == 0
    assert "1 added." in done.out
    assert spawn("show", "pier", "--text", cwd=tmp_path).out == "The pier was built in 1887 by Zoë.\n"


@pytest.mark.parametrize(
    "arguments", [("-",), ("-", "-", "--id", "x"), (".", "--id", "x"), ("-", "--id", "x", "--meta", "year")]
)
def test_stdin_mistakes(run, tmp_path: Path, arguments) -> None:
    done = run("add", *arguments, cwd=tmp_path, stdin="text")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert not (tmp_path / ".carrel").exists()


def test_an_empty_stdin_is_refused(run, tmp_path: Path) -> None:
    done = run("add", "-", "--id", "nothing", cwd=tmp_path, stdin="")
    assert done.code == 2
    assert "stdin holds no text" in done.err


def test_quiet_tells_only_problems(run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The pier was built in 1887.")
    done = run("add", ".", "-q", cwd=tmp_path)
    assert (done.out, done.err) == ("", "")
    (tmp_path / "b.txt").write_text("")
    done = run("add", ".", "-q", cwd=tmp_path)
    assert done.out == ""
    assert done.err.startswith("warning: skipped b.txt: ")


def test_warnings_go_to_stderr(run, tmp_path: Path) -> None:
    text = (
        "Le conseil du port a décidé que la grue ne doit pas travailler quand le vent est fort,"
        " et que les bateaux doivent rester au quai."
    )
    (tmp_path / "fr.txt").write_text(text, encoding="utf-8")
    done = run("add", ".", cwd=tmp_path)
    assert "French" in done.err
    assert "French" not in done.out


@pytest.mark.parametrize("name", ["docs/pilotage.md", "./docs/../docs/pilotage.md", "ABSOLUTE"])
def test_remove_takes_paths(run, copied: Path, name: str) -> None:
    stored = str(copied / "docs" / "pilotage.md")
    done = run("remove", stored if name == "ABSOLUTE" else name, cwd=copied)
    assert done.code == 0
    assert done.out == "Removed 1 document.\n  docs/pilotage.md\n"
    assert stored not in ids(copied)


def test_a_name_that_is_no_text_is_found_as_the_shell_has_it(run, tmp_path: Path) -> None:
    name = os.fsdecode(b"x\xff.txt")
    try:
        (tmp_path / name).write_text("The pier was built in 1887.")
    except OSError:
        pytest.skip("the file system has no such names")
    assert run("add", name, cwd=tmp_path).code == 0
    assert run("show", name, "--text", cwd=tmp_path).out == "The pier was built in 1887.\n"
    done = run("remove", name, cwd=tmp_path)
    assert (done.code, done.out) == (0, "Removed 1 document.\n  x\\udcff.txt\n")


EMPTY_OR_ADDRESS = [
    ("add", ""), ("sync", ""), ("eval", ""), ("ask", "-l", "", "hi"), ("add", "-l", "", "."),
    ("add", "https://example.com/x"), ("sync", "https://example.com/x"), ("context", "-l", "postgresql://x/y", "hi"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", EMPTY_OR_ADDRESS)
def test_an_empty_path_or_an_address_is_refused(run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, cwd=tmp_path)
    address = next((argument for argument in arguments if "://" in argument), None)
    assert done.code == 2
    assert f"error: {address} is an address" in done.err if address else "is an empty text" in done.err
    assert list(tmp_path.iterdir()) == []


def test_removing_a_file_removes_all_its_documents(run, copied: Path) -> None:
    (copied / "many.jsonl").write_text('{"id": "a", "text": "One."}\n{"id": "b", "text": "Two."}\n')
    assert run("add", "many.jsonl", cwd=copied).code == 0
    assert len(ids(copied)) == 5
    assert run("remove", "many.jsonl#a", "--json", cwd=copied).json["removed"] == [f"{copied}/many.jsonl#a"]
    assert run("add", "many.jsonl", cwd=copied).code == 0
    assert len(run("remove", "many.jsonl", "--json", cwd=copied).json["removed"]) == 2


def test_an_unknown_id_removes_nothing(run, copied: Path) -> None:
    done = run("remove", "docs/pilotage.md", "nobody", cwd=copied)
    assert done.code == 2
    assert "'nobody'" in done.err
    assert len(ids(copied)) == 3


@pytest.mark.parametrize("at_once", [True, False])
def test_purge_erases_the_bytes(run, copied: Path, at_once: bool) -> None:
    held = b"compulsory pilotage"
    assert held in b"".join(file.read_bytes() for file in (copied / ".carrel").iterdir())
    assert run("remove", "docs/pilotage.md", *(["--purge"] if at_once else []), cwd=copied).code == 0
    if not at_once:
        assert set(run("purge", "--json", cwd=copied).json) == {"library", "bytes_before", "bytes_after"}
    assert held not in b"".join(file.read_bytes() for file in (copied / ".carrel").iterdir())


def test_reindex_says_when_there_is_nothing_to_do(run, copied: Path) -> None:
    assert run("reindex", cwd=copied).out == "Nothing to do: every chunk has its vector from all-MiniLM-L6-v2.\n"
    assert run("reindex", "--json", cwd=copied).json["embedded"] == 0


def test_a_busy_library_is_told(run, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.retrieval.store.store.Store.__init__.__kwdefaults__", {
        "create": True, "read_only": False, "durability": "normal", "busy_timeout_s": 0.1,
    })  # fmt: skip
    other = sqlite3.connect(copied / ".carrel" / "carrel.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        done = run("remove", "docs/pilotage.md", cwd=copied)
        assert run("list", cwd=copied).code == 0, "readers do not wait"
    finally:
        other.close()
    assert done.code == 4
    assert "another process is writing" in done.err


def test_a_damaged_library_is_told(run, tmp_path: Path) -> None:
    (tmp_path / ".carrel").mkdir()
    (tmp_path / ".carrel" / "carrel.db").write_bytes(b"this is no database at all, not even a little" * 50)
    for command in (("list",), ("doctor",), ("add", ".")):
        done = run(*command, cwd=tmp_path)
        assert done.code == 4
        assert "is damaged" in done.err


def test_ctrl_c_keeps_what_was_committed(run, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "many").mkdir()
    words = "harbour crane quay tide pilot berth ferry light storm rope".split()
    for number in range(1500):
        pairs = ((part, words[(number + part) % 10], words[part % 10]) for part in range(40))
        sentences = (f"Entry {number}.{part}: the {first} and the {second}." for part, first, second in pairs)
        (tmp_path / "many" / f"{number:04}.txt").write_text(" ".join(sentences))
    command = [sys.executable, "-m", "carrel", "add", "many", "--json"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_ctrl_c,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not _held(tmp_path):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "What was committed is safe" in err
    assert "Run the same command again" in err
    assert "Traceback" not in err
    assert '"type": "Interrupted"' in out
    held = ids(tmp_path)
    assert 0 < len(held) < 1500
    assert all(check["ok"] for check in run("doctor", "--json", cwd=tmp_path).json["checks"] if check["name"] != "disk")
    planned = run("add", "many", "--dry-run", "--json", cwd=tmp_path).json
    assert len(planned["unchanged"]) == len(held)


def _heed_ctrl_c() -> None:
    """A shell that runs the tests in the background has its children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _held(folder: Path) -> int:
    database = folder / ".carrel" / "carrel.db"
    if not database.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=1) as connection:
            found = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
        connection.close()
    except sqlite3.OperationalError:
        return 0
    return int(found)
