"""Pages: bounds that grow, the fast path against the plain one, heads that stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from carrel.errors import InputError, MissingDependencyError  # noqa: E402
from carrel.generation.kv import PagedAttention, oracles, paged  # noqa: E402
from carrel.generation.kv.paged import PageBounds, bound_scores  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)


def close(found: Any, expected: Any) -> None:
    tolerance = 1e-5 if expected.dtype == torch.float32 else 2e-2
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads", "batch"), [(2, 2, 1), (8, 2, 2), (4, 1, 1)])
@pytest.mark.parametrize("keys", [2, 4, 5, 8, 21, 40])
def test_a_step_reads_what_the_oracle_reads(
    states: Callable[..., Any], keys: int, heads: int, kv_heads: int, batch: int, dtype: Any, whole: bool, own: bool
) -> None:
    query, key, value = states(
        batch=batch, heads=heads, kv_heads=kv_heads, keys=keys, dtype=dtype, whole=whole, seed=keys
    )
    found = PagedAttention(13, page=4, per_query_head=own).attend(0, query, key, value)
    close(found, oracles.paged(query, key, value, page=4, budget=13, per_query_head=own))


@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 30), st.integers(0, 999), st.booleans())
def test_ties_go_to_the_earlier_page_as_in_the_oracle(keys: int, page: int, more: int, seed: int, own: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    query, key = (torch.randint(-1, 2, (1, n, m, 4), generator=generator).float() for n, m in ((4, 1), (2, keys)))
    value = torch.eye(keys).expand(1, 2, -1, -1)  # so the output shows what was read
    found = PagedAttention(2 * page + more, page=page, per_query_head=own).attend(0, query, key, value)
    close(found, oracles.paged(query, key, value, page=page, budget=2 * page + more, per_query_head=own))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 30))
def test_bounds_that_grow_are_those_made_at_once(steps: list[int], page: int, cut: int) -> None:
    key = torch.randn(2, 3, sum(steps), 4, generator=torch.Generator().manual_seed(page))
    bounds = PageBounds(page)
    for end in range(1, len(steps) + 1):
        bounds.update(key[:, :, : sum(steps[:end])])
    low, high = oracles.page_bounds(key, page)
    assert torch.equal(bounds.pages(), torch.cat([high, low], dim=-1))
    kept = min(cut, sum(steps))
    bounds.cut(kept)  # another sequence with the same first tokens
    other = torch.cat([key[:, :, :kept], -key[:, :, kept:]], dim=2)
    bounds.update(other, None)
    low, high = oracles.page_bounds(other, page)
    assert torch.equal(bounds.pages(), torch.cat([high, low], dim=-1))


def test_only_new_pages_are_read() -> None:
    key = torch.randn(1, 1, 10, 4)
    bounds = PageBounds(4)
    bounds.update(key)
    spoiled = torch.cat([torch.full((1, 1, 8, 4), 99.0), key[:, :, 8:], key[:, :, :3]], dim=2)
    bounds.update(spoiled)
    assert bounds.pages()[:, :, :2].max() < 99  # untouched: they were whole


def test_a_bound_is_the_best_that_the_page_allows() -> None:
    bounds = torch.tensor([[[[2.0, 3.0, -1.0, -5.0]]]])  # largest 2, 3; smallest -1, -5
    query = torch.tensor([[[[1.0, -1.0], [-2.0, 0.5]]]])
    assert bound_scores(query, bounds).tolist() == [[[[7.0], [3.5]]]]


def test_steps_one_by_one_and_together_are_the_same(states: Callable[..., Any]) -> None:
    query, key, value = states(batch=2, heads=4, kv_heads=2, queries=12, keys=50)
    together = PagedAttention(16, page=4, sparse_queries=12).attend(0, query, key, value)
    method = PagedAttention(16, page=4)
    single = [method.attend(0, query[:, :, i : i + 1], key[:, :, : 39 + i], value[:, :, : 39 + i]) for i in range(12)]
    close(together, torch.cat(single, dim=2))
    close(together, oracles.paged(query, key, value, page=4, budget=16))


def test_layers_keep_their_own_pages_and_a_new_sequence_starts_over(states: Callable[..., Any]) -> None:
    method = PagedAttention(16, page=4)
    for seed in (1, 2):
        for layer in (0, 1):
            query, key, value = states(heads=2, kv_heads=1, keys=30, seed=10 * seed + layer)
            found = method.attend(layer, query, key, value)
            close(found, oracles.paged(query, key, value, page=4, budget=16))
        method.restart()


@pytest.mark.parametrize("marked", [[0], [1, 2], [0, 1, 2]])
def test_streaming_heads_read_sinks_and_window(states: Callable[..., Any], marked: list[int]) -> None:
    streaming = torch.zeros(2, 3, dtype=torch.bool)
    streaming[1, marked] = True
    options: dict[str, Any] = {"page": 4, "budget": 12, "sinks": 2, "window": 5}
    method = PagedAttention(streaming=streaming, **options)
    for keys in (29, 30, 31):
        query, key, value = states(batch=2, heads=6, kv_heads=3, keys=31)
        key, value = key[:, :, :keys], value[:, :, :keys]
        for layer in (0, 1):
            found = method.attend(layer, query, key, value)
            close(found, oracles.paged(query, key, value, streaming=streaming[layer], **options))


@pytest.mark.parametrize("rows", [1, 2])
def test_a_fitted_context_serves_one_sequence_after_another(states: Callable[..., Any], rows: int) -> None:
    method = PagedAttention(12, page=4)
    _, context, _ = states(batch=rows, heads=4, kv_heads=2, keys=22, seed=7)
    method.fit(0, context)
    for seed in (1, 2):
        query, key, value = states(batch=2, heads=4, kv_heads=2, keys=34, seed=seed)
        key[:, :, :22] = context
        for length in (33, 34) if seed == 1 else (34,):
            past = key[:, :, :length]
            found = method.attend(0, query, past, value[:, :, :length])
            close(found, oracles.paged(query, past, value[:, :, :length], page=4, budget=12))
        method.restart()


def test_another_batch_size_is_another_sequence(states: Callable[..., Any]) -> None:
    method = PagedAttention(12, page=4)
    for batch, keys in ((1, 20), (3, 21), (2, 22)):
        query, key, value = states(batch=batch, heads=2, kv_heads=1, keys=keys)
        close(method.attend(0, query, key, value), oracles.paged(query, key, value, page=4, budget=12))


def test_a_row_that_becomes_a_batch_keeps_only_the_context(states: Callable[..., Any]) -> None:
    method = PagedAttention(12, page=4)
    query, key, value = states(batch=3, heads=2, kv_heads=1, keys=41)
    key[:, :, :10] = key[:1, :, :10].clone()
    method.fit(0, key[:1, :, :10])
    method.attend(0, query[2:], key[2:, :, :40], value[2:, :, :40])
    close(method.attend(0, query, key, value), oracles.paged(query, key, value, page=4, budget=12))


def test_reset_gives_the_memory_back(states: Callable[..., Any]) -> None:
    method = PagedAttention(8, page=4)
    query, key, value = states(heads=2, kv_heads=1, keys=20)
    method.fit(0, key[:, :, :10])
    method.attend(0, query, key, value)
    method.reset()
    assert not method._bounds
    close(method.attend(0, query, -key, value), oracles.paged(query, -key, value, page=4, budget=8))


@pytest.mark.parametrize("options", [{"budget": 31}, {"budget": 64, "page": 0}, {"budget": 64, "window": 0}])
def test_parameters_of_no_use_are_errors(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        PagedAttention(**options)


def test_a_profile_of_another_model_is_an_error(states: Callable[..., Any]) -> None:
    method = PagedAttention(32, streaming=torch.zeros(2, 3, dtype=torch.bool))
    for layer, kv_heads in ((2, 3), (0, 1)):
        with pytest.raises(InputError, match="profile is for"):
            method.attend(layer, *states(heads=3, kv_heads=kv_heads))


def test_asking_for_triton_where_it_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="triton"):
        PagedAttention(32, kernel="triton")
