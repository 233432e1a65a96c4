"""The model card of a trained reader: card.md filled in with its provenance and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DATA = {
    "squad1": ("SQuAD 1.1 (rajpurkar/SQuAD-explorer)", "CC BY-SA 4.0"),
    "squad2": ("SQuAD 2.0 (rajpurkar/SQuAD-explorer)", "CC BY-SA 4.0"),
    "nq_qed": ("QED over NaturalQuestions", "NaturalQuestions text CC BY-SA 3.0"),
    "squad_sentences": ("sentences of SQuAD with their questions", "MIT, over SQuAD text"),
}
"""The training files, what they are, and the licence that the data folder states."""

ROWS = (
    ("F1, answerable only", "f1"),
    ("Exact match, answerable only", "exact"),
    ("F1, abstentions as errors", "f1_with_abstentions"),
    ("No-answer accuracy", "no_answer_accuracy"),
    ("Balanced accuracy", "balanced_accuracy"),
    ("Area under the ROC curve", "auc"),
    ("SQuAD 2.0 score", "squad2_f1"),
)
PRUNED = (
    ("Answer's sentences kept, 60 % of the tokens removed", ("kept_at_60_removed",)),
    ("Kept at the shipped threshold", ("at_threshold", "kept")),
    ("Removed at the shipped threshold", ("at_threshold", "removed")),
)


def card(provenance: dict[str, Any], results: dict[str, Any]) -> str:
    """README.md of the model's folder."""
    training, calibrated, sets = provenance["training"], results["held_out"], results["reader_dev"]
    rows = [f"| `{name}` | {d['what']} | {d['licence']} | {d['rows']:,} |" for name, d in provenance["data"].items()]
    figures = [_row(label, [each.get(key) for each in sets.values()]) for label, key in ROWS]
    figures += [_row(label, [_at(each["pruning"], path) for each in sets.values()]) for label, path in PRUNED]
    ranking = calibrated["relevance"]["ranking"]
    ranked = [_row(label, [ranking[key]["first"], ranking[key]["in_five"]]) for key, label in WAYS]
    silent = calibrated["answer"]["nothing_retrieved"]["abstained"]
    return Path(__file__).with_suffix(".md").read_text(encoding="utf-8").format(
        title=f"{provenance['name']}, {provenance['precision'].split()[0]}",
        parameters=round(provenance["parameters"] / 1e6),
        made_by=provenance["made_by"],
        base=f"{provenance['base_model']}, {provenance['source']}",
        licence=provenance["license"],
        precision=provenance["precision"],
        window=provenance["configuration"][0]["window"],
        epochs=training["epochs"], questions=f"{training['questions']:,}", pairs=f"{training['pairs']:,}",
        seed=provenance["configuration"][0]["seed"], steps=f"{training['steps']:,}",
        ended="" if training["ended"] else "; it has not ended yet",
        megabytes=provenance["bytes"] / 1e6,
        data="\n".join(rows),
        held_out=calibrated["questions"],
        sets=" | ".join(f"`{name}` ({each['questions']:,})" for name, each in sets.items()),
        rule="---|" * len(sets),
        figures="\n".join(figures),
        ranked=calibrated["relevance"]["questions_ranked"],
        ranking="\n".join(ranked),
        relevance_ece=calibrated["relevance"]["reliability"]["ece"],
        answer_ece=calibrated["answer"]["reliability"]["ece"],
        nothing=100 * silent if silent is not None else float("nan"),
        precision_line=_precision(results.get("precision")),
    )  # fmt: skip


WAYS = (("retriever", "Carrel's retriever"), ("reader", "the reader alone"), ("both", "both, as shipped"))


def _row(label: str, figures: list[dict[str, Any] | None]) -> str:
    return f"| {label} | {' | '.join(map(_cell, figures))} |"


def _cell(figure: dict[str, Any] | None) -> str:
    """A figure in percent with its interval; a dash where there is none."""
    if figure is None or figure["mean"] is None:
        return "–"
    mean, low, high = (
        100 * figure[key] if figure[key] is not None else float("nan") for key in ("mean", "low", "high")
    )
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def _at(figures: dict[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        figures = figures[key]
    return figures


def _precision(figures: dict[str, Any] | None) -> str:
    """What quantisation costs, in a sentence."""
    if figures is None:
        return ""
    names = (("f1", "F1"), ("first", "the right passage first"), ("kept", "answer's sentences kept"))
    parts = [f"{label} {100 * figures[key]['difference']['mean']:+.1f}" for key, label in names]
    return (
        f"Quantised against float32, on {figures['questions']} held-out questions, in points: {', '.join(parts)};"
        f" the same answer in {100 * figures['same_answer']:.1f} %."
    )
