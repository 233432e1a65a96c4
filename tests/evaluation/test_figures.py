"""Writing a figure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from carrel.errors import InputError, MissingDependencyError
from carrel.evaluation.figures import write_figure


def draw(figure: Any) -> None:
    figure.text(0.5, 0.5, "drawn")


def test_without_a_suffix_both_are_written_and_always_the_same(tmp_path: Path) -> None:
    first = write_figure(tmp_path / "new" / "plot", (2, 1), draw, dpi=50)
    assert [file.name for file in first] == ["plot.svg", "plot.png"]
    again = write_figure(tmp_path / "again", (2, 1), draw, dpi=50)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in again]
    assert first[0].read_text(encoding="utf-8").startswith("<?xml")


def test_another_suffix_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="svg or .png"):
        write_figure(tmp_path / "plot.pdf", (2, 1), draw, dpi=50)


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match="eval"):
        write_figure(tmp_path / "plot.svg", (2, 1), draw, dpi=50)
