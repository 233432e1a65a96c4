"""Reading the results of a folder: scores by question, timings by round, and the manifests they point to."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from registry import CARREL, FAST, VARIANTS, Variant

__all__ = ["CARREL", "FAST", "Column", "Results"]

Column = dict[str, Any]


class Results:
    """Everything under one results folder."""

    def __init__(self, folder: Path) -> None:
        """Read every JSON of the folder."""
        files = [_read(path) for path in sorted((folder / "quality").glob("*.json"))]
        self._quality = {(file["variant"], file["corpus"]): file for file in files}
        self.timing = {path.stem: _read(path) for path in sorted((folder / "timing").glob("*.json"))}
        runs = [_read(path) for path in sorted((folder / "runs").glob("*.json"))]
        used = {file["run"] for file in files}
        used |= {entry["run"] for task in self.timing.values() for entry in task["rounds"]}
        self.runs = [run for run in runs if run["id"] in used]

    @property
    def variants(self) -> list[Variant]:
        """The variants with any result, in table order."""
        keys = {key for key, _ in self._quality}
        keys |= {key for task in self.timing.values() for key in task["conditions"]}
        return [variant for variant in VARIANTS if variant.key in keys]

    @property
    def limits(self) -> set[int | None]:
        """The limits under which the results were measured; `{None}` is a full run."""
        limits = {file["conditions"]["limit"] for file in self._quality.values()}
        return limits | {c["limit"] for task in self.timing.values() for c in task["conditions"].values()}

    def corpus(self, key: str, corpus: str) -> dict[str, Any] | None:
        """Return what one variant's quality run says about a corpus, without its questions."""
        return self._quality.get((key, corpus))

    def question_set(self, key: str, corpus: str, name: str) -> dict[str, Any] | None:
        """Return one variant's scores on a question set asked against an indexed corpus."""
        file = self._quality.get((key, corpus))
        return file["sets"].get(name) if file else None

    def column(self, key: str, corpus: str, name: str, where: str, metric: str) -> Column | None:
        """Return one metric's column.

        `where` is a budget, `default` or `ranking`, or names what is measured for Carrel only: `rankings/dense`,
        `replies/ask`, `ablations/no_prune/250`.
        """
        scores = self.question_set(key, corpus, name)
        path = f"budgets/{where}" if where.isdigit() else where
        for part in path.split("/"):
            scores = (scores or {}).get(part)
        return scores.get(metric) if scores else None

    def mean(self, key: str, corpus: str, name: str, where: str, metric: str) -> float | None:
        """Return a metric's mean over the questions."""
        column = self.column(key, corpus, name, where, metric)
        return column["mean"] if column else None

    def values(self, key: str, corpus: str, name: str, where: str, metric: str) -> list[float] | None:
        """Return a metric's value for every question."""
        column = self.column(key, corpus, name, where, metric)
        if column is None:
            return None
        return [float(bit) for bit in column["bits"]] if "bits" in column else column["values"]

    def best_peer(self, corpus: str, name: str, where: str, metric: str) -> str | None:
        """Return the peer with the highest mean of a metric."""
        means = {v.key: self.mean(v.key, corpus, name, where, metric) for v in self.variants if v.is_peer}
        known = {key: mean for key, mean in means.items() if mean is not None}
        return max(known, key=lambda key: known[key]) if known else None

    def rounds(self, task: str, key: str, field: str) -> list[Any]:
        """Return a timing's value in every round."""
        rounds = self.timing.get(task, {"rounds": []})["rounds"]
        return [entry["measured"][key][field] for entry in rounds if field in entry["measured"].get(key, {})]

    def ratios(self, task: str, key: str, field: str) -> list[float]:
        """Return, round by round, a variant's timing divided by that of Carrel fast."""
        own, carrel = self.rounds(task, key, field), self.rounds(task, FAST, field)
        return [a / b for a, b in zip(own, carrel, strict=False)]

    def typical(self, task: str, key: str, field: str) -> float | None:
        """Return a timing's median over the rounds."""
        values = self.rounds(task, key, field)
        return median(values) if values else None


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
