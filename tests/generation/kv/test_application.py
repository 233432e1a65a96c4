"""Sparse attention inside tiny models of the transformers library."""

from __future__ import annotations

import copy
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from carrel.errors import InputError  # noqa: E402
from carrel.generation.kv import ClusteredAttention, LambdaAttention, PagedAttention  # noqa: E402
from carrel.generation.kv.application import Applied, apply, inverse_frequencies, is_applied  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)
SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "initializer_range": 0.2, "eos_token_id": None,
}  # fmt: skip
STEPS = 6


def tiny(kind: str = "Llama", **options: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **options})
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def tokens(batch: int = 1, length: int = 37, seed: int = 0) -> Any:
    return torch.randint(0, 64, (batch, length), generator=torch.Generator().manual_seed(seed))


def greedy(model: Any, ids: Any, **options: Any) -> tuple[Any, Any]:
    """Tokens and logits of a few steps."""
    done = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=STEPS, do_sample=False, pad_token_id=0,
        output_logits=True, return_dict_in_generate=True, **options,
    )  # fmt: skip
    return done.sequences, torch.stack(done.logits)


@pytest.fixture(scope="module", params=["Llama", "Mistral", "Qwen2"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny(request.param, **({"sliding_window": None} if request.param == "Mistral" else {}))


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny()


def whole_budget() -> list[Any]:
    return [
        PagedAttention(64, page=8),
        PagedAttention(64, page=8, per_query_head=True),
        LambdaAttention(window=64),
    ]


@pytest.mark.parametrize("method", whole_budget(), ids=["shared", "own", "lambda"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_budget_of_everything_decodes_as_before(model: Any, method: Any, batch: int) -> None:
    ids = tokens(batch)
    expected, logits = greedy(model, ids)
    with apply(model, method):
        assert model.config._attn_implementation == "carrel_sparse"
        found, sparse = greedy(model, ids)
    assert torch.equal(found, expected)
    torch.testing.assert_close(sparse, logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("levels", [1, 2])
def test_clusters_with_the_whole_budget_decode_as_before(model: Any, levels: int) -> None:
    ids = tokens()
    expected, logits = greedy(model, ids)
    cache = transformers.DynamicCache()
    with apply(model, ClusteredAttention(30, keys_per_cluster=4, levels=levels)) as applied, torch.no_grad():
        model(input_ids=ids[:, :30], past_key_values=cache, use_cache=True)
        applied.fit(cache)
        found, sparse = greedy(model, ids, past_key_values=cache)
    assert torch.equal(found, expected)
    torch.testing.assert_close(sparse, logits, atol=1e-4, rtol=0)


def test_a_small_budget_is_not_dense_and_the_model_gets_its_attention_back(model: Any) -> None:
    ids = tokens()
    _, logits = greedy(model, ids)
    with apply(model, PagedAttention(16, page=4)):
        _, sparse = greedy(model, ids)
    assert torch.allclose(sparse[0], logits[0], atol=1e-4)  # the prefill is dense
    assert not torch.allclose(sparse[1:], logits[1:], atol=1e-3)
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(greedy(model, ids)[1], logits)


def test_the_model_gets_its_attention_back_after_an_error(llama: Any) -> None:
    with pytest.raises(RuntimeError, match="stop"), apply(llama, LambdaAttention()):
        raise RuntimeError("stop")
    assert llama.config._attn_implementation == "sdpa"
    applied = apply(llama, LambdaAttention())
    applied.remove()
    applied.remove()
    assert llama.config._attn_implementation == "sdpa"
    assert not llama.base_model._forward_pre_hooks


def test_one_sequence_after_another_starts_over(llama: Any) -> None:
    """The second sequence has the length of the first, so that only its cache tells them apart."""
    fresh = []
    for seed in (1, 2):
        with apply(llama, PagedAttention(12, page=4)):
            fresh.append(greedy(llama, tokens(seed=seed))[1])
    with apply(llama, PagedAttention(12, page=4)):
        together = [greedy(llama, tokens(seed=seed))[1] for seed in (1, 2)]
    assert torch.equal(torch.stack(together), torch.stack(fresh))


def test_two_caches_in_turn_do_not_mix(llama: Any) -> None:
    """The second is one token ahead: where the first got to, so that only which cache it is tells them apart."""
    texts = [tokens(length=40, seed=seed) for seed in (1, 2)]

    def steps(order: list[int]) -> dict[int, list[Any]]:
        logits: dict[int, list[Any]] = {0: [], 1: []}
        with apply(llama, PagedAttention(12, page=4)) as applied, torch.no_grad():
            caches = {which: prefilled(applied, texts[which][:, : 30 + which]) for which in sorted(set(order))}
            for which in order:
                at = 30 + which + len(logits[which])
                ids = texts[which][:, at : at + 1]
                logits[which].append(llama(input_ids=ids, past_key_values=caches[which]).logits)
        return logits

    together, first, second = steps([0, 1, 0, 1, 1, 0]), steps([0] * 3), steps([1] * 3)
    assert torch.equal(torch.cat(together[0]), torch.cat(first[0]))
    assert torch.equal(torch.cat(together[1]), torch.cat(second[1]))


def prefilled(applied: Applied, ids: Any) -> Any:
    cache = transformers.DynamicCache()
    with torch.no_grad():
        applied.model(input_ids=ids, past_key_values=cache, use_cache=True)
    return cache


@pytest.mark.parametrize("name", ["paged", "clustered"])
def test_a_copy_of_a_fitted_context_answers_each_question_as_if_alone(llama: Any, name: str) -> None:
    context, questions = tokens(length=30), [tokens(length=5, seed=seed) for seed in (1, 2)]

    def method() -> Any:
        return PagedAttention(12, page=4) if name == "paged" else ClusteredAttention(8, keys_per_cluster=4)

    alone = []
    for question in questions:
        with apply(llama, method()) as applied:
            cache = prefilled(applied, context)
            applied.fit(cache)
            alone.append(greedy(llama, torch.cat([context, question], 1), past_key_values=cache)[1])
    with apply(llama, method()) as applied:
        stored = prefilled(applied, context)
        applied.fit(stored)
        found = [
            greedy(llama, torch.cat([context, question], 1), past_key_values=copy.deepcopy(stored))[1]
            for question in questions
        ]
    assert torch.equal(torch.stack(found), torch.stack(alone))


def test_a_cropped_cache_goes_on_from_its_new_end(llama: Any) -> None:
    ids = tokens(length=40)
    with apply(llama, PagedAttention(12, page=4)) as applied, torch.no_grad():
        cache = prefilled(applied, ids[:, :20])
        for at in range(20, 30):
            llama(input_ids=ids[:, at : at + 1], past_key_values=cache)
        cache.crop(-10)
        again = llama(input_ids=ids[:, 35:36], past_key_values=cache).logits
    with apply(llama, PagedAttention(12, page=4)) as applied, torch.no_grad():
        expected = llama(input_ids=ids[:, 35:36], past_key_values=prefilled(applied, ids[:, :20])).logits
    assert torch.equal(again, expected)


def test_another_text_than_the_fitted_one_is_an_error(llama: Any) -> None:
    with apply(llama, ClusteredAttention(8, keys_per_cluster=4)) as applied, torch.no_grad():
        applied.fit(prefilled(applied, tokens(length=30)))
        with pytest.raises(InputError, match="do not begin with it"):
            llama(input_ids=tokens(length=34, seed=9))


def test_part_of_a_cache_can_be_the_context(llama: Any) -> None:
    ids = tokens()
    method = ClusteredAttention(8, keys_per_cluster=4)
    with apply(llama, method) as applied:
        cache = prefilled(applied, ids)
        applied.fit(cache, 20)
        assert method._fitted[1].length == 20
        with pytest.raises(InputError, match="1 to 37"):
            applied.fit(cache, 38)
        with pytest.raises(InputError, match="1 layers"):
            applied.fit_keys([cache.layers[0].keys])


def test_padding_is_an_error(llama: Any) -> None:
    ids = tokens(2)
    for column in (0, -1):
        mask = torch.ones_like(ids)
        mask[1, column] = 0
        with apply(llama, LambdaAttention()), torch.no_grad(), pytest.raises(InputError, match="without padding"):
            llama(input_ids=ids, attention_mask=mask)


def test_masks_and_packed_sequences_are_errors(llama: Any) -> None:
    ids = tokens(length=6)
    causal = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
    with apply(llama, LambdaAttention()), torch.no_grad():
        with pytest.raises(InputError, match="no mask of its own"):
            llama(input_ids=ids, attention_mask=causal)
        with pytest.raises(InputError, match="packed"):
            llama(input_ids=ids, position_ids=torch.tensor([[0, 1, 2, 0, 1, 2]]), use_cache=False)


def test_a_cache_of_fixed_size_is_an_error(llama: Any) -> None:
    cache = transformers.StaticCache(config=llama.config, max_cache_len=64)
    with apply(llama, PagedAttention(32)), torch.no_grad(), pytest.raises(InputError, match="64 keys .* 37 tokens"):
        llama(input_ids=tokens(), past_key_values=cache)


def test_beam_search_is_an_error_where_keys_are_followed(llama: Any) -> None:
    ids = tokens()
    options = {"max_new_tokens": 12, "num_beams": 4, "do_sample": False, "pad_token_id": 0}
    expected = llama.generate(ids, attention_mask=torch.ones_like(ids), **options)
    with apply(llama, PagedAttention(16, page=4)), pytest.raises(InputError, match="one beam"):
        llama.generate(ids, attention_mask=torch.ones_like(ids), **options)
    with apply(llama, LambdaAttention(window=64)):
        assert torch.equal(llama.generate(ids, attention_mask=torch.ones_like(ids), **options), expected)


def test_dropout_and_attention_weights_are_errors(llama: Any) -> None:
    with apply(llama, LambdaAttention()), pytest.raises(InputError, match="output_attentions"), torch.no_grad():
        llama(input_ids=tokens(), output_attentions=True)
    model = tiny(attention_dropout=0.1).train()
    with apply(model, LambdaAttention()), pytest.raises(InputError, match="without dropout"):
        model(input_ids=tokens())


def test_models_with_windows_are_errors() -> None:
    with pytest.raises(InputError, match="sliding window of 16 tokens"):
        apply(tiny("Mistral", sliding_window=16), LambdaAttention())
    model = tiny("Qwen2", use_sliding_window=True, sliding_window=16, max_window_layers=1)
    with pytest.raises(InputError, match="sliding_attention"):
        apply(model, LambdaAttention())


def test_models_that_are_no_decoders_are_errors() -> None:
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    with pytest.raises(InputError, match="BertModel"):
        apply(transformers.BertModel(config), LambdaAttention())


def test_two_methods_at_once_are_an_error(llama: Any) -> None:
    with apply(llama, LambdaAttention()), pytest.raises(InputError, match="sparse already"):
        apply(llama, LambdaAttention())


def test_a_dropped_model_is_freed_without_remove() -> None:
    model = tiny()
    names = [sorted(vars(module)) for module in model.modules()]
    apply(model, PagedAttention(16, page=4)).remove()
    assert [sorted(vars(module)) for module in model.modules()] == names
    apply(model, PagedAttention(16, page=4))
    greedy(model, tokens())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_model_says_whether_its_attention_is_sparse(llama: Any) -> None:
    other = tiny()
    assert not is_applied(llama)
    with apply(llama, LambdaAttention()):
        assert is_applied(llama)
        assert is_applied(llama.model)
        assert not is_applied(other)
    assert not is_applied(llama)


class Sizes:
    """A layer of a cache that unpacks its keys whenever they are asked for, and counts those that are alive."""

    alive = most = 0

    def __init__(self, keys: Any) -> None:
        self._keys = keys

    @property
    def keys(self) -> Any:
        Sizes.alive += 1
        Sizes.most = max(Sizes.most, Sizes.alive)
        keys = self._keys.clone()
        weakref.finalize(keys, self.freed)
        return keys

    def freed(self) -> None:
        Sizes.alive -= 1


@pytest.mark.parametrize("method", [PagedAttention(16, page=4), ClusteredAttention(8, keys_per_cluster=4)])
def test_a_packed_cache_is_fitted_layer_by_layer(llama: Any, method: Any) -> None:
    Sizes.alive = Sizes.most = 0
    with apply(llama, method) as applied:
        cache = prefilled(applied, tokens(length=30))
        layers = [Sizes(layer.keys) for layer in cache.layers]
        packed = SimpleNamespace(layers=layers, get_seq_length=lambda: 30)
        applied.fit(packed)
        assert (Sizes.most, set(method._probes)) == (1, {0, 1})
        with pytest.raises(InputError, match="1 layers"):
            applied.fit(SimpleNamespace(layers=layers[:1], get_seq_length=lambda: 30))


def test_a_call_that_failed_can_be_made_again(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the last layer, once its newest key is known; the caches are cut back as a caller would."""
    ids, method = tokens(length=40), PagedAttention(16, page=4)
    attend, fail = method.attend, [False]

    def failing(layer: int, *states: Any, **options: Any) -> Any:
        if layer == 1 and fail[0]:
            raise RuntimeError("out of memory")
        return attend(layer, *states, **options)

    monkeypatch.setattr(method, "attend", failing)
    with apply(llama, method) as applied, torch.no_grad():
        cache = prefilled(applied, ids[:, :30])
        first = llama(input_ids=ids[:, 30:31], past_key_values=cache).logits
        fail[0] = True
        with pytest.raises(RuntimeError, match="out of memory"):
            llama(input_ids=ids[:, 31:32], past_key_values=cache)
        fail[0] = False
        cache.crop(31)
        again = llama(input_ids=ids[:, 32:33], past_key_values=cache).logits
        cache = prefilled(applied, ids[:, :30])
        assert torch.equal(llama(input_ids=ids[:, 30:31], past_key_values=cache).logits, first)
        assert torch.equal(llama(input_ids=ids[:, 32:33], past_key_values=cache).logits, again)


def test_the_implementation_by_name_alone_is_an_error(llama: Any) -> None:
    apply(llama, LambdaAttention()).remove()
    other = tiny()
    other.set_attn_implementation("carrel_sparse")
    with pytest.raises(InputError, match="through apply"), torch.no_grad():
        other(input_ids=tokens())


def test_inverse_frequencies_are_those_of_the_model(llama: Any) -> None:
    expected = 1 / 10000 ** (torch.arange(0, 8, 2) / 8)
    torch.testing.assert_close(inverse_frequencies(llama), expected)
    with pytest.raises(InputError, match="no rotary"):
        inverse_frequencies(torch.nn.Linear(2, 2))
    scaled = tiny(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
    with pytest.raises(InputError, match="change with the length"):
        inverse_frequencies(scaled)


def test_a_capped_sink_is_as_near_as_if_the_text_between_were_gone() -> None:
    """In one layer, where keys depend on nothing before them, sink and window are a text of their own."""
    model, ids = tiny(num_hidden_layers=1), tokens()
    short = torch.cat([ids[:, :1], ids[:, -8:]], dim=1)
    frequencies = inverse_frequencies(model)
    with torch.no_grad():
        expected = model(input_ids=short).logits[:, -1]
        with apply(model, LambdaAttention(sinks=1, window=8, cap=8, inverse_frequencies=frequencies)):
            capped = model(input_ids=ids).logits[:, -1]
        with apply(model, LambdaAttention(sinks=1, window=8)):
            plain = model(input_ids=ids).logits[:, -1]
    torch.testing.assert_close(capped, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(plain, expected, atol=1e-3)
