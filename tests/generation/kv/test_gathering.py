"""One gather for all heads against indexing head by head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from carrel.generation.kv.gathering import attend_chosen, gather_rows  # noqa: E402
from carrel.generation.kv.oracles import attend  # noqa: E402

pytestmark = pytest.mark.extras


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("heads", [None, [2, 0]])
def test_rows_are_those_of_their_own_head(contiguous: bool, heads: list[int] | None) -> None:
    states = torch.arange(2 * 3 * 5 * 4).float().view(2, 3, 5, 4)
    if not contiguous:
        states = torch.cat([states, states], dim=2)[:, :, :5]
    index = torch.tensor([4, 1]).expand(2, 3 if heads is None else 2, 2, -1).clone()
    index[1, 1, 0] = torch.tensor([0, 3])
    rows = gather_rows(states, None if heads is None else torch.tensor(heads), index)
    for b in range(2):
        for h, head in enumerate(heads or [0, 1, 2]):
            for g in range(2):
                assert torch.equal(rows[b, h, g], states[b, head, index[b, h, g]])


@pytest.mark.parametrize(("heads", "kv_heads", "each"), [(4, 4, 1), (8, 2, 1), (8, 2, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_over_choices_is_masked_attention(
    states: Callable[..., Any], heads: int, kv_heads: int, each: int, dtype: Any
) -> None:
    query, key, value = states(batch=2, heads=heads, kv_heads=kv_heads, keys=12, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    index = torch.rand(2, kv_heads, each, 12, generator=generator).argsort(-1)[..., :5]
    allowed = torch.zeros(2, kv_heads, each, 12, dtype=torch.bool).scatter(-1, index, True)
    allowed = allowed.repeat_interleave(heads // kv_heads // each, dim=2).view(2, heads, 1, 12)
    pair = [(torch.tensor([0]), index[:, :1]), (torch.arange(1, kv_heads), index[:, 1:])]
    expected = attend(query, key, value, allowed)
    for choices in ([(None, index)], pair):
        found = attend_chosen(query, key, value, choices, query.shape[-1] ** -0.5)
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=1e-2)
