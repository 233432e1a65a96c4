"""The table and the figure of eval-kv."""

from __future__ import annotations

import builtins
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from carrel.errors import InputError, MissingDependencyError
from carrel.evaluation.kv_report import headline, notes, plot, shown_bytes, table
from carrel.evaluation.kv_results import Cell, KVEvaluation, Manifest, Row

BUDGETS = (0.5, 0.25)


def made(**about: Any) -> KVEvaluation:
    manifest = Manifest(
        "needle", "f00d", "words, 1 hop", 0, 2, 4, (64, 2048), BUDGETS, "2026-01-01",
        machine={"cpus": 4, "load": 0.5}, left_out={"snapkv": "kvpress is missing", "tova": "kvpress is missing"},
    )  # fmt: skip
    rows = []
    for length in (64, 2048):
        rows.append(Row(length, "dense", None, "dense", cells("1111", 1.0)))
        rows.append(Row(length, "int8", None, "int8", cells("1111", 1.0)))
        for name in ("random", "paged"):
            rows += [Row(length, name, budget, name, cells("1100", budget)) for budget in BUDGETS]
    return KVEvaluation(replace(manifest, **about), tuple(rows))


def cells(right: str, share: float) -> dict[int, Cell]:
    answers = tuple(mark == "1" for mark in right)
    return {number: Cell(answers, 0.25, 8 * share, int(4_000_000 * share), share) for number in range(2)}


def printed(found: KVEvaluation, width: int | None = None) -> str:
    console = Console(width=width or 400, highlight=False)
    with console.capture() as captured:
        console.print(table(found, width))
    return captured.get()


def long_names() -> KVEvaluation:
    """With the widest cells that are usual."""
    found = made()
    names = {"random": "expected_attention", "paged": "streaming_llm+int8"}
    rows = [replace(row, method=names.get(row.method, row.method)) for row in found.rows]
    worst = (row.method == "streaming_llm+int8" and row.budget == 0.25 for row in rows)
    return replace(
        found, rows=tuple(replace(r, cells=cells("0000", 0.25)) if w else r for r, w in zip(rows, worst, strict=True))
    )


def tables(text: str) -> list[list[str]]:
    """The lines of each table, its header first."""
    found: list[list[str]] = []
    for line in text.split("Right: share")[0].splitlines():
        if line.startswith("method"):
            found.append([line])
        elif found and line.startswith(("dense", "int8", "expected", "streaming")):
            found[-1].append(line)
    return found


def test_the_table_has_a_row_for_each_method_at_each_budget() -> None:
    text = printed(made())
    assert text.count("dense   ") >= 2
    assert "Contexts of 64 tokens" in text and "Contexts of 2,048 tokens" in text
    line = next(line for line in text.splitlines() if line.startswith("paged") and "1/4" in line).split("  ")
    assert [part.strip() for part in line if part.strip()] == [
        "paged", "1/4", "50.0 [21.5, 78.5]", "-50.0 [-50.0, -50.0]", "25.0 %", "1.00 MB", "25.0 %", "0.250", "1.00",
        "2.00", "0.25",
    ]  # fmt: skip


COLUMNS = {
    60: ["right, % keys read", "memory of dense"],
    80: ["right, % less dense", "keys read memory of dense", "read, s x dense first token, ms x dense"],
    100: ["right, % keys read memory of dense", "less dense read, s x dense first token, ms x dense"],
    120: ["right, % less dense keys read memory of dense", "read, s x dense first token, ms x dense"],
    160: ["right, % less dense keys read memory of dense read, s x dense first token, ms x dense"],
}


