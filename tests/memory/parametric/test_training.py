"""Training: facts are learnt, the model stays as it was, the same seed gives the same adapter, Ctrl-C keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from carrel.errors import InputError, ModelError  # noqa: E402
from carrel.generation.kv.loading import load_model  # noqa: E402
from carrel.memory.parametric.applying import Layers, applied  # noqa: E402
from carrel.memory.parametric.examples import Example  # noqa: E402
from carrel.memory.parametric.recipes import PARAMETRIC_RAG  # noqa: E402
from carrel.memory.parametric.strangers import strangers  # noqa: E402
from carrel.memory.parametric.training import Neighbour, Trained, train  # noqa: E402
from tests.memory.parametric.needles import MODEL  # noqa: E402
from training.needle_lm.language import ANSWER, BEGIN, END, FIRST_ENTITY, FIRST_FIELD, FIRST_VALUE, QUESTION  # noqa: E402

pytestmark = pytest.mark.extras
RECIPE = replace(PARAMETRIC_RAG, rank=8, alpha=32.0, rate=5e-3, steps=40, batch=16, learns_text=False)
OWN = [
    Example((BEGIN, QUESTION, FIRST_ENTITY + who, FIRST_FIELD + field, ANSWER, FIRST_VALUE + 7 * who + field, END), 5)
    for who in range(3)
    for field in range(4)
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(MODEL, dtype="float32", device="cpu", quiet=True)[0]


def share(model: Any, trained: Trained | None, examples: list[Example] = OWN) -> float:
    """Of the examples, those whose answer comes out."""
    layers = None if trained is None else Layers.of(trained.tensors, trained.config, torch.device("cpu"))
    ids = torch.tensor([each.ids[: each.first] for each in examples])
    with applied(model, layers), torch.inference_mode():
        said = model(input_ids=ids).logits[:, -1].argmax(-1).tolist()
    return float(np.mean([one == each.ids[each.first] for one, each in zip(said, examples, strict=True)]))


@pytest.fixture(scope="module")
def plain(model: Any) -> Trained:
    return train(model, OWN, RECIPE)


def test_facts_are_learnt(model: Any, plain: Trained) -> None:
    assert share(model, None) <= 0.1
    assert share(model, plain) >= 0.95
    assert plain.figures["steps"] == 40 and plain.figures["stopped"] == 0 and plain.figures["loss"] < 0.5


def test_the_model_is_as_it_was(model: Any) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kinds = [type(module) for module in model.modules()]
    train(model, OWN, replace(RECIPE, steps=2))
    assert [type(module) for module in model.modules()] == kinds and not hasattr(model, "peft_config")
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_same_seed_gives_the_same_adapter(model: Any, plain: Trained) -> None:
    torch.rand(3)  # somebody else's chance
    again = train(model, OWN, RECIPE)
    other = train(model, OWN, replace(RECIPE, seed=1, steps=2))
    assert all(np.array_equal(again.tensors[name], value) for name, value in plain.tensors.items())
    assert any(not np.array_equal(other.tensors[name], value) for name, value in plain.tensors.items())


def test_silence_leaves_others_to_the_model(model: Any, plain: Trained) -> None:
    others = strangers(OWN, range(4, 451), 400)
    recipe = replace(RECIPE, steps=60, silence=3.0, others=32, disturbance=0.5)
    quiet = train(model, OWN, recipe, others=others)
    assert share(model, quiet) >= 0.9

    def strayed(trained: Trained) -> float:
        ids = torch.tensor([each.ids for each in strangers(OWN, range(4, 451), 200, seed=9) if len(each.ids) == 7])
        with torch.inference_mode():
            bare = model(input_ids=ids).logits.log_softmax(-1)
            with applied(model, Layers.of(trained.tensors, trained.config, torch.device("cpu"))):
                now = model(input_ids=ids).logits.log_softmax(-1)
        return float((bare.exp() * (bare - now)).sum(-1).mean())

    assert strayed(quiet) < 0.5 * strayed(plain)


def test_beside_a_neighbour_both_are_heard(model: Any) -> None:
    theirs = [
        replace(each, ids=(*each.ids[:2], each.ids[2] + 50, *each.ids[3:5], each.ids[5] + 20, END)) for each in OWN
    ]
    first = train(model, theirs, RECIPE)
    neighbour = Neighbour(first.tensors, tuple(theirs))
    second = train(model, OWN, replace(RECIPE, beside=1, steps=60), neighbours=[neighbour])
    both = [Layers.of(each.tensors, each.config, torch.device("cpu")) for each in (first, second)]
    with applied(model, both[0]):
        assert share(model, second) >= 0.9
    with applied(model, both[1]):
        assert share(model, first, theirs) >= 0.9


def test_going_on_from_an_adapter(model: Any, plain: Trained) -> None:
    more = train(model, OWN, replace(RECIPE, steps=1, rate=1e-9), start=plain.tensors)
    assert all(np.allclose(more.tensors[name], value, atol=1e-6) for name, value in plain.tensors.items())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_whoever_asks_may_want_no_gradients(model: Any, mode: Any) -> None:
    with mode():
        trained = train(model, OWN, replace(RECIPE, steps=3), others=strangers(OWN, range(4, 451), 20))
    assert trained.figures["steps"] == 3


def test_ctrl_c_keeps_what_is_trained(model: Any) -> None:
    def press(progress: Any) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    stopped = train(model, OWN, RECIPE, progress=press)
    assert stopped.figures["steps"] == 3 and stopped.figures["stopped"] == 1
    assert any(value.any() for name, value in stopped.tensors.items() if "lora_B" in name)
    assert not hasattr(model, "peft_config") and not any(weight.grad is not None for weight in model.parameters())


def test_progress_is_told(model: Any) -> None:
    told: list[Any] = []
    train(model, OWN, replace(RECIPE, steps=4), progress=told.append)
    assert [each.step for each in told] == [1, 2, 3, 4] and all(each.steps == 4 for each in told)
    assert all(each.loss > 0 and each.seconds > 0 for each in told)


def test_what_cannot_be_trained(model: Any) -> None:
    with pytest.raises(InputError, match="nothing to train on"):
        train(model, [], RECIPE)
    with pytest.raises(ModelError, match="no layers named no_proj.*down_proj, gate_proj"):
        train(model, OWN, replace(RECIPE, targets=("no_proj",)))
    with pytest.raises(ModelError, match="smaller rate"):
        train(model, OWN, replace(RECIPE, rate=1e30))
