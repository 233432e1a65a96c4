"""The tables of docs/reader.md and its plots, from training/reader/results.json and contexts.json.

    python scripts/reader_figures.py        # draw docs/assets/reader-*.svg

The tables are written by scripts/generate_docs.py, which takes them from here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "training" / "reader" / "results.json"
CONTEXTS = ROOT / "training" / "reader" / "contexts.json"
ASSETS = ROOT / "docs" / "assets"
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#757575"  # Okabe-Ito
ROWS = (
    ("F1 of the answer, answerable questions only", "f1"),
    ("Exact match, the same", "exact"),
    ("F1, abstentions counted as errors", "f1_with_abstentions"),
    ("Unanswerable questions left unanswered", "no_answer_accuracy"),
    ("Area under the ROC curve, answerable or not", "auc"),
)
PRUNED = (
    ("Answer's sentence kept, at 60 % of the tokens removed", ("kept_at_60_removed",)),
    ("Answer's sentence kept, shipped threshold", ("at_threshold", "kept")),
    ("Tokens removed, shipped threshold", ("at_threshold", "removed")),
)
NAMES = {"squad2": "SQuAD 2.0", "nq_qed": "NQ (QED)", "subjqa": "SubjQA"}


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def share(value: dict[str, float] | None) -> str:
    """Percent with its interval."""
    if not value or value.get("mean") is None:
        return ""
    return f"{100 * value['mean']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def rows() -> tuple[Sequence[str], list[Sequence[str]]]:
    """Header and rows of the development sets' table."""
    sets: dict[str, Any] = load()["reader_dev"]
    header = ["Percent, with 95 % interval", *(f"{NAMES[name]} ({each['questions']:,})" for name, each in sets.items())]
    table: list[Sequence[str]] = [[label, *(share(each.get(key)) for each in sets.values())] for label, key in ROWS]
    for label, path in PRUNED:
        cells = []
        for each in sets.values():
            value = each["pruning"]
            for key in path:
                value = value[key]
            cells.append(share(value))
        table.append([label, *cells])
    return header, table


def calibration(results: dict[str, Any]) -> None:
    """Stated against observed, for relevance and for answers, with how many there are of each."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "carrel", "font.family": "DejaVu Sans", "font.size": 9.5})
    held = results["held_out"]
    figure, panels = plt.subplots(1, 2, figsize=(8.6, 4.0))
    parts = (
        (panels[0], "Relevance of a passage", held["relevance"]["reliability"], BLUE),
        (panels[1], "Confidence of an answer", held["answer"]["reliability"], ORANGE),
    )
    for axes, title, found, colour in parts:
        stated, observed, counts = (list(column) for column in zip(*found["points"], strict=True))
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        axes.plot(stated, observed, color=colour, marker="o", markersize=5)
        for x, y, count in zip(stated, observed, counts, strict=True):
            axes.annotate(f"{count:,}", (x, y), xytext=(6, -11), textcoords="offset points", fontsize=7, color=GREY)
        axes.set_title(f"{title} (calibration error {found['ece']:.3f})", loc="left", fontsize=10)
        axes.set_xlabel("stated probability")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.grid(color="#E3E3E3", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share that is right")
    figure.tight_layout()
    figure.savefig(ASSETS / "reader-calibration.svg", metadata={"Date": None})
    plt.close(figure)


def learning(results: dict[str, Any]) -> None:
    """Held-out figures after each pass over the data."""
    from matplotlib import pyplot as plt

    curve = results["learning_curve"]
    epochs = [row["epoch"] for row in curve]
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    lines = (
        ("token_f1", "F1 of the answer", ORANGE),
        ("rank_first", "right passage first of ten", BLUE),
        ("answerable_auc", "answerable or not, area under the curve", GREEN),
    )
    for key, label, colour in lines:
        values = [row["held_out"][key] for row in curve]
        axes.plot(epochs, values, color=colour, marker="o", markersize=4)
        axes.annotate(label, (epochs[-1], values[-1]), xytext=(8, -3), textcoords="offset points", color=colour)
    axes.axhline(curve[0]["held_out"]["retriever_first"], color=GREY, linewidth=1, linestyle=":")
    axes.annotate(
        "the retriever's own order", (epochs[-1], curve[0]["held_out"]["retriever_first"]), xytext=(8, -3),
        textcoords="offset points", color=GREY,
    )  # fmt: skip
    begins = results["configuration"][0]["epochs"]
    axes.axvline(begins, color=GREY, linewidth=0.7)
    axes.annotate(
        "the second course begins", (begins, 0), xycoords=("data", "axes fraction"), xytext=(4, 4),
        textcoords="offset points", color=GREY, fontsize="small",
    )  # fmt: skip
    axes.set_xticks(epochs)
    axes.set_xlim(epochs[0] - 0.1, epochs[-1] + 0.1)
    axes.set_xlabel("passes over the training data")
    axes.grid(axis="y", color="#E3E3E3", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(ASSETS / "reader-learning.svg", metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


LINES = (
    ("balanced", "reranked and pruned", BLUE, "-"),
    ("reranked", "reranked", BLUE, "--"),
    ("fast", "retrieval alone", GREY, "-"),
)


def contexts() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(CONTEXTS.read_text(encoding="utf-8"))
    return found


def context_rows() -> tuple[Sequence[str], list[Sequence[str]]]:
    """Header and rows of the table of answer recall."""
    found = contexts()
    header = [f"Answer in the context, percent ({found['questions']} questions)", *(f"{b:,}" for b in found["budgets"])]
    return header, [[label, *map(share, found["rows"][row]["recall"])] for row, label, _, _ in reversed(LINES)]


def tokens() -> None:
    """Answer recall against tokens of context."""
    from matplotlib import pyplot as plt

    found = contexts()
    figure, axes = plt.subplots(figsize=(6.8, 3.8))
    for row, label, colour, line in LINES:
        figures = found["rows"][row]
        recall = [value["mean"] for value in figures["recall"]]
        axes.plot(figures["tokens"], recall, color=colour, linestyle=line, marker="o", markersize=4, label=label)
        if row != "reranked":
            low, high = ([value[end] for value in figures["recall"]] for end in ("low", "high"))
            axes.fill_between(figures["tokens"], low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(found["budgets"], [f"{budget:,}" for budget in found["budgets"]])
    axes.minorticks_off()
    axes.set_xlabel("mean tokens of context (log scale)")
    axes.set_ylabel("answer in the context")
    axes.legend(frameon=False, loc="lower right")
    axes.grid(axis="y", color="#E3E3E3", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(ASSETS / "reader-tokens.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    results = load()
    calibration(results)
    learning(results)
    tokens()
    print(f"drawn: {', '.join(sorted(path.name for path in ASSETS.glob('reader-*.svg')))}")


if __name__ == "__main__":
    main()
