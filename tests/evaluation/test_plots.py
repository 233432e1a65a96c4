from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError, MissingDependencyError
from carrel.evaluation.plots import plot, spread


def test_writes_svg_and_png_with_every_name_and_the_same_bytes(make_evaluation: Any, tmp_path: Path) -> None:
    evaluation = make_evaluation()
    files = plot(evaluation, tmp_path / "new" / "figure")
    assert [file.name for file in files] == ["figure.svg", "figure.png"]
    svg = files[0].read_text()
    for words in ("first", "dense", "Answer recall", "Gold document recall", "collection: 40 questions", "1,000"):
        assert f"<!-- {words}" in svg
    assert files[1].read_bytes().startswith(b"\x89PNG")
    again = plot(evaluation, tmp_path / "again.svg")
    assert again == (tmp_path / "again.svg",)
    assert again[0].read_bytes() == files[0].read_bytes()


def test_one_panel_when_asked_and_nothing_that_was_not_scored(make_evaluation: Any, tmp_path: Path) -> None:
    evaluation = make_evaluation()
    svg = plot(evaluation, tmp_path / "one.svg", metrics=["all_support"])[0].read_text()
    assert "All gold documents" in svg
    assert "Answer recall" not in svg
    with pytest.raises(InputError, match="nothing to plot"):
        plot(evaluation, tmp_path / "x.svg", metrics=["span_recall"])
    with pytest.raises(InputError, match="no metric 'x' to plot"):
        plot(evaluation, tmp_path / "x.svg", metrics=["x"])
    with pytest.raises(InputError, match=r"\.svg or \.png, not '\.pdf'"):
        plot(evaluation, tmp_path / "x.pdf")
    assert not (tmp_path / "x.svg").exists()


def test_a_budget_too_small_for_anything_has_no_point(make_evaluation: Any, tmp_path: Path) -> None:
    assert plot(make_evaluation(tokens=(0, 240, 960)), tmp_path / "x.svg")[0].exists()
    assert plot(make_evaluation(tokens=(0, 0, 0)), tmp_path / "y.svg")[0].exists()


def test_names_the_extra_when_matplotlib_is_missing(
    make_evaluation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"matplotlib.*carrel\[eval\]"):
        plot(make_evaluation(), tmp_path / "x.svg")


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.2))
def test_labels_stay_inside_in_order_and_apart(places: list[float], gap: float) -> None:
    wanted = np.array(places)
    moved = spread(wanted, gap, 0.0, 1.0)
    assert moved.shape == wanted.shape
    assert (moved >= -1e-9).all()
    assert (moved <= 1 + 1e-9).all()
    order = np.argsort(wanted, kind="stable")
    least = min(gap, 1 / max(1, len(places) - 1))
    assert (np.diff(moved[order]) >= least - 1e-9).all()


def test_labels_that_are_clear_stay_where_they_are() -> None:
    np.testing.assert_allclose(spread(np.array([0.9, 0.1, 0.5]), 0.05, 0, 1), [0.9, 0.1, 0.5])
    np.testing.assert_allclose(spread(np.array([0.5, 0.5]), 0.1, 0, 1), [0.45, 0.55])
