"""Tokens to text: nothing lost, nothing said twice, nothing said that a stop text should have ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from carrel.errors import GenerationError  # noqa: E402
from carrel.generation.kv.decoding import Sampler, Speech, ends_of  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)


def by_bytes(tokens: list[int]) -> str:
    """A byte-level decoder: a token is a byte."""
    return bytes(tokens).decode("utf-8", "replace")


def by_words(tokens: list[int]) -> str:
    """A word-level decoder, which puts spaces between words and none in front."""
    return " ".join(f"w{token}" for token in tokens)


@given(st.text(max_size=60))
def test_characters_come_whole_and_the_pieces_are_the_text(text: str) -> None:
    speech = Speech(by_bytes)
    pieces = [speech.add(byte) for byte in text.encode()]
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + speech.end() == text


@given(st.lists(st.integers(0, 9), max_size=40))
def test_words_are_spaced_as_in_the_whole_text(tokens: list[int]) -> None:
    speech = Speech(by_words)
    assert "".join(speech.add(token) for token in tokens) + speech.end() == by_words(tokens)


@given(st.text("ab\n", max_size=30), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3))
def test_a_reply_ends_before_the_first_stop_text(text: str, stop: list[str]) -> None:
    speech = Speech(by_bytes, stop)
    said = ""
    for byte in text.encode():
        said += speech.add(byte)
        if speech.stopped:
            break
    said += speech.end()
    ends = [text.find(one) + len(one) for one in stop if one in text]  # the stop text that is whole first ends it
    first = min(ends, default=None)
    if first is None:
        assert said == text and not speech.stopped
    else:
        assert speech.stopped and not any(one in said for one in stop)
        assert said == text[:first][: min(text[:first].find(one) for one in stop if one in text[:first])]


def test_half_a_character_at_the_end_is_said_as_such() -> None:
    speech = Speech(by_bytes)
    assert speech.add("é".encode()[0]) == ""
    assert speech.end() == "\ufffd"


def test_the_likeliest_token_and_its_probability() -> None:
    logits = torch.tensor([0.0, 2.0, 1.0])
    chosen = Sampler(0, None).pick(logits)
    assert chosen.token == 1
    assert chosen.logprob == pytest.approx(float(logits.log_softmax(0)[1]))


def test_draws_follow_the_temperature_and_the_seed() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    draws = [Sampler(1.0, seed).pick(logits).token for seed in range(2000)]
    share = torch.bincount(torch.tensor(draws), minlength=3) / 2000
    assert torch.allclose(share, logits.softmax(0), atol=0.05)
    one, other = Sampler(1.0, 7), Sampler(1.0, 7)
    assert [one.pick(logits) for _ in range(20)] == [other.pick(logits) for _ in range(20)]
    cold = Sampler(0.01, 3)
    assert {cold.pick(logits).token for _ in range(20)} == {2}


def test_what_is_no_number_is_an_error() -> None:
    for temperature in (0, 1.0):
        with pytest.raises(GenerationError, match="NaN"):
            Sampler(temperature, 0).pick(torch.tensor([0.0, float("nan"), 1.0]))


def test_the_smallest_temperature_takes_the_likeliest() -> None:
    assert Sampler(1e-300, 0).pick(torch.tensor([0.0, 2.0, 1.0])).token == 1


@pytest.mark.parametrize(
    ("model", "tokenizer", "ends"),
    [(7, 3, {7}), ([7, 8], 3, {7, 8}), (None, 3, {3}), (None, None, set()), (0, 3, {0}), (None, 0, {0})],
)
def test_the_tokens_that_end_a_reply(model: Any, tokenizer: int | None, ends: set[int]) -> None:
    settings = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=model))
    assert ends_of(settings, SimpleNamespace(eos_token_id=tokenizer)) == ends  # type: ignore[arg-type]
