"""Keys that questions do not see, against attention that was never given them."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from carrel.errors import GenerationError, InputError  # noqa: E402
from carrel.generation.kv import PagedAttention, masking  # noqa: E402
from carrel.generation.kv.application import apply  # noqa: E402
from carrel.generation.kv.caches import ContextCache, GrowingLayer  # noqa: E402
from carrel.generation.kv.masking import attention_modules, hide_keys  # noqa: E402
from tests.generation.kv.press_cases import ask, tiny, tokens, traces  # noqa: E402

pytestmark = pytest.mark.extras
LENGTH = 40
CONTEXT, QUESTION = tokens(LENGTH), tokens(7, seed=2)


@pytest.fixture(scope="module", params=["Llama", "Qwen3", "Phi3"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny(request.param, num_attention_heads=4, head_dim=16) if request.param == "Qwen3" else tiny(request.param)


@pytest.fixture(params=["sdpa", "eager"])
def either(model: Any, request: pytest.FixtureRequest) -> Any:
    model.set_attn_implementation(request.param)
    yield model
    model.set_attn_implementation("sdpa")


def read(model: Any) -> list[tuple[Any, Any]]:
    """Keys and values of the context, layer by layer."""
    cache = transformers.DynamicCache()
    with torch.inference_mode():
        model(CONTEXT, past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def cache_of(layers: list[tuple[Any, Any]]) -> Any:
    return ContextCache([GrowingLayer(keys.clone(), values.clone()) for keys, values in layers])


def marks(seed: int = 0) -> dict[int, Any]:
    """As many keys of each head, other ones, for each of two layers: (Hkv, S)."""
    drawn = torch.rand(2, 2, LENGTH, generator=torch.Generator().manual_seed(seed))
    return dict(enumerate(drawn.argsort(dim=2) < LENGTH * 3 // 4))


def without(layers: list[tuple[Any, Any]], hidden: dict[int, Any]) -> Any:
    """The oracle: a cache that never had the hidden keys."""
    stay = [~hidden[layer] for layer in range(len(layers))]
    return cache_of(
        [
            tuple(states[0][stay[n]].view(1, 2, LENGTH // 4, -1) for states in layer)  # type: ignore[misc]
            for n, layer in enumerate(layers)
        ]
    )


@pytest.mark.parametrize("one_by_one", [False, True])
def test_hidden_keys_are_as_good_as_gone(either: Any, one_by_one: bool) -> None:
    layers, hidden = read(either), marks()
    expected = ask(either, without(layers, hidden), QUESTION, LENGTH)
    with hide_keys(either, hidden):
        found = ask(either, cache_of(layers), QUESTION, LENGTH, one_by_one=one_by_one)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    seen = ask(either, cache_of(layers), QUESTION, LENGTH)
    assert float((seen - expected).abs().max()) > 1e-2  # hiding them makes a difference


def test_keys_hidden_in_one_layer_are_seen_in_the_other(model: Any) -> None:
    layers, hidden = read(model), marks()
    nothing = torch.zeros(2, LENGTH, dtype=torch.bool)
    with hide_keys(model, {1: hidden[1]}):
        found = ask(model, cache_of(layers), QUESTION, LENGTH)
    with hide_keys(model, {0: nothing, 1: hidden[1]}):
        torch.testing.assert_close(ask(model, cache_of(layers), QUESTION, LENGTH), found)
    with hide_keys(model, hidden):
        assert not torch.allclose(ask(model, cache_of(layers), QUESTION, LENGTH), found, atol=1e-3)


def test_a_cache_that_hands_out_its_own_memory_keeps_its_context(model: Any) -> None:
    layers, hidden = read(model), marks()
    cache = cache_of(layers)
    with hide_keys(model, hidden):
        first = ask(model, cache, QUESTION, LENGTH)
        cache.crop(LENGTH)
        for (keys, values), layer in zip(layers, cache.layers, strict=True):
            assert torch.equal(layer.keys, keys)
            assert torch.equal(layer.values, values)
        torch.testing.assert_close(ask(model, cache, QUESTION, LENGTH), first, atol=0, rtol=0)


def test_marks_are_made_once_and_other_ones_are_noticed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, one, other = read(model), marks(0), marks(1)
    longer = tokens(12, seed=3)
    monkeypatch.setattr(masking, "_ROOM", 5)  # so that the rows are made anew on the way
    expected = {}
    for name, hidden in (("one", one), ("other", other)):
        fresh = {layer: found.clone() for layer, found in hidden.items()}
        with hide_keys(model, fresh):
            expected[name] = ask(model, cache_of(layers), longer, LENGTH)
    caches, found = {"one": cache_of(layers), "other": cache_of(layers)}, {"one": [], "other": []}
    for at in range(12):  # in turns, token by token
        for name, hidden in (("one", one), ("other", other)):
            with hide_keys(model, hidden):
                found[name].append(ask(model, caches[name], longer[:, at : at + 1], LENGTH + at))
    for name in expected:
        torch.testing.assert_close(torch.cat(found[name]), expected[name], atol=2e-5, rtol=1e-4)
    made, cache = [], cache_of(layers)
    make = masking._Bias.__init__
    monkeypatch.setattr(masking._Bias, "__init__", lambda self, *a: (made.append(1), make(self, *a))[1])
    for at in range(12):
        with hide_keys(model, one):
            ask(model, cache, longer[:, at : at + 1], LENGTH + at)
    assert len(made) == 2  # the layers


def test_nothing_stays_on_the_model(model: Any) -> None:
    before = traces(model)
    with hide_keys(model, marks()):
        assert traces(model) != before
    assert traces(model) == before
    with pytest.raises(RuntimeError, match="stop"), hide_keys(model, marks()):
        raise RuntimeError("stop")
    assert traces(model) == before


def test_two_that_hide_hide_both(model: Any) -> None:
    layers, one, other = read(model), marks(0), marks(1)
    with hide_keys(model, one), hide_keys(model, other):
        found = ask(model, cache_of(layers), QUESTION, LENGTH)
    with hide_keys(model, {layer: one[layer] | other[layer] for layer in one}):
        torch.testing.assert_close(ask(model, cache_of(layers), QUESTION, LENGTH), found, atol=1e-5, rtol=1e-4)


def test_a_cache_that_has_lost_keys_is_no_match(model: Any) -> None:
    short = [(keys[:, :, :-1], values[:, :, :-1]) for keys, values in read(model)]
    with hide_keys(model, marks()), pytest.raises(GenerationError, match="holds 39 keys, and 40 were there"):
        ask(model, cache_of(short), QUESTION, LENGTH)


def test_sparse_attention_takes_no_mask(model: Any) -> None:
    with apply(model, PagedAttention(16, page=4)):
        with pytest.raises(InputError, match="'carrel_sparse' attention does not take"), hide_keys(model, marks()):
            pass
        with hide_keys(model, {}):
            pass


def test_half_precision() -> None:
    half = tiny().to(torch.bfloat16)
    layers, hidden = read(half), marks()
    expected = ask(half, without(layers, hidden), QUESTION, LENGTH)
    with hide_keys(half, hidden):
        found = ask(half, cache_of(layers), QUESTION, LENGTH, one_by_one=True)
    torch.testing.assert_close(found, expected, atol=0.2, rtol=0.05)


def test_a_model_of_another_build() -> None:
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(InputError, match="GPT2LMHeadModel has no layers"):
        attention_modules(gpt)
