"""The vectors that the benchmark of vectors is made of, and its recall."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as the benchmark sees it: with its folder on the path."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module("vectors_data")


def corpus(data: ModuleType, seed: int, chunks: int, sentences: int) -> Any:
    source = np.random.default_rng(seed)
    parts = [data.unit(source.standard_normal((count, 16)).astype(np.float32)) for count in (chunks, sentences)]
    return data.Corpus(str(seed), *parts, parts[0][:3])


def test_all_real_vectors_are_kept_and_the_rest_are_made_of_neighbours(data: ModuleType) -> None:
    made = [corpus(data, 1, 50, 120), corpus(data, 2, 40, 90)]
    real = np.concatenate([part for one in made for part in (one.chunks, one.sentences)])
    rows, are_real = data.filled(made, 2000, 3)
    assert (rows.shape, rows.dtype, are_real.sum()) == ((2000, 16), np.float32, 300)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    nearest = (rows @ real.T).max(axis=1)
    assert np.array_equal(nearest > 0.9999, are_real)
    assert 0.5 < np.median(nearest) < 0.98
    again, _ = data.filled(made, 2000, 3)
    assert np.array_equal(rows, again)


def test_fewer_than_there_are_are_drawn_from_the_real_ones(data: ModuleType) -> None:
    one = corpus(data, 1, 50, 120)
    rows, are_real = data.filled([one], 60, 3)
    real = {row.tobytes() for part in (one.chunks, one.sentences) for row in part}
    assert (
        are_real.tolist() == [True] * 60
        and {row.tobytes() for row in rows} <= real
        and len({row.tobytes() for row in rows}) == 60
    )


def test_recall_counts_what_both_have_among_their_first(data: ModuleType) -> None:
    recall = data.recall
    truth = [np.array([1, 2, 3, 4]), np.array([5, 6])]
    assert recall(truth, truth, 3) == 1
    assert recall(truth, [np.array([2, 1, 9, 3]), np.array([7, 6])], 2) == pytest.approx((1 + 0.5) / 2)
