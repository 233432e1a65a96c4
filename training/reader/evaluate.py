"""Measure a reader on the development sets.

    python training/reader/evaluate.py --data DATA                 # the shipped reader
    python training/reader/evaluate.py --data DATA --model DIR --limit 200

Whole paragraphs are read as an application would have them read, through the shipped runtime and with the
shipped thresholds, on all cores. Nothing is chosen here. What the figures mean stands in metrics.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from data import normal, read
from metrics import Pruning, abstention, abstention_curve, auc_draws, interval, mean, reliability, resamples
from reading import Read, read_rows, runtime

from carrel.reader.calibration import MEAN_OF_TOKENS, Calibration, Logistic, answer_features
from carrel.tokens import model_folder

SETS = ("squad2", "nq_qed", "subjqa")
REMOVED, KEPT = 0.6, 0.97
"""Shares of the tokens that pruning removes, and of the answers' sentences that it keeps, in the comparisons."""
RIGHT = 0.5
"""F1 from which an answer counts as right where it must be right or wrong: in calibration."""


def measure(items: Sequence[Read], calibration: Calibration) -> dict[str, Any]:
    """All figures of one set of questions, at the shipped thresholds."""
    labels = np.array([item.answerable for item in items])
    right = np.array([item.right for item in items])
    exact = np.array([_exact(item) for item in items], float)
    weights = resamples([item.document for item in items])
    features = answer_features([item.reading for item in items])
    confidence = calibration.answer.probability(features)
    out: dict[str, Any] = {"questions": len(items), "answerable": int(labels.sum())}
    out["f1"] = mean(right[labels], weights[:, labels])
    out["exact"] = mean(exact[labels], weights[:, labels])
    out |= abstention(labels, right, confidence, calibration.answer_threshold, weights)
    out["abstention_curve"] = abstention_curve(labels, right, confidence)
    out["confidence"] = reliability(confidence, right >= RIGHT)
    if not labels.all():
        out["auc_of_one_signal"] = {
            name: interval(auc_draws(labels, values, weights), len(items)) for name, values in features.items()
        }
    out["pruning"] = pruning_figures([i for i in items if i.answerable], calibration.keep_threshold, calibration.keep)
    return out


def pruning_figures(items: Sequence[Read], threshold: float, keep: Logistic = MEAN_OF_TOKENS) -> dict[str, Any]:
    """Pruning of paragraphs that hold the answer, at every threshold and at the shipped one."""
    documents = [item.document for item in items]
    pruning = Pruning([item.sentences(keep) for item in items], thresholds(threshold), documents)
    plain = Pruning([item.sentences() for item in items], thresholds(), documents)
    return {
        "kept_at_60_removed": pruning.kept_at(REMOVED),
        "kept_at_60_removed_by_tokens_alone": plain.kept_at(REMOVED),
        "removed_at_97_kept": pruning.removed_at(KEPT),
        "at_threshold": pruning.at(threshold),
        "curve": pruning.curve(),
    }


def thresholds(*wanted: float) -> np.ndarray:
    """Keep thresholds from 0 to nearly 1, those wanted among them."""
    return np.unique(np.concatenate([[0.0], np.geomspace(0.0005, 0.99, 150), wanted]))


def _exact(item: Read) -> bool:
    return any(normal(item.text) == normal(item.context[start:end]) for start, end in item.answers)


def shown(name: str, figures: dict[str, Any]) -> str:
    """The main figures of a set on one line, in percent."""
    pruned = figures["pruning"]
    values = {key: figures[key]["mean"] for key in MAIN if key in figures}
    values["kept at 60 % removed"] = pruned["kept_at_60_removed"]["mean"]
    values |= {f"{key} at threshold": value["mean"] for key, value in pruned["at_threshold"].items()}
    return f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {100 * value:.1f}" for key, value in values.items())


MAIN = ("f1", "exact", "f1_with_abstentions", "no_answer_accuracy", "balanced_accuracy", "auc", "squad2_f1")


def main() -> None:
    """Print a line a set and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("CARREL_DATA"), help="folder with reader_dev/")
    parser.add_argument("--model", type=Path, help="folder of the model (default: the shipped one)")
    parser.add_argument("--limit", type=int, help="questions of each set")
    parser.add_argument("--output", type=Path, help="write all figures there, as JSON")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the data folder with --data or CARREL_DATA")
    folder = options.model or model_folder("reader")
    model, calibration = runtime(folder), Calibration.load(folder / "calibration.json")

    def tell(line: str) -> None:
        sys.stderr.write(f"  {line}\n")

    results = {}
    for name in SETS:
        rows = read(Path(options.data) / "reader_dev" / f"{name}.jsonl.gz")[: options.limit]
        results[name] = measure(read_rows(model, rows, tell, name), calibration)
        sys.stdout.write(shown(name, results[name]) + "\n")
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
