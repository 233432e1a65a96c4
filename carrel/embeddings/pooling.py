"""From token states to the vector of a text, as sentence-transformers declares it, without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import Vectors
from carrel.embeddings.folder import ModelFolder
from carrel.errors import ModelError

_TYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
_ACTIVATIONS: dict[str, Callable[[Vectors], NDArray[Any]]] = {
    "Identity": lambda values: values,
    "Tanh": np.tanh,
    "ReLU": lambda values: np.maximum(values, 0),
    "Sigmoid": lambda values: 1 / (1 + np.exp(-values)),
}


def pool(states: Vectors, modes: Sequence[str], skipped: int = 0) -> Vectors:
    """(modes * D,): the vector of a text from the states (T, D) of all tokens of a pass.

    Parameters
    ----------
    modes : of carrel.embeddings.folder.POOLINGS; several stand one after the other.
    skipped : tokens at the beginning that do not count.
    """
    kept = states[min(skipped, len(states) - 1) :]
    return np.concatenate([_pooled(kept, mode, skipped) for mode in modes])


def _pooled(kept: Vectors, mode: str, skipped: int) -> Vectors:
    if mode == "cls":
        return np.asarray(kept[0], np.float32)
    if mode == "lasttoken":
        return np.asarray(kept[-1], np.float32)
    if mode == "max":
        return np.asarray(kept.max(axis=0), np.float32)
    if mode == "mean":
        return np.asarray(kept.mean(axis=0), np.float32)
    if mode == "mean_sqrt_len_tokens":
        return np.asarray(kept.sum(axis=0) / math.sqrt(len(kept)), np.float32)
    weights = np.arange(skipped + 1, skipped + len(kept) + 1, dtype=np.float32)  # weightedmean: later tokens count more
    return np.asarray(weights @ kept / weights.sum(), np.float32)


@dataclass(frozen=True)
class Dense:
    """A layer after pooling: ``activation(weight @ vector + bias)``."""

    weight: Vectors  # (out, in)
    bias: Vectors  # (out,)
    activation: str

    @property
    def is_linear(self) -> bool:
        return self.activation == "Identity"

    def __call__(self, vectors: Vectors) -> Vectors:
        """(..., in) to (..., out)."""
        return np.asarray(_ACTIVATIONS[self.activation](vectors @ self.weight.T + self.bias), np.float32)


def layers_of(folder: ModelFolder) -> list[Dense]:
    """The layers that a folder declares after its pooling, in order.

    Raises
    ------
    ModelError : there is one that is not known here, or its weights cannot be read.
    """
    found = []
    for kind, place in folder.modules[1:]:
        if kind == "Dense":
            found.append(_dense(folder, place))
        elif kind not in ("Pooling", "Normalize", "Dropout"):
            raise ModelError(
                f"{folder.path} declares a module {kind} after its transformer, which an ONNX graph is read without."
                " Read the model with SentenceTransformerEncoder."
            )
    return found


def _dense(folder: ModelFolder, place: str) -> Dense:
    config, file = folder.json(f"{place}/config.json"), folder.path / place / "model.safetensors"
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS or config.get("use_residual"):
        what = "a residual connection" if config.get("use_residual") else f"the activation {activation}"
        raise ModelError(f"{folder.path / place} has {what}, which is not known here. Use SentenceTransformerEncoder.")
    tensors = read_safetensors(file)
    try:
        weight = tensors["linear.weight"]
        return Dense(weight, tensors.get("linear.bias", np.zeros(len(weight), np.float32)), activation)
    except KeyError as error:
        raise ModelError(f"{file} has no {error}. Get the model's files anew.") from error


def read_safetensors(file: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a small file in the safetensors format, as float32.

    The format: eight bytes that say how long the JSON header is, the header, the numbers.

    Raises
    ------
    ModelError : the file is missing or damaged.
    """
    try:
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header, body = json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]
        return {
            name: _tensor(body[slice(*facts["data_offsets"])], facts["dtype"]).reshape(facts["shape"])
            for name, facts in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"cannot read {file}: {error}. Get the model's files anew.") from error


def _tensor(data: memoryview, kind: str) -> NDArray[np.float32]:
    if kind == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, _TYPES[kind]).astype(np.float32)
