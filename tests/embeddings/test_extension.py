"""The embedder with a longer window: its positions against oracles, its graph against plain NumPy, its conformance."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.embeddings.extension import (
    ExtendedMiniLM,
    distinctness,
    grouped_positions,
    interpolated_positions,
    recurrent_positions,
    rows_at,
)
from carrel.embeddings.minilm import CLS, SEP, MiniLM
from carrel.embeddings.onnx_edit import constants
from carrel.embeddings.token_states import TokenModel, windows_of
from carrel.errors import InputError
from carrel.testing import ChunkEncoderConformance
from carrel.tokens import model_folder

LONG = "The ferry leaves at nine, and the lamps of the harbour burn until the morning. " * 40  # 720 tokens
METHODS = ["interpolated", "grouped", "recurrent", "parallel"]


class TestExtendedMiniLM(ChunkEncoderConformance):
    def make(self) -> ExtendedMiniLM:
        return ExtendedMiniLM(2048, "interpolated")


class TestParallelWindows(ChunkEncoderConformance):
    def make(self) -> ExtendedMiniLM:
        return ExtendedMiniLM(1024, "parallel", 0.8, trained=128)


@cache
def plain() -> MiniLM:
    return MiniLM()


@cache
def graph() -> bytes:
    return (model_folder("minilm") / "model.onnx").read_bytes()


def ids_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1000, 20_000, count)


# -- positions ----------------------------------------------------------------------------------


@given(length=st.integers(2, 3000), trained=st.integers(3, 512))
def test_every_position_is_as_the_paper_has_it(length, trained) -> None:
    scale = math.ceil(length / trained)
    assert grouped_positions(length, trained).tolist() == [place // scale for place in range(length)]
    assert recurrent_positions(length, trained).tolist() == [place % trained for place in range(length)]
    found = interpolated_positions(length, trained)
    assert found == pytest.approx([place * (trained - 1) / (length - 1) for place in range(length)])
    for places in (found, grouped_positions(length, trained), recurrent_positions(length, trained)):
        assert places.shape == (length,) and places.min() == 0 and places.max() <= trained - 1


@given(st.lists(st.floats(0, 6), min_size=1, max_size=20))
def test_a_row_between_two_is_their_weighted_mean(places) -> None:
    table = np.random.default_rng(1).standard_normal((7, 3)).astype(np.float32)
    found = rows_at(table, np.array(places))
    for row, place in zip(found, places, strict=True):
        expected = [np.interp(place, np.arange(7), table[:, column]) for column in range(3)]
        assert row == pytest.approx(expected, abs=1e-5)


# -- the same as without extension --------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_window_of_512_or_a_short_text_is_plain_bit_for_bit(method) -> None:
    texts = ["", "The ferry leaves at nine.", LONG[:1500]]
    assert np.array_equal(ExtendedMiniLM(2048, method).encode_texts(texts), plain().encode_texts(texts))
    same = ExtendedMiniLM(512, method)
    assert np.array_equal(same.encode_texts([LONG]), plain().encode_texts([LONG]))
    full = ids_of(510)
    assert np.array_equal(same.states(full), plain().states(full))


def test_a_temperature_of_1_changes_nothing_and_another_does() -> None:
    ids = ids_of(600)
    found = {temperature: ExtendedMiniLM(1024, "grouped", temperature).states(ids) for temperature in (None, 1.0, 0.7)}
    assert np.array_equal(found[None], found[1.0])
    assert np.abs(found[None] - found[0.7]).max() > 0.01


def test_a_temperature_by_length_is_1_up_to_the_trained_window() -> None:
    encoder = ExtendedMiniLM(1024, "interpolated", "length")
    assert np.array_equal(encoder.states(ids_of(510)), plain().states(ids_of(510)))
    sharper = ExtendedMiniLM(1024, "interpolated", math.log(512) / math.log(802)).states(ids_of(800))
    assert np.array_equal(encoder.states(ids_of(800)), sharper)


# -- against plain NumPy ------------------------------------------------------------------------


def oracle(ids: np.ndarray, rows: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(tokens, 384): BERT in float32 over the int8 weights made float, with given position rows (T, 384)."""
    parts = ["attention", "attention.output.dense", "intermediate.dense", "output.dense"]
    names = ["word_embeddings.int8", "word_embeddings.scale", "segment", "embeddings.gamma", "embeddings.beta"]
    for layer in (f"encoder.layer.{number}" for number in range(6)):
        names += [f"{layer}.{part}.{kind}" for part in parts for kind in ("int8", "scale")]
        names += [f"{layer}.attention.bias", f"{layer}.intermediate.dense.bias"]
        names += [f"{layer}.{part}.{kind}" for part in ("attention.output", "output")
                  for kind in ("gamma", "beta", "residual_bias")]  # fmt: skip
    found = constants(graph(), names)

    def weight(name: str) -> np.ndarray:
        return found[f"{name}.int8"].astype(np.float32) * found[f"{name}.scale"]

    def normal(values: np.ndarray, name: str) -> np.ndarray:
        centred = values - values.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return centred / scale * found[f"{name}.gamma"] + found[f"{name}.beta"]

    tokens = np.array([CLS, *ids, SEP])
    words = found["word_embeddings.int8"][tokens].astype(np.float32) * found["word_embeddings.scale"][tokens]
    hidden = normal(words + rows + found["segment"], "embeddings")
    for layer in (f"encoder.layer.{number}" for number in range(6)):
        mixed = hidden @ weight(f"{layer}.attention") + found[f"{layer}.attention.bias"]
        query, key, value = (part.reshape(-1, 12, 32).transpose(1, 0, 2) for part in np.split(mixed, 3, axis=1))
        logits = query @ key.transpose(0, 2, 1) / math.sqrt(32) / temperature
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        attended = (shares @ value).transpose(1, 0, 2).reshape(-1, 384) @ weight(f"{layer}.attention.output.dense")
        name = f"{layer}.attention.output"
        hidden = normal(attended + hidden + found[f"{name}.residual_bias"], name)
        wide = hidden @ weight(f"{layer}.intermediate.dense") + found[f"{layer}.intermediate.dense.bias"]
        wide = 0.5 * wide * (1 + np.vectorize(math.erf, otypes=[np.float32])(wide / math.sqrt(2)))
        narrow = wide @ weight(f"{layer}.output.dense")
        hidden = normal(narrow + hidden + found[f"{layer}.output.residual_bias"], f"{layer}.output")
    return hidden[1:-1]


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """The mean distance of unit states."""
    units = [states / np.linalg.norm(states, axis=1, keepdims=True) for states in (found, expected)]
    return float(np.linalg.norm(units[0] - units[1], axis=1).mean())


