"""The check of the shipped reader: its files against its provenance and its figures."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_export.py"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_export", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder and, beside it, figures."""
    made = tmp_path / "reader"
    made.mkdir()
    known = {}
    for name in ("model.onnx", "tokenizer.json", "calibration.json"):
        (made / name).write_text(name, encoding="utf-8")
        known[name] = hashlib.sha256(name.encode()).hexdigest()
    (made / "provenance.json").write_text(json.dumps({"files_sha256": known}), encoding="utf-8")
    (tmp_path / "results.json").write_text(json.dumps({"model": known["model.onnx"]}), encoding="utf-8")
    return made


def faults(check: ModuleType, folder: Path) -> list[str]:
    found: list[str] = check.reader_faults(folder, folder.parent / "results.json")
    return found


def test_the_files_of_the_training_pass(check: ModuleType, folder: Path) -> None:
    assert faults(check, folder) == []
    (folder.parent / "results.json").unlink()
    assert faults(check, folder) == []


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "calibration.json"])
def test_another_or_a_missing_file_is_a_fault(check: ModuleType, folder: Path, name: str) -> None:
    (folder / name).write_text("other", encoding="utf-8")
    assert faults(check, folder) == [f"{name} is not the one that provenance.json is of"]
    (folder / name).unlink()
    assert faults(check, folder) == [f"{name} is missing"]


def test_a_model_without_hashes_is_a_fault(check: ModuleType, folder: Path) -> None:
    (folder / "provenance.json").write_text('{"files_sha256": {}}', encoding="utf-8")
    assert "model.onnx has no hash in provenance.json" in faults(check, folder)
    (folder / "provenance.json").unlink()
    assert faults(check, folder) == ["provenance.json is missing"]


def test_figures_of_another_model_are_a_fault(check: ModuleType, folder: Path) -> None:
    (folder.parent / "results.json").write_text('{"model": "0"}', encoding="utf-8")
    assert faults(check, folder) == ["results.json has the figures of another model"]
