"""The tables of flows in docs/agents.md, and a plot, from benchmarks/results.

    python benchmarks/flows_quality.py --data DIR   # measures benchmarks/results/flows_quality.json
    python benchmarks/flows.py                      # measures benchmarks/results/flows.json
    python scripts/agents_figures.py                # draws docs/assets/flows.svg

The tables are written by scripts/generate_docs.py, which takes them from here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carrel.evaluation.bootstrap import Interval

ROOT = Path(__file__).resolve().parents[1]
QUALITY = ROOT / "benchmarks" / "results" / "flows_quality.json"
BUSY = ROOT / "benchmarks" / "results" / "flows.json"
FIGURE = ROOT / "docs" / "assets" / "flows.svg"
NOT_MEASURED = "Not measured yet."
BASELINES = ("dense", "fused")
FLOWS = ("iterative", "chain_of_agents", "map_reduce", "clustered")
METRICS = {
    "all_support": "all supporting paragraphs",
    "span_recall": "gold span recall",
    "answer": "an answer in the text",
    "words": "words of the reference answers",
}
ENGINES = {"reader": "the embedded reader", "vllm": "vLLM in process, on the CPU"}


def figures(path: Path) -> dict[str, Any] | None:
    """What was measured; None where nothing is."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def scores(rows: dict[str, dict[str, float]], names: Sequence[str], what: str = "score") -> NDArray[np.float64]:
    """(questions,) of what was measured of each."""
    return np.array([rows[name][what] for name in names])


def better_baseline(systems: dict[str, Any], names: Sequence[str]) -> str:
    """The baseline with the higher mean over these questions; both are rows of the table."""
    return max(BASELINES, key=lambda name: float(scores(systems[name], names).mean()))


def difference(systems: dict[str, Any], flow: str) -> tuple[list[str], str, Interval]:
    """The questions of a flow, the better baseline on them, and the paired difference."""
    from carrel.evaluation.bootstrap import bootstrap_difference

    names = [name for name in systems[flow] if all(name in systems[each] for each in BASELINES)]
    beside = better_baseline(systems, names)
    return names, beside, bootstrap_difference(scores(systems[flow], names), scores(systems[beside], names))


def quality_rows(found: dict[str, Any]) -> list[list[str]]:
    """A set and a system a row."""
    rows = []
    for name, measured in found["sets"].items():
        systems = measured["systems"]
        for system in (*BASELINES, *FLOWS):
            if system not in systems:
                continue
            of = list(systems[system])
            mean = 100 * float(scores(systems[system], of).mean())
            seconds = float(np.median(scores(systems[system], of, "seconds")))
            tokens = float(scores(systems[system], of, "tokens").mean())
            gain = "single pass"
            if system not in BASELINES:
                of, beside, interval = difference(systems, system)
                gain = (
                    f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}] over {beside}"
                )
            what = f"{name}: {METRICS[measured['metric']]}"
            rows.append([what, f"`{system}`", f"{len(of)}", f"{mean:.1f}", gain, f"{tokens:.0f}", f"{seconds:.1f}"])
    return rows


def quality() -> str:
    """The table of docs/agents.md, with the plot."""
    found = figures(QUALITY)
    if found is None:
        return NOT_MEASURED
    from generate_docs import table

    header = ("Measured", "System", "Questions", "Percent", "Difference, points, 95 %", "Tokens", "Seconds")
    made = found["manifest"]
    note = (
        f"`{made['command']}` on {made['cores']} cores, {made['cpu']}, commit {made['commit'][:12]}. Medians of"
        " seconds, with another run on the machine."
    )
    image = "![What flows add to one pass of retrieval](assets/flows.svg)"
    return f"{image}\n\n{table(header, quality_rows(found))}\n\n{note}"


def busy() -> str:
    """How busy an engine is kept, and what a driver costs."""
    found = figures(BUSY)
    if found is None:
        return NOT_MEASURED
    from generate_docs import table

    rows = [
        [
            ENGINES[name],
            f"{figure['flows']}",
            f"{figure['concurrency']}",
            f"{figure['calls']}",
            f"{100 * figure['busy_share']:.1f} % (least {100 * figure['busy_share_least']:.1f})",
        ]
        for name, figure in found.items()
        if name in ENGINES
    ]
    made = table(("Engine", "Chains of agents", "Calls at once", "Calls", "Busy, share of the time"), rows)
    driver = found["driver"]
    cost = f"A driver adds {driver['run_ms']:.2f} ms to a call, and {driver['run_many_ms']:.2f} ms with 32 flows."
    return f"{made}\n\n{cost} `python benchmarks/flows.py`, medians of 5."


def draw(figure: Figure) -> None:
    """What each flow adds to the better single pass, with its interval, a panel a set."""
    found = figures(QUALITY)
    assert found is not None
    from carrel.evaluation.figures import FAINT, INK

    panels = figure.subplots(1, len(found["sets"]), sharey=True, squeeze=False)[0]
    for axes, (name, measured) in zip(panels, found["sets"].items(), strict=True):
        shown = [flow for flow in FLOWS if flow in measured["systems"]]
        for place, flow in enumerate(shown):
            _, _, interval = difference(measured["systems"], flow)
            colour = "#1f6f54" if interval.low > 0 else "#b03a2e" if interval.high < 0 else "#777777"
            ends = [[100 * (interval.mean - interval.low)], [100 * (interval.high - interval.mean)]]
            axes.errorbar([100 * interval.mean], [place], xerr=ends, fmt="o", color=colour, capsize=3, markersize=5)
        axes.axvline(0, color="#999999", linewidth=0.8)
        axes.set_title(f"{name}\n{METRICS[measured['metric']]}", fontsize=9, color=INK, loc="left")
        axes.set_yticks(range(len(FLOWS)), FLOWS)
        axes.set_ylim(len(FLOWS) - 0.5, -0.5)
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0, colors=INK, labelsize=8)
    figure.supxlabel("points above the better of dense and fused single-pass retrieval, 95 % intervals", fontsize=9)
    figure.tight_layout()


def main() -> None:
    """Draw the plot."""
    from carrel.evaluation.figures import write_figure

    write_figure(FIGURE, (12, 2.8), draw, dpi=150)
    print(f"drawn: {FIGURE.name}")


if __name__ == "__main__":
    main()
