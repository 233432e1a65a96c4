"""Every method by name: what the command line offers and what the documentation's tables are made of."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_FOR_TORCH = (
    ("kv policy", "policies", ("Quantised", "RandomEviction")),
    ("kv policy", "entropies", ("SirLLM",)),
    ("kv policy", "presses", ("Press",)),
    ("attention", "paged", ("PagedAttention",)),
    ("attention", "clustered", ("ClusteredAttention",)),
    ("attention", "sinks", ("LambdaAttention",)),
)
"""Kind, module of carrel.generation.kv and classes of what cannot be imported without torch."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method: its kind, its name, its idea in a line, its source."""

    kind: str
    name: str
    idea: str
    citation: str


def methods() -> list[Method]:
    """All methods, by kind in the order of the pipeline. Importing them is put off until this is called."""
    from carrel.agents import FLOWS, ReaderWorker
    from carrel.compression.provence import ProvencePruner
    from carrel.embeddings.blending import Blended
    from carrel.embeddings.extension import ExtendedMiniLM
    from carrel.embeddings.late import LateChunking, SituatedChunks
    from carrel.embeddings.matryoshka import Matryoshka
    from carrel.embeddings.minilm import MiniLM
    from carrel.embeddings.multi_vector import SalientTokens, SentenceLandmarks
    from carrel.embeddings.onnx_folder import OnnxEncoder
    from carrel.embeddings.openai_compatible import OpenAIEmbeddings
    from carrel.embeddings.parents import ParentChunks
    from carrel.embeddings.sentence_transformers import SentenceTransformerEncoder
    from carrel.generation.extractive import ExtractiveGenerator
    from carrel.generation.openai_compatible import OpenAICompatible
    from carrel.generation.reader import ReaderGenerator
    from carrel.generation.rules import RuleVerifier
    from carrel.generation.transformers_engine import TransformersGenerator
    from carrel.generation.vllm_engine import VLLMEngine
    from carrel.memory.conversation import ConversationMemory
    from carrel.memory.parametric.generator import ParametricGenerator
    from carrel.reader.methods import ReaderAnswerer, ReaderPruner, ReaderReranker
    from carrel.reader.verifier import ReaderVerifier
    from carrel.retrieval.cross_encoder import CrossEncoderReranker
    from carrel.retrieval.cutoff import AdaptiveK, FixedK, Threshold
    from carrel.retrieval.indexes.dense import DenseIndex
    from carrel.retrieval.indexes.lexical import LexicalIndex
    from carrel.retrieval.indexes.quantised import BinaryIndex, FunnelIndex, Int8Index
    from carrel.retrieval.retrievers import RETRIEVERS

    generators = [
        ReaderGenerator, ExtractiveGenerator, ReaderWorker, OpenAICompatible, VLLMEngine, TransformersGenerator,
        ParametricGenerator,
    ]  # fmt: skip
    encoders = [
        MiniLM, ExtendedMiniLM, LateChunking, SituatedChunks, ParentChunks, Blended, SentenceLandmarks, SalientTokens,
        Matryoshka, SentenceTransformerEncoder, OpenAIEmbeddings, OnnxEncoder,
    ]  # fmt: skip
    kinds: list[tuple[str, list[Any]]] = [
        ("encoder", encoders),
        ("index", [DenseIndex, Int8Index, BinaryIndex, FunnelIndex, LexicalIndex]),
        ("retriever", list(RETRIEVERS.values())),
        ("reranker", [ReaderReranker, CrossEncoderReranker]),
        ("cutoff", [AdaptiveK, FixedK, Threshold]),
        ("pruner", [ReaderPruner, ProvencePruner]),
        ("answerer", [ReaderAnswerer]),
        ("generator", generators),
        ("verifier", [ReaderVerifier, RuleVerifier]),
        ("memory", [ConversationMemory]),
        ("flow", list(FLOWS)),
    ]
    found = [
        Method(kind, method.name, _idea(method.__doc__ or ""), getattr(method, "citation", ""))
        for kind, group in kinds
        for method in group
    ]
    return found + [_as_written(kind, module, name) for kind, module, names in _FOR_TORCH for name in names]


def _idea(docstring: str) -> str:
    """The first paragraph of a docstring, without its full stop."""
    return docstring.strip().split("\n\n")[0].replace("\n    ", " ").replace("\n", " ").rstrip(".")


def _as_written(kind: str, module: str, name: str) -> Method:
    """A method from its source, which is not imported: the list is the same with torch and without."""
    spec = find_spec(f"carrel.generation.kv.{module}")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"carrel.generation.kv.{module}")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    facts = {
        node.target.id: ast.literal_eval(node.value)
        for node in found.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    return Method(kind, facts["name"], _idea(ast.get_docstring(found) or ""), facts["citation"])
