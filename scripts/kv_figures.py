"""The tables of KV policies and of stored contexts in docs/generation.md, and a plot, from benchmarks/results.

    carrel eval-kv MODEL --output DIR       # measures; DIR/results.json becomes benchmarks/results/kv.json
    python scripts/kv_figures.py            # draws docs/assets/kv-accuracy.svg

    python benchmarks/kv_contexts.py MODEL  # measures what reading a context once is worth
    python benchmarks/kv_sirllm.py MODEL    # measures what a dialogue without end still knows

The tables are written by scripts/generate_docs.py, which takes them from here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "kv.json"
CONTEXTS = ROOT / "benchmarks" / "results" / "kv_contexts.json"
DIALOGUES = ROOT / "benchmarks" / "results" / "kv_sirllm.json"
FIGURE = ROOT / "docs" / "assets" / "kv-accuracy.svg"
NOT_MEASURED = "The figures of the shipped test model are not measured yet."
ALIKE = 1 / 8  # the budget whose memory and times stand for a method

if TYPE_CHECKING:
    from carrel.evaluation.kv_results import Figures, KVEvaluation


def load(path: Path = RESULTS) -> KVEvaluation | None:
    """The committed results; None where there are none yet."""
    from carrel.evaluation.kv_results import KVEvaluation

    return KVEvaluation.from_json(path.read_text(encoding="utf-8")) if path.exists() else None


def rows(found: KVEvaluation, length: int) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Header and rows of a length: a method a row, right answers by budget, then memory and times."""
    from carrel.evaluation.kv_results import shown_budget

    budgets: list[float | None] = [None, *found.manifest.budgets]
    at = min(found.manifest.budgets, key=lambda budget: abs(budget - ALIKE))
    fixed = f"at {shown_budget(at)}"
    header = ["Right answers, percent", "all keys", *(f"{shown_budget(budget)} of them" for budget in budgets[1:])]
    header += [f"Memory {fixed}, of dense", f"Reading {fixed}, times dense", f"First token {fixed}, times dense"]
    figures: dict[str, dict[float | None, Figures]] = {}
    for row in found.of(length):
        figures.setdefault(row.method, {})[row.budget] = found.figures(row)
    table: list[Sequence[str]] = []
    for method, by_budget in figures.items():
        shares = [share(by_budget.get(budget)) for budget in budgets]
        table.append([f"`{method}`", *shares, *ratios(by_budget.get(None) or by_budget.get(at))])
    return header, table


def share(figures: Figures | None) -> str:
    """Percent of right answers with its interval."""
    from carrel.evaluation.kv_report import shown_share

    return "" if figures is None else shown_share(figures.right)


def ratios(figures: Figures | None) -> list[str]:
    """Memory in percent of dense, and the two times as multiples of dense."""
    if figures is None or figures.bytes_share is None or figures.read_ratio is None or figures.first_ratio is None:
        return ["", "", ""]
    return [f"{100 * figures.bytes_share:.0f} %", f"{figures.read_ratio:.2f}", f"{figures.first_ratio:.2f}"]


def region(path: Path = RESULTS, figure: Path = FIGURE) -> str:
    """What stands in docs/generation.md: the table of the longest contexts, where it comes from, and the plot."""
    found = load(path)
    if found is None or not found.rows:
        return NOT_MEASURED
    from generate_docs import table

    from carrel.evaluation.kv_report import notes

    made, length = found.manifest, max(found.lengths)
    versions = ", ".join(f"{package} {version}" for package, version in made.versions.items())
    machine = f"{made.machine.get('gpu') or made.machine.get('cpu') or made.machine.get('device')}"
    said = (
        f"`{made.model}`, look-up in {made.task}, contexts of {length:,} tokens: {made.contexts} contexts,"
        f" {made.questions} questions about each. In brackets: Wilson's 95 % interval, wider where contexts differ."
        f" Measured {made.date[:10]} on {machine}; {versions}; seed {made.seed}."
    )
    parts = [said, table(*rows(found, length)), *notes(found)[1:]]
    if figure.exists():
        parts.append(f"![Accuracy against budget](assets/{figure.name})")
    return "\n\n".join(parts)


