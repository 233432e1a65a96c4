"""Disturbance: rows of a batch are disturbed as drawn, calm ones not at all, and nothing stays in the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from carrel.generation.kv.loading import load_model  # noqa: E402
from carrel.memory.parametric.disturbance import Disturbance  # noqa: E402
from carrel.memory.parametric.recipes import PARAMETRIC_RAG  # noqa: E402
from carrel.memory.parametric.training import Learner, adapted  # noqa: E402
from tests.memory.parametric.needles import MODEL  # noqa: E402

pytestmark = pytest.mark.extras
IDS = torch.tensor([[1, 5, 200 + row, 9, 6] for row in range(12)])
MASK = torch.ones_like(IDS)
OWN = torch.arange(12) < 6


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(MODEL, dtype="float32", device="cpu", quiet=True)[0]


@pytest.fixture
def learner(model: Any) -> Iterator[Learner]:
    """An adapter that says something: not the zeros it begins with."""
    with adapted(model, PARAMETRIC_RAG) as made:
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in made.weights:
                weight.copy_(0.2 * torch.randn_like(weight))
        yield made


def run(learner: Learner, disturbance: Disturbance) -> tuple[Any, Any]:
    with torch.no_grad(), disturbance.during(OWN, ~OWN, MASK) as calm:
        return learner.logits(IDS, MASK), calm


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_calm_rows_are_as_without(learner: Learner, strength: float) -> None:
    with torch.no_grad():
        plain = learner.logits(IDS, MASK)
    disturbance = Disturbance(learner.wrapped, "own", strength, np.random.default_rng(1))
    logits, calm = run(learner, disturbance)
    assert 0 < int(calm.sum()) < 12 or strength == 0
    torch.testing.assert_close(logits[calm], plain[calm])
    off = (logits - plain).abs().amax((1, 2))
    assert bool((off[~calm] > 1e-3).all()) and bool(calm.all()) == (strength == 0)
    with torch.no_grad():
        torch.testing.assert_close(learner.logits(IDS, MASK), plain)  # outside, nothing is disturbed
    disturbance.remove()


def test_loudness_is_of_what_the_adapter_adds_to_silent_rows(learner: Learner) -> None:
    disturbance = Disturbance(learner.wrapped, "own", 0.0, np.random.default_rng(1))
    run(learner, disturbance)
    loud = float(disturbance.loudness())
    with torch.no_grad():
        for weight in learner.weights:
            weight.mul_(0.5)
    run(learner, disturbance)
    assert 0 < float(disturbance.loudness()) < 0.5 * loud
    with torch.no_grad():
        for weight in learner.weights:
            weight.zero_()
    run(learner, disturbance)
    assert float(disturbance.loudness()) == 0
    disturbance.remove()


def test_the_bare_model_is_not_disturbed(learner: Learner) -> None:
    bare = learner.bare_logits(IDS, MASK)
    disturbance = Disturbance(learner.wrapped, "own", 1.0, np.random.default_rng(1))
    with disturbance.during(OWN, ~OWN, MASK):
        torch.testing.assert_close(learner.bare_logits(IDS, MASK), bare)
    disturbance.remove()
    assert not any(module._forward_hooks for module in learner.wrapped.modules())


def test_without_ones_own_there_is_nothing_to_imitate(learner: Learner) -> None:
    with torch.no_grad():
        plain = learner.logits(IDS, MASK)
    disturbance = Disturbance(learner.wrapped, "own", 1.0, np.random.default_rng(1))
    nobody = torch.zeros(12, dtype=torch.bool)
    with torch.no_grad(), disturbance.during(nobody, ~nobody, MASK):
        torch.testing.assert_close(learner.logits(IDS, MASK), plain)
    disturbance.remove()
