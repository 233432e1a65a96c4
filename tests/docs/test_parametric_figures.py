"""The tables of parametric memory: what is in the results, or that there are none."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOUND = {
    "manifest": {"date": "2026-01-02T03:04:05", "cpu": "A processor", "versions": {"torch": "2.13"}},
    "threads": 1, "seed": 3,
    "trained": [
        {"document": name, "tokens": 4 * facts, "facts": facts, "before": "0" * facts, "closed": "1" * facts,
         "size_bytes": 3000, "cpu_s": 2.0, "wall_s": 4.0}
        for name, facts in (("a", 8), ("b", 2), ("c", 2))
    ],
    "lift": {"tokens": 32, "closed": "11110000", "cpu_s": 3.0, "wall_s": 3.0},
    "reworded": [
        {"way": "a word inside", "asked": "? the a",
         "2": {"closed": ["1100"], "merged": ["1111"], "reading": ["11", "11"]}}
    ],
    "merged": [
        {"size": size, "facts": 2, "documents": ["b", "c"], "exact": "1100", "reconciled": "1111", "combine": "1110",
         "reconcile_cpu_s": 2.5, "rank": 16.0}
        for size in (1, 3)
    ],
    "skills": [{"adapters": 0, "copying": "1111"}, {"adapters": 3, "copying": "1110"}],
    "going_on": [{"block": 0, "bare": 3.0, "window": 2.0, "memory": 1.0, "both": 0.5}],
}  # fmt: skip


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield importlib.import_module("parametric_figures")
    for name in ("parametric_figures", "generate_docs"):
        sys.modules.pop(name, None)


def test_without_results_it_says_so(figures: Any, tmp_path: Path) -> None:
    assert "not measured yet" in figures.region(tmp_path / "none.json")


def test_the_tables(figures: Any, tmp_path: Path) -> None:
    path = tmp_path / "parametric.json"
    long = {**FOUND["merged"][-1], "facts": 900, "combine": ""}
    path.write_text(json.dumps({**FOUND, "merged": [*FOUND["merged"], long]}))
    text = figures.region(path)
    assert "Measured 2026-01-02 on A processor, 1 thread; torch 2.13; seed 3 (" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert "| Parametric RAG, 2 of them | 8 | 2 | 0.0 [0.0, 49.0] | 100.0 [51.0, 100.0] | 2 | 4 | 3 |" in lines
    assert "| 3 | 2 | 1 | 4, 4 | 50.0 [15.0, 85.0] | 100.0 [51.0, 100.0] | 75.0 [30.1, 95.4] | 2 | 16 |" in lines
    assert "| 3 | 900 | 1 | 4, 1,800 | 50.0 [47.7, 52.3] | 100.0 [99.8, 100.0] | beyond the window | 2 | 16 |" in lines
    assert "| a word inside | `? the a` | 50.0 [15.0, 85.0] | 100.0 [51.0, 100.0] | 100.0 [51.0, 100.0] |" in lines
    assert "| 3 | 75.0 [30.1, 95.4] |" in lines and "| 1 | 3.00 | 2.00 | 1.00 | 0.50 |" in lines


def test_the_committed_results_meet_the_goals(figures: Any) -> None:
    """What the page promises of the tiny model; measured anew, it must still be so."""
    found = figures.load()
    assert all(figures.interval([row["before"]])[0] <= 3 and figures.interval([row["closed"]])[0] >= 95
               for row in found["trained"])  # fmt: skip
    long = max(found["trained"], key=lambda row: row["tokens"])
    assert long["tokens"] >= 1000 and long["wall_s"] <= 60
    assert all(figures.interval([row["reconciled"]])[0] >= 90 for row in found["merged"])
    first, *rest = found["skills"]
    for name in set(first) - {"adapters"}:
        assert all(figures.interval([first[name]])[0] - figures.interval([row[name]])[0] <= 2 for row in rest)


def test_the_plot_is_the_same_each_time(figures: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "parametric.json"
    path.write_text(json.dumps(FOUND))
    drawn = []
    for name in ("one.svg", "two.svg"):
        figures.draw(path, tmp_path / name)
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1] and b"<svg" in drawn[0]
