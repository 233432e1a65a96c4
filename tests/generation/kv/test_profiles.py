"""Which heads are local: on weights worked out by hand, and on a model."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from carrel.errors import InputError  # noqa: E402
from carrel.generation.kv import measure_local_mass, profiles, streaming_heads  # noqa: E402
from carrel.generation.kv.oracles import causal, similarities  # noqa: E402
from carrel.generation.kv.profiles import local_mass  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)


@pytest.mark.parametrize(("queries", "keys"), [(30, 30), (7, 30)])
def test_the_mass_is_the_weight_on_sinks_and_window(monkeypatch: pytest.MonkeyPatch, queries: int, keys: int) -> None:
    monkeypatch.setattr(profiles, "_BLOCK", 4)
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, n, m, 8, generator=generator) for n, m in ((4, queries), (2, keys)))
    weights = similarities(query, key).masked_fill(~causal(queries, keys), -torch.inf).softmax(-1)
    at, position = torch.arange(keys), torch.arange(keys - queries, keys)[:, None]
    near = (weights * ((at < 3) | (at > position - 5))).sum(-1)  # (B, H, Q)
    counted = near[:, :, (position[:, 0] >= 8).nonzero()[:, 0]].mean(-1)
    expected = counted.view(2, 2, 2).amin(2)
    torch.testing.assert_close(local_mass(query, key, sinks=3, window=5), expected, atol=1e-5, rtol=1e-5)


def test_a_head_that_looks_back_is_not_local() -> None:
    key = torch.zeros(1, 2, 40, 2)
    key[0, 0, 20] = 50.0  # every later query of the first KV head looks there
    mass = local_mass(torch.ones(1, 2, 5, 2), key, sinks=2, window=8)
    assert mass[0, 0] < 0.01 < 0.2 < mass[0, 1]
    query = torch.ones(1, 4, 5, 2)
    query[0, 1] = 0  # one of two query heads looks everywhere: the least counts
    assert local_mass(query, key, sinks=2, window=8)[0, 0] < 0.01


def test_the_most_local_heads_stream() -> None:
    mass = torch.tensor([[0.9, 0.2, 0.5], [0.5, 0.99, 0.1]])
    assert streaming_heads(mass).tolist() == [[True, False, True], [False, True, False]]
    assert not streaming_heads(mass, share=0).any()
    assert streaming_heads(mass, share=1).all()
    with pytest.raises(InputError, match="share"):
        streaming_heads(mass, share=50)


def test_too_few_tokens_are_an_error() -> None:
    with pytest.raises(InputError, match="12 tokens are too few"):
        local_mass(torch.ones(1, 1, 12, 2), torch.ones(1, 1, 12, 2), sinks=4, window=8)


def test_a_models_heads_are_measured() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=16, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    model: Any = transformers.LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 16, (2, 24))
    caught: dict[int, Any] = {}

    def catch(module: Any, inputs: Any, outputs: Any) -> None:
        caught[module.layer_idx] = outputs[1]

    mass = measure_local_mass(model, ids, sinks=2, window=4)
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(catch)
    with torch.no_grad():
        model(input_ids=ids)
    at, position = torch.arange(24), torch.arange(24)[:, None]
    near = (at < 2) | (at > position - 4)
    for layer in (0, 1):
        heads = (caught[layer] * near).sum(-1)[:, :, 6:].mean(-1).view(2, 2, 2).amin(2).mean(0)
        torch.testing.assert_close(mass[layer], heads, atol=1e-5, rtol=1e-5)
