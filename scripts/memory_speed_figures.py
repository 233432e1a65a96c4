"""The table of what memory costs in time, in docs/memory.md, from benchmarks/results.

    python benchmarks/memory_speed.py --data DIR    # measures benchmarks/results/memory_speed.json

The table is written by scripts/generate_docs.py, which takes it from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "memory_speed.json"
NOT_MEASURED = "Not measured yet."
_STAGES = (
    ("encode_queries", "embedding the query"),
    ("search", "searching"),
    ("ranking_and_rendering", "weighing, choosing and rendering"),
)


def speed() -> str:
    """The tables of observe and recall, with what they were measured on."""
    if not RESULTS.exists():
        return NOT_MEASURED
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    parts = [_observe(found["observe"]), _recall(found["recall"]), _stages(found["recall"])]
    return "\n\n".join([*parts, _measured(found)])


def _observe(found: Mapping[str, Any]) -> str:
    rows = []
    for durability, what in (("normal", "survives a crash of the process"), ("full", "also a power loss")):
        figures = found[durability]
        for name, how in (("spaced", "one now and then"), ("total", "as fast as they come")):
            rows.append((f"`{durability}`: {what}", how, *_times(figures[name])))
    return _table(("`observe`, durability", "Turns", *_HEADS), rows)


def _recall(found: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{int(size):,}", *_times(figures["total"]), f"{figures['with_notes']['wall_p50']:.1f}",
            f"{figures['first_recall_s']} s", f"{figures['index_MB']:.1f} MB",
        )
        for size, figures in found.items()
    ]  # fmt: skip
    heads = ("`recall` among turns", *_HEADS, "Median, with a summary and a fact of every 12", "First of a process")
    return _table((*heads, "Index"), rows)


def _stages(found: Mapping[str, Any]) -> str:
    rows = []
    for size, figures in found.items():
        stages = figures["stages"]
        named = [stages.get(name, 0.0) for name, _ in _STAGES]
        reading = stages["total"] - sum(named)
        least = figures["floor"]["read_codes"]
        rows.append((f"{int(size):,}", *(f"{each:.1f}" for each in (*named, reading, least))))
    heads = ("Where it goes, among turns", *(what for _, what in _STAGES), "reading turns", "least: reading all codes")
    return _table(heads, rows)


def _measured(found: Mapping[str, Any]) -> str:
    manifest, syncing = found["manifest"], found["observe"]["sync"]
    return (
        f"Milliseconds of single calls, on {manifest['cores']} cores ({manifest['cpu']}), Python {manifest['python']},"
        f" {manifest['date'][:10]}. One sync took the disk {syncing['wall_p50']:.1f} ms; every `full` turn has one."
        f" The turns are those of the dialogues of the evaluation and, beyond {found['data']['turns']:,},"
        " changed copies of them with vectors moved at random; the query is embedded, budget 1,000 tokens."
    )


_HEADS = ("Median", "95th percentile", "Processor, median")


def _times(figures: Mapping[str, float]) -> tuple[str, str, str]:
    return tuple(f"{figures[name]:.1f}" for name in ("wall_p50", "wall_p95", "processor_p50"))  # type: ignore[return-value]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
