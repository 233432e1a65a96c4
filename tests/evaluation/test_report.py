from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from carrel.evaluation import report


def printed(evaluation: Any, width: int = 160) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(report.table(evaluation))
    return stream.getvalue()


def test_the_table_shows_means_intervals_and_tokens(make_evaluation: Any) -> None:
    evaluation = make_evaluation()
    text = printed(evaluation)
    interval = evaluation.interval("dense", "answer", 250)
    assert f"{interval.mean:.3f} ±{interval.half_width:.3f}" in text
    assert "collection: 40 questions over 7 documents" in text
    for expected in ("Answer recall, by token budget", "1,000", "R@5", "nDCG@10", "MRR", "search p95", "first"):
        assert expected in text
    assert "span" not in text  # no question has gold spans
    assert "All gold documents at 250 tokens, by question set" in text


def test_a_narrow_terminal_cuts_no_figure(make_evaluation: Any) -> None:
    text = printed(make_evaluation(), width=72)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 72


def test_markdown_tables_are_well_formed_and_say_where_they_come_from(make_evaluation: Any) -> None:
    evaluation = make_evaluation()
    text = report.markdown(evaluation)
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 7
    for block in tables:
        lines = block.splitlines()
        assert len({line.count("|") for line in lines}) == 1
        assert [line.split(" | ")[0] for line in lines[2:]] == ["| first", "| dense"]
    for origin in ("words/1", "fake-encoder", "seed 0", "python 3", "2026-01-01"):
        assert origin in text


def test_the_best_and_its_equals_are_bold(make_evaluation: Any) -> None:
    clear = report.markdown(make_evaluation()).split("### Answer recall, by token budget")[1].split("###")[0]
    rows = {line.split(" | ")[0].strip("| "): line for line in clear.splitlines() if line.startswith("| ")}
    assert rows["dense"].count("**") == 6
    assert "**" not in rows["first"]
    alike = report.markdown(make_evaluation(first=1.0, dense=1.0))
    equal = alike.split("### Answer recall, by token budget")[1].split("###")[0]
    assert equal.count("**") == 12


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_scores_without_any_spread(make_evaluation: Any, chance: float) -> None:
    assert f"{chance:.3f} ±0.000" in report.markdown(make_evaluation(dense=chance))
