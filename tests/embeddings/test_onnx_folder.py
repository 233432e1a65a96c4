"""Encoders from exported graphs: against the shipped encoder, against sentence-transformers, and damaged folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.embeddings.base import Vectors
from carrel.embeddings.late import LateChunking
from carrel.embeddings.minilm import MiniLM
from carrel.embeddings.onnx_folder import OnnxEncoder
from carrel.embeddings.pooling import pool, read_safetensors
from carrel.embeddings.token_states import TokenModel, tokens_of
from carrel.errors import InputError, ModelError
from carrel.testing import ChunkEncoderConformance
from carrel.tokens import model_folder
from tests.embeddings.model_folders import declare, put

TEXTS = [
    "The ferry leaves at nine.",
    "",
    "渡轮九点开。 🚢",
    "Lamps burn whale oil all night. " * 9,
    "x",
    "הרציף נבנה ב־1894",
]
LONG = "The harbour is quiet at dusk. " * 300
STATES = np.random.default_rng(0).standard_normal((30_522, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


class TestShippedWeights(ChunkEncoderConformance):
    def make(self) -> OnnxEncoder:
        return OnnxEncoder(model_folder("minilm"), window=512)


class TestShippedStates(ChunkEncoderConformance):
    def make(self) -> OnnxEncoder:
        prompts = {"query_prompt": "query: ", "document_prompt": "passage: "}
        return OnnxEncoder(model_folder("minilm"), window=24, pooling="mean", **prompts)  # type: ignore[arg-type]


class TestLateChunking(ChunkEncoderConformance):
    def make(self) -> LateChunking:
        return LateChunking(OnnxEncoder(model_folder("minilm"), window=24))


# -- the same weights, two ways ---------------------------------------------------------------------


@pytest.mark.parametrize("pooling", [None, "mean"])
def test_the_shipped_weights_give_the_shipped_vectors(minilm: MiniLM, pooling: str | None) -> None:
    found = OnnxEncoder(model_folder("minilm"), window=512, pooling=pooling)
    assert found.encode_texts([*TEXTS, LONG]) == pytest.approx(minilm.encode_texts([*TEXTS, LONG]), abs=1e-5)
    assert found.encode_queries(TEXTS) == pytest.approx(minilm.encode_queries(TEXTS), abs=1e-5)
    assert (found.dimension, found.special_tokens) == (384, 2) and isinstance(found, TokenModel)


def test_the_shipped_weights_give_the_shipped_states(minilm: MiniLM) -> None:
    found = OnnxEncoder(model_folder("minilm"), window=512)
    tokens, expected = found.tokenize(TEXTS[3]), minilm.tokenize(TEXTS[3])
    assert np.array_equal(tokens.ids, expected.ids) and np.array_equal(tokens.starts, expected.starts)
    assert np.array_equal(found.states(tokens.ids), minilm.states(tokens.ids))


@settings(max_examples=30)
@given(st.text(max_size=80))
def test_offsets_are_exact_whatever_the_text(text: str) -> None:
    found = OnnxEncoder(model_folder("minilm"), window=512)
    tokens = found.tokenize(text)
    assert all(0 <= start <= end <= len(text) for start, end in zip(tokens.starts, tokens.ends, strict=True))
    assert np.array_equal(tokens.ids, tokens_of(found.tokenizer, text).ids)


def test_the_prompt_is_read_before_the_states(minilm: MiniLM) -> None:
    found = OnnxEncoder(model_folder("minilm"), window=512, document_prompt="passage: ")
    ids = minilm.tokenize("The ferry leaves at nine.").ids
    prompt = minilm.tokenize("passage: ").ids
    assert found.special_tokens == 2 + len(prompt)
    assert np.array_equal(found.states(ids), minilm.states(np.concatenate([prompt, ids]))[len(prompt) :])
    with pytest.raises(InputError, match=r"509 tokens do not fit the window of onnx minilm \(512, 4 of them its own\)"):
        found.states(np.full(509, 2000))
    assert found.states(ids[:0]).shape == (0, 384)


# -- windows ----------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(0, 90), st.integers(8, 40), st.sampled_from(["", "query: "]), st.sampled_from(["", " . end"]))
def test_windows_cover_every_token_with_the_prompt_around_each(
    words: int, window: int, before: str, after: str
) -> None:
    from carrel.embeddings.instructions import Template

    made = OnnxEncoder(model_folder("minilm"), window=window, document_prompt=Template(before, after))
    text = " ".join("pier harbour lamp ferry keeper rope".split()[number % 6] for number in range(words))
    [passes] = made._passes([text], made.prompts.document)
    ids = made.tokenizer.ids_many([text])[0]
    [head, tail] = made.tokenizer.ids_many([before, after])
    place = 0
    for read, weight in passes:
        assert len(read) <= window
        assert read.ids[: 1 + len(head)] == [101, *head] and read.before == 1 + len(head)
        assert read.ids[len(read) - 1 - len(tail) :] == [*tail, 102]
        inside = read.ids[1 + len(head) : len(read) - 1 - len(tail)]
        begin = next(at for at in range(place, -1, -1) if ids[at : at + len(inside)] == inside)
        assert begin <= place and (len(passes) == 1 or weight == len(inside))
        place = begin + len(inside)
    assert place == len(ids)
    assert len(passes) <= 1 + len(ids) // max(1, (window - 2 - len(head) - len(tail)) // 2)


def test_long_texts_are_averaged_by_the_lengths_of_their_windows(minilm: MiniLM) -> None:
    made = OnnxEncoder(model_folder("minilm"), window=34)
    text = "pier harbour lamp ferry keeper " * 13  # 65 tokens in windows of 32, half of them shared
    ids = made.tokenizer.ids_many([text])[0]
    total = sum(
        len(ids[start : start + 32]) * minilm._run(np.array(ids[start : start + 32])) for start in (0, 16, 32, 48)
    )
    assert made.encode_texts([text])[0] == pytest.approx(total / np.linalg.norm(total), abs=1e-5)
    mixed = made.encode_texts(["", text, "x"])
    assert mixed[[0, 2]] == pytest.approx(minilm.encode_texts(["", "x"]), abs=1e-5)


def test_a_prompt_that_fills_the_window() -> None:
    made = OnnxEncoder(model_folder("minilm"), window=8, query_prompt="one two three four five six seven ")
    with pytest.raises(InputError, match="takes 7 tokens and leaves no room for a text in its window of 8"):
        made.encode_queries(["eight"])


# -- graphs made here -------------------------------------------------------------------------------


def graph(
    folder: Path,
    inputs: dict[str, str] | None = None,
    outputs: tuple[str, ...] = ("last_hidden_state",),
    name: str = "model.onnx",
) -> Path:
    """A graph whose states are rows of a table, with 100 times each of its other inputs added."""
    onnx = pytest.importorskip("onnx")
    helper, proto = onnx.helper, onnx.TensorProto
    kinds = {"int64": proto.INT64, "int32": proto.INT32, "float": proto.FLOAT, "string": proto.STRING}
    inputs = {"input_ids": "int64", "attention_mask": "int64"} if inputs is None else inputs
    nodes, value = [helper.make_node("Gather", ["table", "input_ids"], ["rows"])], "rows"
    nodes.append(helper.make_node("ReduceMean", ["rows"], ["unused_mean"], axes=[1], keepdims=0))
    for place, (input_, _) in enumerate(item for item in inputs.items() if item[0] in ("position_ids", "task_id")):
        nodes += [
            helper.make_node("Cast", [input_], [f"float{place}"], to=proto.FLOAT),
            helper.make_node("Unsqueeze", [f"float{place}", "last"], [f"column{place}"])
            if input_ == "position_ids"
            else helper.make_node("Identity", [f"float{place}"], [f"column{place}"]),
            helper.make_node("Mul", [f"column{place}", "hundred"], [f"added{place}"]),
            helper.make_node("Add", [value, f"added{place}"], [f"sum{place}"]),
        ]
        value = f"sum{place}"
    for output in outputs:
        rank3 = output != "sentence_embedding"
        nodes.append(helper.make_node("Identity", [value if rank3 else "unused_mean"], [output]))
    shapes = {"task_id": []}
    made = helper.make_graph(
        nodes, "table",
        [helper.make_tensor_value_info(key, kinds[kind], shapes.get(key, ["b", "t"])) for key, kind in inputs.items()],
        [helper.make_tensor_value_info(output, proto.FLOAT, ["b", "t", 8][: 3 if output != "sentence_embedding" else 2])
         for output in outputs],
        [onnx.numpy_helper.from_array(STATES, "table"), onnx.numpy_helper.from_array(np.array([-1]), "last"),
         onnx.numpy_helper.from_array(np.float32(100), "hundred")],
    )  # fmt: skip
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(model.SerializeToString())
    return folder


def ids_of(encoder: OnnxEncoder, text: str) -> list[int]:
    return [101, *encoder.tokenizer.ids_many([text])[0], 102]


def unit(vector: Vectors) -> Vectors:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"])
def test_the_declared_pooling_is_used(tmp_path: Path, mode: str) -> None:
    made = OnnxEncoder(graph(declare(tmp_path, mode, width=8), name="onnx/model.onnx"))
    assert (made.window, made.pooling) == (64, (mode,))
    expected = [unit(pool(STATES[ids_of(made, text)], (mode,))) for text in TEXTS[:3]]
    assert made.encode_texts(TEXTS[:3]) == pytest.approx(np.stack(expected), abs=1e-5)
    chosen = OnnxEncoder(tmp_path, pooling="cls")
    assert chosen.encode_texts(["x"])[0] == pytest.approx(unit(STATES[101]), abs=1e-5)


def test_declared_prompts_are_read_and_may_not_count(tmp_path: Path) -> None:
    prompts = {"query": "query: ", "passage": "passage: "}
    made = OnnxEncoder(graph(declare(tmp_path, "mean", prompts=prompts, width=8)))
    assert made.encode_queries(["x"])[0] == pytest.approx(unit(STATES[ids_of(made, "query: x")].mean(axis=0)), abs=1e-5)
    seen = {made.fingerprint}
    declare(tmp_path, "mean", prompts=prompts, width=8, include_prompt=False)
    apart = OnnxEncoder(tmp_path)
    assert apart.encode_texts(["x"])[0] == pytest.approx(
        unit(STATES[[*apart.tokenizer.ids_many(["x"])[0], 102]].mean(axis=0)), abs=1e-5
    )
    assert len(seen | {apart.fingerprint, OnnxEncoder(tmp_path, query_prompt="").fingerprint}) == 3


@pytest.mark.parametrize("activation", ["Identity", "Tanh"])
def test_layers_after_pooling(tmp_path: Path, activation: str) -> None:
    made = OnnxEncoder(graph(declare(tmp_path, "mean", dense=activation, width=8)))
    layer = read_safetensors(tmp_path / "2_Dense" / "model.safetensors")
    ids = ids_of(made, "The ferry leaves at nine.")
    value = STATES[ids].mean(axis=0) @ layer["linear.weight"].T + layer["linear.bias"]
    expected = unit(np.tanh(value) if activation == "Tanh" else value)
    assert made.dimension == 4 and made.encode_texts(["The ferry leaves at nine."])[0] == pytest.approx(
        expected, abs=1e-5
    )
    if activation == "Tanh":
        with pytest.raises(ModelError, match=r"a layer that is not linear \(Tanh\) after pooling"):
            made.states(np.array(ids[1:-1]))
    else:
        means = made.states(np.array(ids[1:-1])).mean(axis=0)
        value = STATES[ids[1:-1]].mean(axis=0) @ layer["linear.weight"].T + layer["linear.bias"]
        assert means == pytest.approx(value, abs=1e-4)


def test_inputs_are_given_by_name_and_type(tmp_path: Path) -> None:
    inputs = {"input_ids": "int64", "token_type_ids": "int32", "attention_mask": "float", "position_ids": "int64"}
    made = OnnxEncoder(graph(declare(tmp_path, "max", width=8), inputs))
    ids = ids_of(made, "ferry at nine")
    expected = (STATES[ids] + 100 * np.arange(len(ids), dtype=np.float32)[:, None]).max(axis=0)
    assert made.encode_texts(["ferry at nine"])[0] == pytest.approx(unit(expected), abs=1e-5)


def test_a_task_is_the_number_of_its_adapter(tmp_path: Path) -> None:
    inputs = {"input_ids": "int64", "attention_mask": "int64", "task_id": "int64"}
    folder = graph(declare(tmp_path, "cls", width=8), inputs)
    put(folder / "config.json", {"lora_adaptations": ["retrieval.query", "retrieval.passage"]})
    made = OnnxEncoder(folder, task={"query": "retrieval.query", "document": "retrieval.passage"})
    assert made.encode_queries(["x"])[0] == pytest.approx(unit(STATES[101]), abs=1e-5)
    assert made.encode_texts(["x"])[0] == pytest.approx(unit(STATES[101] + 100), abs=1e-5)
    for task, said in ((None, "None"), ("sorting", "'sorting'"), ({"document": "sorting"}, "'sorting'")):
        with pytest.raises(
            InputError, match=f"no adapter for the task {said} of a document. It has: retrieval.query, re"
        ):
            OnnxEncoder(folder, task=task).encode_texts(["x"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="takes no task"):
        OnnxEncoder(graph(declare(tmp_path / "other", width=8)), task="retrieval.query").encode_texts(["x"])


def test_the_graphs_own_vector_is_used_where_it_has_one(tmp_path: Path) -> None:
    folder = graph(declare(tmp_path, "cls", width=8), outputs=("token_embeddings", "sentence_embedding"))
    made = OnnxEncoder(folder)
    assert made.encode_texts(["ferry"])[0] == pytest.approx(unit(STATES[ids_of(made, "ferry")].mean(axis=0)), abs=1e-5)
    assert OnnxEncoder(folder, pooling="cls").encode_texts(["ferry"])[0] == pytest.approx(unit(STATES[101]), abs=1e-5)
    alone = OnnxEncoder(graph(declare(tmp_path / "alone", width=8), outputs=("sentence_embedding",)))
    assert alone.encode_texts(["ferry"]).shape == (1, 8)
    with pytest.raises(ModelError, match="gives a vector only: export it with its token states"):
        alone.states(np.array([2000]))


def test_another_graph_of_the_folder(tmp_path: Path) -> None:
    folder = graph(graph(declare(tmp_path, "cls", width=8)), name="onnx/model_quantized.onnx")
    assert OnnxEncoder(folder, file="onnx/model_quantized.onnx").graph.name == "model_quantized.onnx"
    assert OnnxEncoder(folder).graph.name == "model.onnx"
    with pytest.raises(ModelError, match="there is no other.onnx in"):
        OnnxEncoder(folder, file="other.onnx")


def test_fingerprints_change_with_what_changes_the_vectors(tmp_path: Path) -> None:
    folder = graph(declare(tmp_path, "mean", width=8))
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert OnnxEncoder(folder).fingerprint == OnnxEncoder(copied).fingerprint
    changes: list[Callable[[], object]] = [
        lambda: (copied / "model.onnx").write_bytes((copied / "model.onnx").read_bytes() + b"\0"),
        lambda: declare(copied, "cls", width=8),
        lambda: (copied / "tokenizer.json").write_text((copied / "tokenizer.json").read_text() + "\n"),
    ]
    seen = {OnnxEncoder(folder).fingerprint}
    for change in changes:
        change()
        seen.add(OnnxEncoder(copied).fingerprint)
    seen |= {OnnxEncoder(folder, **more).fingerprint for more in ({"window": 32}, {"pooling": "cls"}, {"task": "x"})}
    assert len(seen) == 7


# -- folders of no use ------------------------------------------------------------------------------


def test_folders_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder .*missing. Name the folder that holds"):
        OnnxEncoder(tmp_path / "missing")
    with pytest.raises(ModelError, match=r"there is no model.onnx or onnx/model.onnx in .*Export the model to ONNX"):
        OnnxEncoder(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"noise")
    with pytest.raises(InputError, match="no file in .* says how many tokens the model reads: give window="):
        OnnxEncoder(tmp_path)
    with pytest.raises(ModelError, match="there is no tokenizer.json in .*Save the model's fast tokenizer"):
        OnnxEncoder(tmp_path, window=64)
    declare(tmp_path)
    with pytest.raises(ModelError, match="cannot load the encoder in .*Export the model anew") as failed:
        OnnxEncoder(tmp_path).encode_texts(["x"])
    assert "Reinstall" not in str(failed.value)


@pytest.mark.parametrize("window", [0, -1, 1.5, True, "64"])
def test_a_window_that_is_none(window: Any) -> None:
    with pytest.raises(InputError, match="window is a number of tokens, 1 or more"):
        OnnxEncoder(model_folder("minilm"), window=window)


def test_graphs_of_no_use(tmp_path: Path) -> None:
    folder = graph(declare(tmp_path / "a", width=8), {"input_ids": "int64", "pixel_values": "float"})
    with pytest.raises(ModelError, match=r"wants an input 'pixel_values' \(tensor\(float\)\): it is no text encoder"):
        OnnxEncoder(folder).encode_texts(["x"])
    shutil.copytree(declare(tmp_path / "b", width=8), tmp_path / "c")
    (tmp_path / "c" / "1_Pooling" / "config.json").unlink()
    with pytest.raises(InputError, match="nothing in .* says how token states become a vector: give pooling="):
        OnnxEncoder(graph(tmp_path / "c")).encode_texts(["x"])


# -- against sentence-transformers ------------------------------------------------------------------


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken"])
def test_a_graph_gives_what_sentence_transformers_gives(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small BERT of the shipped graph's shape, written operator by operator from the same weights."""
    sentence_transformers = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    pytest.importorskip("onnx")
    from tests.embeddings.model_folders import make_bert
    from training.minilm import export

    folder = declare(tmp_path, mode, prompts={"query": "query: "}, dense="Tanh", width=48, window=64)
    make_bert(folder, layers=2, width=48, heads=4)
    for name, value in {"LAYERS": 2, "HEADS": 4, "HIDDEN": 48}.items():
        monkeypatch.setattr(export, name, value)
    model = export.build(read_safetensors(folder / "model.safetensors"), int8=False)
    del model.graph.output[1]  # the vector: pooled here, as the folder declares
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    made = OnnxEncoder(folder)
    reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    texts = [text[:200] for text in TEXTS]  # the other cuts what does not fit
    expected = reference.encode(texts, normalize_embeddings=True)
    assert made.encode_texts(texts) == pytest.approx(expected, abs=1e-4)
    assert made.encode_queries(TEXTS[:2]) == pytest.approx(
        reference.encode(TEXTS[:2], prompt_name="query", normalize_embeddings=True), abs=1e-4
    )
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 48 and made.dimension == 24
