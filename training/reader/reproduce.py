"""Make the shipped reader from its data: every stage goes on where it stopped, Ctrl-C loses nothing.

    mine       candidates for every question, by Carrel's own retriever        minutes
    train      the model, in bfloat16                                          hours on two cores
    export     its averaged weights as one int8 ONNX graph                     seconds
    calibrate  probabilities and thresholds, on held-out documents             minutes
    ask        how sure answers are, asked of a library of all paragraphs      minutes
    precision  the int8 graph against float32, on held-out documents           minutes
    evaluate   figures on the development sets                                 minutes
    write      provenance.json, README.md (the model card) and results.json    seconds

A stage is done again only when what it is made of has changed; an interrupted one goes on.

Examples
--------
    python training/reader/reproduce.py --data DATA
    python training/reader/reproduce.py --data DATA --stages export,calibrate,evaluate,write
    python training/reader/reproduce.py --data DATA --small --out /tmp/reader    # a toy, in about a minute

DATA is a folder with train/ and reader_dev/, whose files are gzipped JSONL (see data.py).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # for when it is run as a script; last: modules here have the names of folders there

from config import COURSES  # noqa: E402
from stages import STAGES, Run  # noqa: E402

from training.runs import exit_code, run_stages  # noqa: E402

SHIPPED = ROOT / "carrel" / "models" / "reader"
ENVIRONMENT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32"}
"""Read when torch first computes. Batches have thousands of lengths: with oneDNN's own 1,024 primitives kept, a
step takes ten times as long; the weights are the same."""


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("CARREL_DATA"), help="the data folder")
    parser.add_argument("--work", type=Path, help="candidates, checkpoints, logs (default: in training/reader/.work)")
    parser.add_argument("--out", type=Path, help="the model's folder (default: carrel/models/reader)")
    parser.add_argument("--results", type=Path, help="all figures (default: training/reader/results.json, or in --out)")
    parser.add_argument("--stages", default=",".join(STAGES), help="those to run, with commas (default: all)")
    parser.add_argument("--wheel", type=Path, help="a downloaded wheel of the embedder's package")
    parser.add_argument(
        "--small", action="store_true", help="a toy, in a minute; never in the place of the shipped one"
    )
    parser.add_argument("--epochs", type=float, help="passes over the data in each course")
    parser.add_argument(
        "--limit", type=int, help="questions of each set to calibrate and measure on (to try things out)"
    )
    chosen = parser.parse_args()
    if chosen.data is None:
        parser.error("name the data folder with --data or CARREL_DATA")
    unknown = sorted({*chosen.stages.split(",")} - {*STAGES})
    if unknown:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    return chosen


def run(chosen: argparse.Namespace) -> None:
    """Run the chosen stages in their order."""
    courses = COURSES["small" if chosen.small else "full"]
    if chosen.epochs is not None:
        courses = tuple(course.with_changes(epochs=chosen.epochs) for course in courses)
    work = chosen.work or Path(__file__).with_name(".work") / ("small" if chosen.small else "full")
    out = chosen.out or (work / "model" if chosen.small else SHIPPED)
    results = chosen.results or (Path(__file__).with_name("results.json") if out == SHIPPED else out / "results.json")
    run_stages(STAGES, chosen.stages, Run(Path(chosen.data), work, out, results, courses, chosen.wheel, chosen.limit))


def main() -> int:
    """Run, and say how to go on where it was stopped."""
    chosen = options()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    return exit_code(lambda: run(chosen))


if __name__ == "__main__":
    sys.exit(main())
