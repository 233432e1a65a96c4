"""Small data in the dataset schema, and a library with the signatures of ``carrel.Library`` in 100 lines."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

import numpy as np
import pytest

from carrel.errors import BudgetError
from carrel.evaluation.results import Evaluation, Manifest, QuestionKey, Result
from carrel.evaluation.scoring import CONTEXT_METRICS, ranking_metrics
from carrel.types import Context, Document, IngestReport, Ledger, Passage, Scores

Rows = list[dict[str, Any]]

CORPUS: Rows = [
    {
        "id": "tides",
        "title": "Tides",
        "text": "Tides rise twice a day.\n\nThe Moon pulls the sea.\n\nSpring tides are high.",
    },
    {"id": "moon", "title": "Moon", "text": "The Moon is 384,400 km away.\n\nNeil Armstrong walked on it in 1969."},
    {
        "id": "tea",
        "title": "Tea",
        "text": "Tea is a drink.\n\nGreen tea comes from China.\n\nIt is brewed at 80 degrees.",
    },
]
QUERIES: Rows = [
    {
        "id": "q1",
        "question": "Who walked on the Moon?",
        "answers": ["Neil Armstrong", "Armstrong"],
        "kind": "factoid",
        "gold": [{"doc": "moon", "start": 30, "end": 44}],
    },
    {
        "id": "q2",
        "question": "Where does green tea come from?",
        "answers": ["China"],
        "kind": "factoid",
        "gold": [{"doc": "tea"}],
    },
    {
        "id": "q3",
        "question": "What pulls the sea, and how far away is it?",
        "answers": ["384,400 km"],
        "kind": "multi-hop",
        "gold": [{"doc": "tides"}, {"doc": "moon"}],
    },
    {
        "id": "q4",
        "question": "What is this about?",
        "answers": ["Water and its ways."],
        "kind": "long-form",
        "gold": [],
    },
]


class WordTokenizer:
    """Words and single other characters."""

    name = "words/1"

    def count(self, text: str) -> int:
        return len(self.offsets(text))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


class FakeEncoder:
    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint


class FakeLibrary:
    """Paragraphs ranked by shared words. What was embedded is kept in a file, so that it survives reopening."""

    def __init__(self, path: Path, calls: list[tuple[str, dict[str, object]]], encoder: str = "fake") -> None:
        self.path = path
        self.calls = calls
        self.tokenizer = WordTokenizer()
        self.encoder = FakeEncoder(encoder)
        self.documents: dict[str, Document] = {}

    def __enter__(self) -> FakeLibrary:
        self.path.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.calls.append(("close", {}))

    def add(self, documents: Iterable[Document], progress: Callable[..., None] | None = None) -> IngestReport:
        self.calls.append(("add", {}))
        file = self.path / "embedded.json"
        known = set(json.loads(file.read_text())) if file.exists() else set()
        self.documents = {document.id: document for document in documents}
        fresh = tuple(name for name in self.documents if name not in known)
        file.write_text(json.dumps([*known, *fresh]))
        if progress is not None:
            progress(SimpleNamespace(stage="embed", documents_done=len(fresh), documents_total=None))
        unchanged = tuple(name for name in self.documents if name in known)
        return IngestReport(added=fresh, unchanged=unchanged, chunks=len(self.documents), embedded=len(fresh))

    def search(
        self,
        question: str,
        limit: int = 10,
        where: object = None,
        retriever: str = "fused",
        cutoff: str | None = None,
        mode: str = "",
        reranker: str | None = None,
    ) -> list[Passage]:
        given = {"question": question, "limit": limit, "retriever": retriever, "cutoff": cutoff}
        self.calls.append(("search", {**given, "mode": mode, "reranker": reranker}))
        asked = set(re.findall(r"\w+", question.lower()))
        found = []
        for document in self.documents.values():
            for match in re.finditer(r"[^\n]+", document.text):
                score = len(asked & set(re.findall(r"\w+", match.group().lower())))
                found.append((-score if retriever != "lexical" else score, len(found), document, match))
        passages = [
            Passage(document.id, *match.span(), match.group(), document.title, scores=Scores(fused=float(-score)))
            for score, _, document, match in sorted(found, key=lambda row: row[:2])
        ]
        return passages[: 1 if cutoff == "adaptive" else limit]

    def context(
        self,
        question: str,
        budget: int = 1000,
        limit: int | None = None,
        where: object = None,
        retriever: str = "fused",
        cutoff: str | None = None,
        order: str = "relevance",
        mode: str = "",
        reranker: str | None = None,
        pruner: str | None = None,
    ) -> Context:
        given = {"budget": budget, "order": order, "limit": limit}
        self.calls.append(("context", {**given, "mode": mode, "reranker": reranker, "pruner": pruner}))
        if budget < 4:
            raise BudgetError("too small")
        passages: list[Passage] = []
        text = ""
        for passage in self.search(question, limit or 100, where, retriever, cutoff):
            longer = f"{text}\n\n{passage.text}" if text else passage.text
            if self.tokenizer.count(longer) <= budget:
                text = longer
                passages.append(passage)
        tokens = self.tokenizer.count(text)
        return Context(question, tuple(passages), text, tokens, budget, Ledger(self.tokenizer.name))


class FakeOpener:
    """Stands in for ``carrel.open``, and remembers every call."""

    def __init__(self) -> None:
        self.opened: list[tuple[Path, dict[str, object]]] = []
        self.calls: list[tuple[str, dict[str, object]]] = []

    def __call__(self, path: Path, **setup: Any) -> FakeLibrary:
        self.opened.append((path, setup))
        return FakeLibrary(path, self.calls, **setup)


@pytest.fixture
def opener() -> FakeOpener:
    return FakeOpener()


@pytest.fixture
def tokenizer() -> WordTokenizer:
    return WordTokenizer()


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset folder; rows default to the small corpus above, strings are written as they are."""

    def write(
        name: str = "small",
        corpus: list[Any] | None = None,
        queries: list[Any] | None = None,
        suffix: str = ".jsonl.gz",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for stem, rows in (
            ("corpus", CORPUS if corpus is None else corpus),
            ("queries", QUERIES if queries is None else queries),
        ):
            lines = "".join(
                (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows
            )
            content = lines.encode()
            (folder / f"{stem}{suffix}").write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
        return folder

    return write


@pytest.fixture
def make_evaluation() -> Callable[..., Evaluation]:
    """Make results of two rows: the baseline ``first`` and ``dense``, each right with a chance of its own."""

    def make(first: float = 0.05, dense: float = 0.9, tokens: tuple[int, ...] = (60, 240, 960)) -> Evaluation:
        generator = np.random.default_rng(0)
        count, budgets, k_values = 40, (64, 250, 1000), (1, 5)
        results = {}
        for name, chance, options in (
            ("first", first, {"retriever": "none"}),
            ("dense", dense, {"retriever": "dense"}),
        ):
            contexts = {metric: np.full((count, 3), np.nan) for metric in CONTEXT_METRICS}
            for metric in ("answer", "answer_in_gold", "gold_recall", "all_support"):
                contexts[metric] = (generator.random((count, 3)) < chance).astype(float)
            contexts["tokens"] = np.tile(np.array(tokens, float), (count, 1))
            contexts["seconds"] = generator.random((count, 3)).round(6)
            ranking = {metric: generator.random(count).round(6) for metric in ranking_metrics(k_values)}
            results[name] = Result(options, "library", ranking, contexts)
        manifest = Manifest(
            dataset="collection",
            fingerprint="abc",
            documents=7,
            questions=count,
            seed=0,
            date="2026-01-01T00:00:00+00:00",
            tokenizer="words/1",
            platform="test",
            cpu_count=2,
            versions={"python": "3.11"},
            libraries={"library": {"encoder": "fake-encoder", "embedded": 7}},
        )
        questions = tuple(QuestionKey(str(index), "two" if index % 2 else "one", "factoid") for index in range(count))
        return Evaluation(manifest, questions, budgets, k_values, results)

    return make
