"""Measure Carrel beside other frameworks: `python benchmarks/run.py --data DIR`.

Every measurement runs in a fresh process in the system's own environment, one at a time. A finished measurement is
kept, so an interrupted run goes on where it stopped; `--fresh` measures again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from environments import HERE, REPOSITORY, Environments, worker_environment
from jobs import MeasurementError, Workers
from machine import load_average, manifest
from registry import CARREL, CORPORA, SEED, VARIANTS, Variant, variants_of

TASKS = ("quality", "ingest", "cold", "latency", "import", "modes")
TIMINGS = {
    "ingest": ("ingest",),
    "cold": ("cold_load", "cold_ingest"),
    "latency": ("latency",),
    "import": ("import",),
    "modes": ("modes_cold", "modes_latency"),
}
ROUNDS = {
    "ingest": 3, "cold_load": 5, "cold_ingest": 5, "latency": 3, "import": 5, "modes_cold": 5, "modes_latency": 3,
}  # fmt: skip
WARM_UP_ROUND = {"cold_load", "cold_ingest", "import", "modes_cold"}
"""Tasks with one unrecorded round first: files and byte code are then in the page cache for everyone."""


class Run:
    """One command: its options, its manifest and its progress."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Make the folders and write the manifest."""
        self.options = options
        self.out: Path = options.out
        self.environments = Environments(options.work)
        self.workers = Workers(self.environments, options.data, options.limit)
        self.variants = variants_of(options.systems)
        self.started = time.monotonic()
        self.failures: list[str] = []
        self.manifest = manifest(REPOSITORY, sys.argv[1:])
        for name in dict.fromkeys(variant.system for variant in self.variants):
            self.manifest["versions"][name] = self.environments.versions(name)
        write_json(self.out / "runs" / f"{self.manifest['id']}.json", self.manifest)

    def progress(self, line: str) -> None:
        """Print a line with the elapsed time."""
        sys.stdout.write(f"[{time.monotonic() - self.started:7.0f} s] {line}\n")
        sys.stdout.flush()

    def quality(self) -> None:
        """Measure quality, the whole collection first, so that its embeddings serve the single corpora."""
        pairs = [(corpus, variant) for corpus in self.options.corpora for variant in self.variants]
        for number, (corpus, variant) in enumerate(pairs, 1):
            path = self.out / "quality" / f"{variant.key}-{corpus}.json"
            name = f"quality {corpus} {variant.key} ({number} of {len(pairs)})"
            wanted = self._conditions(variant)
            if not self.options.fresh and path.exists() and read_json(path)["conditions"] == wanted:
                self.progress(f"{name}: kept")
                continue
            started = time.monotonic()
            try:
                result = self.workers.quality(variant, corpus)
            except MeasurementError as error:
                self._fail(str(error))
                continue
            head = {"variant": variant.key, "corpus": corpus, "run": self.manifest["id"], "conditions": wanted}
            write_json(path, head | result)
            self.progress(f"{name}: {time.monotonic() - started:.0f} s")

    def _conditions(self, variant: Variant) -> dict[str, Any]:
        fingerprint = self.environments.fingerprint(variant.system)
        return {"environment": fingerprint, "limit": self.options.limit, "seed": SEED}

    def timing(self, task: str) -> None:
        """Measure a timing task in rounds, every variant once a round, so that drift meets all of them."""
        path = self.out / "timing" / f"{task}.json"
        variants = [variant for variant in self.variants if is_timed(variant, task)]
        if not variants:
            return
        if task == "import":  # variants of a system import the same
            variants = list({variant.system: variant for variant in reversed(variants)}.values())[::-1]
        wanted = {variant.key: self._conditions(variant) for variant in variants}
        stored: dict[str, Any] = {"task": task, "conditions": wanted, "rounds": []}
        if path.exists() and not self.options.fresh:
            before = read_json(path)
            if set(before["conditions"]) - set(wanted):
                self._fail(f"{path.name} holds systems not asked for; name them too, or use another --out or --fresh")
                return
            if before["conditions"] == wanted:
                stored = before
        rounds = self.options.rounds or ROUNDS[task]
        try:
            if task in WARM_UP_ROUND and len(stored["rounds"]) < rounds:
                self._round(task, variants, "warm-up round")
            while len(stored["rounds"]) < rounds:
                name = f"round {len(stored['rounds']) + 1} of {rounds}"
                load = load_average()
                measured = self._round(task, variants, name)
                stored["rounds"].append({"run": self.manifest["id"], "load_before": load, "measured": measured})
                write_json(path, stored)
        except MeasurementError as error:
            self._fail(str(error))

    def _round(self, task: str, variants: list[Variant], name: str) -> dict[str, Any]:
        measured = {}
        for variant in variants:
            measured[variant.key] = self.workers.timing(task, variant)
            shown = {k: round(v, 3) for k, v in measured[variant.key].items() if isinstance(v, float)}
            self.progress(f"{task} {name} {variant.key}: {shown}")
        return measured

    def _fail(self, message: str) -> None:
        self.failures.append(message)
        self.progress(f"FAILED {message}")


def is_timed(variant: Variant, task: str) -> bool:
    """Return whether a variant takes part in a timing task.

    Beside the peers, which only retrieve, stands Carrel fast, which does the same; its modes are timed among
    themselves.
    """
    return not variant.is_peer if task in TIMINGS["modes"] else variant.key != CARREL


def write_json(path: Path, value: object) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read one result."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def names(value: str) -> list[str]:
    """Split a comma-separated option."""
    return [name for name in value.split(",") if name]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    systems = ",".join(dict.fromkeys(variant.system for variant in VARIANTS))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("CARREL_DATA"), help="or CARREL_DATA")
    parser.add_argument("--systems", type=names, default=systems, help="systems or variants (default: all)")
    parser.add_argument("--corpora", type=names, default=",".join(CORPORA), help="of the quality task")
    parser.add_argument("--tasks", type=names, default=",".join(TASKS))
    parser.add_argument("--limit", type=int, help="a trial: first N questions of a set; first N documents timed")
    parser.add_argument("--rounds", type=int, help="rounds of each timing task (default: 3 or 5)")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="environments, indexes, logs, memo")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there already")
    parser.add_argument("--no-report", action="store_true", help="leave docs/benchmarks.md alone")
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("--data or CARREL_DATA is needed")
    for name, given, known in (("corpora", options.corpora, CORPORA), ("tasks", options.tasks, TASKS)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown {name}: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    for name in ("data", "out", "work"):
        setattr(options, name, Path(getattr(options, name)).resolve())
    options.corpora = [corpus for corpus in CORPORA if corpus in options.corpora]
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def main() -> int:
    """Run the tasks asked for, then write the report."""
    options = parse()
    run = Run(options)
    for task in TASKS:
        if task not in options.tasks:
            continue
        if task == "quality":
            run.quality()
        for timing in TIMINGS.get(task, ()):
            run.timing(timing)
    if not options.no_report:
        python = run.environments.python("report")
        command = [str(python), str(HERE / "report.py"), "--results", str(options.out)]
        if subprocess.run(command, env=worker_environment(), check=False).returncode:  # noqa: S603
            run.failures.append("report")
    run.progress(f"finished, {len(run.failures)} failures")
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
