"""Terminals and pipes, start-up, and what options mean."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import carrel
from carrel.app.console import clean, on_one_line
from carrel.app.options import parse_metadata, parse_value, parse_where
from carrel.errors import FilterError, InputError

WIND = "At what wind speed does the quay crane stop lifting today?"


def test_pipes_get_no_escape_codes_and_no_wrapping(spawn, filled: Path) -> None:
    for arguments in (("ask", WIND, "--explain"), ("list",), ("methods",), ("ask", "hi", "-b", "1"), ("--help",)):
        done = spawn(*arguments, cwd=filled)
        assert "\x1b" not in done.out + done.err
    listed = spawn("list", cwd=filled, COLUMNS="40")
    assert len(listed.out.splitlines()) == 2 + 27
    assert not any(line.endswith(" ") for line in listed.out.splitlines())


def _on_a_terminal(arguments: list[str], folder: Path, environment: dict[str, str]) -> str:
    mine, theirs = pty.openpty()
    command = [sys.executable, "-m", "carrel", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(mine, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    process.wait(timeout=60)
    os.close(mine)
    return b"".join(parts).decode()


def test_a_terminal_gets_colours_unless_refused(filled: Path, environment: dict[str, str]) -> None:
    there = {**environment, "TERM": "xterm-256color", "COLUMNS": "100"}
    assert "\x1b[" in _on_a_terminal(["ask", WIND], filled, there)
    refused = _on_a_terminal(["ask", WIND, "--explain"], filled, {**there, "NO_COLOR": "1"})
    assert "24 knots" in refused
    assert "\x1b" not in refused


def test_a_terminal_gets_a_bar(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "a.txt").write_text("The pier was built in 1887.")
    there = {**environment, "TERM": "xterm-256color", "COLUMNS": "100"}
    assert "embedding" in _on_a_terminal(["add", "."], tmp_path, there)
    assert "embedding" not in _on_a_terminal(["add", ".", "-q", "-l", "other"], tmp_path, there)


def test_progress_away_from_a_terminal_is_lines(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.app.progress.SECONDS_BETWEEN_LINES", 0.0)
    (tmp_path / "a.txt").write_text("The pier was built in 1887.")
    done = run("add", ".", "--json", cwd=tmp_path)
    assert done.json["added"]
    assert "embedding: 1 of 1 document\n" in done.err
    assert run("add", ".", "--quiet", cwd=tmp_path).err == ""


def test_a_document_cannot_steer_the_terminal(run, tmp_path: Path) -> None:
    with carrel.open(tmp_path / ".carrel") as library:
        library.add_text("The pier was built in 1887\x1b[2J by nobody\x07.", id="evil\x1b[1m", title="\x9b2J")
    done = run("ask", "When was the pier built?", cwd=tmp_path)
    assert "1887" in done.out
    for command in (("ask", "When was the pier built?"), ("search", "pier"), ("list",), ("why", "evil\x1b[1m", "pier")):
        shown = run(*command, cwd=tmp_path)
        assert shown.code == 0
        assert not set(shown.out) & {"\x1b", "\x07", "\x9b"}
    assert clean("a\x1b[1mb\tc\nd\r\ne\x9b") == "a\ufffd[1mb\tc\nd\ne\ufffd"


def test_output_survives_a_poor_encoding(spawn, tmp_path: Path) -> None:
    poor = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    text, title = "Zoë built the pier in 1887.", "Zoë’s pier"
    assert spawn("add", "-", "--id", "pier", "--title", title, cwd=tmp_path, stdin=text.encode()).code == 0
    done = spawn("ask", "Who built the pier?", cwd=tmp_path, **poor)
    assert done.code == 0
    assert "built the pier" in done.out
    assert spawn("ask", "Who built the pier?", "--json", cwd=tmp_path, **poor).json["citations"][0]["title"] == title


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["ask", "--help"], ["eval", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str], environment: dict[str, str]) -> None:
    code = (
        "import sys\n"
        "from carrel.app.cli import main\n"
        f"sys.argv = ['carrel', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'onnxruntime', 'faiss', 'sqlalchemy', 'tokenizers', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr


def test_version(spawn, tmp_path: Path) -> None:
    done = spawn("--version", cwd=tmp_path)
    assert (done.code, done.out) == (0, f"carrel {carrel.__version__}\n")


@pytest.mark.parametrize("arguments", ["list", "show long", "show long --json", "--help", "methods"])
def test_a_reader_that_stops_ends_a_command_quietly(
    tmp_path: Path, environment: dict[str, str], arguments: str
) -> None:
    with carrel.open(tmp_path / ".carrel") as library:
        library.add_text("The pier was built in 1887. " * 20_000, id="long")
    shell = ["bash", "-c", f"{sys.executable} -m carrel {arguments} | head -c 0; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 141) if arguments in ("list", "methods", "--help") else done.returncode == 141
    assert not any(word in done.stderr for word in ("Traceback", "Error", "error", "Exception"))


def test_a_name_is_shown_on_one_line(run, tmp_path: Path) -> None:
    name = "two\nlines\t\x1b[1m.txt"
    (tmp_path / name).write_text("The pier was built in 1887.")
    (tmp_path / "bad\nname.json").write_text("{")
    added = run("add", ".", cwd=tmp_path)
    assert "  bad\\nname.json: line 1: not valid JSON" in added.out
    listed = run("list", cwd=tmp_path).out
    assert len(listed.splitlines()) == 3
    assert "two\\nlines\\t\\x1b[1m.txt" in listed
    assert on_one_line("a\u2028b\x85c\ré") == "a\\u2028b\\x85c\\ré"


@pytest.mark.parametrize(("name", "content"), [("bad.json", "{"), ("empty.txt", " "), ("bad.docx", "x")])
def test_what_was_skipped_is_named_once(run, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert run("add", name, cwd=tmp_path).out.count(name) == 1
    assert run("add", name, "--quiet", cwd=tmp_path).err.count(name) == 1


def test_unexpected_errors_are_not_swallowed(run, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("carrel.library.Library.ask", broken)
    with pytest.raises(ZeroDivisionError):
        run("ask", "hi there", cwd=filled)


def _powerless() -> list[str]:
    """What to put before a command so that permissions bind it, root's too; skips where nothing does that."""
    if os.geteuid() != 0:
        return []
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    if not shutil.which("setpriv") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may write everywhere")
    return command


