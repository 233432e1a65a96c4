"""Presses of kvpress as policies, against kvpress itself."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
if importlib.util.find_spec("kvpress") is None:
    pytest.skip("kvpress is not installed", allow_module_level=True)
from transformers import DynamicCache  # noqa: E402

from carrel.errors import GenerationError, InputError  # noqa: E402
from carrel.generation.kv.policies import Everything, make_policy  # noqa: E402
from carrel.generation.kv.press_scopes import kvpress_package  # noqa: E402
from carrel.generation.kv.presses import HeadPatterns, presses  # noqa: E402
from tests.generation.kv.press_cases import (  # noqa: E402
    CONTEXT,
    CURVES,
    LENGTH,
    PATTERNS,
    QUESTION,
    answered,
    ask,
    drop_masks,
    lengths,
    of_kvpress,
    press,
    read,
    tiny,
    tokens,
    traces,
)  # fmt: skip

pytestmark = pytest.mark.extras
PLAIN = [entry.name for entry in presses() if entry.status == "tested"]
PAIRS = [f"{entry.name}_{scorer}" for entry in presses() for scorer in entry.over[1:]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny(folder=tmp_path_factory.mktemp("model"))


# -- every press ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "keep"), [*((name, keep) for name in PLAIN for keep in (0.25, 0.5)), *((name, 0.5) for name in PAIRS)]
)
def test_every_press_keeps_what_it_says_and_answers(model: Any, name: str, keep: float) -> None:
    for length in (LENGTH,) if name in PAIRS else (LENGTH, 96):
        policy, before = press(name, keep), traces(model)
        cache = read(model, policy, CONTEXT[:, :length])
        assert traces(model) == before
        state = policy.state(model)
        assert len(set(lengths(cache))) == 1
        visible = 2 * 2 * lengths(cache)[0] - policy.hidden(state)
        if policy.entry.frees:
            rounded = 2 * 2 * 20 if name.startswith("chunkkv") else 4  # whole chunks stay, or go
            assert 0 <= 2 * 2 * keep * length - visible <= rounded
            assert bool(state) <= (name.startswith("chunkkv") or name in ("pyramidkv", "kvcompose"))
        else:
            assert lengths(cache) == [length, length]
            assert bool(state) == policy.entry.hides
        if policy.entry.hides and name != "duo_attention":
            assert visible == 2 * 2 * (length - int((1 - keep) * length))
        with policy.asking(model, state):
            logits = ask(model, cache, QUESTION, length)
        assert bool(logits.isfinite().all())
        assert traces(model) == before


@pytest.mark.parametrize("name", PLAIN)
def test_with_everything_kept_a_press_is_dense(model: Any, name: str) -> None:
    policy = press(name, 1)
    cache = read(model, policy, CONTEXT)
    assert policy.hidden(policy.state(model)) == 0
    dense = ask(model, read(model, make_policy(None), CONTEXT), QUESTION, LENGTH)
    torch.testing.assert_close(answered(model, policy, cache), dense, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["snapkv", "leverage", "compactor", "kvzip", "adakv"])
def test_the_same_label_keeps_the_same(model: Any, name: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other = press(name), press(name)
    first = read(model, one, CONTEXT)
    assert torch.equal(torch.rand(3), expected)  # a sketch that a scorer draws is not taken from the caller's numbers
    second = read(model, other, CONTEXT)
    assert one.label == other.label
    for layer, twin in zip(first.layers, second.layers, strict=True):
        assert torch.equal(layer.keys, twin.keys)
    states = one.state(model), other.state(model)
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("kind", ["Mistral", "Qwen2", "Qwen3", "Phi3"])
@pytest.mark.parametrize("name", ["snapkv", "expected_attention", "keydiff", "adakv", "chunkkv", "observed_attention"])
def test_other_models_that_kvpress_knows(kind: str, name: str) -> None:
    special = {"Mistral": {"sliding_window": None}, "Qwen3": {"head_dim": 16}}
    other = tiny(kind, **special.get(kind, {}))
    policy, before = press(name), traces(other)
    cache = read(other, policy, CONTEXT)
    assert lengths(cache) == [LENGTH if policy.entry.hides else LENGTH // 4] * 2
    assert bool(answered(other, policy, cache).isfinite().all())
    assert traces(other) == before


# -- against kvpress -----------------------------------------------------------------------------


FREES = [
    "snapkv", "expected_attention", "knorm", "keydiff", "tova", "streaming_llm", "lagkv", "cur", "cap", "think",
    "criticalkv_expected_attention", "chunkkv", "block", "chunk_knorm", "merging",
]  # fmt: skip
HIDES = ["adakv", "adakv_knorm", "critical_adakv", "kvzip", "kvzip_plus", "kvgrad", "duo_attention"]


@pytest.mark.parametrize("keep", [0.25, 0.5])
@pytest.mark.parametrize("name", FREES)
def test_a_press_that_frees_keeps_what_kvpress_keeps(model: Any, name: str, keep: float) -> None:
    expected = DynamicCache()
    with torch.inference_mode(), of_kvpress(name, keep)(model):
        model.model(input_ids=CONTEXT, past_key_values=expected)
    drop_masks(model)
    policy = press(name, keep)
    cache = read(model, policy, CONTEXT)
    for layer, twin in zip(cache.layers, expected.layers, strict=True):
        torch.testing.assert_close(layer.keys, twin.keys)
        torch.testing.assert_close(layer.values, twin.values)
    torch.testing.assert_close(answered(model, policy, cache), ask(model, expected, QUESTION, LENGTH))


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("keep", [0.25, 0.5])
@pytest.mark.parametrize("name", HIDES)
def test_a_press_that_hides_answers_as_kvpress_does(model: Any, name: str, keep: float, head: bool) -> None:
    """Against kvpress token by token: for many queries at once it finds no key to write over the hidden ones."""
    expected = DynamicCache()
    with torch.inference_mode(), of_kvpress(name, keep)(model):
        model.model(input_ids=CONTEXT, past_key_values=expected)
    masked = [len(layer.self_attn.masked_key_indices[0]) for layer in model.model.layers]
    logits = ask(model, expected, QUESTION, LENGTH, one_by_one=True)
    drop_masks(model)
    policy = press(name, keep)
    cache = read(model, policy, CONTEXT, head=head)
    assert policy.hidden(policy.state(model)) == sum(masked) > 0
    torch.testing.assert_close(answered(model, policy, cache), logits, atol=1e-4, rtol=1e-4)


def test_hidden_keys_stay_in_the_cache_as_they_are(model: Any) -> None:
    dense = read(model, make_policy(None), CONTEXT)
    policy = press("adakv")
    cache = read(model, policy, CONTEXT)
    answered(model, policy, cache)
    for layer, twin in zip(cache.layers, dense.layers, strict=True):
        assert torch.equal(layer.keys[:, :, :LENGTH], twin.keys)
        assert torch.equal(layer.values[:, :, :LENGTH], twin.values)


@pytest.mark.parametrize("name", ["pyramidkv", "kvcompose", "chunkkv_knorm"])
def test_layers_of_different_lengths_answer_as_in_kvpress(model: Any, name: str) -> None:
    """Against kvpress token by token: for many tokens at once the model makes the mask of the first layer for all."""
    expected, context = DynamicCache(), CONTEXT[:, :150]
    options = {"window_size": 8, "beta": 2} if name == "pyramidkv" else {}
    kvpress = kvpress_package()
    made = {
        "pyramidkv": lambda: kvpress.PyramidKVPress(compression_ratio=0.75, window_size=8, beta=2),
        "kvcompose": lambda: kvpress.KVComposePress(compression_ratio=0.75),
        "chunkkv_knorm": lambda: kvpress.ChunkKVPress(kvpress.KnormPress(compression_ratio=0.75)),
    }
    with torch.inference_mode(), made[name]()(model):
        model.model(input_ids=context, past_key_values=expected)
    vars(model.model).pop("forward", None)
    drop_masks(model)
    of_layers = lengths(expected)
    assert len(set(of_layers)) == 2 or name == "chunkkv_knorm"
    logits = ask(model, expected, QUESTION, 150, one_by_one=True)
    policy = press(name, **options)
    cache = read(model, policy, context)
    assert lengths(cache) == [max(of_layers)] * 2
    state = policy.state(model)
    assert policy.hidden(state) == 2 * (2 * max(of_layers) - sum(of_layers))
    for layer, twin, length in zip(cache.layers, expected.layers, of_layers, strict=True):
        torch.testing.assert_close(layer.keys[:, :, :length], twin.keys[:, :, :length])
    with policy.asking(model, state):
        torch.testing.assert_close(ask(model, cache, QUESTION, 150), logits, atol=1e-4, rtol=1e-4)


def test_a_state_from_a_file_is_enough_to_ask(model: Any) -> None:
    policy = press("kvzip")
    cache = read(model, policy, CONTEXT)
    state = {name: marks.clone() for name, marks in policy.state(model).items()}
    assert all(marks.dtype == torch.bool and marks.shape == (2, LENGTH) for marks in state.values())
    expected = answered(model, policy, cache)
    cache.crop(LENGTH)
    restarted = press("kvzip")
    assert restarted.hidden(state) == policy.hidden(state)
    with restarted.asking(model, state):
        torch.testing.assert_close(ask(model, cache, QUESTION, LENGTH), expected, atol=0, rtol=0)


def test_the_next_context_has_its_own_masks(model: Any) -> None:
    policy = press("adakv")
    read(model, policy, CONTEXT)
    first = policy.state(model)
    read(model, policy, tokens(100, seed=8))
    assert policy.state(model)["hidden.0"].shape == (2, 100)
    assert first["hidden.0"].shape == (2, LENGTH)


def test_think_sets_channels_of_the_keys_to_nothing(model: Any) -> None:
    policy = press("think", 0.25)
    keys = read(model, policy, CONTEXT).layers[0].keys
    assert (keys == 0).all(dim=2).sum(dim=2).tolist() == [[12, 12]]  # of 16
    assert policy.hidden(policy.state(model)) == 0


def test_duo_attention_hides_the_middle_from_the_heads_that_look_nearby(model: Any) -> None:
    policy = press("duo_attention", 0.5)
    read(model, policy, CONTEXT)
    hidden = policy.state(model)
    assert hidden["hidden.0"].sum(dim=1).tolist() == [0, LENGTH - 20]
    assert hidden["hidden.1"].sum(dim=1).tolist() == [LENGTH - 20, 0]
    assert not hidden["hidden.1"][0, :4].any()
    assert not hidden["hidden.1"][0, -16:].any()


# -- compositions --------------------------------------------------------------------------------


def composed(model: Any, spec: str) -> tuple[Any, Any]:
    policy = make_policy(spec)
    cache = read(model, policy, CONTEXT)
    for number, layer in enumerate(cache.layers):
        layer.keys, layer.values = policy.kept(number, layer.keys, layer.values)
    return policy, cache


@pytest.mark.parametrize(
    ("spec", "length"),
    [
        ("snapkv:0.5+int8", 80), ("knorm:0.5+keydiff:0.5", 40), ("snapkv:0.5+random:0.5", 40),
        ("snapkv:0.5+think:0.5", 80),
    ],
)  # fmt: skip
def test_presses_that_free_compose(model: Any, spec: str, length: int) -> None:
    before = traces(model)
    policy, cache = composed(model, spec)
    assert lengths(cache) == [length, length]
    assert bool(answered(model, policy, cache).isfinite().all())
    assert traces(model) == before
    assert policy.label == spec


def test_a_press_that_hides_composes_with_bits(model: Any) -> None:
    policy, cache = composed(model, "adakv:0.5+int8")
    alone = press("adakv", 0.5)
    read(model, alone, CONTEXT)
    assert policy.hidden(policy.state(model)) == alone.hidden(alone.state(model)) == 320
    torch.testing.assert_close(answered(model, policy, cache), answered(model, alone, read(model, alone, CONTEXT)))


@pytest.mark.parametrize("spec", ["adakv:0.5+kvzip:0.5", "kvzip:0.5+adakv_knorm:0.5"])
def test_two_presses_that_hide_do_not_compose(model: Any, spec: str) -> None:
    before = traces(model)
    with pytest.raises(InputError, match="and so does another policy"):
        composed(model, spec)
    assert traces(model) == before
    composed(model, "adakv:0.5")  # and the model is free again


@pytest.mark.parametrize("spec", ["kvzip:0.5+snapkv:0.5", "snapkv:0.5+kvzip:0.5", "knorm:0.5+adakv_knorm:0.5"])
def test_a_press_that_hides_goes_with_none_that_frees(model: Any, spec: str) -> None:
    before = traces(model)
    with pytest.raises(InputError, match="goes with no policy that drops"):
        make_policy(spec)
    one, other = map(make_policy, spec.split("+"))  # and by hand
    with pytest.raises(InputError, match="goes with no policy that drops"), one.reading(model), other.reading(model):
        read(model, Everything(), CONTEXT)
    assert traces(model) == before


def test_nor_with_what_drops_keys_afterwards(model: Any) -> None:
    with pytest.raises(InputError, match=r"adakv:0\.5 hides .* as random:0\.5 does"):
        make_policy("adakv:0.5+random:0.5+int8")
    policy, after = press("adakv", 0.5), make_policy("random:0.5")
    cache = read(model, policy, CONTEXT)
    for number, layer in enumerate(cache.layers):
        layer.keys, layer.values = after.kept(number, layer.keys, layer.values)
    with pytest.raises(GenerationError, match="goes with none that drops"):
        answered(model, policy, cache)


def test_a_press_of_everything_goes_with_one_that_hides(model: Any) -> None:
    policy, cache = composed(model, "adakv:0.5+random:1")
    assert bool(answered(model, policy, cache).isfinite().all())


def test_what_hides_is_refused_before_the_read_where_attention_takes_no_masks(model: Any) -> None:
    before, wanted = model.config._attn_implementation, "'flash_attention_2' attention does not take"
    model.config._attn_implementation = "flash_attention_2"
    try:
        for policy in (press("adakv"), make_policy("adakv:0.5+int8")):
            with pytest.raises(InputError, match=wanted):
                policy.check(model)
            with pytest.raises(InputError, match=wanted), policy.reading(model):
                pass
        press("snapkv").check(model)
    finally:
        model.config._attn_implementation = before


# -- names, options, packages --------------------------------------------------------------------


def test_labels() -> None:
    assert press("snapkv").label == "snapkv:0.25"
    assert press("adakv_snapkv").label == press("adakv").label == "adakv:0.25"
    assert press("adakv_knorm", 0.125).label == "adakv_knorm:0.125"
    assert press("snapkv", window_size=8, kernel_size=3).label == "snapkv:0.25,kernel_size=3,window_size=8"
    assert press("duo_attention").label.startswith("duo_attention:0.25,patterns=")
    other = HeadPatterns(PATTERNS.scores + 0.1, PATTERNS.sinks, PATTERNS.recent)
    assert press("duo_attention", patterns=other).label != press("duo_attention").label
    assert press("lukv", curves=CURVES[::-1]).label != press("lukv").label


def test_options_reach_the_press_and_the_scorer(model: Any) -> None:
    assert lengths(read(model, press("snapkv", window_size=8), CONTEXT[:, :20])) == [5, 5]  # 64 by default
    policy = press("adakv", window_size=8, alpha_safeguard=0.5)
    read(model, policy, CONTEXT[:, :40])
    hidden = policy.state(model)["hidden.0"]
    assert int(hidden.sum()) == 60
    assert hidden.sum(dim=1).max() <= 35  # at least half of the share stays in each head


@pytest.mark.parametrize("name", ["snapkv", "adakv", "kvzip"])
def test_an_unknown_option(name: str) -> None:
    with pytest.raises(InputError, match="has no windows. It has: "):
        press(name, windows=3)


def test_an_option_that_the_press_refuses() -> None:
    with pytest.raises(InputError, match="does not take .*'alpha_safeguard': 2.*alpha_safeguard should be in"):
        press("adakv", alpha_safeguard=2)


@pytest.mark.parametrize("keep", [0, 1.01, -0.5, float("nan")])
def test_a_share_that_is_none(keep: float) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1"):
        press("snapkv", keep)


def test_patterns_from_a_folder(model: Any, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "full_attention_heads.tsv", PATTERNS.scores, delimiter="\t")
    with pytest.raises(InputError, match="holds no patterns of DuoAttention"):
        press("duo_attention", patterns=tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"sink_size": 4, "recent_size": 16}), "utf-8")
    policy, given = press("duo_attention", patterns=str(tmp_path)), press("duo_attention")
    for each in (policy, given):
        read(model, each, CONTEXT)
    assert all(torch.equal(policy.state(model)[name], marks) for name, marks in given.state(model).items())
    label = policy.label
    np.savetxt(tmp_path / "full_attention_heads.tsv", 1 - PATTERNS.scores, delimiter="\t")
    assert press("duo_attention", patterns=tmp_path).label != label


def test_curves_from_a_file(model: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no budget curves"):
        press("lukv", curves=tmp_path / "none.npy")
    np.save(tmp_path / "curves.npy", CURVES)
    policy = press("lukv", curves=tmp_path / "curves.npy")
    read(model, policy, CONTEXT)
    assert policy.hidden(policy.state(model)) == 480


@pytest.mark.parametrize("name", ["duo_attention", "lukv"])
def test_what_would_be_fetched_has_to_be_given(name: str) -> None:
    with pytest.raises(InputError, match=f"make_press\\('{name}'"):
        make_policy(f"{name}:0.25")


@pytest.mark.parametrize(
    ("name", "options"),
    [("duo_attention", {"patterns": HeadPatterns(np.zeros((3, 2)))}), ("lukv", {"curves": np.zeros((99, 2, 4))})],
)
def test_numbers_of_another_model(model: Any, name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is made for another model"):
        press(name, **options).check(model)
