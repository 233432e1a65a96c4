"""The tables of conversation memory are made of its results."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield importlib.import_module("memory_figures")
    for name in ("memory_figures", "generate_docs"):
        sys.modules.pop(name, None)


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


@pytest.fixture
def results(figures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kind = {
        "questions": 7,
        "best_baseline": "bm25",
        "recall": {"carrel": interval(0.9), "cosine": interval(0.4), "bm25": interval(0.5)},
        "gain": {"carrel": interval(0.4)},
    }
    abstained = {"adversarial": interval(0.75), "others": interval(0.15)}
    scope = {
        "dialogues": ["1", "2"], "kinds": {"single-hop": kind, "all": kind}, "abstained": abstained,
        "tokens_mean": 700.4,
    }  # fmt: skip
    adds = {name: {"recall": 0.8, "adds": interval(0.05)} for name in ("single-hop", "all")}
    content = {
        "manifest": {"command": "python benchmarks/memory.py", "commit": "0123456789abcdef"},
        "evaluation": {"budget": 1000, "fitted_on": ["3"], "scopes": {"not_fitted": scope, "all": scope}},
        "budgets": {"250": {**kind, "tokens_mean": 200.2}},
        "ablation": {
            "whole": {"single-hop": 0.9, "all": 0.9},
            "questions": {"single-hop": 7, "all": 7},
            "without": {"people": adds},
        },
    }
    path = tmp_path / "memory.json"
    path.write_text(json.dumps(content))
    monkeypatch.setattr(figures, "RESULTS", path)
    return path


def test_the_tables(figures: Any, results: Path) -> None:
    text = figures.quality()
    assert "| `recall` | 90.0, +40.0 [+30.0, +50.0] | 90.0, +40.0 [+30.0, +50.0] |" in text
    assert "| BM25, with their speaker's name | 50.0 * | 50.0 * |" in text
    assert "`recall` takes 700 tokens on the mean" in text
    assert "75.0 % [65.0, 85.0] of the adversarial questions and on 15.0 % [5.0, 25.0] of the others" in text
    assert "dialogues 1 and 2, on which nothing was fitted" in text
    assert "| 250 | 200 | 90.0 | 40.0 | 50.0 | +40.0 [+30.0, +50.0] |" in text
    signals = figures.signals()
    assert "| all of them | 90.0 | 90.0 |" in signals
    assert "| people | +5.0 | +5.0 [-5.0, +15.0] |" in signals


def test_without_results_they_say_so(figures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "none.json")
    assert figures.quality() == figures.signals() == figures.NOT_MEASURED
    with pytest.raises(SystemExit, match="run benchmarks/memory.py first"):
        figures.main()


def test_the_script_draws(figures: Any, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(figures, "FIGURE", tmp_path / "memory.svg")
    figures.main()
    assert "<svg" in (tmp_path / "memory.svg").read_text()
