"""Answer recall in so many tokens, on held-out training questions over all training paragraphs.

    python training/reader/contexts.py --data DATA --work WORK    # after the stage mine of reproduce.py

What the choices about packing rest on: the development corpora only report. Rows: retrieval alone, reranked,
and reranked and pruned as shipped. The answer counts as found where it stands in the context as whole words.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from config import FULL
from data import Question, fraction, holds, load_questions
from metrics import mean, resamples
from mine import mined_library

import carrel
from carrel.errors import BudgetError

BUDGETS = (60, 100, 150, 250, 500, 1000)
ROWS: dict[str, dict[str, Any]] = {
    "fast": {"mode": "fast"},
    "reranked": {"pruner": "none"},
    "balanced": {},
}


def measure(library: carrel.Library, questions: list[Question]) -> dict[str, Any]:
    """Recall and mean tokens of every row at every budget, with 95 % intervals over paragraphs."""
    found = {row: np.zeros((len(BUDGETS), len(questions))) for row in ROWS}
    tokens = {row: np.zeros((len(BUDGETS), len(questions))) for row in ROWS}
    for number, question in enumerate(questions):
        answers = [question.context[start:end] for start, end in question.answers]
        for row, options in ROWS.items():
            for place, budget in enumerate(BUDGETS):
                try:
                    context = library.context(question.question, budget=budget, **options)
                except BudgetError:
                    continue
                found[row][place, number] = holds(context.text, answers)
                tokens[row][place, number] = context.tokens
        if (number + 1) % 50 == 0:
            sys.stderr.write(f"  {number + 1} of {len(questions)} questions\n")
    weights = resamples([question.document for question in questions])
    return {
        "questions": len(questions),
        "budgets": list(BUDGETS),
        "rows": {
            row: {
                "recall": [mean(values, weights) for values in found[row]],
                "tokens": [float(values.mean()) for values in tokens[row]],
                "above_fast": [mean(a - b, weights) for a, b in zip(found[row], found["fast"], strict=True)],
            }
            for row in ROWS
        },
    }


def main() -> None:
    """Measure and write contexts.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("CARREL_DATA"), help="the data folder")
    parser.add_argument("--work", type=Path, default=Path(__file__).with_name(".work") / "full", help="of reproduce.py")
    parser.add_argument("--limit", type=int, default=400, help="questions (default: 400)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("contexts.json"))
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the data folder with --data or CARREL_DATA")
    held_out = [q for q in load_questions(options.data, FULL) if q.held_out and q.answers]
    questions = sorted(held_out, key=lambda q: fraction(f"contexts:{q.id}"))[: options.limit]
    with mined_library(options.work) as library:
        results = measure(library, questions)
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for row, figures in results["rows"].items():
        sys.stdout.write(
            f"{row}: "
            + ", ".join(f"{b}: {v['mean']:.3f}" for b, v in zip(BUDGETS, figures["recall"], strict=True))
            + "\n"
        )


if __name__ == "__main__":
    main()
