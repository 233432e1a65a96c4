"""Caches of a context: what comes after it is added and taken off, the context stays."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from carrel.generation.kv.caches import ContextCache, GrowingLayer, QuantisedLayer, put_tail, tail_of  # noqa: E402
from carrel.generation.kv.quantisation import pack_keys, pack_values  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)


def states(length: int, seed: int) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 2, length, 8, generator=generator), torch.randn(1, 2, length, 8, generator=generator)


def layer_of(kind: str, context: tuple[Any, Any]) -> Any:
    if kind == "growing":
        return GrowingLayer(*context)
    return QuantisedLayer(pack_keys(context[0], 8), pack_values(context[1], 8))


@pytest.mark.parametrize("kind", ["growing", "quantised"])
@given(steps=st.lists(st.one_of(st.integers(1, 90), st.just("crop"), st.just("half")), max_size=12))
def test_it_holds_the_context_and_what_was_added_since(kind: str, steps: list[Any]) -> None:
    context = states(20, 0)
    layer = layer_of(kind, context)
    keys, values = layer.keys.clone(), layer.values.clone()  # quantised ones are not quite the context's
    assert torch.allclose(keys, context[0], atol=0.05) and torch.allclose(values, context[1], atol=0.05)
    for number, step in enumerate(steps, start=1):
        if isinstance(step, int):
            more = states(step, number)
            given_back = layer.update(*more)
            keys, values = torch.cat([keys, more[0]], 2), torch.cat([values, more[1]], 2)
            assert torch.equal(given_back[0], keys) and torch.equal(given_back[1], values)
        else:
            length = 20 if step == "crop" else 20 + (keys.shape[2] - 20) // 2
            layer.crop(length)
            keys, values = keys[:, :, :length], values[:, :, :length]
        assert torch.equal(layer.keys, keys) and torch.equal(layer.values, values)
        assert layer.get_seq_length() == keys.shape[2]
        assert layer.get_mask_sizes(torch.arange(3)) == (keys.shape[2] + 3, 0)
        assert layer.get_max_cache_shape() == -1


def test_a_token_is_written_and_nothing_copied() -> None:
    layer = GrowingLayer(*states(100, 0))
    layer.update(*states(1, 1))
    place = layer.keys.data_ptr()
    for number in range(60):
        layer.update(*states(1, number))
    layer.crop(100)
    layer.update(*states(30, 2))
    assert layer.keys.data_ptr() == place


def test_memory_is_counted() -> None:
    cache = ContextCache([GrowingLayer(*states(100, seed)) for seed in range(3)])
    assert cache.size_bytes == cache.bytes_of(100) == 3 * 2 * 100 * 2 * 8 * 4
    for number in range(3):
        cache.update(*states(1, number), number)
    assert cache.length == 101
    assert cache.bytes_of(100) == 3 * 2 * 100 * 2 * 8 * 4 < cache.size_bytes


@pytest.mark.parametrize("kind", ["growing", "quantised"])
def test_what_came_after_the_context_is_taken_off_and_put_back(kind: str) -> None:
    cache = ContextCache([layer_of(kind, states(20, seed)) for seed in range(2)])
    for number in range(2):
        cache.update(*states(7, 5 + number), number)
    before = [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]
    tail = tail_of(cache, 20)
    cache.crop(20)
    for number in range(2):
        cache.update(*states(30, 9), number)
    cache.crop(20)
    put_tail(cache, tail)
    for (keys, values), layer in zip(before, cache.layers, strict=True):
        assert torch.equal(layer.keys, keys) and torch.equal(layer.values, values)


def test_a_context_is_never_cut() -> None:
    with pytest.raises(ValueError, match="20"):
        layer_of("growing", states(20, 0)).crop(19)


def test_a_quantised_context_takes_less_and_is_not_cut() -> None:
    context = states(64, 0)
    layer = layer_of("quantised", context)
    assert layer.bytes_of(64) < 0.4 * sum(part.nbytes for part in context)
    layer.update(*states(1, 1))
    assert layer.size_bytes > layer.bytes_of(64)
    with pytest.raises(ValueError, match="64"):
        layer.crop(63)
