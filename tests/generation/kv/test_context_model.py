"""A context read once and texts that follow it: the logits are those of the whole text read at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from carrel.errors import GenerationError, InputError  # noqa: E402
from carrel.generation.kv import PagedAttention, context_model  # noqa: E402
from carrel.generation.kv.context_model import ContextModel, common_length  # noqa: E402
from carrel.generation.kv.policies import Everything, KVPolicy, Quantised, RandomEviction  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)
VOCABULARY = 64


def tiny(kind: str = "Llama", **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.2,
        "eos_token_id": None,
    }  # fmt: skip
    return getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**sizes | options)).eval()


MODEL = tiny()


def ids(length: int, seed: int = 0) -> list[int]:
    drawn: list[int] = torch.randint(0, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return drawn


def whole(model: Any, text: list[int]) -> Any:
    with torch.inference_mode():
        return model(input_ids=torch.tensor([text])).logits[0, -1]


def close(one: Any, other: Any) -> bool:
    return bool(torch.allclose(one, other, atol=1e-4))


def near(one: Any, other: Any) -> bool:
    """With contexts rounded to the 16 bits of their files."""
    return bool(torch.allclose(one, other, atol=0.02))


@settings(max_examples=25)
@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(1, 9)), min_size=1, max_size=8),
)
def test_any_order_of_texts_gives_each_its_own_logits(length: int, turns: list[tuple[int, int, int]]) -> None:
    runner = ContextModel(MODEL)
    texts = {}
    for number, which, more in turns:
        context, _ = runner.context(ids(length, which))
        text = texts.setdefault((number, which), runner.begin(context, ids(3, 10 + number // 2)))
        text.rest += ids(more, more)
        assert close(runner.logits(text), whole(MODEL, ids(length, which) + text.rest))
        assert close(runner.logits(text), whole(MODEL, ids(length, which) + text.rest))  # asked again


def test_other_weights_keep_their_own(tmp_path: Any) -> None:
    """A text that was begun before, and is gone on with after, knows nothing of what was computed meanwhile."""
    model = tiny()
    runner = ContextModel(model, folder=tmp_path)
    begun = runner.begin(runner.context(ids(20))[0], ids(3, 1))
    before = runner.logits(begun)
    kept = None
    for number in range(2):  # the second time with what the first has kept
        with runner.changed(kept) as kept:
            hook = model.model.layers[0].register_forward_hook(lambda *given: 1.5 * given[2])
            context, was_there = runner.context(ids(20))
            text = runner.begin(context, ids(3, 1))
            assert was_there == bool(number)
            assert near(runner.logits(text), whole(model, ids(20) + ids(3, 1)))
            assert not near(runner.logits(text), before)
            runner.end(text)
            hook.remove()
    begun.rest += ids(2, 5)
    assert near(runner.logits(begun), whole(model, ids(20) + begun.rest))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1  # of the model as it is
    assert runner.context(ids(20))[1]


def test_only_what_is_new_is_read() -> None:
    runner = ContextModel(MODEL)
    context, there = runner.context(ids(40))
    assert not there and runner.context(ids(40)) == (context, True)
    read: list[int] = []
    hook = MODEL.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        text = runner.begin(context, ids(7))
        runner.logits(text)
        text.rest.append(5)
        runner.logits(text)
        other = runner.begin(context, [*ids(7), 9, 9])
        assert runner.shared(other) == 7
        runner.logits(other)
    finally:
        hook.remove()
    assert read == [7, 1, 2]


@pytest.mark.parametrize("length", [0, 30])
@pytest.mark.parametrize("policy", [Everything(), Quantised(8)])
def test_texts_that_take_turns_are_not_read_again(policy: KVPolicy, length: int) -> None:
    runner = ContextModel(MODEL, policy=policy)
    context, _ = runner.context(ids(length))
    texts = [runner.begin(context, ids(100, seed)) for seed in (1, 2, 3)]
    alone = []
    for text in texts:
        single = ContextModel(MODEL, policy=policy)
        one = single.begin(single.context(ids(length))[0], text.rest)
        for token in range(5):
            logits = single.logits(one)
            one.rest.append(token)
        alone.append(logits)
    read: list[int] = []
    hook = MODEL.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        for token in range(5):
            taken = []
            for text in texts:
                taken.append(runner.logits(text))
                text.rest.append(token)
    finally:
        hook.remove()
    assert sorted(read, reverse=True) == [100] * 3 + [1] * 12
    assert all(torch.equal(one, other) for one, other in zip(taken, alone, strict=True))
    for text in texts:
        runner.end(text)
    assert context.owner is None and all(text.aside is None for text in texts)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_frequencies_that_change_with_the_length(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Every text is read in one go: its beginning is turned by what its length says."""
    more = {"long_factor": [4.0] * 4, "short_factor": [1.0] * 4, "original_max_position_embeddings": 64}
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, **(more if kind == "longrope" else {})}
    model = tiny(max_position_embeddings=256 if kind == "longrope" else 64, rope_parameters=rope)
    monkeypatch.setattr(context_model, "_PIECE", 16)
    runner = ContextModel(model)
    context, _ = runner.context(ids(100))
    assert context.ids == ()
    text = runner.begin(context, ids(150))
    assert close(runner.logits(text), whole(tiny(**{
        "max_position_embeddings": 256 if kind == "longrope" else 64, "rope_parameters": rope,
    }), ids(150)))  # fmt: skip
    with pytest.raises(InputError, match="change with the length"):
        ContextModel(model, policy=Quantised(8))


