"""What every method gets from the base: dense prefill, sequences, the fixed context, errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

torch = pytest.importorskip("torch")
from carrel.errors import InputError  # noqa: E402
from carrel.generation.kv import Choice, PagedAttention, SparseAttention, oracles  # noqa: E402
from carrel.generation.kv.base import alike, dense_attention  # noqa: E402

pytestmark = pytest.mark.extras


class Last(SparseAttention):
    """Reads the last key only, and writes down when it is asked to forget."""

    name: ClassVar[str] = "last"
    citation: ClassVar[str] = "none"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.forgot = 0

    def forget(self, layer: int) -> None:
        self.forgot += 1

    def choose(self, layer: int, query: Any, key: Any, scaling: float) -> list[Choice]:
        last = torch.tensor([key.shape[2] - 1])
        return [Choice(last.expand(key.shape[0], key.shape[1], 1, 1))]


def test_a_prefill_is_dense_and_a_step_reads_what_is_chosen(states: Callable[..., Any]) -> None:
    query, key, value = states(batch=2, heads=4, kv_heads=2, queries=5, keys=9)
    method = Last()
    found = method.attend(0, query, key, value)
    torch.testing.assert_close(found, oracles.dense(query, key, value), atol=1e-5, rtol=1e-5)
    step = method.attend(0, query[:, :, :1], key, value)
    torch.testing.assert_close(step, value[:, :, -1:].repeat_interleave(2, dim=1))


def test_several_queries_choose_each_for_itself_where_asked(states: Callable[..., Any]) -> None:
    query, key, value = states(heads=2, kv_heads=1, queries=3, keys=9)
    found = Last(sparse_queries=3).attend(0, query, key, value)
    torch.testing.assert_close(found, value[:, :, 6:].expand(1, 2, 3, -1))


@pytest.mark.parametrize("queries", [1, 4, 7])
def test_dense_attention_is_the_oracle(states: Callable[..., Any], queries: int) -> None:
    query, key, value = states(heads=4, kv_heads=2, queries=queries, keys=7)
    found = dense_attention(query, key, value, 0.3)
    torch.testing.assert_close(found, oracles.dense(query, key, value, scaling=0.3), atol=1e-5, rtol=1e-5)


def test_a_past_that_was_not_seen_begins_a_new_sequence(states: Callable[..., Any]) -> None:
    query, key, value = states(keys=9)
    method = Last()
    for length in (7, 8, 9):
        method.attend(0, query, key[:, :, :length], value[:, :, :length])
    assert (method.forgot, method.seen(0)) == (1, 9)
    method.attend(0, query, key[:, :, :8], value[:, :, :8])
    assert (method.forgot, method.seen(0)) == (2, 8)
    method.restart()
    assert (method.forgot, method.seen(0)) == (3, 0)


def test_keys_that_do_not_begin_with_the_fixed_context_are_an_error(states: Callable[..., Any]) -> None:
    query, key, value = states(keys=30, kv_heads=2)
    method = Last()
    method.fit(0, key[:, :, :20])
    method.attend(0, query, key, value)
    method.restart()
    other = key.clone()
    other[:, :, 10:20] += 1
    for wrong in (other, key[:, :, :19]):
        with pytest.raises(InputError, match="do not begin with it"):
            method.attend(0, query, wrong, value[:, :, : wrong.shape[2]])
    method.reset()
    method.attend(0, query, other, value)


def test_a_fixed_context_of_one_row_serves_a_batch_and_a_rounded_cache(states: Callable[..., Any]) -> None:
    query, key, value = states(batch=2, keys=30, kv_heads=2)
    key[1, :, :20] = key[0, :, :20]
    method = Last()
    method.fit(0, key[:1, :, :20])
    method.attend(0, query, key + 0.02 * torch.randn_like(key), value)
    with pytest.raises(InputError):
        method.fit(0, key[:, :, :0])


def test_queries_inside_the_fixed_context_are_dense(states: Callable[..., Any]) -> None:
    query, key, value = states(queries=2, keys=20)
    method = Last(sparse_queries=4)
    method.fit(0, key)
    expected = oracles.dense(query, key, value)
    torch.testing.assert_close(method.attend(0, query, key, value), expected, atol=1e-5, rtol=1e-5)


class Failing(Last):
    """Fails while it chooses for a text of ten tokens, once."""

    def choose(self, layer: int, query: Any, key: Any, scaling: float) -> list[Choice]:
        if key.shape[2] == 10 and self.sparse_queries == 1:
            self.sparse_queries = 2
            raise RuntimeError("out of memory")
        return super().choose(layer, query, key, scaling)


def test_after_an_error_the_layer_begins_anew(states: Callable[..., Any]) -> None:
    query, key, value = states(keys=10)
    method = Failing()
    method.attend(0, query, key[:, :, :9], value[:, :, :9])
    with pytest.raises(RuntimeError):
        method.attend(0, query, key, value)
    assert (method.forgot, method.seen(0)) == (1, 0)
    method.attend(0, query, key, value)
    assert (method.forgot, method.seen(0)) == (2, 10)


def test_what_needs_a_context_is_dense_without_one(states: Callable[..., Any]) -> None:
    class Needs(Last):
        needs_context: ClassVar[bool] = True

    query, key, value = states(keys=9)
    expected = oracles.dense(query, key, value)
    method = Needs()
    torch.testing.assert_close(method.attend(0, query, key, value), expected, atol=1e-5, rtol=1e-5)
    method.fit(0, key[:, :, :5])
    assert not torch.allclose(method.attend(0, query, key, value), expected, atol=1e-3)


def test_keys_are_alike_row_by_row() -> None:
    keys = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    assert alike(keys, 1.01 * keys)
    assert alike(keys[:1], keys[:1].expand(5, -1, -1))
    assert not alike(keys, keys.flip(0))
    assert not alike(keys, keys[:1])
    assert not alike(keys[:, :2], keys)


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ((1, 4, 1, 8), (1, 2, 5, 8), (1, 2, 4, 8)),
        ((1, 4, 1, 8), (1, 3, 5, 8), (1, 3, 5, 8)),
        ((2, 4, 1, 8), (1, 2, 5, 8), (1, 2, 5, 8)),
        ((1, 4, 6, 8), (1, 2, 5, 8), (1, 2, 5, 8)),
        ((1, 4, 1, 8), (1, 2, 5, 4), (1, 2, 5, 8)),
        ((1, 4, 8), (1, 2, 8), (1, 2, 8)),
        ((1, 4, 0, 8), (1, 2, 0, 8), (1, 2, 0, 8)),
    ],
)
def test_shapes_that_do_not_fit_are_errors(query: Any, key: Any, value: Any) -> None:
    with pytest.raises(InputError, match="query \\("):
        Last().attend(0, torch.zeros(query), torch.zeros(key), torch.zeros(value))


def test_no_query_that_chooses_is_an_error() -> None:
    with pytest.raises(InputError, match="sparse_queries"):
        PagedAttention(32, sparse_queries=0)


def test_without_torch_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from carrel.errors import MissingDependencyError\n"
        "try:\n    from carrel.generation.kv import PagedAttention\n"
        "except MissingDependencyError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'carrel[torch]'" in done.stdout
