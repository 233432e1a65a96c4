"""The plain functions against torch's attention, against each other, and on cases worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

from carrel.generation.kv import oracles  # noqa: E402
from carrel.generation.kv.oracles_clustered import clustered, clustered_mask, kmeans  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)


def random(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SHAPES = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 2),
        "kv_heads": st.integers(1, 2),
        "group": st.sampled_from([1, 4]),
        "queries": st.integers(1, 3),
        "keys": st.integers(6, 23),
        "seed": st.integers(0, 99),
    }
)


def drawn(shape: dict[str, int]) -> tuple[Any, Any, Any]:
    batch, heads, seed = shape["batch"], shape["kv_heads"], shape["seed"]
    query = random(batch, heads * shape["group"], shape["queries"], 8, seed=seed)
    return query, *(random(batch, heads, shape["keys"], 8, seed=seed + n) for n in (100, 200))


@given(SHAPES)
def test_dense_is_torch_attention(shape: dict[str, int]) -> None:
    query, key, value = drawn(shape)
    allowed = oracles.causal(shape["queries"], shape["keys"])
    expected = scaled_dot_product_attention(query, key, value, attn_mask=allowed, enable_gqa=True)
    torch.testing.assert_close(oracles.dense(query, key, value), expected, atol=1e-5, rtol=1e-5)


@given(SHAPES, st.integers(1, 5), st.booleans(), st.integers(0, 7))
def test_paged_with_a_budget_of_all_keys_is_dense(shape: dict[str, int], page: int, own: bool, more: int) -> None:
    query, key, value = drawn(shape)
    budget = max(shape["keys"], 2 * page) + more
    found = oracles.paged(query, key, value, page=page, budget=budget, per_query_head=own)
    torch.testing.assert_close(found, oracles.dense(query, key, value), atol=1e-4, rtol=0)


@given(SHAPES, st.integers(0, 4))
def test_lambda_with_a_window_of_all_keys_is_dense(shape: dict[str, int], sinks: int) -> None:
    query, key, value = drawn(shape)
    found = oracles.lambda_(query, key, value, sinks=sinks, window=shape["keys"])
    torch.testing.assert_close(found, oracles.dense(query, key, value), atol=1e-4, rtol=0)


@given(SHAPES, st.integers(0, 2), st.sampled_from([None, 1, 3]))
def test_clustered_with_a_budget_of_the_context_is_dense(shape: dict[str, int], sinks: int, kept: int | None) -> None:
    query, key, value = drawn(shape)
    context = shape["keys"] - shape["queries"]
    heads = (shape["batch"], shape["kv_heads"])
    generator = torch.Generator().manual_seed(shape["seed"])
    labels = torch.randint(0, 4, (*heads, context - sinks), generator=generator)
    coarse = None if kept is None else torch.randint(0, 2, (*heads, 4), generator=generator)
    found = clustered(
        query, key, value, labels, context=context, budget=context, sinks=sinks, coarse=coarse, kept=kept or 0
    )
    torch.testing.assert_close(found, oracles.dense(query, key, value), atol=1e-4, rtol=0)


def test_lambda_reads_the_sinks_and_the_window_and_nothing_else() -> None:
    query, key = random(1, 1, 2, 8), random(1, 1, 10, 8)
    value = torch.eye(10)[None, None]  # the output is the weights
    weights = oracles.lambda_(query, key, value, sinks=2, window=3)[0, 0]
    assert (weights[0] > 0).nonzero()[:, 0].tolist() == [0, 1, 6, 7, 8]
    assert (weights[1] > 0).nonzero()[:, 0].tolist() == [0, 1, 7, 8, 9]


@given(st.integers(0, 99), st.integers(3, 30))
def test_a_capped_sink_scores_as_if_it_were_that_near(seed: int, cap: int) -> None:
    frequencies = torch.tensor([1.0, 0.2, 0.05])  # 6 of 8 dimensions turn
    raw_query, raw_key, value = random(1, 2, 1, 8, seed=seed), random(1, 1, 20, 8, seed=seed + 1), random(1, 1, 20, 4)
    positions = torch.arange(20)[:, None]
    key = oracles.rotate(raw_key, positions * frequencies)
    query = oracles.rotate(raw_query, torch.tensor([[19]]) * frequencies)
    found = oracles.lambda_(query, key, value, sinks=2, window=3, cap=cap, inverse_frequencies=frequencies)
    near = key.clone()
    for sink in range(2):  # the same distance, by moving the key instead of the query
        at = 19 - min(19 - sink, cap)
        near[:, :, sink] = oracles.rotate(raw_key[:, :, sink], torch.tensor([at]) * frequencies)
    expected = oracles.lambda_(query, near, value, sinks=2, window=3)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 17))
def test_no_key_of_a_page_beats_its_bound(seed: int, page: int, keys: int) -> None:
    query, key = random(8, seed=seed), random(1, 1, keys, 8, seed=seed + 1)
    low, high = oracles.page_bounds(key, page)
    upper = torch.maximum(query * low, query * high).sum(-1)[0, 0]
    for at, score in enumerate((key[0, 0] @ query).tolist()):
        assert score <= upper[at // page] + 1e-5


@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 20))
def test_pages_never_hold_more_keys_than_the_budget(page: int, keys: int, more: int) -> None:
    budget = 2 * page + more
    query, key = random(1, 2, 1, 4), random(1, 1, keys, 4)
    read = oracles.paged_mask(query, key, page=page, budget=budget).sum(-1)
    assert (read <= budget).all()
    assert (read > min(keys, budget) - page).all()  # and waste less than a page


def test_the_page_with_the_matching_key_is_read() -> None:
    key = 0.01 * random(1, 1, 64, 8)
    key[0, 0, 37] = torch.ones(8)
    mask = oracles.paged_mask(torch.ones(1, 1, 1, 8), key, page=8, budget=24)[0, 0]
    assert mask.nonzero()[:, 0].tolist() == [*range(8), *range(32, 40), *range(56, 64)]


def test_query_heads_share_pages_unless_they_choose_for_themselves() -> None:
    key = torch.zeros(1, 1, 24, 2)
    key[0, 0, 6], key[0, 0, 14] = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 5.0])
    query = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # (1, 2, 1, 2)
    shared = oracles.paged_mask(query, key, page=4, budget=12)[0]
    assert [mask[::4].tolist() for mask in shared] == [[True, False, False, True, False, True]] * 2
    own = oracles.paged_mask(query, key, page=4, budget=12, per_query_head=True)[0]
    assert own[0, ::4].tolist() == [True, True, False, False, False, True]
    assert own[1, ::4].tolist() == [True, False, False, True, False, True]


def test_streaming_heads_read_sinks_and_window() -> None:
    query, key, value = random(1, 4, 1, 8), random(1, 2, 30, 8), random(1, 2, 30, 8)
    streaming = torch.tensor([False, True])
    found = oracles.paged(query, key, value, page=4, budget=8, streaming=streaming, sinks=1, window=3)
    paged = oracles.paged(query, key, value, page=4, budget=8)
    local = oracles.lambda_(query, key, value, sinks=1, window=3)
    assert torch.equal(found, torch.cat([paged[:, :2], local[:, 2:]], dim=1))


def test_clusters_are_read_from_the_nearest_on_until_the_budget_is_full() -> None:
    key = torch.tensor([[1.0, 0], [0, 1], [1, 0.1], [0.1, 1], [-1, 0], [0, 0]])[None, None]
    labels = torch.tensor([[[0, 1, 0, 1, 2]]])
    query = torch.tensor([[[[1.0, 0.5]]]])
    chosen = clustered_mask(query, key, labels, context=5, budget=3)[0, 0]
    assert chosen.tolist() == [True, True, True, False, False, True]  # both of 0, the first of 1, what follows


def test_coarse_clusters_prune_fine_ones() -> None:
    key = torch.tensor([[1.0, 0], [0.9, 0], [3, 0], [-9, 0], [0, 0]])[None, None]
    labels, coarse = torch.tensor([[[0, 1, 2, 3]]]), torch.tensor([[[0, 0, 1, 1]]])
    query = torch.ones(1, 1, 1, 2)
    one = clustered_mask(query, key, labels, context=4, budget=1)[0, 0]
    two = clustered_mask(query, key, labels, context=4, budget=1, coarse=coarse, kept=2)[0, 0]
    assert one.tolist() == [False, False, True, False, True]
    assert two.tolist() == [True, False, False, False, True]  # the best key sits in the worse half


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_kmeans_finds_directions_that_are_apart(metric: str) -> None:
    centres = torch.eye(4)
    points = centres.repeat_interleave(6, dim=0) * random(24, 1, seed=3).abs().clamp(min=0.3)
    labels = kmeans(points + 0.01 * random(24, 4), 4, seed=1, metric=metric).view(4, 6)
    assert (labels == labels[:, :1]).all()
    assert len(set(labels[:, 0].tolist())) == 4


def test_kmeans_of_equal_points_leaves_clusters_empty_and_does_not_fail() -> None:
    assert kmeans(torch.ones(5, 3), 3).tolist() == [0] * 5