@pytest.mark.parametrize("side_files", [True, False])
def test_a_read_only_library_can_be_asked(copied: Path, environment: dict[str, str], side_files: bool) -> None:
    powerless = _powerless()
    library = copied / ".carrel"
    for name in ("carrel.db-wal", "carrel.db-shm"):
        (library / name).touch() if side_files else (library / name).unlink(missing_ok=True)
    for file in library.iterdir():
        file.chmod(0o444)
    library.chmod(0o555)

    def code(*arguments: str) -> int:
        command = [*powerless, sys.executable, "-m", "carrel", *arguments]
        return subprocess.run(command, cwd=copied, env=environment, capture_output=True, timeout=60).returncode

    try:
        assert code("list") == 0
        assert code("ask", "Why is dispersant never used inside the moles?") == 0
        assert code("show", "docs/pilotage.md") == 0
        assert code("doctor") == 0
        assert code("remove", "docs/pilotage.md") == 4
    finally:
        library.chmod(0o755)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-7", -7),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("007", "007"),
        ("'7'", "7"),
        ('"true"', "true"),
        ("true", True),
        ("false", False),
        ("2024-05-01", "2024-05-01"),
        ("", ""),
        ("a b", "a b"),
        ("'", "'"),
    ],
)
def test_values_are_typed_unless_quoted(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("texts", "where"),
    [
        ([], None),
        (["kind=report"], {"kind": {"==": "report"}}),
        (["year>=2020", "year<2024"], {"year": {">=": 2020, "<": 2024}}),
        (["kind!=draft", "tags~tide"], {"kind": {"!=": "draft"}, "tags": {"contains": "tide"}}),
        (["title = A=B"], {"title": {"==": "A=B"}}),
        (['{"year": 2020}'], {"year": 2020}),
        (["a!=1", "a!=2"], {"not": {"any": [{"not": {"a": {"!=": 1}}}, {"not": {"a": {"!=": 2}}}]}}),
        (["code='7'"], {"code": {"==": "7"}}),
        (["url=http://x/?a=b"], {"url": {"==": "http://x/?a=b"}}),
        (["empty="], {"empty": {"==": ""}}),
    ],
)
def test_filters(texts: list[str], where: object) -> None:
    assert parse_where(texts) == where


@pytest.mark.parametrize("text", ["kind", "=x", "a>>b", "a=>b", "{bad json", '{"a": 1'])
def test_filters_that_cannot_be_understood(text: str) -> None:
    with pytest.raises(FilterError):
        parse_where([text])


def test_two_conditions_on_one_key_both_hold(run, filled: Path) -> None:
    one = run("list", "--json", "-w", "title!=Pilotage", cwd=filled).json["documents"]
    two = run("list", "--json", "-w", "title!=Pilotage", "-w", "title!=equipment", cwd=filled).json["documents"]
    assert (len(one), len(two)) == (26, 25)


def test_metadata_pairs() -> None:
    assert parse_metadata(["a=1", "b = x=y"]) == {"a": 1, "b": "x=y"}
    with pytest.raises(InputError):
        parse_metadata(["a"])
