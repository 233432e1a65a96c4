"""Run one task of one variant in this fresh process: `worker.py JOB`, JOB being JSON; writes JSON to `job["output"]`.

It runs in the system's own environment and imports nothing but the standard library and the system under test
before a cold start is over.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from registry import variant_of


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run the job's task and return its measurement."""
    variant = variant_of(job["variant"])
    system_class = getattr(import_module(variant.module), variant.class_name)
    system = system_class(variant.name, Path(job["model"]), Path(job["store"]))
    if job["task"] == "quality":
        from quality import measure_quality

        return measure_quality(job, variant, system)
    import timing

    tasks = {
        "ingest": timing.measure_ingest,
        "index": timing.build_index,
        "cold_load": timing.measure_cold_load,
        "cold_ingest": timing.measure_cold_ingest,
        "latency": timing.measure_latency,
        "modes_cold": timing.measure_cold_load,
        "modes_latency": timing.measure_modes,
    }
    return tasks[job["task"]](job, system)


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    result = run(job)
    Path(job["output"]).write_text(json.dumps(result), encoding="utf-8")
    sys.stderr.flush()
    os._exit(0)  # no system's threads or exit hooks can keep the process, or fail it, after the measurement
