"""The figure and the tables of benchmarks/vectors.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plots import plt, save

LINES = {
    "int8": ("int8", "#30638e", "s"),
    "binary": ("binary", "#0b6e4f", "o"),
    "funnel 64": ("funnel 64 → 384", "#edae49", "^"),
    "funnel 128": ("funnel 128 → 384", "#d1495b", "v"),
    "funnel 64, 128": ("funnel 64 → 128 → 384", "#8d5a97", "D"),
    "funnel 192": ("funnel 192 → 384", "#7fa8c9", ">"),
}
ROW = 9  # bytes of a row beside its vector: the id of its chunk, and whether it is alive
NAMES = {"chunks": "{vectors:,} chunks", "million": "{vectors:,} vectors"}


def draw(figures: dict[str, Any], path: Path) -> None:
    """Recall against bytes a vector: a column of points an index, one a factor of oversampling."""
    figure, panels = plt.subplots(1, len(NAMES), figsize=(4.6 * len(NAMES), 3.1), squeeze=False)
    for axes, (kind, title) in zip(panels[0], NAMES.items(), strict=True):
        part = figures[kind]
        for name, (label, colour, marker) in LINES.items():
            rows = [row for row in part["searches"] if row["index"] == name]
            size = part["indexes"][name]["bytes_a_vector"]
            recalls = [row["recall_at_10"] for row in rows]
            axes.plot([size] * len(rows), recalls, color=colour, marker=marker, markersize=4, label=label, linewidth=1)
            for row in rows if name in ("binary", "funnel 64") else ():
                if row["recall_at_10"] > 0.98:
                    continue  # they stand too close
                axes.annotate(f"×{row['oversampling']:g}", (size, row["recall_at_10"]), xytext=(5, -2),
                              textcoords="offset points", fontsize=6)  # fmt: skip
        if kind == "chunks":
            cut = [(4 * row["dimension"] + ROW, row["recall_at_10"]) for row in figures["truncated"][:-1]]
            axes.plot(
                *zip(*cut, strict=True), color="#777777", linestyle="--", linewidth=1, label="cut, no second look"
            )
        exact = part["indexes"]["float32"]["bytes_a_vector"]
        axes.plot([exact], [1.0], color="#777777", marker="*", linestyle="none", label="float32, exact")
        axes.axhline(0.98, color="#777777", linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_xticks([50, 100, 200, 400, 800, 1600], minor=False)
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("bytes a vector in memory")
        axes.set_ylabel("recall@10 of the exact search")
        axes.set_title(title.format(**part))
    lines = {line.get_label(): line for line in panels[0][0].get_lines() if not str(line.get_label()).startswith("_")}
    figure.legend(lines.values(), lines.keys(), loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    save(path)


def tables(figures: dict[str, Any]) -> str:
    """Markdown: what each index takes and finds, for both collections."""
    parts = []
    for kind in NAMES:
        part = figures[kind]
        parts += [
            f"{part['vectors']:,} vectors ({part['real']:,} real):", "",
            "| index | bytes a vector | oversampling | recall@10 | search (ms) | floor (ms) | times faster | by CPU |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            *(_row(part, row) for row in part["searches"]), "",
            "Candidates of a library (200):", "",
            "| index | oversampling | recall@10 | recall@200 | search (ms) | times faster |",
            "|---|---:|---:|---:|---:|---:|",
            *(f"| {row['index']} | {_factor(row)} | {row['recall_at_10']:.4f} | {row['recall_at_200']:.4f} "
              f"| {row['search_ms']:.1f} | {row['times_faster']:.1f} |" for row in part["candidates"]), "",
            "The whole ranking of a library:", "",
            "| index | oversampling | recall@10 | ranking (ms) | times faster | by CPU |",
            "|---|---:|---:|---:|---:|---:|",
            *(f"| {row['index']} | {_factor(row)} | {row['recall_at_10']:.4f} | {row['search_ms']:.1f} "
              f"| {row['times_faster']:.1f} | {row['times_faster_processor']:.1f} |" for row in part["rankings"]), "",
        ]  # fmt: skip
    parts += ["| dimensions | recall@10 |", "|---:|---:|"]
    parts += [f"| {row['dimension']} | {row['recall_at_10']:.3f} |" for row in figures["truncated"]]
    return "\n".join(parts)


def _row(part: dict[str, Any], row: dict[str, Any]) -> str:
    index = part["indexes"][row["index"]]
    return (
        f"| {row['index']} | {index['bytes_a_vector']:,.0f} | {_factor(row)} | {row['recall_at_10']:.4f} "
        f"| {row['search_ms']:.2f} | {index['floor_ms']:.2f} | {row['times_faster']:.1f} "
        f"| {row['times_faster_processor']:.1f} |"
    )


def _factor(row: dict[str, Any]) -> str:
    return "" if row["oversampling"] is None else f"{row['oversampling']:g}"
