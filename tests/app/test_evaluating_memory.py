"""carrel eval-memory: its help, its mistakes, and a run with the shipped embedder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.dialogue_files import write


def test_help_has_examples(run, tmp_path: Path) -> None:
    done = run("eval-memory", "--help", cwd=tmp_path)
    assert done.code == 0
    assert len([line for line in done.out.split("Examples")[1].splitlines() if "carrel eval-memory" in line]) == 3


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--data", "none"), "none"),
        (("--data", "."), "holds no dialogue"),
        (("--data", "talks", "--dialogues", "x"), "no dialogue 'x'"),
        (("--data", "talks", "--output", "talks"), "--output: talks is a folder"),
        (("--data", "talks", "--output", "new/out.json"), "--output: there is no folder"),
        (("--data", "talks", "--budget", "0"), "budget"),
    ],
)
def test_mistakes(run, tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    write(tmp_path / "talks" / "a")
    (tmp_path / "empty").mkdir()
    done = run("eval-memory", *(("--data", "empty") if arguments == ("--data", ".") else arguments), cwd=tmp_path)
    assert done.code == 2
    assert what in done.err


def test_the_table_and_the_file(run, tmp_path: Path) -> None:
    write(tmp_path / "talks" / "a")
    done = run("eval-memory", "--data", "talks", "--budget", "60", "--output", "out.json", "--quiet", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "cosine" in done.out and "last turns" in done.out and "Abstains on" in done.out
    assert json.loads((tmp_path / "out.json").read_text())["scopes"]["all"]["tokens_most"] <= 60
    assert "written: out.json" in done.err


def test_json_and_a_row_with_the_reader(run, tmp_path: Path) -> None:
    write(tmp_path / "talks" / "a")
    done = run("eval-memory", "--data", "talks", "--budget", "60", "--reader", "--json", "--quiet", cwd=tmp_path)
    assert done.code == 0, done.err
    kinds = done.json["scopes"]["all"]["kinds"]
    assert set(kinds) == {"single-hop", "multi-hop", "temporal", "all"}
    assert "carrel, reader" in kinds["all"]["recall"]
    assert done.json["files"] == []
