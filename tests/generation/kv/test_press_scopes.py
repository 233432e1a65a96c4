"""What kvpress leaves behind, what it needs, and how it fails."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
if importlib.util.find_spec("kvpress") is None:
    pytest.skip("kvpress is not installed", allow_module_level=True)
from transformers import DynamicCache  # noqa: E402

from carrel.errors import GenerationError, InputError, MissingDependencyError  # noqa: E402
from carrel.generation.kv.press_scopes import kvpress_package, seeded  # noqa: E402
from carrel.generation.kv.presses import presses  # noqa: E402
from tests.generation.kv.press_cases import CONTEXT, answered, press, read, tiny, traces  # noqa: E402

pytestmark = pytest.mark.extras


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny(folder=tmp_path_factory.mktemp("model"))


@pytest.fixture
def bare() -> Any:
    """A model of no folder, that no other test uses."""
    return tiny()


def test_eager_attention_only_where_a_press_needs_it(model: Any) -> None:
    seen = []
    hook = model.model.register_forward_pre_hook(lambda *_: seen.append(model.config._attn_implementation))
    for name in ("observed_attention", "snapkv", "adakv"):
        read(model, press(name), CONTEXT)
    hook.remove()
    assert seen == ["eager", "sdpa", "sdpa"]
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", ["adakv", "chunkkv", "kvzip", "observed_attention", "snapkv"])
def test_a_model_that_is_loaded_with_eager_attention(model: Any, name: str) -> None:
    policy = press(name)
    expected = answered(model, policy, read(model, policy, CONTEXT))
    model.set_attn_implementation("eager")
    try:
        found = answered(model, policy, read(model, policy, CONTEXT))
        assert model.config._attn_implementation == "eager"
    finally:
        model.set_attn_implementation("sdpa")
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_a_model_that_kvpress_does_not_know() -> None:
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=65, n_embd=8, n_layer=1, n_head=1))
    policy = press("snapkv")
    with pytest.raises(InputError, match="does not know GPT2LMHeadModel.*LlamaForCausalLM.*Qwen3ForCausalLM"):
        policy.check(gpt)
    with pytest.raises(InputError, match="GPT2LMHeadModel"), policy.reading(gpt):
        pass


def failing(model: Any) -> None:
    model(CONTEXT, past_key_values=DynamicCache())
    raise ValueError("mine")


def test_an_error_on_the_way_leaves_the_model_clean_and_passes(model: Any) -> None:
    before = traces(model)
    for name in ("snapkv", "adakv", "kvzip", "kvgrad", "observed_attention"):
        policy = press(name)
        with pytest.raises(ValueError, match="^mine$"), policy.reading(model):
            failing(model)
        assert traces(model) == before
        with pytest.raises(KeyError, match="mine"), policy.reading(model):
            raise KeyError("mine")
        assert policy.state(model) == {}
        assert bool(answered(model, policy, read(model, policy, CONTEXT)).isfinite().all())


@pytest.mark.parametrize(("name", "length"), [("snapkv", 64), ("streaming_llm", 4), ("expected_attention", 3)])
def test_a_context_that_is_too_short(model: Any, name: str, length: int) -> None:
    before = traces(model)
    with pytest.raises(InputError, match=f"{name}:0.25 is nothing for this model or this context.*(window|n_sink)"):
        read(model, press(name), CONTEXT[:, :length])
    assert traces(model) == before


def test_a_reading_without_a_read(model: Any) -> None:
    policy = press("adakv")
    with policy.reading(model):
        pass
    assert policy.state(model) == {}


def test_what_kvpress_replays_needs_the_tokenizer_beside_the_model(bare: Any) -> None:
    before = traces(bare)
    with pytest.raises(InputError, match="kvzip:0.25 needs the model's tokenizer"):
        read(bare, press("kvzip"), CONTEXT)
    assert traces(bare) == before


@pytest.mark.parametrize("name", [entry.name for entry in presses() if entry.status == "untested"])
def test_weights_are_never_fetched(model: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    before = traces(model)
    with pytest.raises(InputError, match=f"{name}:0.25 needs weights made for the model.*downloads nothing"):
        read(model, press(name), CONTEXT)
    assert constants.HF_HUB_OFFLINE is False
    assert traces(model) == before


def test_kvpress_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kvpress", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'carrel\[kv\]'"):
        press("snapkv")
    assert presses()


def test_kvpress_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kvpress.py").write_text("from transformers import NoSuchForCausalLM\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "kvpress")
    with pytest.raises(
        GenerationError, match=r"kvpress \d.* with transformers \d.* cannot be imported.*NoSuch.*0\.5\.5"
    ):
        press("snapkv")


def test_kvpress_without_a_press(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kvpress_package(), "CapPress")
    with pytest.raises(GenerationError, match=r"has no CapPress. Install 0\.5\.5"):
        press("cap")


def test_kvpress_does_not_fit_transformers(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(self: Any, module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        return kwargs["cache_position"]

    base = kvpress_package().BasePress
    monkeypatch.setattr(base, "forward_hook", lambda s, m, a, k, o: hook(s, m, a, {}, o))
    before = traces(model)
    with pytest.raises(GenerationError, match=r"kvpress 0.* with transformers 5.*no longer tells.*Install 0\.5\.5"):
        read(model, press("knorm"), CONTEXT)
    assert traces(model) == before


def test_random_numbers_of_other_gpus_are_left_alone(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: Any) -> None:
        raise AssertionError("another GPU")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("get_rng_state", "set_rng_state", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, touched)
    before, drawn = torch.get_rng_state(), []
    for _ in range(2):
        with seeded(model):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_numbers_of_the_models_gpus_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGPUs:
        def parameters(self) -> list[Any]:
            return [SimpleNamespace(device=torch.device(place)) for place in ("cuda:1", "cpu", "cuda:3", "cuda:1")]

    saved, restored = [], []
    generators = [torch.Generator() for _ in range(4)]
    seeds = [generator.initial_seed() for generator in generators]
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: saved.append(device))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append(device))
    monkeypatch.setattr(torch.cuda, "default_generators", generators, raising=False)
    with seeded(OnGPUs()):
        assert [generator.initial_seed() for generator in generators] == [seeds[0], 0, seeds[2], 0]
    assert saved == restored == [1, 3]


def test_kvpress_is_quiet(model: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("kvpress").level
    for name in ("kvzip", "kvgrad", "criticalkv_expected_attention"):
        read(model, press(name), CONTEXT)
    assert caplog.records == []
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("kvpress").level == level
