"""Recipes: what is refused, what changes an adapter, and what a tiny model gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carrel.errors import InputError
from carrel.memory.parametric.recipes import LIFT, PARAMETRIC_RAG, RECIPES, TEMP_LORA, Recipe, as_dict, make_recipe


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rank", 0), ("rank", True), ("rank", 2.0), ("epochs", 0), ("batch", -1), ("steps", -1), ("alpha", -1.0),
        ("rate", float("nan")), ("silence", "much"), ("disturbance", -0.1), ("open_book", 1.5), ("targets", ()),
        ("targets", "up_proj"), ("overlap_tokens", 1024), ("reconciled", -1), ("seed", None),
    ],
)  # fmt: skip
def test_what_is_no_recipe(setting: str, value: object) -> None:
    with pytest.raises(InputError):
        replace(PARAMETRIC_RAG, **{setting: value})


def test_names() -> None:
    assert set(RECIPES) == {"parametric-rag", "lift", "temp-lora"}
    assert make_recipe("lift") is LIFT and make_recipe(LIFT) is LIFT
    with pytest.raises(InputError, match="parametric-rag, lift, temp-lora"):
        make_recipe("prag")


def test_the_published_one() -> None:
    """Of arXiv 2501.15915: feed-forward projections, rank 2, alpha 32, rate 3e-4, one epoch."""
    assert set(PARAMETRIC_RAG.targets) == {"gate_proj", "up_proj", "down_proj"}
    assert (PARAMETRIC_RAG.rank, PARAMETRIC_RAG.alpha, PARAMETRIC_RAG.rate, PARAMETRIC_RAG.epochs) == (2, 32.0, 3e-4, 1)


def test_the_key_tells_adapters_apart() -> None:
    other: dict[str, object] = {
        "rank": 3, "alpha": 1.0, "targets": ("up_proj",), "rate": 1e-4, "epochs": 2, "batch": 2, "steps": 5,
        "segment_tokens": 999, "overlap_tokens": 3, "learns_text": False, "open_book": 0.1, "silence": 1.0,
        "disturbance": 1.0, "others": 1, "beside": 1, "reworded": 0.3, "seed": 1,
    }  # fmt: skip
    changed = [replace(PARAMETRIC_RAG, **{name: value}).key for name, value in other.items()]
    assert len({PARAMETRIC_RAG.key, *changed}) == len(other) + 1
    assert set(other) == set(as_dict(PARAMETRIC_RAG)) - {"name", "citation", "reconciled"}
    assert replace(PARAMETRIC_RAG, name="mine", citation="", reconciled=9).key == PARAMETRIC_RAG.key


def test_only_published_recipes_are_fitted_and_only_to_tiny_models() -> None:
    mine = Recipe(rank=3)
    assert mine.fitted(1000) is mine
    for published in (PARAMETRIC_RAG, LIFT, TEMP_LORA):
        assert published.fitted(10**9) is published
        small = published.fitted(10**5)
        assert small != published and small.name == published.name and small.fitted(10**5) is small
