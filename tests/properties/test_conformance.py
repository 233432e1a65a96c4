"""Every shipped implementation against the kit of its contract."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from carrel.agents import FLOWS
from carrel.embeddings.base import ChunkEncoder, Vectors
from carrel.embeddings.minilm import MiniLM
from carrel.generation.extractive import ExtractiveGenerator
from carrel.registry import methods
from carrel.retrieval.cutoff import AdaptiveK, Cut, Cutoff, FixedK, Threshold
from carrel.retrieval.loaders import LOADERS, Loader
from carrel.retrieval.retrievers import Dense, Fused, Lexical, RankFused, Retriever
from carrel.testing import (
    ChunkEncoderConformance,
    CutoffConformance,
    GeneratorConformance,
    HashEncoder,
    LoaderConformance,
    RetrieverConformance,
    TokenizerConformance,
    WordTokenizer,
)
from carrel.tokens import FileTokenizer, Tokenizer, shipped_tokenizer
from carrel.types import Block, Chunk, Document


class TestMiniLM(ChunkEncoderConformance):
    def make(self) -> MiniLM:
        return MiniLM(threads=1)


class TestHashEncoder(ChunkEncoderConformance):
    def make(self) -> HashEncoder:
        return HashEncoder()


class TestHashEncoderWithTheShippedTokenizer(ChunkEncoderConformance):
    def make(self) -> HashEncoder:
        return HashEncoder(8, seed=3, tokenizer=shipped_tokenizer())


class TestAdaptiveK(CutoffConformance):
    def make(self) -> AdaptiveK:
        return AdaptiveK()


class TestAdaptiveKForAggregation(CutoffConformance):
    def make(self) -> AdaptiveK:
        return AdaptiveK(buffer=0, skip_head=0.05, max_passages=None)


class TestFixedK(CutoffConformance):
    def make(self) -> FixedK:
        return FixedK(3)


class TestThreshold(CutoffConformance):
    def make(self) -> Threshold:
        return Threshold(0.5, max_passages=2)


class TestFused(RetrieverConformance):
    def make(self) -> Fused:
        return Fused()


class TestDense(RetrieverConformance):
    def make(self) -> Dense:
        return Dense()


class TestLexical(RetrieverConformance):
    def make(self) -> Lexical:
        return Lexical()


class TestRankFused(RetrieverConformance):
    def make(self) -> RankFused:
        return RankFused()


class TestExtractiveGenerator(GeneratorConformance):
    def make(self) -> ExtractiveGenerator:
        return ExtractiveGenerator(HashEncoder(256), threshold=0.2)


class TestAbstainingGenerator(GeneratorConformance):
    def make(self) -> ExtractiveGenerator:
        return ExtractiveGenerator(HashEncoder(256), threshold=1.0)


class TestShippedTokenizer(TokenizerConformance):
    def make(self) -> FileTokenizer:
        return shipped_tokenizer()


class TestWordTokenizer(TokenizerConformance):
    def make(self) -> WordTokenizer:
        return WordTokenizer()


_PARAGRAPHS = "The pier was built in 1894.\n\nThe ferry leaves at nine.\n"
_SAMPLES: dict[str, Sequence[bytes]] = {
    "code": [b'"""Tides."""\n\n\ndef height(hour):\n    """Of the water."""\n    return hour * 2\n'],
    "csv": [b"name,year\npier,1894\nferry,1911\n", b"name;year\npier;1894\n"],
    "html": [b"<html><head><title>Pier</title></head><body><h1>Pier</h1><p>Built in 1894.</p></body></html>"],
    "json": [json.dumps([{"title": "Pier", "text": _PARAGRAPHS}, {"text": "The ferry."}]).encode()],
    "jsonl": [b'{"title": "Pier", "text": "Built in 1894."}\n{"text": "The ferry."}\n'],
    "markdown": [b"# Pier\n\nBuilt in 1894.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- one\n- two\n"],
    "notebook": [json.dumps({"cells": [{"cell_type": "code", "source": ["year = 1894"]}]}).encode()],
    "text": [_PARAGRAPHS.encode(), _PARAGRAPHS.encode("utf-16"), "Brücke über die Förde\f2. Seite".encode("cp1252")],
}


def _kit(loader: Loader, samples: Sequence[bytes]) -> type[LoaderConformance]:
    members: dict[str, Any] = {"make": lambda self: loader, "samples": lambda self: samples}
    return type(f"Test{type(loader).__name__}", (LoaderConformance,), members)


for _loader in LOADERS:
    if _loader.name in _SAMPLES:  # PDF and DOCX have tests of their own, which build such files
        _class = _kit(_loader, _SAMPLES[_loader.name])
        globals()[_class.__name__] = _class


def test_every_method_of_the_registry_is_tried() -> None:
    names = {
        "all-MiniLM-L6-v2",
        "all-MiniLM-L6-v2 extended",
        "late_chunking",
        "situated",
        "parents",
        "blended",
        "sentence_landmarks",
        "salient_tokens",
        "matryoshka",
        "sentence_transformers",
        "openai_embeddings",
        "onnx",
        "int8",
        "binary",
        "funnel",
        "dense",
        "lexical",
        "fused",
        "rank_fused",
        "adaptive",
        "fixed",
        "threshold",
        "extractive",
        "reader",
        "reader_worker",
        "rules",
        "cross_encoder",
        "conversation",  # tests/properties/test_memory_conformance.py
        "provence",
        "openai",
        "vllm",  # in its own environment: tests/slow/test_vllm_engine.py
        "transformers",  # with torch: tests/generation/test_transformers_engine.py
        "parametric",  # with torch: tests/memory/parametric/test_generator.py
        *("int", "random", "sirllm", "press", "paged", "clustered", "lambda"),  # with torch: test_kv_conformance.py
    }
    flows = {each.name for each in FLOWS}  # each in a file of its own: tests/agents
    assert {method.name for method in methods()} <= names | flows, "a new method: run its kit here, and name it"


def test_importing_carrel_imports_no_test_code() -> None:
    program = (
        "import sys, carrel, carrel.library, carrel.retrieval.ingest;"
        "print([n for n in sys.modules if n.startswith(('pytest', 'hypothesis', 'carrel.testing'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_kits_import_no_test_framework() -> None:
    program = "import sys, carrel.testing; print([n for n in sys.modules if n in ('pytest', 'hypothesis')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- the kits notice what is wrong --------------------------------------------------------------


class _Unnormalised(HashEncoder):
    def _vectors(self, texts: Sequence[str]) -> Vectors:
        return super()._vectors(texts) * np.float32(2)


class _BatchDependent(HashEncoder):
    def _vectors(self, texts: Sequence[str]) -> Vectors:
        vectors = super()._vectors(texts)
        if len(texts):
            vectors = vectors + vectors.mean(axis=0) * np.float32(0.1)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


class _Reversed(HashEncoder):
    def _vectors(self, texts: Sequence[str]) -> Vectors:
        return super()._vectors(texts)[::-1].copy()


class _BlindHash(HashEncoder):
    def input_hash(self, document: Document, chunk: Chunk) -> str:
        return f"{self.fingerprint}{chunk.ordinal}"


class _Doubles(HashEncoder):
    def _vectors(self, texts: Sequence[str]) -> Vectors:
        return super()._vectors(texts).astype(np.float64)  # type: ignore[return-value]


def _failures(kit: Any, *arguments: Any) -> list[str]:
    failed = []
    for name in dir(kit):
        if name.startswith("test_"):
            try:
                getattr(kit, name)(*arguments)
            except Exception:
                failed.append(name)
    return failed


@pytest.mark.parametrize("make", [_Unnormalised, _BatchDependent, _Reversed, _BlindHash, _Doubles])
def test_the_encoder_kit_notices(make: Callable[[], ChunkEncoder]) -> None:
    class Kit(ChunkEncoderConformance):
        def make(self) -> ChunkEncoder:
            return make()

    assert _failures(Kit())


class _Greedy(FixedK):
    def cut(self, scores: Sequence[float], kind: Any) -> Cut:
        return Cut(len(scores) + 1, "all")


def test_the_cutoff_kit_notices() -> None:
    class Kit(CutoffConformance):
        def make(self) -> Cutoff:
            return _Greedy()

    assert len(_failures(Kit())) >= 3


class _ByPosition(Lexical):
    def score(self, candidates: Any) -> Any:
        return np.arange(len(candidates.ids), dtype=np.float64)


def test_the_retriever_kit_notices() -> None:
    class Kit(RetrieverConformance):
        def make(self) -> Retriever:
            return _ByPosition()

    assert "test_better_by_every_measure_is_better" in _failures(Kit())


class _Misquoting(ExtractiveGenerator):
    def complete(self, prompt: Any) -> Any:
        done = super().complete(prompt)
        return replace(
            done, citations=tuple(replace(citation, start=citation.start + 1) for citation in done.citations)
        )


def test_the_generator_kit_notices() -> None:
    class Kit(GeneratorConformance):
        def make(self) -> ExtractiveGenerator:
            return _Misquoting(HashEncoder(256), threshold=0.2)

    assert _failures(Kit()) == ["test_a_completion_accounts_for_itself"]


class _Bare(ExtractiveGenerator):
    context_window = 0

    def complete(self, prompt: Any) -> Any:
        return "At nine."


def test_the_generator_kit_notices_a_reply_that_is_none_and_a_window_that_holds_nothing() -> None:
    class Kit(GeneratorConformance):
        def make(self) -> ExtractiveGenerator:
            return _Bare(HashEncoder(256))

    assert {"test_what_it_says_of_itself", "test_a_completion_accounts_for_itself"} <= set(_failures(Kit()))


class _OffByOne(WordTokenizer):
    def truncate(self, text: str, limit: int) -> str:
        return super().truncate(text, limit + 1)


def test_the_tokenizer_kit_notices() -> None:
    class Kit(TokenizerConformance):
        def make(self) -> Tokenizer:
            return _OffByOne()

    assert _failures(Kit()) == ["test_truncation_gives_the_longest_prefix_that_fits"]


class _Overlapping(Loader):
    name, suffixes, media_type = "overlapping", (".odd",), "text/plain"

    def read(self, data: bytes, path: str) -> Any:
        text = data.decode("latin-1")
        yield self.document(path, text, blocks=[Block(0, len(text)), Block(0, 1)])


def test_the_loader_kit_notices() -> None:
    class Kit(LoaderConformance):
        def make(self) -> Loader:
            return _Overlapping()

        def samples(self) -> Sequence[bytes]:
            return [b"some text"]

    assert "test_its_documents_are_sound" in _failures(Kit())
