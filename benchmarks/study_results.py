"""What the study keeps of a run: every question's scores, packed, so that the files stay small enough to commit."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from carrel.evaluation import Evaluation
from carrel.evaluation.results import Manifest, QuestionKey, Result, Scores

FORMAT = "carrel-study/1"
SCALE = 10_000
MISSING = 65_535
RANKING = ("ndcg@10", "recall@10", "mrr")
CONTEXTS = ("answer", "answer_in_gold", "all_support", "gold_recall", "span_recall", "span_iou")


def pack(scores: Scores) -> str:
    """Scores between 0 and 1 as text: ten-thousandths in two bytes each (65,535 for NaN), zlib, base64."""
    steps = np.where(np.isnan(scores), MISSING, np.rint(np.nan_to_num(scores) * SCALE)).astype("<u2")
    return base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode("ascii")


def unpack(text: str, shape: tuple[int, ...]) -> Scores:
    """What `pack` wrote, in this shape."""
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u2").astype(np.float64)
    return np.where(steps == MISSING, np.nan, steps / SCALE).reshape(shape)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a result file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise SystemExit(f"{path} is of the format {content.get('format')!r}, not {FORMAT!r}; run with --fresh")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a result file; a half-written one never takes its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"format": FORMAT, **content}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


@dataclass(frozen=True, slots=True)
class Table:
    """An evaluation as it was kept; ``tokens`` is configuration to question set to mean tokens at each budget."""

    evaluation: Evaluation
    tokens: Mapping[str, Mapping[str, Sequence[float]]]

    @classmethod
    def of(cls, evaluation: Evaluation) -> Table:
        """Drop what the page does not show: timings, which need a quiet machine, and each question's tokens."""
        tokens = {
            name: {
                corpus: [round(float(evaluation.select(corpus).values(name, "tokens", b).mean()), 1) for b in budgets]
                for corpus in evaluation.corpora
            }
            for name in evaluation.configurations
            for budgets in [evaluation.budgets]
        }
        results = {
            name: replace(
                result,
                ranking={metric: result.ranking[metric] for metric in RANKING if evaluation.is_scored(metric)},
                contexts={metric: result.contexts[metric] for metric in CONTEXTS if evaluation.is_scored(metric)},
            )
            for name, result in evaluation.results.items()
        }
        return cls(replace(evaluation, results=results), tokens)

    def mean_tokens(self, configuration: str, corpus: str, budget: int) -> float:
        return self.tokens[configuration][corpus][self.evaluation.budgets.index(budget)]

    def write(self, path: Path) -> None:
        kept = self.evaluation
        manifest = asdict(kept.manifest)
        manifest["libraries"] = {
            key: {name: library[name] for name in ("encoder", "chunks", "skipped", "warnings")}
            for key, library in kept.manifest.libraries.items()
        }
        keys = [question.corpus for question in kept.questions]
        write_json(
            path,
            {
                "manifest": manifest,
                "budgets": kept.budgets,
                "k_values": kept.k_values,
                "sets": {corpus: keys.count(corpus) for corpus in kept.corpora},
                "results": {
                    name: {
                        "options": dict(result.options),
                        "library": result.library,
                        "tokens": self.tokens[name],
                        "ranking": {metric: pack(scores) for metric, scores in result.ranking.items()},
                        "contexts": {metric: pack(scores) for metric, scores in result.contexts.items()},
                    }
                    for name, result in kept.results.items()
                },
            },
        )

    @classmethod
    def read(cls, path: Path) -> Table:
        content = read_json(path)
        sets, budgets = content["sets"], tuple(content["budgets"])
        questions = tuple(QuestionKey(f"{name}/{row}", name) for name, count in sets.items() for row in range(count))
        count = len(questions)
        results = {
            name: Result(
                result["options"],
                result["library"],
                {metric: unpack(text, (count,)) for metric, text in result["ranking"].items()},
                {metric: unpack(text, (count, len(budgets))) for metric, text in result["contexts"].items()},
            )
            for name, result in content["results"].items()
        }
        manifest = Manifest(**content["manifest"])
        evaluation = Evaluation(manifest, questions, budgets, tuple(content["k_values"]), results)
        return cls(evaluation, {name: result["tokens"] for name, result in content["results"].items()})
