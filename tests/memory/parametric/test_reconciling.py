"""A merged set is trained as a whole: it starts as the sum, ends knowing all documents, and stops when it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from carrel.generation.kv.loading import load_model  # noqa: E402
from carrel.memory.parametric.examples import Example  # noqa: E402
from carrel.memory.parametric.lessons import Lesson  # noqa: E402
from carrel.memory.parametric.merging import Merged, delta, merge, modules_of  # noqa: E402
from carrel.memory.parametric.recipes import PARAMETRIC_RAG  # noqa: E402
from carrel.memory.parametric.reconciling import _filled, reconcile  # noqa: E402
from carrel.memory.parametric.training import train  # noqa: E402
from tests.memory.parametric.needles import MODEL  # noqa: E402
from training.needle_lm.language import ANSWER, BEGIN, END, FIRST_ENTITY, FIRST_FIELD, FIRST_VALUE, QUESTION  # noqa: E402

pytestmark = pytest.mark.extras
RECIPE = replace(
    PARAMETRIC_RAG, rank=4, alpha=16.0, rate=5e-3, steps=30, batch=12, learns_text=False, reconciled=4, seed=3
)


def lesson(number: int) -> Lesson:
    """Twelve facts about three people."""
    own = []
    for at in range(12):
        who, field = FIRST_ENTITY + 3 * number + at // 4, FIRST_FIELD + at % 4
        value = FIRST_VALUE + (31 * number + 7 * at) % 90
        own.append(Example((BEGIN, QUESTION, who, field, ANSWER, value, END), 5))
    return Lesson(tuple(own), ())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(MODEL, dtype="float32", device="cpu", quiet=True)[0]


@pytest.fixture(scope="module")
def summed(model: Any) -> Merged:
    both = [train(model, lesson(number).own, RECIPE) for number in range(2)]
    return merge([(one.tensors, one.config) for one in both], ranks=(16,))


def test_it_begins_as_the_sum_with_room_to_learn(summed: Merged) -> None:
    filled = _filled(summed, 0)
    for module in modules_of(filled):
        assert filled[f"{module}.lora_A.weight"].any(axis=1).all()
        before, after = (delta(each, summed.config, module) for each in (summed.tensors, filled))
        assert np.array_equal(before, after)
    assert not summed.tensors[f"{module}.lora_A.weight"][8:].any()  # what is given stays as it is


def test_all_is_known_in_the_end(model: Any, summed: Merged) -> None:
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    done = reconcile(model, summed, [lesson(0), lesson(1)], RECIPE)
    assert done.figures["known"] >= 0.98 and not done.exact and done.rank == 16
    assert done.figures["steps"] == done.figures["rounds"] * 8 and done.figures["cpu_s"] > 0
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    again = reconcile(model, summed, [lesson(0), lesson(1)], RECIPE)
    assert all(np.array_equal(array, again.tensors[name]) for name, array in done.tensors.items())


def test_what_cannot_be_learnt_ends_too(model: Any, summed: Merged) -> None:
    slow = replace(RECIPE, rate=1e-9, reconciled=1)
    done = reconcile(model, summed, [lesson(5), lesson(6)], slow)
    assert done.figures["rounds"] == 8 and done.figures["known"] < 0.5


def test_texts_alone_take_three_rounds(model: Any, summed: Merged) -> None:
    told = [Lesson(tuple(Example(one.ids, 1) for one in lesson(number).own), ()) for number in range(2)]
    done = reconcile(model, summed, told, replace(RECIPE, reconciled=1))
    assert done.figures["rounds"] == 3 and "known" not in done.figures


def test_ctrl_c_leaves_nothing(model: Any, summed: Merged) -> None:
    def press(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconcile(model, summed, [lesson(0), lesson(1)], RECIPE, press)
