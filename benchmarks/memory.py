"""Conversation memory on long dialogues: evidence within a budget, what each signal is worth, abstention.

    python benchmarks/memory.py --data DIR            # writes benchmarks/results/memory.json

The main figures are of dialogues on which nothing was fitted (benchmarks/memory_tuning.py names the others). A signal's
worth is what is lost when it is left out and the other weights are fitted again on the same two dialogues.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from machine import manifest
from memory_tuning import TUNED_ON, Case, cases_of, fitted_ranking, shares_of

from carrel.evaluation.bootstrap import bootstrap_difference
from carrel.evaluation.dialogues import Dialogue, load_dialogues
from carrel.evaluation.memory import ALL, evaluate_memory
from carrel.memory.scoring import SIGNALS, penalty

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "memory.json"
BUDGETS = (250, 500, 1000, 2000)


def ablation(dialogues: list[Dialogue]) -> dict[str, Any]:
    """For each signal: the recall without it, and what it adds, on the dialogues that were not fitted on."""
    cases = cases_of(dialogues, lambda name: tell(f"searching dialogue {name}"))
    tuned = [case for case in cases if case.dialogue in TUNED_ON]
    rest = [case for case in cases if case.dialogue not in TUNED_ON]
    whole = _shares(rest, fitted_ranking(tuned, penalty()))
    rows: dict[str, Any] = {}
    for signal, names in SIGNALS.items():
        tell(f"without {signal}")
        without = _shares(rest, fitted_ranking(tuned, penalty(), names))
        rows[signal] = {
            kind: {"recall": round(float(np.mean(without[kind])), 4), "adds": _interval(whole[kind], without[kind])}
            for kind in whole
        }
    return {
        "whole": {kind: round(float(np.mean(values)), 4) for kind, values in whole.items()},
        "questions": {kind: len(values) for kind, values in whole.items()},
        "without": rows,
    }


def _shares(cases: list[Case], weights: dict[str, float]) -> dict[str, list[float]]:
    return shares_of(cases, {case.dialogue: weights for case in cases})


def _interval(one: list[float], other: list[float]) -> dict[str, float]:
    found = bootstrap_difference(one, other)
    return {"mean": round(found.mean, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def tell(text: str) -> None:
    """Say on stderr what is done."""
    sys.stderr.write(f"{text}\n")


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with dialogues/")
    dialogues = load_dialogues(parser.parse_args().data)
    command = "python benchmarks/memory.py --data DIR"
    content: dict[str, Any] = {"manifest": {**manifest(ROOT, []), "command": command}}
    seen: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        if not seen or seen[-1] != what:
            seen.append(what)
            tell(f"{what}: {done} of {total} questions")

    content["evaluation"] = json.loads(evaluate_memory(dialogues, reader=True, progress=progress).to_json())
    content["budgets"] = {}
    rest = [dialogue for dialogue in dialogues if dialogue.name not in TUNED_ON]
    for budget in BUDGETS:
        tell(f"a budget of {budget} tokens")
        found = json.loads(evaluate_memory(rest, budget=budget, progress=progress).to_json())["scopes"]["all"]
        taken = {name: found[name] for name in ("tokens_most", "tokens_mean")}
        content["budgets"][str(budget)] = {**found["kinds"][ALL], **taken}
    content["ablation"] = ablation(dialogues)
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
