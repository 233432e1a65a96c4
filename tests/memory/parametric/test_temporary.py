"""A throw-away adapter lowers the loss of a text that goes on, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from carrel.errors import AdapterError, InputError  # noqa: E402
from carrel.generation import TransformersGenerator  # noqa: E402
from carrel.memory.parametric.applying import Layers, applied  # noqa: E402
from carrel.memory.parametric.recipes import TEMP_LORA  # noqa: E402
from carrel.memory.parametric.temporary import TemporaryMemory  # noqa: E402
from carrel.types import Completion, Prompt  # noqa: E402
from tests.memory.parametric.needles import MODEL, documents  # noqa: E402

pytestmark = pytest.mark.extras


@pytest.fixture(scope="module")
def engine() -> Iterator[TransformersGenerator]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with TransformersGenerator(
        MODEL, dtype="float32", device="cpu", instructions="", max_tokens=4, logprobs=True
    ) as made:
        yield made
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    """Three blocks about the same people, each with other facts and in another order."""
    facts = documents(1, 20)[0].text.removesuffix(" .").split(" . ")
    chance = np.random.default_rng(0)
    return [" . ".join(chance.permutation(np.array(facts))[:14].tolist()) + " ." for _ in range(3)]


def test_what_goes_on_is_expected(engine: TransformersGenerator, blocks: list[str]) -> None:
    memory = TemporaryMemory(engine)
    before = memory.loss(blocks[2])
    figures = [memory.learn(block) for block in blocks[:2]]
    assert memory.blocks == 2 and all(each["steps"] > 0 for each in figures)
    after = memory.loss(blocks[2])
    assert after < 0.8 * before
    memory.forget()
    assert memory.loss(blocks[2]) == pytest.approx(before) and memory.blocks == 0


def likely(completion: Completion) -> list[float]:
    return [number for _, number in completion.logprobs]


def test_the_engine_speaks_with_it_only_inside(engine: TransformersGenerator, blocks: list[str]) -> None:
    prompt = Prompt(" ".join(blocks[0].split()[:2]))
    bare = engine.complete(prompt)
    memory = TemporaryMemory(engine)
    memory.learn(blocks[0])
    with memory.recalled():
        recalled = engine.complete(prompt)
    assert likely(engine.complete(prompt)) == pytest.approx(likely(bare), abs=1e-4)  # what both begin with is kept
    assert likely(recalled) != pytest.approx(likely(bare), abs=1e-2)
    assert not any(module._forward_hooks for module in engine.loaded.runner.model.modules())


def test_arguments(engine: TransformersGenerator) -> None:
    memory = TemporaryMemory(engine, recipe=replace(TEMP_LORA, steps=1))
    assert memory.recipe.steps == 1
    with pytest.raises(InputError, match="no words"):
        memory.learn(" ")
    with pytest.raises(InputError, match="no words"):
        memory.loss("")
    with pytest.raises(InputError, match="no recipe|unknown recipe"):
        TemporaryMemory(engine, recipe="none")


@pytest.mark.parametrize("name", ["model.layers.9.mlp.up_proj", "model.layers.0.mlp.up_proj"])
def test_an_adapter_of_another_model(engine: TransformersGenerator, name: str) -> None:
    layers = Layers({name: (torch.zeros(2, 64), torch.zeros(256, 2))}, 2, 0)
    with pytest.raises(AdapterError, match="another model"), applied(engine.loaded.runner.model, layers):
        raise AssertionError
    assert not any(module._forward_hooks for module in engine.loaded.runner.model.modules())
