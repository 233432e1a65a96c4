"""The benchmark of adapters: its documents share nobody, and what is asked has one answer."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytestmark = pytest.mark.extras
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("parametric")


def test_documents_share_nobody_and_answers_are_in_them(benchmark: Any) -> None:
    made = benchmark.documents(np.random.default_rng(0), [250, 62, 62, 7])
    people = [set(document.text.split()[::4]) for document in made]
    assert sum(map(len, people)) == len(set().union(*people))
    assert [len(benchmark.pairs(document)) for document in made] == [250, 62, 62, 7]
    for document in made:
        pairs = benchmark.pairs(document)
        assert len({pair.question for pair in pairs}) == len(pairs)
        assert all(pair.source in document.text and pair.answer in pair.source for pair in pairs)


def test_the_same_seed_gives_the_same_documents(benchmark: Any) -> None:
    first, second = (benchmark.documents(np.random.default_rng(3), [5, 5]) for _ in range(2))
    assert first == second
