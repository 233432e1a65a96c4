"""The registry names every method there is."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from importlib import import_module

import pytest

from carrel.compression.base import Pruner
from carrel.embeddings.base import ChunkEncoder
from carrel.generation.answerer import Answerer
from carrel.generation.base import Generator
from carrel.generation.verification import Verifier
from carrel.registry import methods
from carrel.retrieval.cutoff import Cutoff
from carrel.retrieval.indexes.base import DerivedIndex
from carrel.retrieval.reranking import Reranker
from carrel.retrieval.retrievers import RETRIEVERS, Retriever

HOMES = (
    "carrel.embeddings.minilm",
    "carrel.retrieval.indexes.dense",
    "carrel.retrieval.indexes.lexical",
    "carrel.retrieval.retrievers",
    "carrel.retrieval.cutoff",
    "carrel.generation.extractive",
    "carrel.generation.openai_compatible",
    "carrel.generation.vllm_engine",
    "carrel.generation.reader",
    "carrel.generation.rules",
    "carrel.reader.methods",
    "carrel.reader.verifier",
    "carrel.retrieval.cross_encoder",
    "carrel.compression.provence",
)
BASES = {
    "encoder": ChunkEncoder,
    "index": DerivedIndex,
    "retriever": Retriever,
    "reranker": Reranker,
    "cutoff": Cutoff,
    "pruner": Pruner,
    "answerer": Answerer,
    "generator": Generator,
    "verifier": Verifier,
}


@pytest.mark.parametrize("kind", BASES)
def test_every_shipped_method_is_listed_once(kind: str) -> None:
    shipped = {
        value.name
        for home in HOMES
        for value in vars(import_module(home)).values()
        if type(value) in (type, ABCMeta) and issubclass(value, BASES[kind]) and not inspect.isabstract(value)
    }
    listed = [method.name for method in methods() if method.kind == kind]
    assert sorted(listed) == sorted(shipped)


def test_every_method_has_its_idea_in_one_line() -> None:
    for method in methods():
        assert method.idea, method
        assert "\n" not in method.idea and "  " not in method.idea and not method.idea.endswith("."), method


def test_kinds_come_in_the_order_of_the_pipeline() -> None:
    assert list(dict.fromkeys(method.kind for method in methods())) == list(BASES)


def test_retrievers_are_found_by_their_own_names() -> None:
    assert {name: method.name for name, method in RETRIEVERS.items()} == {name: name for name in RETRIEVERS}
