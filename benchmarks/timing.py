"""The timing tasks: ingest, the two cold starts, warm latency, Carrel's modes. Nothing here uses the memo.

Imports stay light: in the cold tasks they stand on the clock, which started when the process was spawned.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from corpora import load_documents, load_questions
from registry import COLD_CORPUS, COLD_DOCUMENTS, LATENCY_QUESTIONS, TIMING_CORPUS, WARM_UPS
from systems.base import System


def peak_memory_mb() -> float:
    """Return the process's peak resident memory in MiB.

    Linux tells the peak of this program alone in `VmHWM`; elsewhere `ru_maxrss` also holds that of the process that
    spawned it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def first_context(system: System, question: str) -> None:
    """Run the default retrieval once; an empty result is an error."""
    query = next(iter(system.default_queries().values()))
    result = query(question)
    if not (result.text if hasattr(result, "text") else result):
        raise RuntimeError("the first context is empty")


def measure_ingest(job: dict[str, Any], system: System) -> dict[str, Any]:
    """Time the indexing of the timing corpus, from the first ingest call until it can be searched."""
    data = Path(job["data"])
    system.setup()
    system.prepare_ingest()
    documents = load_documents(data, TIMING_CORPUS, job["limit"])
    before = peak_memory_mb()
    started = time.perf_counter()
    system.ingest(documents)
    seconds = time.perf_counter() - started
    peak = peak_memory_mb()
    total = time.monotonic() - job["spawned"]
    started = time.perf_counter()
    system.save()
    save_s = time.perf_counter() - started
    from counting import TokenCounter  # only now: it would stand in the peak

    counter = TokenCounter(Path(job["model"]))
    tokens = sum(counter.count(f"{d.title}\n{d.text}" if d.title else d.text) for d in documents)
    return {
        "documents": len(documents),
        "tokens": tokens,
        "seconds": seconds,
        "documents_per_s": len(documents) / seconds,
        "tokens_per_s": tokens / seconds,
        "total_s": total,
        "save_s": save_s,
        "peak_mb": peak,
        "peak_mb_before": before,
        "saved_bytes": sum(path.stat().st_size for path in Path(job["store"]).rglob("*") if path.is_file()),
    }


def build_index(job: dict[str, Any], system: System) -> dict[str, Any]:
    """Index the timing corpus and save it, for the tasks that load it; not timed, so the memo may serve."""
    from memo import memoise

    memoise(job["system"], Path(job["memo"]))
    system.setup()
    system.prepare_ingest()
    system.ingest(load_documents(Path(job["data"]), TIMING_CORPUS, job["limit"]))
    system.save()
    return {}


def measure_cold_load(job: dict[str, Any], system: System) -> dict[str, Any]:
    """Time a fresh process with a saved index to its first context."""
    system.setup()
    ready = time.monotonic()
    system.load()
    loaded = time.monotonic()
    (question,) = load_questions(Path(job["data"]), TIMING_CORPUS, 1)
    return _cold_result(job, system, question.text, ready, loaded)


def measure_cold_ingest(job: dict[str, Any], system: System) -> dict[str, Any]:
    """Time a fresh process that ingests a few long articles to its first context."""
    system.setup()
    system.prepare_ingest()
    ready = time.monotonic()
    data = Path(job["data"])
    system.ingest(load_documents(data, COLD_CORPUS, COLD_DOCUMENTS))
    ingested = time.monotonic()
    (question,) = load_questions(data, COLD_CORPUS, 1)
    return _cold_result(job, system, question.text, ready, ingested)


def _cold_result(job: dict[str, Any], system: System, question: str, ready: float, indexed: float) -> dict[str, Any]:
    asked = time.monotonic()
    first_context(system, question)
    done = time.monotonic()
    return {
        "seconds": done - job["spawned"],
        "setup_s": ready - job["spawned"],
        "index_s": indexed - ready,
        "first_context_s": done - asked,
        "peak_mb": peak_memory_mb(),
    }


def measure_latency(job: dict[str, Any], system: System) -> dict[str, Any]:
    """Time single questions over a loaded index, query embedding included, one after another."""
    system.setup()
    system.load()
    return timed_queries(job, system.default_queries())


def measure_modes(job: dict[str, Any], system: System) -> dict[str, Any]:
    """Time asking, contexts and searches in one of Carrel's modes.

    The reader keeps what it read for the last questions; each kind of call goes through all questions before the next
    begins, so that in a full run none finds its passages read.
    """
    system.setup()
    system.load()
    return timed_queries(job, system.mode_queries())


def timed_queries(job: dict[str, Any], queries: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Return the latencies of each kind of call; those of the first kind also by themselves."""
    count = WARM_UPS + min(LATENCY_QUESTIONS, job["limit"] or LATENCY_QUESTIONS)
    questions = [question.text for question in load_questions(Path(job["data"]), TIMING_CORPUS, count)]
    result = {}
    for name, query in queries.items():
        for question in questions[:WARM_UPS]:
            query(question)
        times = []
        for question in questions[WARM_UPS:]:
            started = time.perf_counter()
            query(question)
            times.append((time.perf_counter() - started) * 1e3)
        times.sort()
        result[name] = {"p50_ms": percentile(times, 50), "p95_ms": percentile(times, 95), "questions": len(times)}
    first = next(iter(result.values()))
    return {**first, "calls": result, "peak_mb": peak_memory_mb()}


def percentile(ordered: list[float], percent: float) -> float:
    """Return the value at the nearest rank of an ordered list."""
    return ordered[round(percent / 100 * (len(ordered) - 1))]
