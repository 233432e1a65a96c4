"""The table of KV policies in the documentation: what is in the results, or that there are none."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from carrel.evaluation.kv_results import Cell, KVEvaluation, Manifest, Row

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def kv_figures(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield importlib.import_module("kv_figures")
    for name in ("kv_figures", "generate_docs"):
        sys.modules.pop(name, None)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    def cells(right: str, size: int, ms: float) -> dict[int, Cell]:
        return {0: Cell(tuple(mark == "1" for mark in right), 2.0, ms, size, 0.5)}

    rows = [
        Row(64, "dense", None, "dense", cells("1111", 1000, 4.0)),
        Row(512, "dense", None, "dense", cells("1111", 1000, 4.0)),
        Row(512, "random", 0.5, "random:0.5", cells("1100", 500, 3.0)),
        Row(512, "random", 0.125, "random:0.125", cells("1000", 125, 2.0)),
    ]
    machine = {"cpu": "A processor", "cpus": 2, "load": 0.1}
    manifest = Manifest(
        "needle", "f00d", "words, 1 hop", 3, 1, 4, (64, 512), (0.5, 0.125), "2026-01-02T03:04:05", {}, machine,
        {"torch": "2.13"}, {"tova": "kvpress is missing"},
    )  # fmt: skip
    path = tmp_path / "kv.json"
    path.write_text(KVEvaluation(manifest, tuple(rows)).to_json())
    return path


def test_without_results_it_says_so(kv_figures: Any, tmp_path: Path) -> None:
    assert "not measured yet" in kv_figures.region(tmp_path / "none.json", tmp_path / "none.svg")


def test_the_table_of_the_longest_contexts(kv_figures: Any, results: Path, tmp_path: Path) -> None:
    figure = tmp_path / "kv.svg"
    text = kv_figures.region(results, figure)
    assert "contexts of 512 tokens: 1 contexts, 4 questions about each" in text
    assert "Measured 2026-01-02 on A processor; torch 2.13; seed 3." in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0].startswith("| Right answers, percent | all keys | 1/2 of them | 1/8 of them | Memory at 1/8,")
    assert lines[2] == "| `dense` | 100.0 [51.0, 100.0] | – | – | 100 % | 1.00 | 1.00 |"
    assert lines[3] == "| `random` | – | 50.0 [15.0, 85.0] | 25.0 [4.6, 69.9] | 12 % | 1.00 | 0.50 |"
    assert len(lines) == 4
    assert "Left out: tova. kvpress is missing" in text
    assert "](assets/" not in text
    figure.write_text("")
    assert kv_figures.region(results, figure).endswith("![Accuracy against budget](assets/kv.svg)")


def test_the_script_draws(kv_figures: Any, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    found = kv_figures.load(results)
    monkeypatch.setattr(kv_figures, "load", lambda: found)
    monkeypatch.setattr(kv_figures, "FIGURE", tmp_path / "kv.svg")
    kv_figures.main()
    assert "<!-- random" in (tmp_path / "kv.svg").read_text()
    monkeypatch.setattr(kv_figures, "load", lambda: None)
    with pytest.raises(SystemExit, match=r"kv\.json is not there"):
        kv_figures.main()


def test_what_a_dialogue_still_knows(kv_figures: Any, tmp_path: Path) -> None:
    assert "not measured yet" in kv_figures.dialogues_region(tmp_path / "none.json")
    rows = [
        {"method": "everything", "share": None, "budget": 2176, "right": ["1111", "1111"]},
        {"method": "window", "share": 0.5, "budget": 1024, "right": ["1100", "1100"]},
        {"method": "sirllm", "share": 0.5, "budget": 1024, "right": ["1111", "1110"]},
    ]
    found = {
        "manifest": {"versions": {"torch": "2.13"}, "date": "2026-01-02T03:04:05"}, "model": "needle", "dialogues": 2,
        "taught": {"steps": 7, "loss": 0.51234},
        "settings": [{"name": "phrases", "facts": 4, "tokens": 2048, "rows": rows}],
    }  # fmt: skip
    path = tmp_path / "found.json"
    path.write_text(json.dumps(found))
    text = kv_figures.dialogues_region(path)
    assert "2 dialogues of each kind" in text and "after 7 steps" in text and "(0.51 nats a token)" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == "| Dialogue | Kept | `everything` | `window` | `sirllm` |"
    said = "| set phrases that the model expects, 4 facts in 2,048 tokens |"
    assert lines[2] == f"{said} all of them | 100.0 [67.6, 100.0] | – | – |"
    shown = "– | 50.0 [21.5, 78.5] | 87.5 [50.5, 98.0]"  # the last is wider than of 8 alone: dialogues differ
    assert lines[3] == f"{said} 1/2: 1,024 keys | {shown} |"
