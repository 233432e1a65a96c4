"""`carrel adapters`: lists and removes without a model, says what is missing, and trains one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import carrel
from carrel.app.cli import app
from carrel.memory.parametric.pairs import Pair
from carrel.types import Document
from tests.memory.parametric.needles import MODEL
from tests.memory.parametric.test_files import kept


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with carrel.open(tmp_path / "library", mode="fast") as library:
        library.add_text("bado age 41 . fiju city 07 .", id="bado")
        library.add_text("bado mother fiju .", id="fiju")
    return tmp_path / "library"


def ran(*words: str, code: int = 0) -> Any:
    found = CliRunner().invoke(app, ["adapters", *words])
    assert found.exit_code == code, found.output
    return found


def test_they_are_listed_and_removed(folder: Path) -> None:
    with carrel.open(folder, mode="fast") as library:
        for name in ("bado", "fiju"):
            kept(library, name)
    text = ran("list", "-l", str(folder)).output
    assert "bado: parametric-rag, rank 2, for tiny" in text and "2 adapters" in text
    assert "fiju" not in ran("list", "bado", "-l", str(folder)).output
    found = json.loads(ran("remove", "bado", "--json", "-l", str(folder)).stdout)
    assert found["removed"] == 1 and found["bytes"] > 0
    listed = json.loads(ran("list", "--json", "-l", str(folder)).stdout)["adapters"]
    assert [one["documents"] for one in listed] == [["fiju"]]
    refused = ran("remove", "-l", str(folder), code=2).output
    assert "name the documents whose adapters are to go, or add --all" in refused
    assert "Removed 1 adapter" in ran("remove", "--all", "-l", str(folder)).output


@pytest.mark.parametrize("words", [["train"], ["list", "--model", "x"], ["remove", "--all", "--model", "x"]])
def test_a_model_is_for_training(folder: Path, words: list[str]) -> None:
    found = CliRunner().invoke(app, ["adapters", *words, "-l", str(folder)])
    assert found.exit_code != 0 and "--model" in found.output + str(found.exception)


@pytest.mark.extras
def test_they_are_trained_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    monkeypatch.setattr("carrel.memory.parametric.recipes._TINY_STEPS", 5)
    monkeypatch.setattr("carrel.memory.parametric.recipes._TINY_EPOCHS", 1)
    words = ("train", "bado", "--model", str(MODEL), "--json", "-l", str(folder))
    first = json.loads(ran(*words).stdout)["adapters"]
    assert [one["documents"] for one in first] == [["bado"]] and first[0]["trained"]["steps"] == 5
    assert "its text alone" in ran("list", "-l", str(folder)).output  # the reader finds no English in it to ask about
    assert json.loads(ran(*words).stdout)["adapters"] == first


@pytest.mark.extras
def test_one_that_cannot_be_learnt_stops_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    monkeypatch.setattr("carrel.memory.parametric.recipes._TINY_STEPS", 5)
    monkeypatch.setattr("carrel.memory.parametric.recipes._TINY_EPOCHS", 1)

    def removed_meanwhile(self: object, document: Document) -> list[Pair]:
        if document.id == "bado":
            with carrel.open(folder, mode="fast") as library:
                library.remove("bado")
        return []

    monkeypatch.setattr("carrel.memory.parametric.pairs.ReaderPairs.__call__", removed_meanwhile)
    text = ran("train", "bado", "fiju", "--model", str(MODEL), "-l", str(folder), code=1).output
    assert "no adapter for bado: the document 'bado' was removed or changed while" in text
    assert "fiju: parametric-rag" in text and "1 adapter" in text
