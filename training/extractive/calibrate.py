"""Choose the threshold below which the extractive answerer abstains.

    python training/extractive/calibrate.py --data DATA      # about five minutes on two cores

Questions of SQuAD's training part are asked twice of a library of their paragraphs: with the paragraph
that answers them, and without it. The threshold is where the share answered with it and the share
abstained without it have the highest mean.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import numpy as np

import carrel
from carrel.generation.extractive import ExtractiveGenerator

SEED = 0


def load(data: Path, paragraphs: int, questions: int) -> tuple[dict[str, str], list[tuple[str, str, list[str]]]]:
    """Paragraphs by id, and (question, id of its paragraph, answers)."""
    with gzip.open(data / "train" / "squad1.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    ids = {text: f"p{index}" for index, text in enumerate(dict.fromkeys(row["context"] for row in rows))}
    chooser = random.Random(SEED)
    kept = set(chooser.sample(sorted(ids.values()), min(paragraphs, len(ids))))
    chosen = [row for row in chooser.sample(rows, len(rows)) if row["answerable"] and ids[row["context"]] in kept]
    asked = [(row["question"], ids[row["context"]], [a["text"] for a in row["answers"]]) for row in chosen[:questions]]
    return {key: text for text, key in ids.items() if key in kept}, asked


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("CARREL_DATA"), help="folder with train/")
    parser.add_argument("--paragraphs", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("calibration.json"))
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the data folder with --data or CARREL_DATA")
    texts, asked = load(Path(options.data), options.paragraphs, options.questions)
    found, missing, right = [], [], []
    with tempfile.TemporaryDirectory() as folder, carrel.open(folder) as library:
        library.add([carrel.Document(id=key, text=text) for key, text in texts.items()])
        generator = ExtractiveGenerator(library.encoder, threshold=-1.0)  # type: ignore[arg-type]
        for question, key, answers in asked:
            there = library.ask(question, budget=500, generator=generator)
            not_there = library.ask(question, budget=500, generator=generator, where={"id": {"!=": key}})
            found.append(there.confidence or 0.0)
            missing.append(not_there.confidence or 0.0)
            right.append(any(answer.lower() in there.text.lower() for answer in answers))
    rows = [
        {
            "threshold": round(float(threshold), 2),
            "answered_when_there": float(np.mean(np.array(found) >= threshold)),
            "abstained_when_not": float(np.mean(np.array(missing) < threshold)),
        }
        for threshold in np.arange(0.3, 0.7, 0.02)
    ]
    best = max(rows, key=lambda row: row["answered_when_there"] + row["abstained_when_not"])
    result = {
        "data": "train/squad1",
        "paragraphs": len(texts),
        "questions": len(asked),
        "seed": SEED,
        "quotes_an_answer": float(np.mean(right)),
        "best": best,
        "rows": rows,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(best) + "\n")


if __name__ == "__main__":
    main()
