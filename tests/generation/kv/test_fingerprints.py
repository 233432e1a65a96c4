"""The same weights have the same fingerprint; another model, training, adapter, type or setting has another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from carrel.errors import InputError  # noqa: E402
from carrel.generation.kv.fingerprints import model_fingerprint  # noqa: E402

pytestmark = pytest.mark.extras


def tiny(*, seed: int = 0, **settings: Any) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, **settings,
    )  # fmt: skip
    torch.manual_seed(seed)
    return transformers.LlamaForCausalLM(config).eval()


def test_the_same_after_saving_and_loading_from_anywhere(tmp_path: Path) -> None:
    model = tiny()
    found = model_fingerprint(model)
    assert len(found) == 32
    for name in ("one", "two"):
        model.save_pretrained(tmp_path / name)
        assert model_fingerprint(transformers.LlamaForCausalLM.from_pretrained(tmp_path / name)) == found


def test_what_does_not_change_keys_and_values_does_not_change_it(tmp_path: Path) -> None:
    model = tiny()
    found = model_fingerprint(model)
    model.config._attn_implementation = "eager"
    model.config.use_cache = False
    model.config.transformers_version = "1.0"
    model.train()
    model(torch.tensor([[1, 2, 3]]))
    assert model_fingerprint(model) == found


def nudged(model: Any) -> Any:
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 1.001
    return model


def tuned_in_one_layer(model: Any) -> Any:
    with torch.no_grad():
        model.model.layers[1].self_attn.k_proj.weight += 1e-4
    return model


CHANGES: dict[str, Callable[[], Any]] = {
    "seed": lambda: tiny(seed=1),
    "rotary base": lambda: tiny(rope_parameters={"rope_type": "default", "rope_theta": 20_000.0}),
    "rotary scaling": lambda: tiny(rope_parameters={"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}),
    "norm": lambda: tiny(rms_norm_eps=1e-3),
    "float16": lambda: tiny().half(),
    "bfloat16": lambda: tiny().bfloat16(),
    "trained": lambda: nudged(tiny()),
    "trained a little": lambda: tuned_in_one_layer(tiny()),
    "its body": lambda: tiny().model,
}


def test_every_change_gives_another() -> None:
    found = [model_fingerprint(tiny()), *(model_fingerprint(change()) for change in CHANGES.values())]
    assert len(set(found)) == len(found)


def test_adapters_count_by_their_weights_their_strength_and_which_is_in_force() -> None:
    peft = pytest.importorskip("peft")

    def adapted(*, seed: int = 0, alpha: int = 8) -> Any:
        model = tiny()
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=2, lora_alpha=alpha, target_modules=["q_proj"], init_lora_weights=False)
        return peft.get_peft_model(model, config, adapter_name="first")

    model = adapted()
    found = [model_fingerprint(tiny()), model_fingerprint(model)]
    assert model_fingerprint(adapted()) == found[1]
    found += [model_fingerprint(adapted(seed=1)), model_fingerprint(adapted(alpha=16))]
    model.add_adapter("second", peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    found.append(model_fingerprint(model))
    model.set_adapter("second")
    found.append(model_fingerprint(model))
    with model.disable_adapter():
        found.append(model_fingerprint(model))
    assert len(set(found)) == len(found) == 7


def test_the_layout_in_memory_does_not_count() -> None:
    model, other = tiny(), tiny()
    weight = other.model.layers[0].mlp.up_proj.weight
    weight.data = weight.data.t().contiguous().t()
    assert not weight.is_contiguous()
    assert model_fingerprint(other) == model_fingerprint(model)


def test_samples_reach_every_column_of_a_wide_matrix() -> None:
    plain = torch.nn.Linear(1024, 1024)
    other = torch.nn.Linear(1024, 1024)
    other.load_state_dict(plain.state_dict())
    with torch.no_grad():
        other.weight[:, 512:] += 1.0
    assert model_fingerprint(plain) != model_fingerprint(other)


def test_buffers_of_any_type_count() -> None:
    def module(value: Any) -> Any:
        plain = torch.nn.Linear(3, 3)
        torch.nn.init.ones_(plain.weight)
        torch.nn.init.ones_(plain.bias)
        plain.register_buffer("extra", value)
        return plain

    values = [
        torch.tensor(3), torch.tensor(4), torch.tensor(3.0), torch.tensor([True]), torch.empty(0), torch.tensor([3]),
        torch.tensor([3], dtype=torch.uint8), torch.tensor([1.0], dtype=torch.float64), torch.tensor([1 + 2j]),
    ]  # fmt: skip
    found = [model_fingerprint(module(value)) for value in values]
    assert len(set(found)) == len(values)
    assert model_fingerprint(module(torch.tensor(3))) == found[0]


def test_a_module_without_anything() -> None:
    assert model_fingerprint(torch.nn.ReLU()) != model_fingerprint(torch.nn.Tanh())


def test_weights_that_are_not_in_memory() -> None:
    with torch.device("meta"):
        model = tiny()
    with pytest.raises(InputError, match="not in memory"):
        model_fingerprint(model)
