"""The trained reader as one fused ONNX graph, int8 or float32, operator by operator like the embedder's."""

from __future__ import annotations

import numpy as np
import onnx
from embedder import EPSILON, FUSED, LAYERS, Graph, Weights
from numpy.typing import NDArray
from onnx import TensorProto, helper

INPUTS = ("input_ids", "position_ids", "token_type_ids", "attention_mask")
_BERT = {
    "attended": "attention.output.dense",
    "attended_norm": "attention.output.LayerNorm",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "norm": "output.LayerNorm",
}


def bert_names(state: dict[str, NDArray[np.float32]]) -> Weights:
    """The reader's weights under the names that the graph of the embedder knows."""
    out: Weights = {
        "embeddings.word_embeddings.weight": state["words.weight"],
        "embeddings.position_embeddings.weight": state["positions.weight"],
        "embeddings.token_type_embeddings.weight": state["types.weight"],
    }
    for kind in ("weight", "bias"):
        out[f"embeddings.LayerNorm.{kind}"] = state[f"norm.{kind}"]
        for head in ("window_head", "token_head"):
            out[f"{head}.{kind}"] = state[f"{head}.{kind}"]
        for index in range(LAYERS):
            name = f"encoder.layer.{index}"
            parts = np.split(state[f"layers.{index}.qkv.{kind}"], 3)
            for part, value in zip(("query", "key", "value"), parts, strict=True):
                out[f"{name}.attention.self.{part}.{kind}"] = value
            for ours, theirs in _BERT.items():
                out[f"{name}.{theirs}.{kind}"] = state[f"layers.{index}.{ours}.{kind}"]
    return out


class ReaderGraph(Graph):
    """The embedder's graph with two segments, and the heads in place of the pooling."""

    def embedding(self) -> str:
        words = self.table("word_embeddings", "input_ids")
        positions = self.table("position_embeddings", "position_ids")
        segments = self.constant("segments", self.weights["embeddings.token_type_embeddings.weight"])
        segment = self.node("Gather", [segments, "token_type_ids"], ["segments.out"])
        total = self.node("Add", [words, positions], ["embeddings.positioned"])
        total = self.node("Add", [total, segment], ["embeddings.sum"])
        gamma = self.constant("embeddings.gamma", self.weights["embeddings.LayerNorm.weight"])
        beta = self.constant("embeddings.beta", self.weights["embeddings.LayerNorm.bias"])
        return self.node("LayerNormalization", [total, gamma, beta], ["embeddings.normal"], axis=-1, epsilon=EPSILON)

    def head(self, name: str, source: str, output: str) -> None:
        """A linear layer in float32: heads are too small for int8 to save anything."""
        product = self.node(
            "MatMul", [source, self.constant(f"{name}.matrix", self.weights[f"{name}.weight"].T)], [f"{name}.product"]
        )
        self.node("Add", [product, self.constant(f"{name}.offset", self.weights[f"{name}.bias"])], [output])


def build(state: dict[str, NDArray[np.float32]], int8: bool, weight_bits: int = 7) -> onnx.ModelProto:
    """(batch, tokens) ids in; window_logits (batch, 2) and token_logits (batch, tokens, 3) out."""
    graph = ReaderGraph(bert_names(state), int8, weight_bits)
    hidden = graph.embedding()
    for index in range(LAYERS):
        hidden = graph.layer(index, hidden)
    first = graph.node("Gather", [hidden, graph.constant("first", np.array([0]))], ["first.hidden"], axis=1)
    first = graph.node("Squeeze", [first, graph.constant("token_axis", np.array([1]))], ["first.row"])  # (batch, 384)
    graph.head("window_head", first, "window_logits")
    graph.head("token_head", hidden, "token_logits")
    shape = ["batch", "tokens"]
    kinds = dict.fromkeys(INPUTS, TensorProto.INT64) | {"attention_mask": TensorProto.INT32}
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, kind in kinds.items()]
    outputs = [
        helper.make_tensor_value_info("window_logits", TensorProto.FLOAT, ["batch", 2]),
        helper.make_tensor_value_info("token_logits", TensorProto.FLOAT, [*shape, 3]),
    ]
    body = helper.make_graph(graph.nodes, "carrel-reader", inputs, outputs, graph.constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(body, opset_imports=opsets, ir_version=8, producer_name="carrel")
