"""Sinks and window, fast against plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from carrel.errors import InputError  # noqa: E402
from carrel.generation.kv import LambdaAttention, oracles, sinks  # noqa: E402

pytestmark = pytest.mark.extras
FREQUENCIES = torch.tensor([1.0, 0.3, 0.1, 0.02, 0.01])


@pytest.mark.parametrize("cap", [None, 7, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads", "batch"), [(2, 2, 1), (8, 2, 2)])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 2), (1, 40), (11, 11), (9, 33), (33, 33)])
def test_every_query_reads_what_the_oracle_reads(
    states: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, queries: int, keys: int, heads: int, kv_heads: int,
    batch: int, dtype: Any, cap: int | None,
) -> None:  # fmt: skip
    monkeypatch.setattr(sinks, "_BLOCK", 4)
    query, key, value = states(
        batch=batch, heads=heads, kv_heads=kv_heads, queries=queries, keys=keys, dtype=dtype, seed=keys
    )
    options: dict[str, Any] = {"sinks": 3, "window": 6, "cap": cap, "inverse_frequencies": FREQUENCIES}
    found = LambdaAttention(**options).attend(0, query, key, value)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert found.dtype == dtype
    expected = oracles.lambda_(query, key, value, **options)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


def test_no_sinks_and_a_scale_of_its_own(states: Callable[..., Any]) -> None:
    query, key, value = states(queries=7, keys=19)
    found = LambdaAttention(sinks=0, window=3).attend(0, query, key, value, scaling=0.9)
    expected = oracles.lambda_(query, key, value, sinks=0, window=3, scaling=0.9)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("keys", "expected"), [(3, [0, 1, 2]), (6, [0, 1, 3, 4, 5]), (9, [0, 1, 6, 7, 8])])
def test_the_choice_is_sinks_and_window(states: Callable[..., Any], keys: int, expected: list[int]) -> None:
    query, key, _ = states(batch=2, heads=4, kv_heads=2, keys=keys)
    (choice,) = LambdaAttention(sinks=2, window=3).choose(0, query, key, 1.0)
    assert choice.heads is None
    assert choice.index.tolist() == [[[expected]] * 2] * 2


@pytest.mark.parametrize(
    "options",
    [
        {"sinks": -1},
        {"window": 0},
        {"window": 8, "cap": 8},
        {"window": 8, "cap": 7, "inverse_frequencies": FREQUENCIES},
    ],
)
def test_parameters_of_no_use_are_errors(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        LambdaAttention(**options)


def test_the_label_of_what_is_read_has_every_knob() -> None:
    options: list[dict[str, Any]] = [
        {}, {"sinks": 5}, {"window": 8}, {"window": 8, "cap": 9, "inverse_frequencies": FREQUENCIES},
        {"window": 8, "cap": 10, "inverse_frequencies": FREQUENCIES},
        {"window": 8, "cap": 9, "inverse_frequencies": 2 * FREQUENCIES},
    ]  # fmt: skip
    labels = [LambdaAttention(**knobs).prefill_label for knobs in options]
    assert len({*labels, ""}) == 7
    assert labels == [LambdaAttention(**knobs).prefill_label for knobs in options]
    assert labels[2] == LambdaAttention(window=8, inverse_frequencies=FREQUENCIES).prefill_label  # nothing is capped
