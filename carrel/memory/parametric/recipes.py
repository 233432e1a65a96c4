"""How a document is trained into an adapter: the size of the adapter, what is learnt, and how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType

from carrel.embeddings.base import digest
from carrel.errors import InputError

FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
_TINY = 20_000_000  # parameters
_TINY_STEPS, _TINY_EPOCHS = 260, 40
_VERSION = "adapter/2"  # of what training makes of a recipe


@dataclass(frozen=True, slots=True)
class Recipe:
    """What training goes by. Two recipes that are equal make the same adapter of the same lesson and model.

    Parameters
    ----------
    name : to be shown. citation : of the method.
    rank, alpha : of the LoRA matrices; what they add to a layer is scaled by alpha / rank.
    targets : the names of the linear layers that get them.
    rate : of learning, at its highest; it warms up over a twentieth of the steps and falls to 0 as a cosine.
    epochs : how often everything is seen, at least. batch : texts a step. steps : updates, at least.
    segment_tokens, overlap_tokens : of the pieces that a document is read in.
    learns_text : whether the pieces themselves are learnt, word by word, besides the pairs.
    open_book : share of the pairs that are learnt with their document in front of them.
    reworded : share of the questions that are asked in other words once they are known (see
        carrel.memory.parametric.wording).
    silence : weight of the divergence from the bare model on what the document says nothing of, and of what the
        adapter adds there.
    disturbance : how loudly an unmet adapter beside it is imitated while it learns; 1 for as loud as itself.
    others : such texts a step.
    beside : adapters of other documents that are merged in while it learns, at most; how many, and which, changes from
        step to step.
    reconciled : passes over the examples of a merged set, for each of its documents, that the set is trained for before
        it is looked at whether it knows them (see carrel.memory.parametric.reconciling); 0 for the sum as it is.
    seed : of all chance.

    Raises
    ------
    InputError : a number is of no use.
    """

    name: str = "custom"
    citation: str = ""
    rank: int = 2
    alpha: float = 32.0
    targets: tuple[str, ...] = FEED_FORWARD
    rate: float = 3e-4
    epochs: int = 1
    batch: int = 1
    steps: int = 0
    segment_tokens: int = 1024
    overlap_tokens: int = 128
    learns_text: bool = True
    open_book: float = 0.5
    reworded: float = 0.0
    silence: float = 0.0
    disturbance: float = 0.0
    others: int = 0
    beside: int = 0
    reconciled: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rank", "epochs", "batch", "segment_tokens"):
            _check(name, getattr(self, name), 1, whole=True)
        for name in ("overlap_tokens", "steps", "others", "beside", "reconciled", "seed"):
            _check(name, getattr(self, name), 0, whole=True)
        for name in ("alpha", "rate", "silence", "disturbance", "open_book", "reworded"):
            _check(name, getattr(self, name), 0)
        for name in ("open_book", "reworded"):
            if getattr(self, name) > 1:
                raise InputError(f"{name} is a share, from 0 to 1, not {getattr(self, name)!r}")
        if self.overlap_tokens >= self.segment_tokens:
            raise InputError(
                f"pieces of {self.segment_tokens} tokens cannot overlap by {self.overlap_tokens}: give a smaller"
                " overlap_tokens"
            )
        named = isinstance(self.targets, tuple) and all(isinstance(name, str) and name for name in self.targets)
        if not (named and self.targets):
            raise InputError(f"targets are names of layers, such as {FEED_FORWARD}, not {self.targets!r}")

    @property
    def key(self) -> str:
        """Changes whenever the adapter would: all but the names."""
        about = {name: value for name, value in asdict(self).items() if name not in ("name", "citation", "reconciled")}
        return digest(_VERSION, *(f"{name}={value!r}" for name, value in sorted(about.items())))

    def fitted(self, parameters: int) -> Recipe:
        """A published recipe for a base model of so many parameters, as it is for a billion and more; others stay.

        A tiny model takes nothing in at rank 2 and in one pass, and has so little room that adapters which are merged
        disturb each other: it is trained longer, and to be silent (see carrel.memory.parametric.disturbance).
        """
        if parameters >= _TINY or self not in RECIPES.values():
            return self
        small = replace(self, rate=3e-3, batch=64, segment_tokens=256, overlap_tokens=32)
        if self.name == TEMP_LORA.name:
            return replace(small, steps=_TINY_STEPS // 10)
        return replace(
            small, rank=16, alpha=64.0, steps=_TINY_STEPS, epochs=_TINY_EPOCHS, silence=2.0, others=32,
            disturbance=0.7, open_book=0.2, reworded=0.5, learns_text=self.name == LIFT.name,
            reconciled=2,
        )  # fmt: skip

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


def _check(name: str, value: object, least: int, *, whole: bool = False) -> None:
    number = isinstance(value, int) or (not whole and isinstance(value, float) and math.isfinite(value))
    if not number or isinstance(value, bool) or value < least:  # type: ignore[operator]
        raise InputError(f"{name} is a {'whole ' if whole else ''}number, {least} or more, not {value!r}")


PARAMETRIC_RAG = Recipe("parametric-rag", "Parametric Retrieval Augmented Generation, arXiv 2501.15915")
"""Su et al., "Parametric Retrieval Augmented Generation", arXiv 2501.15915: small adapters of the feed-forward layers,
pairs with and without their passage, one pass."""

LIFT = Recipe(
    "lift", "LIFT: Improving Long Context Understanding Through Long Input Fine-Tuning, arXiv 2502.14644",
    rank=16, rate=1e-4, epochs=4, segment_tokens=2048, overlap_tokens=512,
)  # fmt: skip
"""Mao et al., also arXiv 2412.13626: one long input in overlapping pieces, several passes, and tasks made of it."""

TEMP_LORA = Recipe(
    "temp-lora",
    "With Greater Text Comes Greater Necessity: Inference-Time Training Helps Long Text Generation, arXiv 2401.11504",
    rank=16, alpha=32.0, rate=5e-5, epochs=2, segment_tokens=1024, overlap_tokens=256, open_book=0.0,
)  # fmt: skip
"""Wang et al.: a throw-away adapter learns each finished block of a text that is being written."""

RECIPES: Mapping[str, Recipe] = MappingProxyType({each.name: each for each in (PARAMETRIC_RAG, LIFT, TEMP_LORA)})


def make_recipe(recipe: str | Recipe) -> Recipe:
    """The recipe of a name, or the one that is given.

    Raises
    ------
    InputError : no recipe has this name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise InputError(f"unknown recipe {recipe!r}. Use one of {', '.join(RECIPES)}, or a Recipe of your own.")
    return RECIPES[recipe]


def as_dict(recipe: Recipe) -> dict[str, object]:
    """For a file beside the adapter."""
    return {field.name: getattr(recipe, field.name) for field in fields(recipe)}
