"""How an adapter is trained: which weights, how small, how long, and on what cuts of the text. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from carrel.errors import InputError

FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_SMALL = 50_000_000  # parameters; below it a rank of 2 holds next to nothing


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an adapter depends on besides its text and its base model.

    Attributes
    ----------
    name, citation : of the method.
    rank, alpha : of the adapter; what it adds to a weight is ``alpha / rank`` times the product of its two matrices.
    targets : the projections that get one, by the last part of their names.
    layers : which layers do, from 0; empty for all.
    rate : of AdamW, at its highest; it rises over the first steps and falls in a line to nothing.
    epochs : times that each example is seen. batch : examples a step.
    segment, overlap : tokens of a piece of the text, and of what it shares with the one before.
    silence : how much it counts to leave the base model's output as it is on what is not the document's. 0: not at all.
    strangers : examples of what is not the document's, for each of its own.
    seed : of the first weights and of the order.
    """

    name: str
    citation: str = ""
    rank: int = 2
    alpha: float = 32.0
    targets: tuple[str, ...] = FEED_FORWARD
    layers: tuple[int, ...] = ()
    rate: float = 3e-4
    epochs: int = 1
    batch: int = 1
    segment: int = 512
    overlap: int = 64
    silence: float = 0.0
    strangers: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rank", "epochs", "batch", "segment"):
            _check_whole(name, getattr(self, name), 1)
        for name in ("overlap", "seed"):
            _check_whole(name, getattr(self, name), 0)
        for name in ("alpha", "rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of a recipe is a number above 0, not {getattr(self, name)!r}")
        for name in ("silence", "strangers"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} of a recipe is a number, 0 or more, not {getattr(self, name)!r}")
        if self.overlap >= self.segment:
            raise InputError(f"segments of {self.segment} tokens cannot share {self.overlap} with the one before")
        if not self.targets:
            raise InputError("a recipe names at least one projection in targets, such as 'down_proj'")

    @property
    def hash(self) -> str:
        """16 hex digits that are others where anything of it is."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def fitted(self, parameters: int) -> Recipe:
        """The recipe for a base model of so many parameters: the published one is for a billion and more.

        A tiny model has neither the width nor the knowledge to take a document in at rank 2 and in one epoch.
        """
        if parameters >= _SMALL:
            return self
        return replace(
            self, rank=max(self.rank, 16), rate=max(self.rate, 3e-3), epochs=max(self.epochs, 300),
            batch=max(self.batch, 64), silence=max(self.silence, 1.0),
        )  # fmt: skip


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} of a recipe is a whole number, {least} or more, not {value!r}")


PARAMETRIC_RAG = Recipe("parametric-rag", "Parametric Retrieval Augmented Generation, arXiv 2501.15915")
"""Feed-forward projections, rank 2, one epoch; each document by itself, merged when it is retrieved."""

LIFT = Recipe(
    "lift", "LIFT: Improving Long-Context Understanding through Long Input Fine-Tuning, arXiv 2502.14644",
    rank=16, targets=ATTENTION + FEED_FORWARD, rate=5e-5, epochs=3, segment=1024, overlap=384,
)  # fmt: skip
"""One long input in overlapping segments, so that what stands together in it is seen together."""

TEMP_LORA = Recipe(
    "temp-lora", "With Greater Text Comes Greater Necessity: Inference-Time Training, arXiv 2401.11504",
    rank=64, alpha=64.0, targets=ATTENTION, rate=5e-5, epochs=2, segment=1024, overlap=0,
)  # fmt: skip
"""A throw-away adapter, trained further on each finished block of a text that is being written."""

RECIPES = {recipe.name: recipe for recipe in (PARAMETRIC_RAG, LIFT, TEMP_LORA)}


def make_recipe(chosen: str | Recipe) -> Recipe:
    """A recipe, by name or as it is.

    Raises
    ------
    InputError : there is none of that name.
    """
    if isinstance(chosen, Recipe):
        return chosen
    if chosen not in RECIPES:
        raise InputError(f"there is no recipe {chosen!r}. Recipes: {', '.join(RECIPES)}")
    return RECIPES[chosen]
