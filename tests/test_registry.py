"""The registry names every method there is."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from abc import ABCMeta
from importlib import import_module
from pathlib import Path

import pytest

import carrel.agents
from carrel.compression.base import Pruner
from carrel.embeddings.base import ChunkEncoder
from carrel.generation.answerer import Answerer
from carrel.generation.base import Generator
from carrel.generation.verification import Verifier
from carrel.memory.base import Memory
from carrel.registry import methods
from carrel.retrieval.cutoff import Cutoff
from carrel.retrieval.indexes.base import DerivedIndex
from carrel.retrieval.reranking import Reranker
from carrel.retrieval.retrievers import RETRIEVERS, Retriever

HOMES = (
    "carrel.agents.reader_worker",
    "carrel.embeddings.blending",
    "carrel.embeddings.extension",
    "carrel.embeddings.late",
    "carrel.embeddings.matryoshka",
    "carrel.embeddings.minilm",
    "carrel.embeddings.multi_vector",
    "carrel.embeddings.onnx_folder",
    "carrel.embeddings.openai_compatible",
    "carrel.embeddings.parents",
    "carrel.embeddings.sentence_transformers",
    "carrel.retrieval.indexes.dense",
    "carrel.retrieval.indexes.lexical",
    "carrel.retrieval.indexes.quantised",
    "carrel.retrieval.retrievers",
    "carrel.retrieval.cutoff",
    "carrel.generation.extractive",
    "carrel.generation.openai_compatible",
    "carrel.generation.vllm_engine",
    "carrel.generation.transformers_engine",
    "carrel.memory.parametric.generator",
    "carrel.generation.reader",
    "carrel.generation.rules",
    "carrel.memory.conversation",
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
    "memory": Memory,
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


def test_every_flow_is_listed_once_with_its_paper() -> None:
    folder = Path(carrel.agents.__file__).parent
    written = [
        name
        for path in folder.glob("*.py")
        for name in re.findall(
            r"^@flow\((?:.|\n)*?\)\n(?:async )?def (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]
    listed = {method.name: method for method in methods() if method.kind == "flow"}
    assert sorted(listed) == sorted(written) == sorted(each.name for each in carrel.agents.FLOWS)
    assert all(method.citation for method in listed.values())
    assert all(
        len(path.read_text(encoding="utf-8").splitlines()) < 150 for name in written for path in [folder / f"{name}.py"]
    )


def test_every_method_has_its_idea_in_one_line() -> None:
    for method in methods():
        assert method.idea, method
        assert "\n" not in method.idea and "  " not in method.idea and not method.idea.endswith("."), method


def test_kinds_come_in_the_order_of_the_pipeline() -> None:
    assert list(dict.fromkeys(method.kind for method in methods())) == [*BASES, "flow", *FOR_TORCH]


def test_retrievers_are_found_by_their_own_names() -> None:
    assert {name: method.name for name, method in RETRIEVERS.items()} == {name: name for name in RETRIEVERS}


FOR_TORCH = {
    "kv policy": ("KVPolicy", "policies", "entropies", "presses"),
    "attention": ("SparseAttention", "base", "paged", "clustered", "sinks"),
}


@pytest.mark.extras
@pytest.mark.parametrize("kind", FOR_TORCH)
def test_what_needs_torch_is_listed_from_its_source(kind: str) -> None:
    pytest.importorskip("torch")
    base_name, first, *more = FOR_TORCH[kind]
    homes = [import_module(f"carrel.generation.kv.{module}") for module in (first, *more)]
    base = getattr(homes[0], base_name)
    shipped = {
        value
        for home in homes
        for value in vars(home).values()
        if type(value) is ABCMeta and issubclass(value, base) and not inspect.isabstract(value)
    }
    shipped = {value for value in shipped if value.__name__ not in ("Everything", "Composed")}  # no methods themselves
    listed = {method.name: method for method in methods() if method.kind == kind}
    assert sorted(listed) == sorted(value.name for value in shipped)
    for value in shipped:
        assert listed[value.name].citation == value.citation
        assert listed[value.name].idea.split()[:4] == (value.__doc__ or "").split()[:4]


def test_the_list_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from carrel.registry import methods; print(len(methods()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(methods())