@pytest.mark.parametrize(("method", "places"), [
    ("interpolated", interpolated_positions), ("grouped", grouped_positions), ("recurrent", recurrent_positions),
])  # fmt: skip
def test_the_graph_reads_positions_and_temperature_as_plain_numpy_does(method, places) -> None:
    words = "the ferry leaves at nine and lamps of harbour burn until morning while keeper trims them".split()
    ids = np.array(plain().tokenizer.ids_many([" ".join(np.random.default_rng(2).choice(words, 530))])[0])[:530]
    table = constants(graph(), ["position_embeddings.int8", "position_embeddings.scale"])
    rows = table["position_embeddings.int8"].astype(np.float32) * table["position_embeddings.scale"]
    rows = rows_at(rows, places(len(ids) + 2, 256))
    for temperature in (1.0, 0.5):
        found = ExtendedMiniLM(1024, method, temperature, trained=256).states(ids)
        right, wrong = oracle(ids, rows, temperature), oracle(ids, rows[::-1], temperature)
        other = oracle(ids, rows, 1.5 - temperature)
        assert apart(found, right) < 0.2
        assert apart(found, right) < 0.5 * min(apart(found, wrong), apart(found, other))


# -- longer than the window, and parallel windows -----------------------------------------------


def test_parallel_windows_do_not_see_each_other() -> None:
    encoder = ExtendedMiniLM(2048, "parallel", trained=512)
    ids = ids_of(1200)
    states = encoder.states(ids)
    assert states.shape == (1200, 384)
    parts = windows_of(1200, 510, 255)
    alone = [plain().states(ids[part]) for part in parts]
    assert np.array_equal(states[:255], alone[0][:255])  # what one window alone holds
    assert np.array_equal(states[-180:], alone[-1][-180:])
    rise = (np.arange(255, dtype=np.float32)[:, None] + 1) / 256  # what two hold: each counts as it reads deeper
    assert np.allclose(states[255:510], alone[0][255:] * (1 - rise) + alone[1][:255] * rise, atol=1e-4)
    vectors = np.stack([plain()._run(ids[part]) for part in parts])
    total = sum(weight * vector for weight, vector in zip(distinctness(vectors), vectors, strict=True))
    assert np.allclose(encoder._run(ids), total / np.linalg.norm(total), atol=1e-6)


