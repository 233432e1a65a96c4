"""Runs the code of the README and the documentation, so that what a page shows is what happens.

The blocks of a page run in order, in one namespace, in a temporary folder with a copy of
``examples/library``. In a ``console`` or ``bash`` block the lines ``$ carrel ...`` are run; what follows
them is for the reader, unless ``<!-- output checked -->`` stands before the block: then each line must
appear in the output, in order, white space aside, with ``...`` for anything.

A block is left out only by ``<!-- not run: the reason -->`` before it. There may be few of those.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_NOT_RUN = 4
COMMENT = re.compile(r"<!--\s*(?P<mark>not run|output checked)\s*(?::\s*(?P<reason>.*?))?\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str
    not_run: str | None = None
    output_checked: bool = False

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """The ``$ carrel`` commands of a console block, each with the output shown after it."""
        found: list[tuple[str, list[str]]] = []
        for line in self.code.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found and found[-1][0].endswith("\\"):
                found[-1] = (found[-1][0][:-1] + line.strip(), [])
            elif found and line.strip():
                found[-1][1].append(line)
        return [(command, shown) for command, shown in found if command.split()[0] == "carrel"]

    @property
    def runs(self) -> bool:
        return self.language == "python" or bool(self.language in ("console", "bash") and self.commands)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    not_run, checked = None, False
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            for comment in COMMENT.finditer(token.content):
                if comment["mark"] == "not run":
                    not_run = comment["reason"] or ""
                checked = checked or comment["mark"] == "output checked"
        elif token.type == "fence":
            language = token.info.split(maxsplit=1)[0] if token.info.strip() else ""
            yield Block(page, (token.map or [0])[0] + 1, language, token.content, not_run, checked)
            not_run, checked = None, False
        elif token.nesting >= 0 and token.type != "inline":
            not_run, checked = None, False


def appears(shown: list[str], output: str) -> str | None:
    """The first line of what the page shows that the output lacks, None if it has all."""
    rest = " ".join(output.split())
    for line in shown:
        words = [re.escape(word) for word in " ".join(line.split()).split("...")]
        match = re.search(".*?".join(words), rest)
        if match is None:
            return line
        rest = rest[match.end() :]
    return None


def run_python(block: Block, namespace: dict[str, object]) -> None:
    code = "\n" * block.line + block.code  # so that a traceback names the line of the page
    exec(compile(code, str(block.page), "exec"), namespace)


def run_console(block: Block) -> None:
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "PYTHONUTF8": "1", "PYTHONPATH": str(ROOT)}
    for command, shown in block.commands:
        done = subprocess.run(
            [sys.executable, "-c", "from carrel.app.cli import main; main()", *shlex.split(command)[1:]],
            capture_output=True,
            encoding="utf-8",
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        assert done.returncode == 0, f"{block}: {command}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}"
        if block.output_checked:
            missing = appears(shown, done.stdout + done.stderr)
            assert missing is None, f"{block}: {command}\nits output lacks: {missing}\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples" / "library", tmp_path / "examples" / "library")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CARREL_LIBRARY", raising=False)
    namespace: dict[str, object] = {"__name__": "__main__"}
    try:
        for block in blocks_of(page):
            if not block.runs or block.not_run is not None:
                continue
            if block.language == "python":
                run_python(block, namespace)
            else:
                run_console(block)
    finally:
        for value in namespace.values():
            if type(value).__name__ == "Library":
                value.close()  # type: ignore[attr-defined]


def test_few_blocks_are_left_out() -> None:
    left_out = [block for page in PAGES for block in blocks_of(page) if block.not_run is not None]
    listing = "\n".join(f"{block}: {block.not_run}" for block in left_out)
    print(listing)
    assert all(block.not_run for block in left_out), f"a block is left out without a reason:\n{listing}"
    assert len(left_out) <= MOST_NOT_RUN, f"too many blocks are not run:\n{listing}"


def test_the_readme_shows_code_that_runs() -> None:
    languages = {block.language for block in blocks_of(ROOT / "README.md") if block.runs and block.not_run is None}
    assert languages >= {"python", "console"}


def test_marks_belong_to_the_block_that_follows(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: needs a server -->\n```python\n1 / 0\n```\n\n```python\nx = 1\n```\n\n"
        "<!-- not run: too far away -->\n\nText between.\n\n<!-- output checked -->\n"
        '```console\n$ carrel ask \\\n    "a b"\nYes [1]\n$ ls\n```\n',
        encoding="utf-8",
    )
    first, second, third = blocks_of(page)
    assert (first.not_run, second.not_run, third.not_run) == ("needs a server", None, None)
    assert third.output_checked
    assert third.commands == [('carrel ask "a b"', ["Yes [1]"])]
    assert second.line == 6


def test_shown_output_is_compared_loosely() -> None:
    assert appears(["Added 3 ... in ... s", "done"], "Added 3   documents\nin 0.4 s\n  done") is None
    assert appears(["Added 3", "failed"], "Added 3 documents") == "failed"
