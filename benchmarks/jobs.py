"""Starting workers: one fresh process a measurement, in the system's own environment."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from environments import HERE, Environments, worker_environment
from registry import PACKAGE_IMPORT, SETUP_IMPORT, TIMING_CORPUS, Variant

SAVED = {"cold_load", "latency", "modes_cold", "modes_latency"}
"""Tasks that start from a saved index."""


class MeasurementError(RuntimeError):
    """A worker failed; the message holds the end of its log."""


class Workers:
    """Runs measurements one at a time."""

    def __init__(self, environments: Environments, data: Path, limit: int | None) -> None:
        """Remember where environments, data and logs are, and the limit of this run."""
        self.environments = environments
        self.work = environments.work
        self.data = data
        self.limit = limit
        (self.work / "logs").mkdir(parents=True, exist_ok=True)

    def quality(self, variant: Variant, corpus: str) -> dict[str, Any]:
        """Measure quality on one corpus, in a store that is thrown away."""
        with tempfile.TemporaryDirectory(dir=self.work) as store:
            return self._run("quality", variant, Path(store) / "store", corpus)

    def timing(self, task: str, variant: Variant) -> dict[str, Any]:
        """Run one timing task once."""
        if task == "import":
            return self._import(variant)
        if task in SAVED:
            return self._run(task, variant, self.saved_index(variant))
        with tempfile.TemporaryDirectory(dir=self.work) as store:
            return self._run(task, variant, Path(store) / "store")

    def saved_index(self, variant: Variant) -> Path:
        """Return the folder of the variant's saved index of the timing corpus, built when missing."""
        fingerprint = self.environments.fingerprint(variant.system)
        store = self.work / "stores" / f"{variant.key}-{TIMING_CORPUS}-{self.limit or 'all'}-{fingerprint}"
        done = store.with_name(store.name + ".done")
        if not done.exists():
            shutil.rmtree(store, ignore_errors=True)
            store.parent.mkdir(parents=True, exist_ok=True)
            self._run("index", variant, store)
            done.touch()
        return store

    def _run(self, task: str, variant: Variant, store: Path, corpus: str = "") -> dict[str, Any]:
        python = self.environments.python(variant.system)
        model = self.environments.model()
        log = self.work / "logs" / "-".join(filter(None, (task, variant.key, corpus, "log.txt")))
        with tempfile.NamedTemporaryFile(dir=self.work, suffix=".json") as output, log.open("w") as errors:
            job: dict[str, Any] = {
                "task": task,
                "system": variant.system,
                "variant": variant.key,
                "corpus": corpus,
                "data": str(self.data),
                "store": str(store),
                "model": str(model),
                "memo": str(self.work / "embeddings.sqlite"),
                "limit": self.limit,
                "output": output.name,
            }
            command = [str(python), "-W", "ignore", str(HERE / "worker.py")]
            job["spawned"] = time.monotonic()
            done = subprocess.run(  # noqa: S603
                [*command, json.dumps(job)],
                stdout=errors, stderr=errors, env=worker_environment(), check=False, cwd=self.work,
            )  # fmt: skip
            if done.returncode:
                raise MeasurementError(f"{task} {variant.key} {corpus}: {log.read_text()[-1500:]}")
            result: dict[str, Any] = json.loads(Path(output.name).read_text(encoding="utf-8"))
            return result

    def _import(self, variant: Variant) -> dict[str, Any]:
        statements = {
            "python": "pass",
            "package": PACKAGE_IMPORT[variant.system],
            "setup": SETUP_IMPORT[variant.system],
        }
        result: dict[str, Any] = {}
        for name, statement in statements.items():
            python = str(self.environments.python(variant.system))
            command = [python, "-W", "ignore", "-c", statement]
            started = time.monotonic()
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, env=worker_environment(), check=False, cwd=self.work
            )
            result[f"{name}_s"] = time.monotonic() - started
            if done.returncode:
                raise MeasurementError(f"import {variant.key}: {done.stderr[-1500:]}")
        return result
