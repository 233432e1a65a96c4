"""The whole training of the needle model, small, as its command runs it; and the command line."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "training" / "needle_lm" / "reproduce.py"
SHIPPED = ROOT / "tests" / "models" / "needle_lm"
MODEL = (
    "config.json", "generation_config.json", "language.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json",
)  # fmt: skip
pytestmark = pytest.mark.extras
pytest.importorskip("torch")


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)  # the script finds its own
    return subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        cwd="/",
    )


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished small run, and what the run told."""
    work = tmp_path_factory.mktemp("work")
    done = command("--small", "--work", work, "--out", work / "model")
    assert done.returncode == 0, done.stderr
    return work, done.stderr


def test_every_stage_is_run_in_order_and_leaves_a_model(made: tuple[Path, str]) -> None:
    work, told = made
    assert [line.split()[1] for line in told.splitlines() if "== " in line] == ["train", "export", "evaluate", "write"]
    assert sorted(hashes(work / "model")) == sorted((*MODEL, "README.md", "provenance.json", "results.json"))
    assert (work / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_the_provenance_and_the_card_are_of_these_files(made: tuple[Path, str]) -> None:
    out = made[0] / "model"
    facts, results = (
        json.loads((out / name).read_text(encoding="utf-8")) for name in ("provenance.json", "results.json")
    )
    assert facts["files_sha256"] == {name: hashes(out)[name] for name in MODEL}
    assert facts["bytes"] == sum((out / name).stat().st_size for name in MODEL)
    assert facts["training"]["ended"] and facts["training"]["steps"] == 60 == results["training"][-1]["step"]
    assert facts["training"]["tokens"] == 60 * 256 and facts["made_with"]["torch"]
    assert results["model"] == facts["files_sha256"]["model.safetensors"]
    figure = results["figures"]["look_up"]["64"]
    assert (figure["n"], sum(row["n"] for row in figure["depths"])) == (12, 12)
    assert results["goal"] == {"length": 64, "wanted": 0.99, "share": figure["share"], "is_met": False}
    card = (out / "README.md").read_text(encoding="utf-8")
    shown = f"{100 * figure['share']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"
    assert f"| 64 | {shown} |" in card and "missed" in card and "{" not in card.replace("{entity}", "")


def test_a_second_run_changes_nothing_and_does_nothing_again(made: tuple[Path, str]) -> None:
    work, _ = made
    before = hashes(work / "model")
    done = command("--small", "--work", work, "--out", work / "model")
    assert done.returncode == 0, done.stderr
    assert hashes(work / "model") == before
    assert "evaluate: as it was" in done.stderr and "step" not in done.stderr.replace("steps", "")


def test_help_names_the_stages_and_an_example() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert "python training/needle_lm/reproduce.py --small" in done.stdout and "evaluate" in done.stdout


def test_a_wrong_command_line_is_explained() -> None:
    done = command("--stages", "train,fly")
    assert done.returncode == 2 and "no stage fly" in done.stderr


@pytest.mark.parametrize(
    ("stage", "reason"), [("export", "run the stage train first"), ("evaluate", "run the stage export first"),
                          ("write", "run the stage evaluate first")],
)  # fmt: skip
def test_a_stage_without_what_it_needs_names_the_one_before(tmp_path: Path, stage: str, reason: str) -> None:
    from training.needle_lm.config import SMALL
    from training.needle_lm.stages import STAGES, Run

    with pytest.raises(SystemExit, match=reason):
        STAGES[stage](Run(tmp_path, tmp_path / "out", tmp_path / "results.json", SMALL))


def test_the_shipped_model_is_the_one_that_was_measured_and_reached_its_goal() -> None:
    facts = json.loads((SHIPPED / "provenance.json").read_text(encoding="utf-8"))
    assert facts["files_sha256"] == {name: hashes(SHIPPED)[name] for name in MODEL}
    results = json.loads((SCRIPT.with_name("results.json")).read_text(encoding="utf-8"))
    assert results["model"] == facts["files_sha256"]["model.safetensors"]
    assert facts["training"]["ended"] and results["goal"]["is_met"] and results["goal"]["length"] == 2048


def test_the_shipped_model_looks_things_up() -> None:
    from training.needle_lm.config import FULL
    from training.needle_lm.evaluate import look_ups
    from training.needle_lm.export import load

    exam = FULL.exam.__class__(contexts=4, questions=25, goal_length=1024)
    figure = look_ups(load(SHIPPED), FULL.with_changes(seed=99, exam=exam))
    assert figure["n"] == 100 and figure["right"] >= 97
