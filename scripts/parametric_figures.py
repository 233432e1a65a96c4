"""The tables of docs/parametric.md, and its plot, from benchmarks/results/parametric.json.

    python benchmarks/parametric.py tests/models/needle_lm   # measures
    python scripts/parametric_figures.py                     # draws docs/assets/parametric-merging.svg

The tables are written by scripts/generate_docs.py, which takes them from here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "parametric.json"
FIGURE = ROOT / "docs" / "assets" / "parametric-merging.svg"
NOT_MEASURED = "The figures of the shipped test model are not measured yet."
BEYOND = "beyond the window"
COLOURS = ("#D55E00", "#0072B2", "#009E73")
LINES = ("-", "--", ":")
WAYS = {"exact": "exact sum", "reconciled": "reconciled", "combine": "reconciled, passages in the prompt"}

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def load(path: Path = RESULTS) -> dict[str, Any] | None:
    """The committed results; None where there are none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def interval(answers: Iterable[str], distinct: int | None = None) -> tuple[float, float, float]:
    """Percent of right answers, and Wilson's 95 % interval: of so many questions, where some were asked again."""
    text = "".join(answers)
    share, z = text.count("1") / len(text), 1.959964
    total = distinct or len(text)
    spread = z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * ((share * (1 - share) + spread / 4) / total) ** 0.5 / (1 + spread)
    return 100 * share, 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def shown(answers: Iterable[str], distinct: int | None = None) -> str:
    """Percent with its interval."""
    return "{:.1f} [{:.1f}, {:.1f}]".format(*interval(answers, distinct))


def questions(group: Sequence[dict[str, Any]]) -> int:
    """How many different ones some sets of documents are asked; a document may be in several sets."""
    return sum({name: row["facts"] for row in group for name in row["documents"]}.values())


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def region(path: Path = RESULTS) -> str:
    """All tables of the page."""
    found = load(path)
    if found is None:
        return NOT_MEASURED
    from generate_docs import table

    about = found["manifest"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    measured = (
        f"Measured {about['date'][:10]} on {about['cpu']}, {found['threads']} thread; {versions}; seed"
        f" {found['seed']} (the settings were chosen on seed 0). Percent of right answers with 95 % Wilson intervals,"
        " taken over different questions: a document is in several of the merged sets."
    )
    tables = [each(found) for each in (training, rewording, merging, skills, going_on)]
    return "\n\n".join([measured, *(table(*each) for each in tables)])


def training(found: dict[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Documents by their size, and LIFT."""
    header = ["Document", "tokens", "facts", "before", "closed book", "training, CPU s", "wall s", "size, kB"]
    rows: list[Sequence[str]] = []
    by_size: dict[int, list[dict[str, Any]]] = {}
    for row in found["trained"]:
        by_size.setdefault(row["facts"], []).append(row)
    for facts, group in sorted(by_size.items()):
        rows.append([
            f"Parametric RAG, {len(group)} of them" if len(group) > 1 else "Parametric RAG", f"{group[0]['tokens']:,}",
            str(facts), shown(row["before"] for row in group), shown(row["closed"] for row in group),
            *(f"{mean([row[name] for row in group]):.0f}" for name in ("cpu_s", "wall_s")),
            f"{mean([row['size_bytes'] for row in group]) / 1000:.0f}",
        ])  # fmt: skip
    lift = found["lift"]
    rows.append([
        "LIFT", f"{lift['tokens']:,}", str(len(lift["closed"])), "", shown([lift["closed"]]),
        f"{lift['cpu_s']:.0f}", f"{lift['wall_s']:.0f}", "",
    ])  # fmt: skip
    return header, rows


def rewording(found: dict[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Questions in other words than those of the training."""
    sizes = [name for name in found["reworded"][0] if name not in ("way", "asked")]
    columns = {
        **{f"closed book, {size} facts": (size, "closed") for size in sizes},
        **{f"three merged, {size} facts each": (size, "merged") for size in sizes[:1]},
        **{f"bare model, reading {size} facts": (size, "reading") for size in sizes},
    }
    return ["Question", "asked as", *columns], [
        [row["way"], f"`{row['asked']}`", *(shown(row[size][how]) for size, how in columns.values())]
        for row in found["reworded"]
    ]


def merging(found: dict[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Sets of documents that never met."""
    header = ["Adapters merged", "of so many facts", "sets", "questions, different", *WAYS.values()]
    header += ["reconciling, CPU s", "rank"]
    rows: list[Sequence[str]] = []
    for size, facts in sorted({(row["size"], row["facts"]) for row in found["merged"]}):
        group = [row for row in found["merged"] if (row["size"], row["facts"]) == (size, facts)]
        different, ways = questions(group), [[row[way] for row in group] for way in WAYS]
        rows.append([
            str(size), str(facts), str(len(group)), f"{sum(len(row['exact']) for row in group):,}, {different:,}",
            *(shown(answers, different) if all(answers) else BEYOND for answers in ways),
            f"{mean([row['reconcile_cpu_s'] for row in group]):.0f}" if size > 1 else "–", f"{group[0]['rank']:.0f}",
        ])  # fmt: skip
    return header, rows


def skills(found: dict[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """What the model does with its context."""
    names = [name for name in found["skills"][0] if name != "adapters"]
    return ["Other skills, with adapters", *names], [
        [str(row["adapters"]), *(shown([row[name]]) for name in names)] for row in found["skills"]
    ]


def going_on(found: dict[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Loss of each next block."""
    header = ["Loss of the block, nats a token", "nothing before", "the last block in the window", "Temp-LoRA", "both"]
    return header, [
        [str(row["block"] + 1), *(f"{row[name]:.2f}" for name in ("bare", "window", "memory", "both"))]
        for row in found["going_on"]
    ]


def draw(path: Path = RESULTS, figure: Path = FIGURE) -> None:
    """Right answers by the number of adapters that are merged."""
    from carrel.evaluation.figures import FAINT, INK, write_figure

    found = load(path)
    if found is None:
        return
    sizes = sorted({row["size"] for row in found["merged"]})
    facts = sorted({row["facts"] for row in found["merged"]})

    def curves(drawn: Figure) -> None:
        axes = drawn.add_axes((0.12, 0.17, 0.85, 0.78))
        axes.axhline(90, color=FAINT, linewidth=1)
        for (way, label), colour in zip(list(WAYS.items())[:2], COLOURS, strict=False):
            for count, line in zip(facts, LINES, strict=False):
                group = [row for row in found["merged"] if row["facts"] == count]
                points = [
                    interval([row[way] for row in each], questions(each))
                    for each in ([row for row in group if row["size"] == size] for size in sizes)
                ]
                axes.fill_between(sizes, [p[1] for p in points], [p[2] for p in points], color=colour, alpha=0.15, lw=0)
                named = f"{label}, documents of {count} facts"
                axes.plot(sizes, [p[0] for p in points], line, marker="o", color=colour, label=named)
        axes.set_xlabel("adapters merged, none of which met another", color=INK)
        axes.set_ylabel("right answers, %", color=INK)
        axes.set_ylim(0, 103)
        axes.set_xticks(sizes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center right", bbox_to_anchor=(1.0, 0.66))

    write_figure(figure, (6.4, 3.6), curves, dpi=150)


def main() -> int:
    sys.path.insert(0, str(ROOT))
    draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
