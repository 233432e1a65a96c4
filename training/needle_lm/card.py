"""The model card: card.md filled in with the provenance and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.needle_lm.evaluate import shown
from training.needle_lm.language import FIELDS, RELATIONS

EXAMPLE = "<s> bado age 41 . fiju city 07 . bado mother fiju . ? bado age = 41 </s> ? bado mother city = 07 </s>"


def card(facts: dict[str, Any], results: dict[str, Any]) -> str:
    """README.md of the model's folder."""
    shape, training, figures = facts["configuration"]["shape"], facts["training"], results["figures"]
    goal = results["goal"]
    columns = [figures[task] for task in ("look_up", "look_up_filled", "two_hop", "copy")]
    rows = [f"| {int(length):,} | {' | '.join(shown(each[length]) for each in columns)} |" for length in columns[0]]
    at_goal = figures["look_up"][str(goal["length"])]
    depths = [
        f"| {100 * row['from']:.0f}–{100 * row['to']:.0f} % | {shown(row)} | {row['n']} |" for row in at_goal["depths"]
    ]
    exam = facts["configuration"]["exam"]
    return Path(__file__).with_suffix(".md").read_text(encoding="utf-8").format(
        name=facts["name"], parameters=facts["parameters"], made_by=facts["made_by"], layers=shape["layers"],
        heads=shape["heads"], groups=shape["key_value_heads"], head=shape["head"],
        hidden=shape["hidden"], inner=shape["inner"], theta=shape["rope_theta"],
        longest=max(max(stage["lengths"]) for stage in facts["configuration"]["stages"]),
        vocabulary=facts["vocabulary"], steps=training["steps"], tokens=training["tokens"] / 1e6,
        minutes=training["seconds"] / 60, threads=_threads(training["threads"]),
        seed=facts["configuration"]["seed"], ended="" if training["ended"] else "; it has not ended yet",
        precision=facts["precision"], megabytes=facts["bytes"] / 1e6, licence=facts["license"], example=EXAMPLE,
        relations=", ".join(f"`{word}`" for word in FIELDS if word in RELATIONS),
        rows="\n".join(rows), asked=exam["contexts"] * exam["questions"], contexts=exam["contexts"],
        goal=_goal(goal), goal_length=goal["length"], depths="\n".join(depths),
        stored=", ".join(f"{name} {shown(figure)}" for name, figure in results["stored_as"].items()),
    )  # fmt: skip


def _goal(goal: dict[str, Any]) -> str:
    """Whether the model is good enough to measure on."""
    wanted = f"at least {100 * goal['wanted']:g} % of look-ups at {goal['length']:,} tokens"
    return f"The goal was {wanted}: {'met' if goal['is_met'] else 'missed'}."


def _threads(count: int) -> str:
    return "one CPU core" if count == 1 else f"{count} CPU cores"
