"""Which tokens stay by their surprise, and the policy that keeps them of a context."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from carrel.errors import GenerationError, InputError  # noqa: E402
from carrel.generation import TransformersGenerator  # noqa: E402
from carrel.generation.kv import context_model  # noqa: E402
from carrel.generation.kv.context_model import ContextModel  # noqa: E402
from carrel.generation.kv.entropies import SirLLM, follow, retained, surprisals  # noqa: E402
from carrel.generation.kv.policies import Composed, Everything, RandomEviction, make_policy  # noqa: E402
from carrel.testing.kv import tiny_model  # noqa: E402
from carrel.types import Document, Prompt  # noqa: E402

pytestmark = pytest.mark.extras
NEEDLE = Path(__file__).resolve().parents[2] / "models" / "needle_lm"
SCORES = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=30)


def plainly_retained(scores: list[float], number: int, sinks: int, recent: int) -> list[int]:
    """By sorting: sinks, then the last ones, then the others from the highest score, the earlier first."""
    places = list(range(len(scores)))
    first = places[: min(sinks, number)]
    last = [p for p in places[::-1][: min(recent, number - len(first))] if p not in first]
    others = sorted((p for p in places if p not in first + last), key=lambda p: (-scores[p], p))
    return sorted([*first, *last, *others][: min(number, len(scores))])


def context(seed: int, length: int = 160) -> list[int]:
    return torch.randint(0, 64, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@given(SCORES, st.integers(1, 30), st.integers(0, 6), st.integers(0, 12))
def test_sinks_stay_then_the_last_then_the_least_expected(
    scores: list[float], number: int, sinks: int, recent: int
) -> None:
    number = min(number, len(scores))
    found = retained(torch.tensor([scores, scores[::-1]]), number, sinks=sinks, recent=recent)
    assert found[0].tolist() == plainly_retained(scores, number, sinks, recent)
    assert found[1].tolist() == plainly_retained(scores[::-1], number, sinks, recent)


def test_surprise_is_what_the_token_was_expected_with() -> None:
    logits = torch.randn(600, 9, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(600) % 9
    expected = [-math.log(float(row.softmax(0)[token])) for row, token in zip(logits.double(), ids, strict=True)]
    torch.testing.assert_close(surprisals(logits, ids), torch.tensor(expected), atol=1e-5, rtol=1e-5)
    assert surprisals(logits[:0], ids[:0]).shape == (0,)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_a_text_in_pieces_surprises_as_much_as_the_whole(sizes: list[int]) -> None:
    length = sum(sizes)
    logits = torch.randn(length, 7, generator=torch.Generator().manual_seed(length))
    ids = torch.arange(length) * 5 % 7
    whole = follow(None, logits, ids)
    assert float(whole[0]) == 0
    expected, found = None, []
    for piece, said in zip(logits.split(sizes), ids.split(sizes), strict=True):
        found.append(follow(expected, piece, said))
        expected = piece[-1:]
    torch.testing.assert_close(torch.cat(found), whole)


@pytest.mark.parametrize("piece", [7, 2048])
@pytest.mark.parametrize("keep", [0.1, 0.5])
def test_a_context_keeps_what_its_own_reading_says(monkeypatch: pytest.MonkeyPatch, keep: float, piece: int) -> None:
    monkeypatch.setattr(context_model, "_PIECE", piece)
    model, ids = tiny_model(), context(1)
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        logits = model(input_ids=tokens).logits[0].float()
        cache = transformers.DynamicCache(config=model.config)
        model(input_ids=tokens, past_key_values=cache, use_cache=True)
    scores = [0.0, *(-logits[:-1].log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]).tolist()]
    number = round(keep * len(ids))
    places = plainly_retained(scores, number, 4, int(0.25 * number))
    found, _ = ContextModel(model, policy=SirLLM(keep)).context(ids)
    assert found.kept == number
    for kept, whole in zip(found.cache.layers, cache.layers, strict=True):
        torch.testing.assert_close(kept.keys, whole.keys[:, :, places], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(kept.values, whole.values[:, :, places], atol=1e-5, rtol=1e-5)


def test_all_of_it_is_what_dense_gives() -> None:
    model, ids = tiny_model(), context(2)
    answers = []
    for policy in (Everything(), SirLLM(1.0)):
        runner = ContextModel(model, policy=policy)
        found, _ = runner.context(ids)
        answers.append(runner.logits(runner.begin(found, [1, 2, 3])))
    assert torch.equal(*answers)


def test_what_is_predictable_goes_first() -> None:
    """A quarter of a chat about nothing: the facts in it are still known, and at random most are not."""
    phrase = "so then what of it and how has it been with all of that over there . "
    facts = {"bado age": "41", "fiju city": "07", "guka river": "19", "leba year": "88"}
    text = "".join(f"{phrase * 6}{asked} {value} . " for asked, value in facts.items()) + phrase * 8
    right = {}
    for kv in ("sirllm:0.15", "random:0.15"):
        with TransformersGenerator(NEEDLE, kv=kv, instructions="", max_tokens=2) as generator:
            said = [generator.complete(Prompt(f"? {asked}", standing=(Document(text, "chat"),))) for asked in facts]
        right[kv] = sum(one.text.strip() == value for one, value in zip(said, facts.values(), strict=True))
        assert said[0].metrics["context_keys"] == round(0.15 * said[0].metrics["context_tokens"])
    assert right["sirllm:0.15"] == 4 > right["random:0.15"]


@pytest.mark.parametrize(
    ("policy", "label"),
    [
        (SirLLM(0.25), "sirllm:0.25"), (SirLLM(1), "sirllm:1"), (SirLLM(1 / 3), f"sirllm:{1 / 3!r}"),
        (SirLLM(0.5, sinks=0, recent=0.5), "sirllm:0.5,sinks=0,recent=0.5"),
        (make_policy("sirllm:0.25"), "sirllm:0.25"), (make_policy("sirllm"), "sirllm:0.5"),
        (make_policy("sirllm:0.5+random:0.5+int8"), "sirllm:0.5+random:0.5+int8"),
    ],
)  # fmt: skip
def test_its_label_has_every_knob(policy: Any, label: str) -> None:
    assert policy.label == label


@pytest.mark.parametrize("options", [{"keep": 0}, {"keep": 1.5}, {"sinks": -1}, {"recent": 1.5}, {"recent": -0.1}])
def test_arguments_of_no_use(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"share"):
        SirLLM(**{"keep": 0.5, **options})


def test_it_comes_before_what_drops_tokens() -> None:
    for late in (
        [RandomEviction(0.5), SirLLM(0.5)], [SirLLM(0.5), SirLLM(0.5)],
        [RandomEviction(0.5), Composed([SirLLM(0.5), Everything()])],
    ):  # fmt: skip
        with pytest.raises(InputError, match=r"sirllm:0\.5.* goes by all tokens of a context: write it before"):
            Composed(late)
    assert Composed([Everything(), SirLLM(0.5), RandomEviction(0.5)]).drops


def test_a_context_that_it_has_not_read_is_an_error() -> None:
    states = torch.zeros(1, 2, 9, 4)
    with pytest.raises(GenerationError, match="has not seen how the 9 tokens"):
        SirLLM(0.5).kept(0, states, states)
