"""Several adapters as one: what they add to a layer is added up, exactly, by putting their matrices side by side.

No torch: matrices are arrays, as they come from a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carrel.errors import InputError

Tensors = Mapping[str, NDArray[np.float32]]
SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks of adapters that vLLM makes room for; one request carries one adapter, of one of these."""
_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class Merged:
    """One adapter that does what several do together.

    Attributes
    ----------
    exact : False where the rank was cut to fit; ``lost`` is then the largest share of a layer's norm that is gone.
    figures : of the training, where it was trained as a whole.
    """

    tensors: dict[str, NDArray[np.float32]]
    config: dict[str, Any]
    rank: int
    exact: bool = True
    lost: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)


def merge(
    adapters: Sequence[tuple[Tensors, Mapping[str, Any]]],
    weights: Sequence[float] | None = None,
    *,
    ranks: Sequence[int] | None = None,
) -> Merged:
    """One adapter whose product is the weighted sum of the others' products, layer by layer.

    With A (r, n) and B (m, r) of each, [B1 B2 ..] times [A1; A2; ..] is B1 A1 + B2 A2 + ..: the ranks add up and
    nothing is lost. It is what peft calls ``cat`` in ``add_weighted_adapter``, and what Parametric RAG (arXiv
    2501.15915) merges by.

    Parameters
    ----------
    adapters : the tensors of each, by peft's names, and its adapter_config.
    weights : of each; 1 by default.
    ranks : the merged rank is the least of these that is enough, filled up with zeros; SERVED_RANKS for vLLM. Where
        even the largest is too small, the best approximation of that rank is taken (Eckart and Young, 1936).

    Raises
    ------
    InputError : there is none, or they are not for the same layers of the same model.
    """
    if not adapters:
        raise InputError("there is no adapter to merge")
    weights = [1.0] * len(adapters) if weights is None else list(weights)
    if len(weights) != len(adapters):
        raise InputError(f"{len(adapters)} adapters cannot have {len(weights)} weights: give one for each")
    if not all(isinstance(weight, (int, float)) and math.isfinite(weight) for weight in weights):
        raise InputError(f"the weights of adapters are numbers, not {weights!r}")
    modules = _modules(adapters)
    rank = sum(_rank(tensors) for tensors, _ in adapters)
    goal = rank if ranks is None else min((each for each in ranks if each >= rank), default=max(ranks))
    tensors: dict[str, NDArray[np.float32]] = {}
    lost = 0.0
    for module in modules:
        down = np.concatenate([tensors_[module + _A] for tensors_, _ in adapters])
        each = zip(weights, adapters, strict=True)
        up = np.concatenate([weight * scale(config) * found[module + _B] for weight, (found, config) in each], axis=1)
        if goal < rank:
            down, up, gone = _cut(down, up, goal)
            lost = max(lost, gone)
        tensors[module + _A], tensors[module + _B] = _filled(down, up, goal)
    config = {**adapters[0][1], "r": goal, "lora_alpha": float(goal), "use_rslora": False}
    return Merged(tensors, config, goal, goal >= rank, lost)


def scale(config: Mapping[str, Any]) -> float:
    """What an adapter's product is multiplied by."""
    rank, alpha = config["r"], config["lora_alpha"]
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)


def delta(tensors: Tensors, config: Mapping[str, Any], module: str) -> NDArray[np.float32]:
    """(outputs, inputs): what an adapter adds to a layer's weight."""
    product: NDArray[np.float32] = scale(config) * (tensors[module + _B] @ tensors[module + _A])
    return product


def modules_of(tensors: Tensors) -> list[str]:
    """The layers that an adapter adds to, by peft's names."""
    return sorted(name.removesuffix(_A) for name in tensors if name.endswith(_A))


def _modules(adapters: Sequence[tuple[Tensors, Mapping[str, Any]]]) -> list[str]:
    first = modules_of(adapters[0][0])
    for tensors, _ in adapters:
        if len(tensors) != 2 * len(first) or modules_of(tensors) != first:
            raise InputError("adapters of different layers, or of another kind than LoRA, cannot be merged")
        for module in first:
            ours, theirs = adapters[0][0], tensors
            if ours[module + _A].shape[1] != theirs[module + _A].shape[1] or len(ours[module + _B]) != len(
                theirs[module + _B]
            ):
                raise InputError(f"adapters of different models cannot be merged: {module} has another size in one")
    return first


def _rank(tensors: Tensors) -> int:
    return max(len(tensors[module + _A]) for module in modules_of(tensors))


def _filled(
    down: NDArray[np.float32], up: NDArray[np.float32], rank: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    missing = rank - len(down)
    wide = np.pad(down, ((0, missing), (0, 0))), np.pad(up, ((0, 0), (0, missing)))
    return np.ascontiguousarray(wide[0], np.float32), np.ascontiguousarray(wide[1], np.float32)


def _cut(
    down: NDArray[np.float32], up: NDArray[np.float32], rank: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """The nearest product of a smaller rank, by the singular values of the two thin factors."""
    left, first = np.linalg.qr(up)
    right, second = np.linalg.qr(down.T)
    inner, values, outer = np.linalg.svd(first @ second.T)
    total = float(np.sqrt((values**2).sum()))
    gone = float(np.sqrt((values[rank:] ** 2).sum())) / total if total else 0.0
    rank = min(rank, len(values))  # of a layer with fewer outputs there is no more
    roots = np.sqrt(values[:rank])
    return (roots[:, None] * outer[:rank]) @ right.T, left @ (inner[:, :rank] * roots), gone
