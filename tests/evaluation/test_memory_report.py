"""The table and the figure of eval-memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from carrel.errors import InputError
from carrel.evaluation.bootstrap import Interval
from carrel.evaluation.memory import Asked, MemoryEvaluation
from carrel.evaluation.memory_report import percent, plot, points, table


def made(**about: object) -> MemoryEvaluation:
    def asked(dialogue: str, number: int, kind: str, ours: float, theirs: float, answerable: float) -> Asked:
        return Asked(dialogue, str(number), kind, {"carrel": ours, "cosine": theirs}, answerable, 90, 0.01)

    rows = [
        asked(name, number, kind, ours, theirs, answerable)
        for name in ("a", "b")
        for number, (kind, ours, theirs, answerable) in enumerate(
            [("single-hop", 1.0, 0.0, 0.9), ("single-hop", 1.0, 0.5, 0.4), ("adversarial", 1.0, 1.0, 0.1)]
        )
    ]
    return replace(MemoryEvaluation(100, "words", ("carrel", "cosine"), tuple(rows)), **about)  # type: ignore[arg-type]


def printed(found: MemoryEvaluation) -> str:
    console = Console(width=140, record=True)
    console.print(table(found))
    return console.export_text()


def test_the_table() -> None:
    text = printed(made())
    assert "single-hop" in text and "4 questions" in text
    assert "100.0" in text and "25.0 *" in text and "+75.0 [" in text
    assert "Abstains on 100.0 % [100.0, 100.0] of the adversarial questions and on 50.0 %" in text
    assert "Budget: 100 tokens of words." in text and "fitted" not in text


def test_fitted_dialogues_come_second() -> None:
    text = printed(made(fitted=("a",)))
    assert text.index("Without a, on which Carrel's weights were fitted") < text.index("All dialogues, a included")
    assert "Fitted on: a, b" in printed(made(fitted=("a", "b")))


def test_numbers() -> None:
    assert percent(Interval(0.5, 0.4, 0.6), interval=True) == "50.0 % [40.0, 60.0]"
    assert points(Interval(-0.1, -0.2, 0.05)) == "-10.0 [-20.0, +5.0]"
    assert percent(None) == points(None) == ""


def test_the_figure_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one, two = (plot(made(), tmp_path / name)[0] for name in ("one.svg", "two.svg"))
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(InputError, match="nothing to plot"):
        plot(made(asked=()), tmp_path / "none.svg")
