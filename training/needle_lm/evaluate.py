"""How many questions the model answers right: by task, length and depth, with Wilson intervals.

One context is read once and all its questions are answered after it, none seeing another: each question's tokens have
the positions that follow the context, and a mask that shows them the context and themselves. That is the same as
asking each alone (a test says so), at a fraction of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.needle_lm.config import Config
from training.needle_lm.data import COPY, Exam, copy_row, exam
from training.needle_lm.model import NeedleLM

TASKS: dict[str, dict[str, Any]] = {
    "look_up": {"hops": 1, "filled": 0.0},
    "look_up_filled": {"hops": 1, "filled": 0.75},
    "two_hop": {"hops": 2, "filled": 0.0},
}
"""Contexts of facts alone, of one quarter facts among words that say nothing, and questions of two hops."""
DEPTHS = 10
Say = Callable[[str], None]
Figure = dict[str, Any]


def wilson(right: int, n: int, z: float = 1.959964) -> Figure:
    """The share of right answers with its 95 % interval (Wilson, 1927); nothing is known of none."""
    if not n:
        return {"n": 0, "right": 0, "share": None, "low": None, "high": None}
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {"n": n, "right": right, "share": share, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}


def answered(model: NeedleLM, asked: Exam) -> NDArray[np.int64]:
    """The model's answers ``(Q,)``, each question asked alone after the context."""
    found: NDArray[np.int64] = answer_logits(model, asked).argmax(-1).numpy()
    return found


@torch.no_grad()
def answer_logits(model: NeedleLM, asked: Exam) -> Tensor:
    """``(Q, words)``, for the token that follows each question."""
    size, (count, each) = len(asked.context), asked.questions.shape
    ids = torch.from_numpy(np.concatenate([asked.context, asked.questions.ravel()]))
    positions = torch.cat([torch.arange(size), size + torch.arange(each).repeat(count)])
    states = model(ids[None], positions, block_mask(size, count, each))[0]  # (S + Q T, C)
    return model.logits(states[size + each - 1 :: each])


def block_mask(size: int, count: int, each: int) -> Tensor:
    """``(S, S)``: causal within the context; every block of ``each`` tokens after it sees that and itself."""
    mask = torch.ones(size + count * each, size + count * each, dtype=torch.bool).tril()
    block = torch.arange(count).repeat_interleave(each)
    mask[size:, size:] &= block[:, None] == block[None, :]
    return mask


def measure(model: NeedleLM, config: Config, say: Say = lambda line: None) -> dict[str, Any]:
    """All figures of a model: each task at each length, and where the answer stood in the context."""
    model.eval()
    figures: dict[str, Any] = {}
    for name, made_of in TASKS.items():
        figures[name] = {}
        for length in config.exam.lengths:
            figures[name][str(length)] = found = _task(model, config, name, length, made_of)
            say(f"{name} at {length}: {shown(found)}")
    figures["copy"] = {}
    for length in config.exam.lengths:
        figures["copy"][str(length)] = found = _copied(model, config, length)
        say(f"copy at {length}: {shown(found)}")
    return figures


def look_ups(model: NeedleLM, config: Config) -> Figure:
    """Plain look-up at the goal's length: the figure that the goal is about."""
    return _task(model.eval(), config, "look_up", config.exam.goal_length, TASKS["look_up"])


def _task(model: NeedleLM, config: Config, name: str, length: int, made_of: dict[str, Any]) -> Figure:
    right: list[bool] = []
    depths: list[float] = []
    for number in range(config.exam.contexts):
        chance = np.random.default_rng([config.seed, 1, length, list(TASKS).index(name), number])
        asked = exam(chance, length, config.exam.questions, **made_of)
        if len(asked.answers):
            right += (answered(model, asked) == asked.answers).tolist()
            depths += (asked.places / len(asked.context)).tolist()
    return {**wilson(sum(right), len(right)), "contexts": config.exam.contexts, "depths": by_depth(depths, right)}


def by_depth(depths: Sequence[float], right: Sequence[bool]) -> list[Figure]:
    """Figures of the tenths of the context, from its beginning to its end."""
    tenths = [min(DEPTHS - 1, int(depth * DEPTHS)) for depth in depths]
    rows = []
    for tenth in range(DEPTHS):
        here = [each for place, each in zip(tenths, right, strict=True) if place == tenth]
        rows.append({"from": tenth / DEPTHS, "to": (tenth + 1) / DEPTHS, **wilson(sum(here), len(here))})
    return rows


@torch.no_grad()
def _copied(model: NeedleLM, config: Config, length: int) -> Figure:
    """Words of a copied part, each predicted from the right ones before it; a few rows give thousands of words."""
    right, asked = 0, 0
    for number in range(max(1, config.exam.contexts // 8)):
        ids, kinds = copy_row(np.random.default_rng([config.seed, 2, length, number]), length)
        wanted = np.flatnonzero(kinds == COPY)
        found = model.logits(model(torch.from_numpy(ids[None, :-1]))[0, wanted - 1]).argmax(-1).numpy()
        right, asked = right + int((found == ids[wanted]).sum()), asked + len(wanted)
    return wilson(right, asked)


def shown(figure: Figure) -> str:
    """In percent, with the interval."""
    if figure["share"] is None:
        return "–"
    share, low, high = (100 * figure[key] for key in ("share", "low", "high"))
    return f"{share:.1f} [{low:.1f}, {high:.1f}]"
