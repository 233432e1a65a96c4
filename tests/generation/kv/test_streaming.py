"""A bounded cache over a text without end, against one that does everything by hand."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from carrel.errors import InputError  # noqa: E402
from carrel.generation.kv import LambdaAttention, apply  # noqa: E402
from carrel.generation.kv.application import inverse_frequencies  # noqa: E402
from carrel.generation.kv.oracles import rotate  # noqa: E402
from carrel.generation.kv.streaming import RetentiveStream  # noqa: E402
from carrel.testing.kv import tiny_model  # noqa: E402
from tests.generation.kv.test_entropies import plainly_retained  # noqa: E402

pytestmark = pytest.mark.extras
MODEL = tiny_model()
LAYERS, HEADS = 2, 2


def text(length: int, seed: int = 0) -> list[int]:
    found: list[int] = torch.randint(0, 64, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return found


class PlainStream:
    """The same by hand: a list of tokens for each head, its keys as they are before any rotation, in double."""

    def __init__(
        self, budget: int, window: int, *, retain: str, sinks: int, recent: float, decay: float, seed: int
    ) -> None:
        self.budget, self.window, self.retain = budget, window, retain
        self.sinks, self.recent, self.decay = sinks, recent, decay
        self.frequencies = inverse_frequencies(MODEL).double()
        self.draws = torch.Generator().manual_seed(seed)
        self.heads: list[list[dict[str, Any]]] = [[] for _ in range(LAYERS * HEADS)]
        self.next = self.tokens = 0
        self.expected: Any = None

    def read(self, ids: list[int]) -> Any:
        size = max(1, min(self.budget // 4, self.budget - self.sinks - 1))
        for start in range(0, len(ids), size):
            self.read_piece(ids[start : start + size])
        return self.expected

    def read_piece(self, ids: list[int]) -> None:
        if len(self.heads[0]) + len(ids) > self.budget:
            spare = max(1, min(self.budget // 32, self.budget - self.sinks - 1))
            self.evict(self.budget - max(len(ids), spare))
        if self.next + len(ids) > self.window:
            for head in self.heads:
                for place, token in enumerate(head):
                    token["position"] = place
            self.next = len(self.heads[0])
        cache = transformers.DynamicCache(config=MODEL.config)
        if self.heads[0]:
            for layer in range(LAYERS):
                heads = self.heads[layer * HEADS : (layer + 1) * HEADS]
                keys = torch.stack([torch.stack([self.turned(t["key"], t["position"]) for t in h]) for h in heads])
                values = torch.stack([torch.stack([t["value"] for t in head]) for head in heads])
                cache.update(keys.float()[None], values[None], layer)
        places = torch.arange(self.next, self.next + len(ids))[None]
        with torch.inference_mode():
            logits = MODEL(
                input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True, position_ids=places
            ).logits[0]
        drawn = torch.rand(len(self.heads), len(ids), generator=self.draws) if self.retain == "random" else None
        for number, token in enumerate(ids):
            before = logits[number - 1] if number else self.expected
            score = 0.0 if before is None else -float(before.log_softmax(-1)[token])
            for row, head in enumerate(self.heads):
                layer = cache.layers[row // HEADS]
                at = layer.keys.shape[2] - len(ids) + number
                key = layer.keys[0, row % HEADS, at].double()
                head.append({
                    "order": self.tokens + number, "position": self.next + number,
                    "score": score if drawn is None else float(drawn[row, number]),
                    "key": self.turned(key, -self.next - number), "value": layer.values[0, row % HEADS, at].clone(),
                })  # fmt: skip
        self.next += len(ids)
        self.tokens += len(ids)
        self.expected = logits[-1]

    def evict(self, number: int) -> None:
        recent = number if self.retain == "window" else int(self.recent * self.budget)
        for row, head in enumerate(self.heads):
            places = plainly_retained([token["score"] for token in head], number, self.sinks, recent)
            self.heads[row] = [head[place] for place in places]

    def end_turn(self) -> None:
        for head in self.heads:
            for token in head:
                token["score"] *= self.decay

    def turned(self, key: Any, position: int) -> Any:
        return rotate(key, position * self.frequencies)


@settings(max_examples=25)
@given(
    turns=st.lists(st.integers(1, 30), min_size=1, max_size=6), budget=st.integers(6, 60), room=st.integers(0, 40),
    retain=st.sampled_from(["sirllm", "window", "random"]), sinks=st.integers(0, 4),
    recent=st.sampled_from([0.0, 0.25, 1.0]), decay=st.sampled_from([1.0, 0.5]), seed=st.integers(0, 99),
)  # fmt: skip
def test_it_says_what_the_plain_way_says(
    turns: list[int], budget: int, room: int, retain: Any, sinks: int, recent: float, decay: float, seed: int
) -> None:
    options: dict[str, Any] = {"retain": retain, "sinks": sinks, "recent": recent, "decay": decay, "seed": seed}
    stream = RetentiveStream(MODEL, budget, window=budget + room, **options)
    plain = PlainStream(budget, budget + room, **options)
    for number, length in enumerate(turns):
        ids = text(length, seed + number)
        torch.testing.assert_close(stream.read(ids), plain.read(ids), atol=2e-4, rtol=2e-4)
        orders = [[token["order"] for token in head] for head in plain.heads]
        assert stream.kept_tokens.tolist() == (orders if retain == "random" else orders[:1])
        stream.end_turn()
        plain.end_turn()


@pytest.mark.parametrize("retain", ["sirllm", "window", "random"])
def test_what_fits_is_read_as_the_model_reads_it(retain: Any) -> None:
    ids = text(100)
    stream = RetentiveStream(MODEL, 100, retain=retain, decay=0.5)
    for start in range(0, 100, 20):
        found = stream.read(ids[start : start + 20])
        stream.end_turn()
    with torch.inference_mode():
        expected = MODEL(input_ids=torch.tensor([ids])).logits[0, -1].float()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert stream.kept_tokens.tolist() == [list(range(100))] * len(stream.kept_tokens)


@settings(max_examples=20)
@given(
    budget=st.integers(6, 40), sinks=st.integers(0, 12), turns=st.lists(st.integers(1, 70), min_size=1, max_size=8),
    retain=st.sampled_from(["sirllm", "window", "random"]), recent=st.floats(0, 1),
)  # fmt: skip
def test_it_never_outgrows_its_budget_and_sinks_stay(
    budget: int, sinks: int, turns: list[int], retain: Any, recent: float
) -> None:
    if budget < sinks + 2:
        with pytest.raises(InputError, match="too small"):
            RetentiveStream(MODEL, budget, sinks=sinks)
        return
    stream = RetentiveStream(MODEL, budget, retain=retain, sinks=sinks, recent=recent, window=64)
    sizes = set()
    for number, length in enumerate(turns):
        for token in text(length, number) if number % 2 else [None]:
            stream.read(text(length, number) if token is None else [token])
            sizes.add(stream.size_bytes)
            assert stream.kept <= budget
            assert {layer.get_seq_length() for layer in stream._bounded} == {stream.kept}
            assert int(stream._positions.max()) < 64
        stream.end_turn()
        for row in stream.kept_tokens.tolist():
            assert row[: min(sinks, stream.tokens)] == list(range(min(sinks, stream.tokens)))
            assert row[-1] == stream.tokens - 1
    assert len(sizes) == 1  # of full buffers, from the first token on


def test_what_is_dropped_is_gone() -> None:
    stream = RetentiveStream(MODEL, 40)
    stream.read(text(40))
    before = [layer._keys.clone() for layer in stream._bounded]
    stream.read([1])
    for layer, old in zip(stream._bounded, before, strict=True):
        assert not layer._keys[:, :, stream.kept :].any()
        assert not layer._values[:, :, stream.kept :].any()
        gone = sorted(set(range(40)) - set(stream.kept_tokens[0].tolist()))
        assert gone
        for place in gone:
            assert not (layer._keys == old[:, :, place : place + 1]).all(-1).any()


def test_old_surprises_fade_with_every_turn() -> None:
    def kept_of_the_first_half(decay: float) -> int:
        stream = RetentiveStream(MODEL, 64, decay=decay, recent=0.1)
        for number in range(20):
            stream.read(text(16, number))
            stream.end_turn()
        return int((stream.kept_tokens < 160).sum())

    assert kept_of_the_first_half(1.0) > kept_of_the_first_half(0.98) > kept_of_the_first_half(0.5) == 4


def test_a_fork_is_another_memory() -> None:
    stream, same = RetentiveStream(MODEL, 24, retain="random"), RetentiveStream(MODEL, 24, retain="random")
    stream.read(text(30))
    same.read(text(30))
    other = stream.fork()
    other.read(text(50, 3))
    assert (stream.tokens, other.tokens) == (30, 80)
    assert torch.equal(stream.read(text(9, 1)), same.read(text(9, 1)))
    assert torch.equal(stream.read([]), same.read([]))


def test_it_begins_anew() -> None:
    stream = RetentiveStream(MODEL, 24)
    expected = stream.read(text(60))
    stream.clear()
    with pytest.raises(InputError, match="Nothing has been read"):
        stream.read([])
    assert torch.equal(stream.read(text(60)), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 5}, "too small"), ({"retain": "lru"}, "'sirllm', 'window' or 'random', not 'lru'"),
        ({"sinks": -1}, "0 or more"), ({"recent": 1.1}, "from 0 to 1"),
        ({"decay": 0}, "above 0"), ({"decay": float("nan")}, "above 0"), ({"window": 39}, "39 positions"),
        ({"budget": 10**6}, "fewer than a budget"),
    ],
)  # fmt: skip
def test_arguments_of_no_use(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RetentiveStream(MODEL, **{"budget": 40, **options})


def small(kind: str, **options: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.25, pad_token_id=0, **options,
    )  # fmt: skip
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("Mistral", {"sliding_window": 16}, "sliding window"),
        ("Cohere", {}, "turns its keys in a way that is not known"),  # in pairs of neighbours, not in halves
    ],
)
def test_models_whose_keys_cannot_be_moved(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RetentiveStream(small(kind, **options), 40)


@pytest.mark.parametrize("kind", ["Qwen2", "Phi3", "StableLm"])  # biases; one projection; a part of each key turned
def test_other_families(kind: str) -> None:
    stream = RetentiveStream(small(kind), 40, window=48)
    for number in range(6):
        assert torch.isfinite(stream.read(text(30, number))).all()
    assert stream.kept <= 40


def test_a_model_that_reads_sparsely_is_refused() -> None:
    with apply(MODEL, LambdaAttention(window=8)), pytest.raises(InputError, match="sparse now"):
        RetentiveStream(MODEL, 40)