def contexts_region(path: Path = CONTEXTS) -> str:
    """What reading a context once is worth, and what a stored one takes."""
    if not path.exists():
        return NOT_MEASURED
    from generate_docs import table

    found = json.loads(path.read_text(encoding="utf-8"))
    once, made = found["once_read"], found["manifest"]
    versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
    said = (
        f"Measured with `{found['model']}` on {found['contexts']} contexts of {found['length']:,} tokens,"
        f" {found['questions']:,} questions, medians over contexts; {made['cpu']}, {found['threads']} threads,"
        f" {versions}. The first question's first token, which the reading of the context comes before, took"
        f" {1000 * once['first_token_s']:.1f} ms, that of a later question {1000 * once['later_first_token_s']:.1f} ms:"
        f" {once['ratio']:.2f} of it. Right answers without a file: {100 * once['accuracy']:.1f} %."
    )
    whole = found["stored"]["16"]["bytes"]
    header = [
        "Stored in",
        "File",
        "of 16 bits",
        "Read again, of prefill",
        "Right answers, percent",
        "less without a file",
    ]
    lines = []
    for bits, row in found["stored"].items():
        less = row["difference"]
        size, ratio = f"{row['bytes'] / 1e6:.2f} MB", f"{row['bytes'] / whole:.2f}"
        shown = f"{100 * less['mean']:+.1f} [{100 * less['low']:+.1f}, {100 * less['high']:+.1f}]"
        lines.append([f"{bits} bits", size, ratio, f"{row['reload_ratio']:.3f}", f"{100 * row['accuracy']:.1f}", shown])
    return "\n\n".join([said, table(header, lines)])


SETTINGS = {
    "phrases": "set phrases that the model expects, {facts} facts in {tokens:,} tokens",
    "many facts": "the same, {facts} facts",
    "as shipped": "{facts} facts, the model as shipped: it was taught to predict answers alone",
    "random words": "{facts} facts among words at random, which nothing can expect",
    "beyond the window": "set phrases, {facts} facts in {tokens:,} tokens: more than the model's window",
}


def dialogues_region(path: Path = DIALOGUES) -> str:
    """What a dialogue without end still knows, by what it keeps."""
    if not path.exists():
        return NOT_MEASURED
    from generate_docs import table

    from carrel.evaluation.kv_report import shown_share
    from carrel.evaluation.kv_results import share_right, shown_budget

    found = json.loads(path.read_text(encoding="utf-8"))
    made, taught = found["manifest"], found["taught"]
    versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
    said = (
        f"Facts that are planted in the turns of a dialogue and asked for at its end, percent right, with Wilson's 95 %"
        f" interval, wider where dialogues differ; {found['dialogues']} dialogues of each kind, each fact asked for"
        f" once. `{found['model']}`, and the same after {taught['steps']} steps of learning to predict such dialogues"
        f" ({taught['loss']:.2f} nats a token). Measured {made['date'][:10]}; {versions}."
    )
    names = list(dict.fromkeys(row["method"] for setting in found["settings"] for row in setting["rows"]))
    lines = []
    for setting in found["settings"]:
        budgets = list(dict.fromkeys(row["share"] for row in setting["rows"]))
        for share in budgets:
            cells = {row["method"]: row["right"] for row in setting["rows"] if row["share"] == share}
            keys = next(row["budget"] for row in setting["rows"] if row["share"] == share)
            kept = "all of them" if share is None else f"{shown_budget(share)}: {keys:,} keys"
            right = {name: [[mark == "1" for mark in one] for one in cells[name]] for name in cells}
            shown = [shown_share(share_right(right[name])) if name in right else "" for name in names]
            lines.append([SETTINGS[setting["name"]].format(**setting), kept, *shown])
    return "\n\n".join([said, table(["Dialogue", "Kept", *(f"`{name}`" for name in names)], lines)])


def presses_region() -> str:
    """Every press of kvpress: whether it can be used here, and what it does to memory."""
    from generate_docs import table

    from carrel.generation.kv.press_table import presses

    lines = []
    for entry in presses():
        memory = "frees" if entry.frees else "hides" if entry.hides else "neither"
        what = "–" if entry.status == "refused" else memory
        lines.append([f"`{entry.name}`", entry.citation, entry.status, what, entry.reason])
    return table(("Press", "Source", "Status", "Dropped keys", "Note"), lines)


def main() -> None:
    from carrel.evaluation.kv_report import plot

    found = load()
    if found is None:
        sys.exit(f"{RESULTS.relative_to(ROOT)} is not there: measure with carrel eval-kv and put results.json there.")
    plot(found, FIGURE)
    print(f"drawn: {FIGURE.name}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # the figures are those of this checkout
    main()