@pytest.mark.parametrize("policy", [Everything(), Quantised(8)])
def test_a_context_in_pieces_is_that_in_one(monkeypatch: pytest.MonkeyPatch, policy: KVPolicy) -> None:
    expected = ContextModel(MODEL, policy=policy)
    text = expected.begin(expected.context(ids(50))[0], ids(4, 1))
    monkeypatch.setattr(context_model, "_PIECE", 16)
    runner = ContextModel(MODEL, policy=policy)
    pieces = runner.begin(runner.context(ids(50))[0], ids(4, 1))
    assert close(runner.logits(pieces), expected.logits(text))


def test_positions_stay_those_of_the_whole_context() -> None:
    """Dropped keys leave a gap; nothing moves up."""
    runner = ContextModel(MODEL, policy=RandomEviction(0.5))
    context, _ = runner.context(ids(40))
    assert context.kept == 20 and context.cache is not None
    text = runner.begin(context, ids(3, 1))
    found = runner.logits(text)
    positions = torch.arange(40, 43)[None]
    cache = transformers.DynamicCache()
    for number, layer in enumerate(context.cache.layers):
        cache.update(layer.keys[:, :, :20].clone(), layer.values[:, :, :20].clone(), number)
    with torch.inference_mode():
        expected = MODEL(input_ids=torch.tensor([text.rest]), position_ids=positions, past_key_values=cache).logits
    assert close(found, expected[0, -1])


class Uneven(KVPolicy):
    name = "uneven"
    citation = ""
    label = "uneven"

    def kept(self, layer: int, keys: Any, values: Any) -> Any:
        return keys[:, :, layer:], values[:, :, layer:]


class Noting(KVPolicy):
    """Notes when it is in force, and hands a state on."""

    name = "noting"
    citation = ""
    label = "noting"

    def __init__(self) -> None:
        self.noted: list[Any] = []

    @contextmanager
    def reading(self, model: Any) -> Iterator[None]:
        self.noted.append("reading")
        yield
        self.noted.append("read")

    def state(self, model: Any) -> dict[str, Any]:
        return {"x": torch.ones(3)}

    def hidden(self, state: Any) -> int:
        return int(state["x"].sum())

    @contextmanager
    def asking(self, model: Any, state: Any) -> Iterator[None]:
        self.noted.append(sorted(state))
        yield


def test_a_policy_is_in_force_when_it_says() -> None:
    policy = Noting()
    runner = ContextModel(MODEL, policy=policy)
    context, _ = runner.context(ids(10))
    assert policy.noted == ["reading", "read"] and context.hidden == 3
    runner.logits(runner.begin(context, [1]))
    assert policy.noted[2:] == [["x"]]


def test_as_many_keys_in_every_layer() -> None:
    with pytest.raises(GenerationError, match="different number"):
        ContextModel(MODEL, policy=Uneven()).context(ids(10))


def test_a_failure_in_the_middle_leaves_the_next_text_right(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = ContextModel(MODEL)
    context, _ = runner.context(ids(20))
    text = runner.begin(context, ids(4, 1))

    def broken(*args: Any) -> None:
        raise RuntimeError("broken")

    hook = MODEL.model.layers[1].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="broken"):
        runner.logits(text)
    hook.remove()
    assert close(runner.logits(text), whole(MODEL, ids(20) + text.rest))


def test_sparse_attention_is_fitted_to_each_context() -> None:
    runner = ContextModel(MODEL, attention=PagedAttention(512, sparse_queries=8))
    try:
        for seed in (0, 1, 0):
            context, _ = runner.context(ids(40, seed))
            assert close(runner.logits(runner.begin(context, [3, 4])), whole_dense([*ids(40, seed), 3, 4]))
    finally:
        runner.close()
    assert close(whole(MODEL, ids(9)), whole_dense(ids(9)))


def whole_dense(text: list[int]) -> Any:
    return whole(tiny(), text)


def test_hidden_keys_and_sparse_attention_do_not_go_together() -> None:
    policy = Noting()
    policy.hides = True
    with pytest.raises(InputError, match="paged attention"):
        ContextModel(MODEL, policy=policy, attention=PagedAttention(64))


def test_a_text_needs_a_token() -> None:
    runner = ContextModel(MODEL)
    with pytest.raises(InputError, match="at least one"):
        runner.begin(runner.context(ids(4))[0], [])
    with pytest.raises(InputError, match="16, 8 or 4"):
        ContextModel(MODEL, stored_bits=5)


@given(st.lists(st.integers(0, 2), max_size=8), st.lists(st.integers(0, 2), max_size=8))
def test_common_length(first: list[int], second: list[int]) -> None:
    length = common_length(first, second)
    assert first[:length] == second[:length]
    assert length in (len(first), len(second)) or first[length] != second[length]
