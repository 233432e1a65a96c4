"""Dialogues with planted facts: what is in them, and that what is measured is what the model says."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.extras
ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests" / "models" / "needle_lm"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("kv_sirllm")


@pytest.fixture
def language(benchmark: Any) -> Any:
    return benchmark.Language(MODEL, transformers.AutoTokenizer.from_pretrained(str(MODEL)))


@pytest.fixture(scope="module")
def model() -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(str(MODEL), dtype=torch.float32).eval()


@pytest.mark.parametrize("kind", ["phrases", "words"])
def test_every_fact_is_said_once_in_the_turn_that_is_named(language: Any, kind: str) -> None:
    dialogue = language.dialogue(np.random.default_rng(3), 600, 20, kind)
    assert 600 <= dialogue.tokens < 620 and len(dialogue.facts) == 20
    for fact, turn in dialogue.facts:
        said = ",".join(map(str, language.said(fact)[:2]))
        found = [number for number, ids in enumerate(dialogue.turns) if said in ",".join(map(str, ids))]
        assert found == [turn]


def test_what_is_kept_whole_is_answered_and_what_a_window_has_lost_is_not(
    benchmark: Any, language: Any, model: Any
) -> None:
    dialogue = language.dialogue(np.random.default_rng(4), 400, 12, "phrases")
    assert all(benchmark.answered(model, language, dialogue, 500, {}))
    known = benchmark.answered(model, language, dialogue, 100, {"retain": "window"})
    last = [turn >= len(dialogue.turns) - 1 for _, turn in dialogue.facts]
    assert sum(known) < 8 and all(right for right, recent in zip(known, last, strict=True) if recent)


def test_teaching_makes_the_chatter_expected(benchmark: Any, language: Any) -> None:
    torch.manual_seed(0)
    pupil = transformers.AutoModelForCausalLM.from_pretrained(str(MODEL), dtype=torch.float32)
    first = benchmark.teach(pupil, language, 1, 0)
    assert benchmark.teach(pupil, language, 6, 0) < first
    assert not pupil.training
