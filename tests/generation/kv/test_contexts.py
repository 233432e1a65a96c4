"""Contexts in memory under a limit, and in files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from carrel.generation.kv.caches import ContextCache, GrowingLayer  # noqa: E402
from carrel.generation.kv.contexts import ContextStore, EncodedContext  # noqa: E402
from carrel.generation.kv.quantisation import pack_keys, pack_values  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)
SIZE = 2 * 10 * 2 * 8 * 4  # bytes of keys and values of ten tokens, one layer


def states(seed: int = 0) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 2, 10, 8, generator=generator), torch.randn(1, 2, 10, 8, generator=generator)


def context(first: int) -> EncodedContext:
    cache = ContextCache([GrowingLayer(*states(first))])
    return EncodedContext(tuple(range(first, first + 10)), 10, None, cache, {"mark": torch.zeros(2)}, 3, 1.5, SIZE)


def store(folder: Path | None = None, limit: int = 10 * SIZE, **changes: Any) -> ContextStore:
    named: dict[str, Any] = {"fingerprint": "model", "policy": "dense", "bits": None, **changes}
    return ContextStore(limit, folder, device=torch.device("cpu"), **named)


def packed(first: int) -> Any:
    keys, values = states(first)
    return [(pack_keys(keys, 8), pack_values(values, 8))]


def test_the_least_recently_used_go_first() -> None:
    held = store(limit=3 * (SIZE + 8))
    for first in (0, 100, 200):
        held.add(context(first))
    assert held.find(tuple(range(10))) is not None  # used again
    held.add(context(300))
    assert [held.find(tuple(range(first, first + 10))) is None for first in (0, 100, 200, 300)] == [
        False, True, False, False,
    ]  # fmt: skip
    assert held.size_bytes == 3 * (SIZE + 8)


def test_the_newest_stays_however_large() -> None:
    held = store(limit=1)
    held.add(context(0))
    held.add(context(100))
    assert len(held) == 1 and held.find(tuple(range(100, 110))) is not None
    held.clear()
    assert len(held) == held.size_bytes == 0


def test_a_file_brings_a_context_back(tmp_path: Path) -> None:
    store(tmp_path / "new").add(context(0), packed(0))
    found = store(tmp_path / "new").find(tuple(range(10)))
    assert found is not None and (found.kept, found.hidden, found.prefill_s, found.dense_bytes) == (10, 3, 1.5, SIZE)
    assert found.load_s > 0
    cache = found.wake(None)
    assert torch.allclose(cache.layers[0].keys, states()[0], atol=0.05)
    assert found.packed is None and found.kept_bytes == SIZE + 8  # as the model has its numbers
    assert found.wake(None) is cache


def test_in_few_bits_it_stays_packed(tmp_path: Path) -> None:
    store(tmp_path, bits=8).add(context(0), packed(0))
    found = store(tmp_path, bits=8).find(tuple(range(10)))
    assert found is not None and found.kept_bytes < SIZE / 2


@pytest.mark.parametrize("changes", [{"fingerprint": "other"}, {"policy": "int8"}])
def test_a_file_of_another_model_or_policy_is_not_taken(tmp_path: Path, changes: dict[str, str]) -> None:
    store(tmp_path).add(context(0), packed(0))
    other = store(tmp_path, **changes)
    assert other.find(tuple(range(10))) is None
    (file,) = tmp_path.iterdir()
    file.rename(other._path(tuple(range(10))))  # not even under the name of its own
    assert other.find(tuple(range(10))) is None


def test_other_tokens_are_another_context(tmp_path: Path) -> None:
    held = store(tmp_path)
    held.add(context(0), packed(0))
    assert held.find(tuple(range(9))) is None and held.find(tuple(range(1, 11))) is None


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    held = store(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        held.add(context(0), packed(0))
    assert "not saved" in caplog.text and held.find(tuple(range(10))) is not None
