"""The steps of a flow in a terminal: lines that fit, figures that stay, and nothing that steers it."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from carrel.agents import Run
from carrel.agents.trace import Trace
from carrel.app.steps import explained, figures
from carrel.types import Ledger, LedgerEntry, Usage

QUESTION = "Who was the last keeper of the light on the rock that stands before the harbour?"


class Result:
    ledger = Ledger("", (LedgerEntry("route", 9, 1, reason="direct: one passage stands out"),))


def made(result: object = None) -> Run[Any]:
    trace = Trace("flow", "chain_of_agents", "", 0.0, 2.5)
    part = trace.child("flow", "_read_part", "0", 0.0)
    part.ended = 1.0
    for place, note in enumerate((f"notes: {QUESTION[:39]}…", "notes: Something else", "no colon")):
        ask = part.child("ask", "", f"0/{place}", 0.0)
        ask.ended, ask.tokens_in, ask.tokens_out, ask.note, ask.replayed = 1.0, 12_345, 67, note, place == 1
    search = trace.child("retrieve", "", "1", 1.0)
    search.ended, search.note = 1.25, "\x1b[31m[/b] " + "long " * 30
    failed = trace.child("read", "", "2", 2.0)
    failed.ended, failed.error = 2.0, "GenerationError: gone\naway"
    return Run(trace, Usage(12_345, 67), _value=result)


def drawn(run: Run[Any], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False)
    console.print(*explained(run, QUESTION), sep="\n")
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_each_step_is_a_line_with_its_figures() -> None:
    head, root, part, asked, other, odd, search, failed, sum = drawn(made())
    assert head.split() == ["step", "tokens", "in", "out", "seconds"]
    assert root.split() == ["chain_of_agents", "2.500"]
    assert part.split() == ["├─", "read_part", "1.000"]
    assert asked.split() == ["│", "├─", "ask", "notes", "12,345", "67", "1.000"]
    assert other.split("  ")[1:4] == ["├─ ask", "from the journal", "notes: Something else"]
    assert odd.startswith("│  └─ ask  no colon")
    assert "\x1b" not in search and "[/b] long" in search and search.endswith("0.250") and "…" in search
    assert failed.startswith("└─ read  GenerationError: gone away")
    assert sum == "3 calls, 1 of them from the journal, 12,412 tokens, 2.5 s"
    assert all(len(line) <= 80 for line in drawn(made()))


def test_figures_stay_where_room_is_short() -> None:
    lines = drawn(made(), 40)
    assert all(len(line) <= 40 for line in lines) and sum("12,345   67    1.000" in line for line in lines) == 3


def test_the_reason_of_a_way_comes_first() -> None:
    assert drawn(made(Result()))[0] == "route: direct: one passage stands out"
    assert "route" not in "".join(drawn(made()))


def test_figures_of_a_run_without_a_journal() -> None:
    assert figures(Run(Trace("flow", "f", "", 0.0, 1.0), Usage())) == "0 calls, 0 tokens, 1.0 s"
