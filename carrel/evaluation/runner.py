"""Run configurations over a dataset and keep every question's scores.

One library is built for each encoder and chunking set-up and serves all of its configurations. Every
question is searched once, for the ranking scores, and asked for a context at every budget.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from carrel.errors import CarrelError, InputError
from carrel.evaluation.configurations import Configuration, select_configurations
from carrel.evaluation.datasets import Dataset, Question
from carrel.evaluation.results import Evaluation, Manifest, QuestionKey, Result
from carrel.evaluation.scoring import (
    CONTEXT_METRICS,
    NDCG_DEPTH,
    TokenSpace,
    ranking_metrics,
    score_context,
    score_ranking,
)
from carrel.evaluation.systems import Library, System, build_system

BUDGETS = (64, 128, 250, 500, 1000, 2000, 4000)
K_VALUES = (1, 5, 10, 20, 100)
PACKAGES = ("carrel", "numpy", "faiss-cpu", "onnxruntime", "tokenizers", "sqlalchemy")

Progress = Callable[[str, int, int], None]
"""Called with what is being done (``"library"`` or a configuration's name), steps done, and steps in all."""


Opener = Callable[..., AbstractContextManager[Library]]


def evaluate(
    dataset: Dataset,
    configurations: Iterable[str | Configuration],
    *,
    budgets: Sequence[int] = BUDGETS,
    limit: int | None = None,
    k_values: Sequence[int] = K_VALUES,
    library_path: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    open_library: Opener | None = None,
) -> Evaluation:
    """Measure configurations on the same questions.

    Parameters
    ----------
    dataset
        Documents and questions; all documents are added, whatever ``limit`` is.
    configurations
        Names from the registry, or `Configuration` objects. The do-nothing baseline is always a row: it is
        put first when none is among them.
    budgets
        Context budgets, in tokens of the library's tokenizer.
    limit
        The most questions to ask, drawn with ``seed``; None asks all.
    k_values
        Depths of document recall. A search is asked for as many passages as the largest, so that fewer
        than k documents may be ranked where several passages are of one document.
    library_path
        A folder in which libraries are kept, one for each set of documents and set-up: a second run there
        embeds nothing again. None uses a temporary folder.
    progress
        Told about every question.
    seed
        Seed of the draw of questions and of all intervals.
    open_library
        Called as ``open_library(path, **setup)``; None is ``carrel.open``.

    Returns
    -------
    Evaluation
        Every question's scores, and a manifest.

    Raises
    ------
    InputError
        A budget or k below 1, an unknown configuration, or two set-ups that count tokens differently.
    """
    rows = select_configurations(configurations)
    asked = dataset.sample(limit, seed)
    run = _Run(asked, _sizes(budgets, "budgets"), _sizes(k_values, "k_values"), progress or _ignore_progress)
    with _folder(library_path) as folder:
        results, tokenizer, libraries = run.measure_all(rows, folder, open_library or _carrel_open)
    return Evaluation(
        manifest=_manifest(asked, seed, tokenizer, libraries),
        questions=tuple(QuestionKey(question.id, question.corpus, question.kind) for question in asked.questions),
        budgets=run.budgets,
        k_values=run.k_values,
        results={configuration.name: results[configuration.name] for configuration in rows},
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same for all configurations."""

    dataset: Dataset
    budgets: tuple[int, ...]
    k_values: tuple[int, ...]
    progress: Progress

    def measure_all(
        self, configurations: Sequence[Configuration], folder: Path, opener: Opener
    ) -> tuple[dict[str, Result], str, dict[str, Mapping[str, object]]]:
        """Return the results, the name of the tokenizer, and the account of each library."""
        groups: dict[str, list[Configuration]] = {}
        for configuration in configurations:
            groups.setdefault(_library_key(self.dataset, configuration.setup), []).append(configuration)
        results: dict[str, Result] = {}
        libraries: dict[str, Mapping[str, object]] = {}
        tokenizers: set[str] = set()
        for key, members in groups.items():
            with opener(folder / key, **members[0].setup) as library:
                tokenizers.add(library.tokenizer.name)
                if len(tokenizers) > 1:
                    names = " and ".join(sorted(tokenizers))
                    raise InputError(f"Budgets are not comparable: the set-ups count tokens with {names}.")
                libraries[key] = self.fill(library)
                results.update({member.name: self.measure(library, member, key) for member in members})
        return results, tokenizers.pop(), libraries

    def fill(self, library: Library) -> Mapping[str, object]:
        """Add the documents and return the account of it for the manifest."""
        total = len(self.dataset.documents)
        report = library.add(
            self.dataset.documents, progress=lambda step: self.progress("library", step.documents_done, total)
        )
        self.progress("library", total, total)
        return {
            "encoder": library.encoder.fingerprint,
            "chunks": report.chunks,
            "embedded": report.embedded,
            "unchanged": len(report.unchanged),
            "skipped": [f"{skipped.id}: {skipped.reason}" for skipped in report.skipped],
            "warnings": list(report.warnings),
            "seconds": round(report.seconds, 3),
        }

    def measure(self, library: Library, configuration: Configuration, key: str) -> Result:
        """Ask every question of one configuration."""
        questions = self.dataset.questions
        system = build_system(library, configuration, self.dataset.documents)
        space = TokenSpace(self.dataset.documents, library.tokenizer)
        ranking = {metric: np.full(len(questions), math.nan) for metric in ranking_metrics(self.k_values)}
        contexts = {metric: np.full((len(questions), len(self.budgets)), math.nan) for metric in CONTEXT_METRICS}
        system.search(questions[0].text, 1)  # loads what is loaded on first use, before the clock runs
        self.progress(configuration.name, 0, len(questions))
        for row, question in enumerate(questions):
            for metric, score in self._rank(system, question).items():
                ranking[metric][row] = round(score, 6)
            for column, budget in enumerate(self.budgets):
                for metric, score in self._fit(system, question, budget, space).items():
                    contexts[metric][row, column] = round(score, 6)
            self.progress(configuration.name, row + 1, len(questions))
        options = json.loads(json.dumps({**configuration.setup, **configuration.options}, default=_described))
        return Result(options, key, ranking, contexts)

    def _rank(self, system: System, question: Question) -> dict[str, float]:
        started = time.perf_counter()
        passages = system.search(question.text, max(*self.k_values, NDCG_DEPTH))
        seconds = time.perf_counter() - started
        return {**score_ranking(question, passages, self.k_values), "search_seconds": seconds}

    def _fit(self, system: System, question: Question, budget: int, space: TokenSpace) -> dict[str, float]:
        started = time.perf_counter()
        fitted = system.fit(question.text, budget)
        seconds = time.perf_counter() - started
        if fitted.tokens > budget:
            raise CarrelError(f"A context of {fitted.tokens} tokens broke its budget of {budget}: {question.id!r}.")
        scores = score_context(question, fitted.text, fitted.tokens, fitted.passages, space)
        return {**scores, "seconds": seconds}


def _carrel_open(path: Path, **setup: Any) -> AbstractContextManager[Library]:
    import carrel

    return carrel.open(path, **setup)


def _sizes(values: Sequence[int], name: str) -> tuple[int, ...]:
    if not values or any(value < 1 for value in values):
        raise InputError(f"{name} must be numbers of at least 1, not {list(values)}.")
    return tuple(sorted(set(values)))


def _ignore_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@contextmanager
def _folder(path: str | os.PathLike[str] | None) -> Iterator[Path]:
    if path is None:
        with tempfile.TemporaryDirectory(prefix="carrel-evaluation-") as temporary:
            yield Path(temporary)
    else:
        Path(path).mkdir(parents=True, exist_ok=True)
        yield Path(path)


def _described(value: object) -> str:
    """Name an object, such as an encoder or a cutoff, the same way in every process."""
    return str(getattr(value, "fingerprint", value))


def _library_key(dataset: Dataset, setup: Mapping[str, object]) -> str:
    """Name a library after what is in it, so that other documents or another set-up never reuse it."""
    name = re.sub(r"[^\w.-]+", "-", dataset.name)
    kind = "default"
    if setup:
        described = json.dumps(dict(setup), default=_described, sort_keys=True)
        kind = hashlib.blake2b(described.encode(), digest_size=4).hexdigest()
    return f"{name}-{dataset.fingerprint}-{kind}"


def _manifest(dataset: Dataset, seed: int, tokenizer: str, libraries: Mapping[str, Mapping[str, object]]) -> Manifest:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Manifest(
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        documents=len(dataset.documents),
        questions=len(dataset.questions),
        seed=seed,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tokenizer=tokenizer,
        platform=platform.platform(),
        cpu_count=os.cpu_count() or 1,
        versions=versions,
        libraries=libraries,
    )
