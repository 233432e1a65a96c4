"""The stages of reproduce.py, each a function of the run it belongs to."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from training.needle_lm.card import card
from training.needle_lm.config import Config
from training.needle_lm.evaluate import look_ups, measure, shown
from training.needle_lm.export import DTYPES, FILES, folder_files, load, rounded
from training.needle_lm.language import VOCABULARY
from training.needle_lm.model import NeedleLM, parameters
from training.needle_lm.train import Training
from training.runs import as_json, put, say

LOSS_ALLOWED = 0.002  # of the share of look-ups answered right, for weights of half the size


@dataclass(frozen=True)
class Run:
    """Where a run reads and writes, and what it is of."""

    work: Path
    out: Path
    results: Path
    config: Config

    @cached_property
    def training(self) -> Training:
        """As the last checkpoint has it."""
        made = Training(self.config, self.work)
        made.resume()
        if not made.step:
            raise SystemExit(f"there is no checkpoint in {self.work}: run the stage train first")
        return made

    def recorded(self, name: str, made_of: dict[str, Any], make: Callable[[], Any]) -> Any:
        """The figures of a stage; made again only when what they are made of has changed."""
        path = self.work / "figures" / f"{name}.json"
        made_of = json.loads(json.dumps(made_of))
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["made_of"] == made_of:
                say(f"{name}: as it was")
                return known["figures"]
        figures = make()
        put(path, as_json({"made_of": made_of, "figures": figures}))
        return json.loads(path.read_text(encoding="utf-8"))["figures"]

    def figures(self, name: str) -> Any:
        """What a stage has recorded."""
        path = self.work / "figures" / f"{name}.json"
        if not path.exists():
            raise SystemExit(f"{path} is missing: run the stage {name} first")
        return json.loads(path.read_text(encoding="utf-8"))["figures"]


def train(run: Run) -> None:
    """The weights, from nothing."""
    run.work.mkdir(parents=True, exist_ok=True)
    (run.work / ".gitignore").write_text("*\n", encoding="utf-8")
    Training(run.config, run.work).run()


def export(run: Run) -> None:
    """The model's folder, its weights in the smallest type that answers as well."""
    training = run.training
    if not training.has_ended:
        say(f"the training has not ended: exporting stage {training.stage + 1}, step {training.done}")
    model = training.model.eval()
    made_of = {"weights": fingerprint(model), "exam": run.config.as_dict()["exam"], "seed": run.config.seed}
    stored_as = run.recorded(
        "export", made_of, lambda: {name: look_ups(rounded(model, name), run.config) for name in DTYPES}
    )
    dtype = smallest(stored_as)
    for name, content in folder_files(model, dtype).items():
        put(run.out / name, content)
    say(f"{run.out}: {dtype}, {parameters(model):,} parameters; look-up {shown(stored_as[dtype])}")


def smallest(stored_as: dict[str, Any]) -> str:
    """The first type that loses next to nothing against float32."""
    whole = stored_as["float32"]["share"]
    return next(name for name, figure in stored_as.items() if figure["share"] >= whole - LOSS_ALLOWED)


def evaluate(run: Run) -> None:
    """Accuracy of the exported model by task, length and depth."""
    path = run.out / "model.safetensors"
    if not path.exists():
        raise SystemExit(f"{path} is missing: run the stage export first")
    made_of = {"model": sha256(path.read_bytes()), "exam": run.config.as_dict()["exam"], "seed": run.config.seed}
    run.recorded("evaluate", made_of, lambda: measure(load(run.out), run.config, say))


def write(run: Run) -> None:
    """results.json, provenance.json and the model card."""
    figures, stored_as = run.figures("evaluate"), run.figures("export")
    exam = run.config.exam
    share = figures["look_up"][str(exam.goal_length)]["share"]
    results = {
        "model": sha256((run.out / "model.safetensors").read_bytes()),
        "configuration": run.config.as_dict(),
        "goal": {"length": exam.goal_length, "wanted": exam.goal, "share": share, "is_met": share >= exam.goal},
        "figures": figures,
        "stored_as": {name: {key: figure[key] for key in ("n", "right", "share", "low", "high")}
                      for name, figure in stored_as.items()},
        "training": run.training.log,
    }  # fmt: skip
    facts = provenance(run, results, smallest(stored_as))
    put(run.results, as_json(results))
    put(run.out / "provenance.json", json.dumps(facts, indent=2).encode() + b"\n")
    put(run.out / "README.md", card(facts, results).encode())
    say(f"wrote {run.out} and {run.results}")
    if not results["goal"]["is_met"]:
        say(f"the goal is missed: {100 * share:.1f} % of look-ups at {exam.goal_length} tokens, {exam.goal:.0%} wanted")


def provenance(run: Run, results: dict[str, Any], precision: str) -> dict[str, Any]:
    """What the weights are, what made them, and the figures in short."""
    training = run.training
    files = {name: (run.out / name).read_bytes() for name in FILES}
    hashes = {name: sha256(content) for name, content in files.items()}
    short = {
        task: {length: figure["share"] for length, figure in by_length.items()}
        for task, by_length in results["figures"].items()
    }
    return {
        "name": "carrel-needle-lm",
        "authors": "the Carrel authors",
        "base_model": None,
        "license": "Apache-2.0",
        "data": "synthetic, training/needle_lm/data.py",
        "configuration": run.config.as_dict(),
        "training": {
            "ended": training.has_ended, "steps": training.step, "tokens": sum(row["tokens"] for row in training.log),
            "seconds": round(training.seconds), "threads": training.threads,
        },
        "figures": short,
        "made_by": "training/needle_lm/reproduce.py",
        "made_with": {"python": platform.python_version(), **versions()},
        "made_on": _made_on(run, hashes),
        "precision": precision,
        "files_sha256": hashes,
        "bytes": sum(map(len, files.values())),
        "parameters": parameters(training.model),
        "vocabulary": len(VOCABULARY),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Of what the weights and figures depend on."""
    return {name: version(name) for name in ("numpy", "safetensors", "torch")}


def _made_on(run: Run, hashes: dict[str, str]) -> str:
    """Today; the day that is already written where the files are still the same."""
    path = run.out / "provenance.json"
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known.get("files_sha256") == hashes:
            return str(known["made_on"])
    return datetime.date.today().isoformat()


def fingerprint(model: NeedleLM) -> str:
    """A hash of the weights."""
    whole = hashlib.sha256()
    for name, value in model.state_dict().items():
        whole.update(name.encode())
        whole.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


STAGES: dict[str, Callable[[Run], None]] = {"train": train, "export": export, "evaluate": evaluate, "write": write}
