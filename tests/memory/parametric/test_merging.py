"""A merged adapter adds what its parts add together: against the sums, and against peft's own merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.memory.parametric.merging import SERVED_RANKS, delta, merge, modules_of

NAMES = ("base_model.model.model.layers.0.mlp.up_proj", "base_model.model.model.layers.1.mlp.up_proj")


def adapter(rank: int, alpha: float, seed: int, *, inputs: int = 5) -> tuple[dict[str, Any], dict[str, Any]]:
    chance = np.random.default_rng(seed)
    tensors = {}
    for name in NAMES:
        tensors[f"{name}.lora_A.weight"] = chance.normal(size=(rank, inputs)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = chance.normal(size=(7, rank)).astype(np.float32)
    return tensors, {"peft_type": "LORA", "r": rank, "lora_alpha": alpha}


@given(
    ranks=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    alpha=st.floats(0.5, 64),
    served=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_adds_what_its_parts_add(ranks: list[int], alpha: float, served: bool, seed: int) -> None:
    parts = [adapter(rank, alpha, seed + number) for number, rank in enumerate(ranks)]
    merged = merge(parts, ranks=SERVED_RANKS if served else None)
    assert merged.exact and merged.lost == 0
    assert merged.rank == (min(each for each in SERVED_RANKS if each >= sum(ranks)) if served else sum(ranks))
    for module in modules_of(merged.tensors):
        together = sum(delta(*part, module) for part in parts)
        np.testing.assert_allclose(delta(merged.tensors, merged.config, module), together, rtol=1e-3, atol=1e-3)
        assert merged.tensors[module + ".lora_A.weight"].shape == (merged.rank, 5)


def test_weights_scale_the_parts() -> None:
    parts = [adapter(2, 4.0, 1), adapter(3, 6.0, 2)]
    merged = merge(parts, [0.25, -1.0])
    for module in modules_of(merged.tensors):
        together = 0.25 * delta(*parts[0], module) - delta(*parts[1], module)
        np.testing.assert_allclose(delta(merged.tensors, merged.config, module), together, rtol=1e-5, atol=1e-5)


def test_beyond_the_largest_rank_it_is_the_nearest() -> None:
    parts = [adapter(3, 3.0, seed) for seed in range(3)]
    merged = merge(parts, ranks=(2,))
    assert not merged.exact and merged.rank == 2 and 0 < merged.lost < 1
    for module in modules_of(merged.tensors):
        together = sum(delta(*part, module) for part in parts)
        values = np.linalg.svd(together, compute_uv=False)
        off = np.linalg.norm(delta(merged.tensors, merged.config, module) - together)
        assert off == pytest.approx(np.sqrt((values[2:] ** 2).sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("parts", "weights", "text"),
    [
        ([], None, "no adapter"),
        ([adapter(2, 2.0, 0)], [1.0, 2.0], "1 adapters cannot have 2 weights"),
        ([adapter(2, 2.0, 0)], [float("nan")], "weights of adapters are numbers"),
        ([adapter(2, 2.0, 0), adapter(2, 2.0, 1, inputs=6)], None, "different models"),
        ([adapter(2, 2.0, 0), ({}, {"r": 2, "lora_alpha": 2})], None, "different layers"),
    ],
)
def test_what_cannot_be_merged(parts: list[Any], weights: list[float] | None, text: str) -> None:
    with pytest.raises(InputError, match=text):
        merge(parts, weights)


@pytest.mark.extras
def test_the_same_as_peft(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    torch.manual_seed(0)
    wrapped = None
    names = ["first", "second", "third"]
    for number, name in enumerate(names):
        settings = peft.LoraConfig(
            r=2 + number, lora_alpha=8.0, target_modules=["up_proj", "down_proj"], init_lora_weights=False
        )
        if wrapped is None:
            wrapped = peft.get_peft_model(transformers.LlamaForCausalLM(config), settings, adapter_name=name)
        else:
            wrapped.add_adapter(name, settings)
    assert wrapped is not None

    def tensors(name: str) -> dict[str, Any]:
        state = peft.get_peft_model_state_dict(wrapped, adapter_name=name)
        return {key: value.numpy().copy() for key, value in state.items()}

    parts = [(tensors(name), {"r": 2 + number, "lora_alpha": 8.0}) for number, name in enumerate(names)]
    wrapped.base_model.add_weighted_adapter(names, [1.0] * 3, "all", combination_type="cat")
    theirs = tensors("all")
    made = wrapped.peft_config["all"]
    ours = merge(parts)
    assert ours.rank == made.r == 9
    for module in modules_of(ours.tensors):
        np.testing.assert_allclose(
            delta(ours.tensors, ours.config, module),
            delta(theirs, {"r": made.r, "lora_alpha": made.lora_alpha}, module), rtol=1e-5, atol=1e-6,
        )  # fmt: skip