@pytest.mark.parametrize("width", sorted(COLUMNS))
def test_the_columns_of_a_terminal(width: int) -> None:
    text = printed(long_names(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    drawn = tables(text)
    assert [" ".join(lines[0].split()) for lines in drawn] == [f"method budget {c}" for c in COLUMNS[width]] * 2
    for lines in drawn:
        assert [line.split()[:2] for line in lines[3:]] == [
            [name, budget] for name in ("expected_attention", "streaming_llm+int8") for budget in ("1/2", "1/4")
        ]
    whole = tables(printed(long_names()))
    for place in range(1, 7):  # the same cells, in one table or in several
        cells = [cell for lines in drawn[: len(drawn) // 2] for cell in lines[place].split()[1:]]
        assert set(cells) <= set(whole[0][place].split())
        right = re.search(r"\d+\.\d \[\S+ \S+\]", whole[0][place])
        assert right is not None and right[0] in drawn[0][place]
    assert ("More figures (less dense; read, s;" in text) == (width < 80)


@pytest.mark.parametrize("width", range(40, 160, 7))
def test_method_budget_and_right_never_go(width: int) -> None:
    long = made()
    name = "criticalkv_non_causal_attention"
    rows = tuple(replace(row, method=name) if row.method == "paged" else row for row in long.rows)
    text = printed(replace(long, rows=rows), width)
    assert max(map(len, text.splitlines())) <= width
    lines = [line for line in text.splitlines() if "50.0 [21.5, 78.5]" in line and line.startswith("c")]
    assert [name.startswith(line.split()[0]) for line in lines] == [True] * 4
    assert [line.split()[1] for line in lines] == ["1/2", "1/4"] * 2
    if width >= 60:
        assert {line.split()[0] for line in lines} == {name}


def test_what_a_reader_should_know() -> None:
    assert headline(made()) == "needle: look-up in words, 1 hop, 2 contexts of each length, 4 questions about each"
    assert headline(made(interrupted=True)).endswith(", cut short")
    told = notes(made())
    assert told[1:] == ["Left out: snapkv, tova. kvpress is missing"]
    busy = notes(made(machine={"cpus": 4, "load": 5.25}))
    assert busy[-1] == "The machine was busy (5.2 processes at work on 4 CPUs): the times say little."
    assert "Left out" in printed(made())


def test_bytes_in_units() -> None:
    assert [shown_bytes(size) for size in (512, 1.5e6, 2.25e9)] == ["0.5 kB", "1.50 MB", "2.25 GB"]


def test_writes_svg_and_png_with_every_name_and_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = plot(made(), tmp_path / "new" / "figure")
    assert [file.name for file in files] == ["figure.svg", "figure.png"]
    svg = files[0].read_text()
    for words in ("dense", "random", "paged", "1/4", "Contexts of 64 tokens", "Contexts of 2,048 tokens", "needle"):
        assert f"<!-- {words}" in svg
    assert "<!-- int8" in svg
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert plot(made(), tmp_path / "again.svg")[0].read_bytes() == files[0].read_bytes()
    one = plot(made(), tmp_path / "one.svg", lengths=[64])[0].read_text()
    assert "2,048" not in one and "Contexts of 64 tokens" in one
    cut = replace(made(), rows=made().rows[:7])  # of the longer contexts, dense alone was measured
    assert "2,048" not in plot(cut, tmp_path / "cut.svg")[0].read_text()


def test_nothing_to_plot(tmp_path: Path) -> None:
    found = made()
    with pytest.raises(InputError, match=r"\.svg or \.png, not '\.pdf'"):
        plot(found, tmp_path / "x.pdf")
    with pytest.raises(InputError, match="nothing to plot"):
        plot(replace(found, rows=found.rows[:2]), tmp_path / "x.svg")
    with pytest.raises(InputError, match="nothing to plot"):
        plot(found, tmp_path / "x.svg", lengths=[7])
    assert not (tmp_path / "x.svg").exists()


def test_without_dense_the_rest_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = made()
    rest = replace(found, rows=tuple(row for row in found.rows if row.budget is not None))
    assert "<!-- dense" not in plot(rest, tmp_path / "x.svg")[0].read_text()
    assert "paged" in printed(rest)


def test_names_the_extra_when_matplotlib_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"matplotlib.*carrel\[eval\]"):
        plot(made(), tmp_path / "x.svg")
