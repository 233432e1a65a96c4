"""The Triton kernels against the plain functions, under Triton's interpreter. ``test_kernels.py`` runs this file.

The interpreter must be on before Triton is first imported, so these run in a process of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from carrel.generation.kv import PagedAttention, kernels, oracles
from carrel.generation.kv.kernels import _INTERPRETED, choose_pages, decode_pages
from carrel.generation.kv.ordering import top_indices
from carrel.generation.kv.paged import PageBounds

assert _INTERPRETED
pytestmark = pytest.mark.extras
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def close(found: Any, expected: Any) -> None:
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=TOLERANCE[expected.dtype], rtol=TOLERANCE[expected.dtype])


def listed(pages: Any, page: int, keys: int, group: int, lengths: Any = None) -> Any:
    """The mask (B, H, 1, S) of a page table."""
    batch, rows, _ = pages.shape
    allowed = torch.zeros(batch, rows, keys + page, dtype=torch.bool)
    for b in range(batch):
        for r in range(rows):
            for number in pages[b, r].tolist():
                if number >= 0:
                    allowed[b, r, number * page : (number + 1) * page] = True
            if lengths is not None:
                allowed[b, r, int(lengths[b]) :] = False
    return allowed[..., :keys].repeat_interleave(group, dim=1)[:, :, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads", "batch", "dim"), [(1, 1, 2, 16), (4, 1, 1, 32), (6, 2, 2, 24)])
@pytest.mark.parametrize(("keys", "page"), [(1, 16), (16, 16), (17, 16), (150, 32), (131, 64)])
def test_attention_over_all_pages_is_dense(
    states: Callable[..., Any], keys: int, page: int, heads: int, kv_heads: int, batch: int, dim: int, dtype: Any
) -> None:
    query, key, value = states(batch=batch, heads=heads, kv_heads=kv_heads, keys=keys, dim=dim, dtype=dtype)
    pages = torch.arange(-(-keys // page), dtype=torch.int32).expand(batch, kv_heads, -1)
    close(decode_pages(query, key, value, pages, page=page), oracles.dense(query, key, value))


@pytest.mark.parametrize("splits", [1, 2, 3, 100])
@pytest.mark.parametrize("each", [1, 3])
def test_any_list_of_pages_in_any_order_and_number_of_parts(states: Callable[..., Any], splits: int, each: int) -> None:
    query, key, value = states(batch=2, heads=6, kv_heads=2, keys=300)
    generator = torch.Generator().manual_seed(each)
    pages = torch.rand(2, 2 * each, 19, generator=generator).argsort(-1)[..., :13].int()
    found = decode_pages(query, key, value, pages, page=16, splits=splits, scaling=0.4)
    close(found, oracles.attend(query, key, value, listed(pages, 16, 300, 3 // each), 0.4))


def test_empty_entries_are_skipped_and_empty_lists_give_zero(states: Callable[..., Any]) -> None:
    query, key, value = states(batch=2, heads=4, kv_heads=2, keys=200)
    pages = torch.tensor([[[3, -1, 0, -1, -1, 12], [-1] * 6], [[-1, 5, -1, -1, -1, -1], [0, 1, 2, 3, 4, 5]]]).int()
    found = decode_pages(query, key, value, pages, page=16, splits=2)
    allowed = listed(pages, 16, 200, 2)
    allowed[0, 2:] = True
    expected = oracles.attend(query, key, value, allowed)
    expected[0, 2:] = 0
    close(found, expected)
    assert not decode_pages(query, key, value, pages[..., :0], page=16).any()


def test_sequences_of_different_lengths(states: Callable[..., Any]) -> None:
    query, key, value = states(batch=3, heads=4, kv_heads=2, keys=90)
    lengths = torch.tensor([1, 90, 33], dtype=torch.int32)
    pages = torch.arange(6, dtype=torch.int32).expand(3, 2, -1)
    found = decode_pages(query, key, value, pages, page=16, lengths=lengths)
    close(found, oracles.attend(query, key, value, listed(pages, 16, 90, 2, lengths)))


def test_keys_that_are_a_slice_of_a_larger_cache(states: Callable[..., Any]) -> None:
    query, key, value = states(batch=2, heads=4, kv_heads=2, keys=120)
    pages = torch.arange(5, dtype=torch.int32).expand(2, 2, -1)
    found = decode_pages(query, key[:, :, 10:90], value[:, :, :80], pages, page=16)
    close(found, oracles.dense(query, key[:, :, 10:90], value[:, :, :80]))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("keys", "page", "count"), [(1, 16, 1), (40, 16, 2), (700, 8, 9), (530, 4, 33)])
def test_the_chosen_pages_are_the_oracles(
    states: Callable[..., Any], keys: int, page: int, count: int, whole: bool, own: bool
) -> None:
    query, key, _ = states(batch=2, heads=6, kv_heads=2, keys=keys, whole=whole)
    bounds = PageBounds(page)
    bounds.update(key)
    found = choose_pages(query, bounds.pages(), count, per_query_head=own)
    tail = keys - (-(-keys // page) - 1) * page
    budget = (count - 1) * page + tail
    expected = oracles.paged_mask(query, key, page=page, budget=budget, per_query_head=own)[:, :: 1 if own else 3]
    assert torch.equal(listed(found, page, keys, 1)[:, :, 0], expected)


def test_more_pages_than_one_program_takes(states: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, _ = states(batch=2, heads=6, kv_heads=2, keys=300, whole=True)
    bounds = PageBounds(4)
    bounds.update(key)
    expected = choose_pages(query, bounds.pages(), 20)
    monkeypatch.setattr(kernels, "_SELECTED", 64)
    assert torch.equal(choose_pages(query, bounds.pages(), 20), expected)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_the_largest_scores_are_those_of_a_stable_sort(count: int) -> None:
    inf = float("inf")
    scores = torch.tensor(
        [[inf, 0.0, -0.0, 1.5, -2.0, 1.5, -inf, 1e-40, inf], [-1.0] * 9, [-3.0, -1, -2, -1, -9, -0.0, 0.0, -5, -inf]]
    )
    chosen = torch.full((3, count), -7, dtype=torch.int32)
    kernels.select_kernel[(3,)](scores, chosen, 9, count, BLOCK_P=16)
    assert torch.equal(chosen.long(), top_indices(scores, count))


@pytest.mark.parametrize("marked", [None, [1], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("own", [False, True])
def test_the_method_in_kernels_is_the_method_in_torch(
    states: Callable[..., Any], marked: list[int] | None, own: bool
) -> None:
    streaming = None
    if marked is not None:
        streaming = torch.zeros(1, 3, dtype=torch.bool)
        streaming[0, marked] = True
    options: dict[str, Any] = {"page": 16, "per_query_head": own, "streaming": streaming, "sinks": 2, "window": 9}
    fast, plain = PagedAttention(64, kernel="triton", **options), PagedAttention(64, kernel="torch", **options)
    for keys in (149, 150, 151):
        query, key, value = states(batch=2, heads=6, kv_heads=3, keys=keys)
        close(fast.attend(0, query, key, value), plain.attend(0, query, key, value))
