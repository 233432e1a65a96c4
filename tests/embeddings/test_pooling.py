"""From token states to a vector: each way against its definition, layers after it, and the safetensors reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.embeddings.folder import POOLINGS, ModelFolder, checked_pooling
from carrel.embeddings.pooling import Dense, layers_of, pool, read_safetensors
from carrel.errors import InputError, ModelError
from tests.embeddings.model_folders import declare, put, put_safetensors

STATES = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def naive(states: np.ndarray, mode: str, skipped: int) -> np.ndarray:
    kept = [row for place, row in enumerate(states) if place >= skipped]
    weights = [float(place + 1) for place in range(len(states)) if place >= skipped]
    if mode in ("cls", "lasttoken"):
        return kept[0 if mode == "cls" else -1]
    if mode == "max":
        return np.array([max(row[column] for row in kept) for column in range(states.shape[1])])
    total = np.sum(
        [weight * row if mode == "weightedmean" else row for weight, row in zip(weights, kept, strict=True)], 0
    )
    size = {"mean": len(kept), "mean_sqrt_len_tokens": len(kept) ** 0.5, "weightedmean": sum(weights)}[mode]
    return np.asarray(total / size)


@given(st.integers(1, 9), st.integers(0, 8), st.sampled_from(POOLINGS), st.integers(0, 99))
def test_each_way_is_its_definition(length: int, skipped: int, mode: str, seed: int) -> None:
    skipped = min(skipped, length - 1)
    states = np.random.default_rng(seed).standard_normal((length, 3)).astype(np.float32)
    assert pool(states, (mode,), skipped) == pytest.approx(naive(states, mode, skipped), abs=1e-5)


def test_several_ways_stand_one_after_the_other() -> None:
    found = pool(STATES, ("cls", "mean"))
    assert found == pytest.approx(np.concatenate([STATES[0], STATES.mean(axis=0)]), abs=1e-6)


def test_a_prompt_of_all_the_tokens_leaves_the_last() -> None:
    assert pool(STATES, ("mean",), 9) == pytest.approx(STATES[-1])


@pytest.mark.parametrize("pooling", ["average", "", "MEAN"])
def test_a_way_that_is_none(pooling: str) -> None:
    with pytest.raises(InputError, match="pooling is one of cls, max, mean"):
        checked_pooling(pooling)


def test_layers_as_they_are_declared(tmp_path: Path) -> None:
    declare(tmp_path, dense="Tanh", width=4)
    [layer] = layers_of(ModelFolder(tmp_path))
    tensors = read_safetensors(tmp_path / "2_Dense" / "model.safetensors")
    assert layer(STATES) == pytest.approx(
        np.tanh(STATES @ tensors["linear.weight"].T + tensors["linear.bias"]), abs=1e-6
    )
    assert not layer.is_linear and layers_of(ModelFolder(declare(tmp_path / "linear", dense="Identity")))[0].is_linear


@pytest.mark.parametrize(
    ("name", "expected"), [("ReLU", [0, 1]), ("Sigmoid", [0.26894, 0.73106]), ("Identity", [-1, 1])]
)
def test_activations(name: str, expected: list[float]) -> None:
    layer = Dense(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), name)
    assert layer(np.array([-1, 1], np.float32)) == pytest.approx(expected, abs=1e-5)


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = declare(tmp_path, dense="Tanh")
    put(folder / "2_Dense" / "config.json", {"activation_function": "torch.nn.modules.activation.Mish"})
    with pytest.raises(ModelError, match="has the activation Mish, which is not known here"):
        layers_of(ModelFolder(folder))
    put(folder / "2_Dense" / "config.json", {"activation_function": "torch.nn.Tanh", "use_residual": True})
    with pytest.raises(ModelError, match="has a residual connection"):
        layers_of(ModelFolder(folder))
    put(folder / "modules.json", [{"idx": 0, "type": "a.Transformer"}, {"idx": 1, "type": "a.CNN", "path": "1"}])
    with pytest.raises(ModelError, match="declares a module CNN"):
        layers_of(ModelFolder(folder))


@pytest.mark.parametrize(("kind", "type_", "places"), [("F32", "<f4", 7), ("F16", "<f2", 2), ("F64", "<f8", 7)])
def test_safetensors_are_read(tmp_path: Path, kind: str, type_: str, places: int) -> None:
    file = tmp_path / "x.safetensors"
    put_safetensors(file, {"a": STATES.astype(type_), "b": np.ones((2, 0, 3), type_)}, kind)
    found = read_safetensors(file)
    assert found["a"] == pytest.approx(STATES, abs=10.0**-places) and found["a"].dtype == np.float32
    assert found["b"].shape == (2, 0, 3)


def test_bfloat16_is_read(tmp_path: Path) -> None:
    put_safetensors(tmp_path / "x", {"a": (STATES.view(np.uint32) >> 16).astype("<u2")}, "BF16")
    assert read_safetensors(tmp_path / "x")["a"] == pytest.approx(STATES, rel=0.01)


def test_safetensors_as_their_own_library_writes_them(tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.numpy").save_file
    save({"b": STATES, "a": STATES[:1]}, tmp_path / "x", metadata={"format": "pt"})
    found = read_safetensors(tmp_path / "x")
    assert np.array_equal(found["b"], STATES) and np.array_equal(found["a"], STATES[:1])


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0{}x", b'\x0d\0\0\0\0\0\0\0{"a": [1, 2]}'])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "2_Dense").mkdir()
    folder = declare(tmp_path, dense="Tanh")
    (folder / "2_Dense" / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="Get the model's files anew"):
        layers_of(ModelFolder(folder))
