"""Make the needle model from nothing: every stage goes on where it stopped, Ctrl-C loses nothing.

    train     the weights, on synthetic text, from 64 tokens a row to 4,224     some 40 minutes on two cores
    export    a folder that transformers, vLLM and kvpress load                 a minute
    evaluate  accuracy by task, length and depth                                minutes
    write     provenance.json, README.md (the model card) and results.json      seconds

A stage is done again only when what it is made of has changed; an interrupted one goes on.

Examples
--------
    python training/needle_lm/reproduce.py
    python training/needle_lm/reproduce.py --stages export,evaluate,write     # of what is trained so far
    python training/needle_lm/reproduce.py --small --out /tmp/needle          # a toy, in seconds
    python training/needle_lm/reproduce.py --seed 1 --work /tmp/second --out /tmp/second/model
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for when it is run as a script

import torch  # noqa: E402

from training.needle_lm.config import CONFIGS  # noqa: E402
from training.needle_lm.stages import STAGES, Run  # noqa: E402
from training.runs import exit_code, run_stages  # noqa: E402

SHIPPED = ROOT / "tests" / "models" / "needle_lm"


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="checkpoints, logs (default: in training/needle_lm/.work)")
    parser.add_argument("--out", type=Path, help="the model's folder (default: tests/models/needle_lm)")
    parser.add_argument("--results", type=Path, help="all figures (default: beside this script, or in --out)")
    parser.add_argument("--stages", default=",".join(STAGES), help="those to run, with commas (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, rows and questions (default: 0)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--small", action="store_true", help="a toy, in seconds; never in the place of the shipped one")
    chosen = parser.parse_args()
    unknown = sorted({*chosen.stages.split(",")} - {*STAGES})
    if unknown:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    return chosen


def run(chosen: argparse.Namespace) -> None:
    """Run the chosen stages in their order."""
    config = CONFIGS["small" if chosen.small else "full"].with_changes(seed=chosen.seed)
    work = chosen.work or Path(__file__).with_name(".work") / ("small" if chosen.small else "full")
    out = chosen.out or (work / "model" if chosen.small else SHIPPED)
    results = chosen.results or (Path(__file__).with_name("results.json") if out == SHIPPED else out / "results.json")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    run_stages(STAGES, chosen.stages, Run(work, out, results, config))


def main() -> int:
    """Run, and say how to go on where it was stopped."""
    return exit_code(lambda: run(options()))


if __name__ == "__main__":
    sys.exit(main())
