"""A merged set that is trained as a whole, until it knows again what its documents' adapters knew by themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from carrel.memory.parametric.merging import Merged, modules_of
from carrel.memory.parametric.recipes import Recipe
from carrel.memory.parametric.training import Progress, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from carrel.memory.parametric.lessons import Lesson

_ENOUGH = 0.98  # of the questions known
_MOST_ROUNDS = 8
_UNASKED_ROUNDS = 3  # where no document gave a question
_DOWN = ".lora_A.weight"


def reconcile(
    model: PreTrainedModel, summed: Merged, lessons: Sequence[Lesson], recipe: Recipe, progress: Progress | None = None
) -> Merged:
    """The sum of several adapters, trained on what all of their documents say; no rank is added to it.

    In rounds of ``recipe.reconciled`` passes for each document, until 98 of 100 questions are answered right, or
    eight times. ``figures`` has the share in the end, the rounds, and their seconds.

    Parameters
    ----------
    lessons : of the documents. recipe : that their adapters were trained by.

    Raises
    ------
    KeyboardInterrupt : it was stopped; half of a reconciliation is worth nothing.
    """
    own = [example for each in lessons for example in each.own]
    asked = {example.ids[: example.first] for example in own if example.first > 1}
    lengths = {len(each) for each in asked}
    others = [
        example
        for each in lessons
        for example in each.others
        if not any(example.ids[:length] in asked for length in lengths)  # another member's own question
    ]
    batch = recipe.batch * len(lessons)
    recipe = replace(
        recipe, rank=summed.rank, alpha=float(summed.rank), disturbance=0.0, batch=batch, epochs=1,
        reworded=recipe.reworded / 2,  # half of it costs no time and keeps as much as all of it
        steps=math.ceil(recipe.reconciled * len(lessons) * len(own) / batch),
    )  # fmt: skip
    tensors, config, total = _filled(summed, recipe.seed), summed.config, {"wall_s": 0.0, "cpu_s": 0.0}
    found: dict[str, float] = {}
    for number in range(_MOST_ROUNDS):
        seeded = replace(recipe, seed=recipe.seed + number)
        trained = train(
            model, own, seeded, others=others, words=lessons[0].words, start=tensors, progress=progress
        )
        if trained.figures["stopped"]:
            raise KeyboardInterrupt
        tensors, config = trained.tensors, trained.config
        total = {name: total[name] + trained.figures[name] for name in total}
        found = {name: trained.figures[name] for name in ("known", "loss") if name in trained.figures}
        found |= {"rounds": number + 1, "steps": (number + 1) * recipe.steps, **total}
        if found.get("known", number + 1 >= _UNASKED_ROUNDS) >= _ENOUGH:
            break
    return Merged(tensors, config, summed.rank, exact=False, figures=found)


def _filled(summed: Merged, seed: int) -> dict[str, Any]:
    """The sum with chance where its rank was filled up with zeros: two zeros that are multiplied never learn.

    What it adds to a layer stays as it is, for the other matrix still has zeros there.
    """
    chance = np.random.default_rng(seed)
    tensors = dict(summed.tensors)
    for module in modules_of(tensors):
        down = tensors[module + _DOWN].copy()
        empty = ~down.any(axis=1)
        size = float(np.sqrt((down[~empty] ** 2).mean())) if not empty.all() else 0.0
        down[empty] = chance.normal(0.0, size, (int(empty.sum()), down.shape[1]))
        tensors[module + _DOWN] = down
    return tensors
