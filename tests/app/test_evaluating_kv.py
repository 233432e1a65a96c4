"""carrel eval-kv: its help and mistakes without torch, its figures with a tiny model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carrel.evaluation.kv_results import KVEvaluation

SMALL = ("--lengths", "48", "--contexts", "2", "--questions", "3", "--device", "cpu", "--quiet")


def test_help_has_examples(run, tmp_path: Path) -> None:
    done = run("eval-kv", "--help", cwd=tmp_path)
    assert done.code == 0
    assert "Usage: carrel eval-kv" in done.out
    examples = done.out.split("Examples")[1].strip().splitlines()
    assert 2 <= len(examples) <= 3
    assert all("carrel eval-kv" in example for example in examples)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--budgets", "half"), "shares and commas"), (("--budgets", "1/0"), "shares and commas"),
        (("--lengths", "many"), "numbers and commas"), (("--contexts", "0"), "contexts"),
        (("--output", "file"), "--output is a folder"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_is_loaded(
    run, tmp_path: Path, arguments: tuple[str, ...], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carrel.app.evaluating_kv.find_spec", lambda name: object())
    (tmp_path / "file").write_text("")
    done = run("eval-kv", "model", *arguments, cwd=tmp_path)
    assert done.code == 2
    assert what in done.err


def test_the_extra_is_named(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.app.evaluating_kv.find_spec", lambda name: None)
    done = run("eval-kv", "model", cwd=tmp_path)
    assert done.code == 1
    assert "pip install 'carrel[torch]'" in done.err


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.generation.kv.needle_cases import save, word_tokenizer

    return save(tmp_path_factory.mktemp("models") / "tiny", word_tokenizer())


@pytest.mark.extras
def test_a_table_and_files(run, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    methods = ("--methods", "int8,paged", "--budgets", "1/2,0.25")
    done = run("eval-kv", str(model), *SMALL, *methods, "-o", "new/out", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "tiny: look-up in words, 1 hop, 2 contexts of each length, 3 questions about each" in done.out
    rows = [line.split()[:2] for line in done.out.splitlines() if line.startswith(("random", "paged"))]
    assert rows == [["random", "1/2"], ["random", "1/4"], ["paged", "1/2"], ["paged", "1/4"]]
    found = KVEvaluation.from_json((tmp_path / "new" / "out" / "results.json").read_text())
    assert [row.method for row in found.rows] == ["dense", "random", "random", "int8", "paged", "paged"]
    assert "<!-- paged" in (tmp_path / "new" / "out" / "accuracy.svg").read_text()
    assert (tmp_path / "new" / "out" / "accuracy.png").exists()
    assert done.err.count("written: new/out/") == 3


@pytest.mark.extras
def test_two_hops_as_json(run, model: Path, tmp_path: Path) -> None:
    more = ("--methods", "lambda", "--budgets", "1/2", "--two-hop", "--json")
    done = run("eval-kv", str(model), "--lengths", "200", *SMALL[2:], *more, cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json["manifest"]["task"] == "words, 2 hops"
    assert [row["method"] for row in done.json["rows"]] == ["dense", "random", "lambda"]
    assert done.json["files"] == []


@pytest.mark.extras
def test_without_matplotlib_there_is_the_table(
    run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    more = ("--methods", "int8", "--budgets", "1/2", "-o", "out")
    done = run("eval-kv", str(model), *SMALL, *more, cwd=tmp_path)
    assert done.code == 0
    assert "carrel[eval]" in done.err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["results.json"]
    assert "int8" in done.out


@pytest.mark.extras
def test_mistakes_about_models(run, model: Path, tmp_path: Path) -> None:
    done = run("eval-kv", "nowhere", cwd=tmp_path)
    assert done.code == 2
    assert "there is no such folder" in done.err
    (tmp_path / "empty").mkdir()
    done = run("eval-kv", "empty", "--json", cwd=tmp_path)
    assert done.code == 2
    assert "no config.json" in done.json["error"]["message"]
    done = run("eval-kv", str(model), *SMALL, "--methods", "magic", cwd=tmp_path)
    assert done.code == 2
    assert "no KV policy 'magic'" in done.err
    done = run("eval-kv", str(model), *SMALL[2:], "--lengths", "9999", cwd=tmp_path)
    assert done.code == 2
    assert "The model reads 1,024 tokens" in done.err


@pytest.mark.extras
def test_ctrl_c_shows_what_was_measured(model: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "carrel", "eval-kv", str(model), "--lengths", "512", "--contexts", "200"]
    command += ["--device", "cpu", "--methods", "lambda", "--output", str(tmp_path / "out"), "--json"]
    script = (
        "import carrel.app.progress as progress; progress.SECONDS_BETWEEN_LINES = 0.0; import sys;"
        f"sys.argv = {['carrel', *command[3:]]!r}; from carrel.app.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "context 2" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert "interrupted: these are the figures until then" in err
    shown: dict[str, Any] = json.loads(out)
    assert shown["manifest"]["interrupted"] is True
    kept = KVEvaluation.from_json((tmp_path / "out" / "results.json").read_text())
    assert kept.manifest.interrupted
    assert {row.method for row in kept.rows} == {"dense", "random", "lambda"}