def test_a_window_counts_by_what_it_alone_says() -> None:
    draw = np.random.default_rng(0).standard_normal((3, 384)).astype(np.float32)
    usual, other, rare = draw / np.linalg.norm(draw, axis=1, keepdims=True)
    weights = distinctness(np.stack([*[usual] * 8, rare, *[usual] * 7]))
    assert weights[8] > 10 * weights[:8].max() and np.allclose(np.delete(weights, 8), weights[0])
    pair = distinctness(np.stack([usual, usual, other]))
    assert pair[0] == pytest.approx(pair[1]) and pair[2] > 1.9 * pair[0]
    for count in (1, 2, 9):  # nothing stands out
        assert np.ptp(distinctness(np.stack([usual] * count))) < 1e-6
    assert np.ptp(distinctness(np.stack([usual, other]))) < 1e-3


def test_one_fact_among_much_alike_is_not_averaged_away() -> None:
    fact = "The pass key of the lighthouse is 4817. "
    filler = "The grass is green and the sky is blue. Here we go, there and back again. " * 220
    text = filler[: len(filler) // 2] + fact + filler[len(filler) // 2 :]
    question = plain().encode_queries(["What is the pass key of the lighthouse?"])[0]
    parallel = ExtendedMiniLM(8192, "parallel", trained=128)
    gains = {encoder: encoder.encode_texts([text])[0] @ question - encoder.encode_texts([filler])[0] @ question
             for encoder in (parallel, plain())}  # fmt: skip
    assert gains[parallel] > 3 * gains[plain()]


@pytest.mark.parametrize("method", METHODS)
def test_the_window_is_what_one_pass_may_have(method) -> None:
    encoder = ExtendedMiniLM(600, method)
    assert isinstance(encoder, TokenModel) and encoder.window == 600
    assert encoder.states(ids_of(598)).shape == (598, 384)
    with pytest.raises(InputError, match="600"):
        encoder.states(ids_of(599))
    vector = encoder.encode_texts([LONG])[0]  # longer than the window: averaged over several
    assert vector.shape == (384,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)
    assert vector @ plain().encode_texts([LONG])[0] > 0.7


@settings(max_examples=5)
@given(st.text(max_size=80), st.sampled_from(METHODS))
def test_offsets_and_queries_are_those_of_the_embedder(text, method) -> None:
    encoder = ExtendedMiniLM(1024, method, model=plain())
    own, other = encoder.tokenize(text), plain().tokenize(text)
    assert np.array_equal(own.starts, other.starts) and np.array_equal(own.ends, other.ends)
    assert np.array_equal(encoder.encode_queries([text]), plain().encode_queries([text]))


def test_what_changes_the_vectors_changes_the_fingerprint() -> None:
    made = [ExtendedMiniLM(), ExtendedMiniLM(2048), ExtendedMiniLM(method="grouped"), ExtendedMiniLM(temperature=0.8),
            ExtendedMiniLM(trained=512), ExtendedMiniLM(temperature="length")]  # fmt: skip
    assert len({encoder.fingerprint for encoder in [*made, plain()]}) == len(made) + 1
    shared = {encoder.query_fingerprint for encoder in made if not isinstance(encoder.temperature, float)}
    assert ExtendedMiniLM().query_fingerprint == plain().query_fingerprint
    assert ExtendedMiniLM(temperature=0.8).query_fingerprint not in shared


def test_fewer_threads_read_where_a_pass_takes_much_memory() -> None:
    model = MiniLM(threads=16)
    assert [ExtendedMiniLM(window, "grouped", model=model).threads for window in (512, 1024, 4096, 8192)] == [
        16,
        16,
        1,
        1,
    ]
    assert ExtendedMiniLM(32_768, model=model).threads == 16


@pytest.mark.parametrize(("given", "said"), [
    ({"window": 256}, "512 without"), ({"method": "rotary"}, "no method 'rotary'"), ({"trained": 600}, "from 3 to 512"),
    ({"trained": 2}, "from 3"), ({"temperature": 0}, "above 0"), ({"temperature": "warm"}, "above 0"),
])  # fmt: skip
def test_what_cannot_be_is_refused(given, said) -> None:
    with pytest.raises(InputError, match=said):
        ExtendedMiniLM(**given)
