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
        (("--output", "file"), "--output is a folder, and file is not"),
        (("--output", "file/new/out"), "--output is a folder, and file is not"),
        (("--output", "taken"), f"--output: {Path('taken', 'results.json')} has to be written, and it is a folder"),
        (("--output", "x" * 300), "nothing can be written in"), (("--methods", " , "), "--methods names no method"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_is_loaded(
    run, tmp_path: Path, arguments: tuple[str, ...], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carrel.app.evaluating_kv.find_spec", lambda name: object())
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "results.json").mkdir(parents=True)
    done = run("eval-kv", "model", *arguments, cwd=tmp_path)
    assert done.code == 2
    assert what in done.err
    assert "no such folder" not in done.err  # of the model


@pytest.mark.extras
def test_a_place_where_nothing_can_be_written(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(dir: Path) -> None:  # noqa: A002 - as tempfile calls it
        assert dir.is_dir()
        raise PermissionError(13, "Permission denied", str(dir / "tmp1234"))

    monkeypatch.setattr("carrel.app.evaluating_kv.find_spec", lambda name: object())
    with monkeypatch.context() as patched:
        patched.setattr("carrel.app.evaluating_kv.TemporaryFile", refused)
        done = run("eval-kv", "model", "--output", "new/out", cwd=tmp_path)
    assert done.code == 2
    assert f"--output: nothing can be written in {Path('new', 'out')}: Permission denied" in done.err
    assert list(tmp_path.iterdir()) == []  # what was made to find out is gone
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "accuracy.png").write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr("os.access", lambda path, mode: Path(path).name != "accuracy.png")
        done = run("eval-kv", "model", "--output", "out", cwd=tmp_path)
    assert done.code == 2
    assert "accuracy.png has to be written, and it is read-only" in done.err
    done = run("eval-kv", "model", "--output", "out", cwd=tmp_path)
    assert "no such folder" in done.err  # of the model: the output is good
    assert (tmp_path / "out" / "accuracy.png").read_text() == "old"


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


FEW = ("--methods", "int8", "--budgets", "1/2", "-o", "out")


@pytest.mark.extras
def test_a_full_disk_does_not_cost_the_table(run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(found: KVEvaluation, path: Path) -> tuple[Path, ...]:
        raise OSError(28, "No space left on device", str(path.with_suffix(".svg")))

    monkeypatch.setattr("carrel.evaluation.kv_report.plot", full)
    done = run("eval-kv", str(model), *SMALL, *FEW, cwd=tmp_path)
    assert done.code == 1
    assert "int8" in done.out and "Contexts of 48 tokens" in done.out
    told = f"{Path('out', 'accuracy.svg')} cannot be written: No space left on device"
    assert done.err.splitlines() == [f"written: {Path('out', 'results.json')}", f"error: {told}"]
    done = run("eval-kv", str(model), *SMALL, *FEW, "--json", cwd=tmp_path)
    assert done.code == 1
    assert done.json["error"] == {"type": "OSError", "message": told}
    assert [row["method"] for row in done.json["rows"]] == ["dense", "random", "int8"]
    assert done.json["files"] == [str(Path("out", "results.json"))]


@pytest.mark.extras
def test_the_table_comes_first_and_a_closed_pipe_does_not_cost_the_files(
    run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []

    def closed(drawn: object) -> None:
        there.append((tmp_path / "out" / "results.json").exists())
        raise BrokenPipeError

    monkeypatch.setattr("carrel.app.evaluating_kv.show", closed)
    done = run("eval-kv", str(model), *SMALL, *FEW, cwd=tmp_path)
    assert there == [False]
    assert done.code == 141
    assert KVEvaluation.from_json((tmp_path / "out" / "results.json").read_text()).rows


@pytest.mark.extras
def test_the_table_is_as_wide_as_the_terminal(
    run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    monkeypatch.setattr("carrel.app.evaluating_kv.stdout", lambda: Console(width=80))
    done = run("eval-kv", str(model), *SMALL, *FEW[:4], cwd=tmp_path)
    drawn = done.out.split("Right: share")[0].splitlines()
    assert 40 < max(map(len, drawn)) <= 80
    assert sum(line.startswith("method") for line in drawn) > 1  # of one length


@pytest.mark.extras
def test_presses_that_take_more_than_a_name_are_left_out(run, model: Path, tmp_path: Path) -> None:
    more = ("--methods", "int8,duo_attention", "--budgets", "1/2")
    done = run("eval-kv", str(model), *SMALL, *more, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert [row["method"] for row in done.json["rows"]] == ["dense", "random", "int8"]
    assert list(done.json["manifest"]["left_out"]) == ["duo_attention"]
    assert "patterns=..." in done.json["manifest"]["left_out"]["duo_attention"]
    done = run("eval-kv", str(model), *SMALL, "--methods", "duo_attention", cwd=tmp_path)
    assert done.code == 2
    assert "None of these methods can be measured. duo_attention: Needs patterns" in done.err


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


def heard() -> None:
    """Ctrl-C, which is ignored in what a shell runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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
        stderr=subprocess.PIPE, preexec_fn=heard,
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
