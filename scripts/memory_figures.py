"""The tables of conversation memory in docs/memory.md, and a plot, from benchmarks/results/memory.json.

    python benchmarks/memory.py --data DIR     # measures benchmarks/results/memory.json
    python scripts/memory_figures.py           # draws docs/assets/memory.svg

The tables are written by scripts/generate_docs.py, which takes them from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "memory.json"
FIGURE = ROOT / "docs" / "assets" / "memory.svg"
NOT_MEASURED = "Not measured yet."
KINDS = ("single-hop", "multi-hop", "temporal", "open-domain", "all")
NAMES = {
    "carrel": "`recall`",
    "carrel, reader": "`recall`, the reader reading 16 turns too",
    "cosine": "cosine, turns embedded with their speaker's name",
    "cosine, text alone": "cosine, turns embedded as said",
    "bm25": "BM25, with their speaker's name",
    "bm25, text alone": "BM25, as said",
    "last turns": "the last turns",
}
COLOURS = ("#0072B2", "#56B4E9", "#666666", "#999999", "#BBBBBB", "#DDDDDD")


def load() -> dict[str, Any] | None:
    """What was measured; None where nothing is."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else None


def quality() -> str:
    """Evidence within 1,000 tokens: on the dialogues that nothing was fitted on, then on all; abstention; budgets."""
    found = load()
    if found is None:
        return NOT_MEASURED
    from generate_docs import table

    scopes = found["evaluation"]["scopes"]
    rest, whole = scopes["not_fitted"], scopes["all"]
    fitted = " and ".join(found["evaluation"]["fitted_on"])
    budgets = [
        [f"{int(budget):,}", f"{row['tokens_mean']:,.0f}",
         *(percent(row["recall"][name]) for name in ("carrel", "cosine", "bm25")),
         points(row["gain"]["carrel"])]
        for budget, row in found["budgets"].items()
    ]  # fmt: skip
    made = found["manifest"]
    return (
        "![Evidence within 1,000 tokens](assets/memory.svg)\n\n"
        f"LoCoMo dialogues {_and(rest['dialogues'])}, on which nothing was fitted; percent of the evidence turns within"
        f" {found['evaluation']['budget']:,} tokens, and for `recall` the gain in points over the best baseline of the"
        " kind (*), with its paired 95 % bootstrap interval:\n\n"
        f"{_scope(rest)}\n\n`recall` takes {rest['tokens_mean']:,.0f} tokens on the mean, for it ends where nothing"
        f" more is likely to matter; the others fill the budget. {_abstained(rest)}\n\n"
        f"All five dialogues, {fitted} included, on which the weights were fitted:\n\n{_scope(whole)}\n\n"
        f"{_abstained(whole)}\n\n"
        f"Other budgets, all kinds, dialogues {_and(rest['dialogues'])}:\n\n"
        + table(("Tokens", "taken by `recall`, mean", "`recall`", "cosine", "BM25", "gain over the better"), budgets)
        + f"\n\n`{made['command']}`, commit {made['commit'][:12]}."
    )


def _scope(scope: Mapping[str, Any]) -> str:
    from generate_docs import table

    kinds = [kind for kind in KINDS if kind in scope["kinds"]]
    rows = []
    for name, shown in NAMES.items():
        cells = []
        for kind in kinds:
            row = scope["kinds"][kind]
            if name not in row["recall"]:
                continue
            gain, best = row["gain"].get(name), row["best_baseline"] == name
            cells.append(percent(row["recall"][name]) + (f", {points(gain)}" if gain else " *" if best else ""))
        if cells:
            rows.append([shown, *cells])
    header = [f"{kind} ({scope['kinds'][kind]['questions']})" for kind in kinds]
    return table(("Memory", *header), rows)


def _abstained(scope: Mapping[str, Any]) -> str:
    without, rest = (_share(scope["abstained"][name]) for name in ("adversarial", "others"))
    return (
        f"It abstains (`answerable` below 0.5) on {without} of the adversarial questions and on {rest} of the others."
    )


def signals() -> str:
    """What each signal adds: the recall with all, less that without it, the others fitted again."""
    found = load()
    if found is None:
        return NOT_MEASURED
    from generate_docs import table

    measured = found["ablation"]
    kinds = [kind for kind in KINDS if kind in measured["whole"]]
    rows = [["all of them", *(f"{100 * measured['whole'][kind]:.1f}" for kind in kinds)]]
    ranked = sorted(measured["without"].items(), key=lambda item: -item[1]["all"]["adds"]["mean"])
    for signal, row in ranked:
        cells = [f"{100 * row[kind]['adds']['mean']:+.1f}" for kind in kinds[:-1]]
        rows.append([f"{signal}", *cells, points(row["all"]["adds"])])
    header = [f"{kind} ({measured['questions'][kind]})" for kind in kinds]
    return table(("Signal", *header), rows)


def percent(value: Mapping[str, float] | None) -> str:
    """A share in percent."""
    return "" if value is None else f"{100 * value['mean']:.1f}"


def points(value: Mapping[str, float] | None) -> str:
    """A difference in points with its interval."""
    if value is None:
        return ""
    return f"{100 * value['mean']:+.1f} [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}]"


def _share(value: Mapping[str, float]) -> str:
    return f"{100 * value['mean']:.1f} % [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def _and(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def draw(figure: Figure) -> None:
    """A group of bars for each kind of question, a bar for each memory, with its interval."""
    found = load()
    assert found is not None
    from carrel.evaluation.figures import FAINT, INK

    scope = found["evaluation"]["scopes"]["not_fitted"]
    kinds = [kind for kind in KINDS if kind in scope["kinds"]]
    systems = [name for name in NAMES if name in scope["kinds"][kinds[0]]["recall"]]
    axes = figure.subplots()
    width = 0.82 / len(systems)
    for number, system in enumerate(systems):
        values = [scope["kinds"][kind]["recall"][system] for kind in kinds]
        means = [100 * value["mean"] for value in values]
        ends = [
            [100 * (value["mean"] - value["low"]) for value in values],
            [100 * (value["high"] - value["mean"]) for value in values],
        ]
        places = [place + (number - (len(systems) - 1) / 2) * width for place in range(len(kinds))]
        axes.bar(places, means, width * 0.92, color=COLOURS[number % len(COLOURS)], label=system)
        axes.errorbar(places, means, yerr=ends, fmt="none", ecolor="#333333", elinewidth=0.8)
    axes.set_xticks(range(len(kinds)), [f"{kind}\n{scope['kinds'][kind]['questions']} questions" for kind in kinds])
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, colors=INK)
    axes.set_title(
        f"Evidence within {found['evaluation']['budget']:,} tokens of memory",
        loc="left",
        fontsize=11,
        color=INK,
        pad=24,
    )
    axes.legend(frameon=False, ncols=len(systems), fontsize=8, loc="lower left", bbox_to_anchor=(-0.01, 1.0))
    figure.tight_layout()


def main() -> None:
    """Draw the plot."""
    if load() is None:
        raise SystemExit(f"{RESULTS} is missing: run benchmarks/memory.py first")
    from carrel.evaluation.figures import write_figure

    write_figure(FIGURE, (9.6, 4.2), draw, dpi=150)
    print(f"drawn: {FIGURE.name}")


if __name__ == "__main__":
    main()
