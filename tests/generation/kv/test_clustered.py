"""Clusters of a fixed context: the fast path against the plain one, and the context's life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from carrel.errors import InputError  # noqa: E402
from carrel.generation.kv import ClusteredAttention, oracles  # noqa: E402
from carrel.generation.kv.oracles_clustered import clustered  # noqa: E402

pytestmark = pytest.mark.extras


def oracle(method: ClusteredAttention, query: Any, key: Any, value: Any) -> Any:
    """The plain function with the clusters that the method made."""
    fitted = method._fitted[0]
    heads = (query.shape[0], key.shape[1], -1)
    coarse = None if fitted.groups is None else fitted.groups.labels().expand(heads)
    return clustered(
        query, key, value, fitted.members.labels().expand(heads), context=fitted.length, budget=method.budget,
        sinks=method.sinks, coarse=coarse, kept=method.kept(fitted.fine.sizes.shape[-1]),
        per_query_head=method.per_query_head,
    )  # fmt: skip


def close(found: Any, expected: Any) -> None:
    tolerance = 1e-5 if expected.dtype == torch.float32 else 2e-2
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads", "batch"), [(2, 2, 1), (8, 2, 2)])
@pytest.mark.parametrize(("context", "keys"), [(3, 4), (17, 18), (17, 25), (40, 41)])
def test_a_step_reads_what_the_oracle_reads(
    states: Callable[..., Any], context: int, keys: int, heads: int, kv_heads: int, batch: int, dtype: Any,
    levels: int, own: bool,
) -> None:  # fmt: skip
    query, key, value = states(batch=batch, heads=heads, kv_heads=kv_heads, keys=keys, dtype=dtype, seed=keys)
    method = ClusteredAttention(7, keys_per_cluster=3, levels=levels, reach=1.5, sinks=2, per_query_head=own)
    method.fit(0, key[:, :, :context])
    close(method.attend(0, query, key, value), oracle(method, query, key, value))


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("own", [False, True])
def test_a_budget_of_the_whole_context_is_dense(states: Callable[..., Any], levels: int, own: bool) -> None:
    query, key, value = states(batch=2, heads=4, kv_heads=2, keys=40)
    method = ClusteredAttention(36, keys_per_cluster=4, levels=levels, reach=1, sinks=0, per_query_head=own)
    method.fit(0, key[:, :, :36])
    found = method.attend(0, query, key, value)
    torch.testing.assert_close(found, oracles.dense(query, key, value), atol=1e-4, rtol=0)


def test_steps_one_by_one_and_together_are_the_same(states: Callable[..., Any]) -> None:
    query, key, value = states(batch=2, heads=4, kv_heads=2, queries=6, keys=46)
    method = ClusteredAttention(8, keys_per_cluster=4, levels=2, sparse_queries=6)
    method.fit(0, key[:, :, :40])
    together = method.attend(0, query, key, value)
    method.restart()
    single = [method.attend(0, query[:, :, i : i + 1], key[:, :, : 41 + i], value[:, :, : 41 + i]) for i in range(6)]
    close(torch.cat(single, dim=2), together)
    close(together, oracle(method, query, key, value))


def test_clusters_of_one_row_serve_a_batch(states: Callable[..., Any]) -> None:
    query, key, value = states(batch=3, heads=4, kv_heads=2, keys=30)
    key[:, :, :24] = key[:1, :, :24].clone()
    for levels in (1, 2):
        method = ClusteredAttention(6, keys_per_cluster=4, levels=levels, reach=2)
        method.fit(0, key[:1, :, :24])
        close(method.attend(0, query, key, value), oracle(method, query, key, value))


@pytest.mark.parametrize("levels", [1, 2])
def test_the_key_that_matches_is_read(states: Callable[..., Any], levels: int) -> None:
    query, key, _ = states(heads=2, kv_heads=1, keys=200, dim=32)
    key[0, 0, 71] = query[0, 0, 0]
    method = ClusteredAttention(25, keys_per_cluster=4, levels=levels, per_query_head=True)
    method.fit(0, key[:, :, :199])
    (choice,) = method.choose(0, query, key, 1.0)
    assert 71 in choice.index[0, 0, 0].tolist()
    assert choice.index.shape[-1] == 4 + 25 + 1
    assert len(set(choice.index[0, 0, 0].tolist())) == 30  # nothing twice


def test_equal_keys_leave_empty_clusters_and_still_fill_the_budget(states: Callable[..., Any]) -> None:
    query, key, value = states(heads=2, kv_heads=1, keys=20)
    key[:, :, :16] = key[:, :, :1].clone()
    for levels in (1, 2):
        method = ClusteredAttention(5, keys_per_cluster=4, levels=levels, sinks=1)
        method.fit(0, key[:, :, :16])
        (choice,) = method.choose(0, query, key, 1.0)
        assert choice.index.tolist() == [[[[0, 1, 2, 3, 4, 5, 16, 17, 18, 19]]]]
        close(method.attend(0, query, key, value), oracle(method, query, key, value))


def test_without_a_context_or_after_reset_it_is_dense(states: Callable[..., Any]) -> None:
    query, key, value = states(keys=20)
    expected = oracles.dense(query, key, value)
    method = ClusteredAttention(4, keys_per_cluster=2)
    close(method.attend(0, query, key, value), expected)
    method.fit(0, key[:, :, :16])
    sparse = method.attend(0, query, key, value)
    assert not torch.allclose(sparse, expected, atol=1e-3)
    method.restart()
    assert torch.equal(method.attend(0, query, key, value), sparse)  # the context stays
    method.fit(0, key[:, :, :4])  # sinks alone
    close(method.attend(0, query, key, value), expected)
    method.fit(0, key[:, :, :16])
    method.reset()
    close(method.attend(0, query, key, value), expected)
    with pytest.raises(InputError, match="call fit"):
        method.choose(0, query, key, 1.0)
    with pytest.raises(InputError, match="empty"):
        method.fit(0, key[:, :, :0])


@pytest.mark.parametrize(
    "options", [{"budget": 0}, {"levels": 3}, {"reach": 0.5}, {"metric": "dot"}, {"sinks": -1}, {"keys_per_cluster": 0}]
)
def test_parameters_of_no_use_are_errors(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ClusteredAttention(**{"budget": 8, **options})
