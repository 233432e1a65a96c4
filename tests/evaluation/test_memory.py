"""How much of the evidence a memory brings back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from carrel.errors import InputError
from carrel.evaluation.dialogues import load_dialogue
from carrel.evaluation.memory import ALL, BASELINES, CARREL, MemoryEvaluation, evaluate_memory
from carrel.testing.encoders import HashEncoder
from tests.evaluation.dialogue_files import write


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> MemoryEvaluation:
    folder = tmp_path_factory.mktemp("dialogues")
    dialogues = [load_dialogue(write(folder / name)) for name in ("a", "b")]
    return evaluate_memory(dialogues, budget=30, encoder=HashEncoder())


def test_every_question_is_asked_of_every_system(found: MemoryEvaluation) -> None:
    assert len(found.asked) == 10
    assert all(set(each.shares) == {CARREL, *BASELINES} for each in found.asked)


def test_no_budget_is_exceeded(found: MemoryEvaluation) -> None:
    assert 0 < max(each.tokens for each in found.asked) <= 30


def test_with_room_for_everything_everything_is_found(tmp_path: Path) -> None:
    whole = evaluate_memory([load_dialogue(write(tmp_path / "a"))], budget=2000, encoder=HashEncoder())
    for system in whole.systems:
        assert np.nanmean(whole.shares(system)) == 1.0, system


def test_the_last_turns_are_the_last_turns(found: MemoryEvaluation) -> None:
    shares = {each.id: each.shares["last turns"] for each in found.asked if each.dialogue == "a"}
    assert shares["q0"] == 0.0  # turn 3 of 9
    assert shares["q2"] == 0.5  # turns 3 and 9


def test_questions_without_evidence_are_not_counted(found: MemoryEvaluation) -> None:
    assert found.recall(CARREL, "open-domain") is None
    assert found.gain(CARREL, "open-domain") is None
    assert len(found.shares(CARREL)) == 8
    overall = found.recall(CARREL)
    assert overall is not None and overall.mean == pytest.approx(np.nanmean(found.shares(CARREL, ALL)))


def test_the_gain_is_over_the_best_baseline(found: MemoryEvaluation) -> None:
    best = found.best_baseline()
    assert np.nanmean(found.shares(best)) == max(np.nanmean(found.shares(name)) for name in BASELINES)
    gain = found.gain()
    assert gain is not None
    assert gain.mean == pytest.approx(np.nanmean(found.shares(CARREL) - found.shares(best)))


def test_abstention_is_counted_apart(found: MemoryEvaluation) -> None:
    sure = replace(found, asked=tuple(replace(e, answerable=float(e.kind != "adversarial")) for e in found.asked))
    without, rest = sure.abstained(adversarial=True), sure.abstained(adversarial=False)
    assert without is not None and without.mean == 1.0
    assert rest is not None and rest.mean == 0.0


def test_dialogues_that_were_fitted_on_are_set_apart(found: MemoryEvaluation) -> None:
    fitted = replace(found, fitted=("a",))
    assert {each.dialogue for each in fitted.of(fitted=False).asked} == {"b"}
    scopes = json.loads(fitted.to_json())["scopes"]
    assert (scopes["not_fitted"]["dialogues"], scopes["all"]["dialogues"]) == (["b"], ["a", "b"])
    assert list(json.loads(found.to_json())["scopes"]) == ["all"]


def test_the_same_dialogues_give_the_same_figures(found: MemoryEvaluation, tmp_path: Path) -> None:
    again = evaluate_memory(
        [load_dialogue(write(tmp_path / name)) for name in ("a", "b")], budget=30, encoder=HashEncoder()
    )
    assert [replace(each, seconds=0) for each in again.asked if each.kind == "temporal"] == [
        replace(each, seconds=0) for each in found.asked if each.kind == "temporal"
    ]


def test_no_dialogue_is_a_mistake() -> None:
    with pytest.raises(InputError, match="no dialogue"):
        evaluate_memory([])
