"""The int8 graph against the model as it was trained: what quantisation costs on held-out questions.

Both run in the shipped runtime, on the same windows; only the forward pass differs. Differences are paired,
int8 minus float32, with 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from calibrate import Listed, read_lists
from data import Question, fraction
from metrics import Floats, mean, resamples
from model import Reader
from numpy.typing import NDArray
from reading import Read, Tell, read_questions, runtime

from carrel.reader.calibration import Calibration, answer_features
from carrel.reader.model import ReaderModel

State = Mapping[str, NDArray[np.float32]]
QUESTIONS, LISTS = 400, 120
"""Held-out questions whose own paragraph is read, and those whose candidates are."""


class TorchSession:
    """The model of torch behind the interface of an ONNX session."""

    def __init__(self, state: State) -> None:
        self.reader = Reader()
        self.reader.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
        self.reader.eval()

    def run(self, _: Sequence[str], feed: Mapping[str, NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """window_logits (1, 2) and token_logits (1, N, 3) of one window of N tokens."""
        ids, types = (torch.from_numpy(feed[name][0]) for name in ("input_ids", "token_type_ids"))
        with torch.no_grad():
            of_window, of_tokens = self.reader(ids, types, torch.tensor([len(ids)]))
        return [of_window.numpy(), of_tokens.numpy()[None]]


class TorchModel(ReaderModel):
    """The shipped runtime with the float32 model of torch in place of the graph."""

    def __init__(self, state: State, folder: Path) -> None:
        super().__init__(folder, threads=1, remembered=1)
        self._torch = TorchSession(state)

    @property
    def _session(self) -> TorchSession:  # type: ignore[override]
        return self._torch


def compare(
    state: State,
    folder: Path,
    questions: Sequence[Question],
    candidates: Mapping[str, Any],
    pool: Mapping[str, Any],
    tell: Tell,
) -> dict[str, Any]:
    """Figures of both, and their paired differences."""
    drawn = sorted(questions, key=lambda q: fraction(f"precision:{q.id}"))
    calibration = Calibration.load(folder / "calibration.json")
    models = {"float32": TorchModel(state, folder), "int8": runtime(folder)}
    rows, readings = {}, {}
    for name, model in models.items():
        own = read_questions(model, drawn[:QUESTIONS], tell, f"{name}: paragraphs")
        lists = read_lists(model, drawn[:LISTS], candidates, pool, tell)
        rows[name], readings[name] = _figures(own, lists, calibration), own
    out: dict[str, Any] = {"questions": len(readings["int8"]), "lists": len(rows["int8"]["first"][0])}
    for name in rows["int8"]:
        exact, keys = rows["float32"][name]
        int8, _ = rows["int8"][name]
        weights = resamples(keys)
        out[name] = {
            "float32": float(exact.mean()),
            "int8": float(int8.mean()),
            "difference": mean(int8 - exact, weights),
        }
    out["same_answer"] = float(np.mean([a.text == b.text for a, b in zip(*readings.values(), strict=True)]))
    for name in ("relevance", "answerable"):
        apart = [getattr(a.reading, name) - getattr(b.reading, name) for a, b in zip(*readings.values(), strict=True)]
        out[f"mean_difference_of_{name}_logit"] = float(np.abs(apart).mean())
    return out


def _figures(
    own: Sequence[Read], lists: Sequence[Listed], calibration: Calibration
) -> dict[str, tuple[Floats, list[str]]]:
    """(value of each question, its document) by the name of the figure."""
    answerable = [item for item in own if item.answerable]
    documents = [item.document for item in answerable]
    kept = [
        all(score >= calibration.keep_threshold for score, _, right in item.sentences(calibration.keep) if right)
        for item in answerable
    ]
    sure = calibration.answer.probability(answer_features([item.reading for item in own]))
    decided = (sure >= calibration.answer_threshold) == np.array([item.answerable for item in own])
    ranked = [item for item in lists if item.labels.any()]
    both = [calibration.relevance.probability(item.features) for item in ranked]
    first = [item.labels[int(np.argmax(score))] for item, score in zip(ranked, both, strict=True)]
    return {
        "f1": (np.array([item.right for item in answerable]), documents),
        "kept": (np.array(kept, float), documents),
        "right_to_answer_or_abstain": (decided.astype(float), [item.document for item in own]),
        "first": (np.array(first, float), [item.question.document for item in ranked]),
    }
