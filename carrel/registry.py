"""Every method by name: what the command line offers and what the documentation's tables are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Method:
    """One method: its kind, its name, its idea in a line, its source."""

    kind: str
    name: str
    idea: str
    citation: str


def methods() -> list[Method]:
    """All methods, by kind in the order of the pipeline. Importing them is put off until this is called."""
    from carrel.compression.provence import ProvencePruner
    from carrel.embeddings.minilm import MiniLM
    from carrel.generation.extractive import ExtractiveGenerator
    from carrel.generation.openai_compatible import OpenAICompatible
    from carrel.generation.reader import ReaderGenerator
    from carrel.generation.rules import RuleVerifier
    from carrel.generation.vllm_engine import VLLMEngine
    from carrel.reader.methods import ReaderAnswerer, ReaderPruner, ReaderReranker
    from carrel.reader.verifier import ReaderVerifier
    from carrel.retrieval.cross_encoder import CrossEncoderReranker
    from carrel.retrieval.cutoff import AdaptiveK, FixedK, Threshold
    from carrel.retrieval.indexes.dense import DenseIndex
    from carrel.retrieval.indexes.lexical import LexicalIndex
    from carrel.retrieval.retrievers import RETRIEVERS

    kinds: list[tuple[str, list[Any]]] = [
        ("encoder", [MiniLM]),
        ("index", [DenseIndex, LexicalIndex]),
        ("retriever", list(RETRIEVERS.values())),
        ("reranker", [ReaderReranker, CrossEncoderReranker]),
        ("cutoff", [AdaptiveK, FixedK, Threshold]),
        ("pruner", [ReaderPruner, ProvencePruner]),
        ("answerer", [ReaderAnswerer]),
        ("generator", [ReaderGenerator, ExtractiveGenerator, OpenAICompatible, VLLMEngine]),
        ("verifier", [ReaderVerifier, RuleVerifier]),
    ]
    return [
        Method(kind, method.name, _idea(method), getattr(method, "citation", ""))
        for kind, group in kinds
        for method in group
    ]


def _idea(method: type) -> str:
    """The first line of the docstring, without its full stop."""
    return (method.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ").rstrip(".")
