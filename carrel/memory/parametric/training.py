"""Trains a LoRA adapter on a document's examples, and to be silent on what is not the document's.

An adapter that only learns its own document answers anything with it, and two of them merged answer each other's
questions. So each is also shown what is not its own: its own examples with other words in them, and its own text
under another vocabulary. There its output is held to the base model's.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from carrel.errors import InputError, MissingDependencyError
from carrel.memory.parametric.recipes import Recipe

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

_WARM_UP = 20  # steps
_CLIP = 1.0  # the longest gradient
ADAPTER = "default"


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens of which those from ``first`` on are to be predicted from what stands before them."""

    ids: tuple[int, ...]
    first: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.first < len(self.ids):
            raise InputError(f"an example of {len(self.ids)} tokens cannot be learnt from its token {self.first} on")


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a training is: steps done and all, the losses of the last step, seconds since it began."""

    step: int
    steps: int
    loss: float
    strayed: float  # mean divergence from the base model on what is not the document's
    seconds: float


@dataclass(frozen=True, slots=True)
class Training:
    """What a training did. ``stopped`` : by Ctrl-C, with what it had trained kept."""

    steps: int
    planned: int
    loss: float
    strayed: float
    seconds: float
    cpu_s: float
    stopped: bool = False


def attach(model: PreTrainedModel, recipe: Recipe, name: str = ADAPTER) -> PeftModel:
    """The model with a new adapter that changes nothing yet. The base's weights stay as they are, and its object too.

    Raises
    ------
    InputError : the model has none of the recipe's projections. MissingDependencyError : peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError as error:
        raise MissingDependencyError("peft", "torch", "Parametric memory") from error

    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, target_modules=list(recipe.targets), bias="none", lora_dropout=0.0,
        layers_to_transform=list(recipe.layers) or None, task_type="CAUSAL_LM",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            return get_peft_model(model, config, adapter_name=name)  # type: ignore[return-value,unused-ignore]
        except ValueError as error:
            raise InputError(
                f"{type(model).__name__} has no projections {', '.join(recipe.targets)}"
                " in the layers of the recipe: name its own with replace(recipe, targets=...)."
            ) from error


def train(
    model: PeftModel,
    examples: Sequence[Example],
    recipe: Recipe,
    *,
    strangers: Callable[[np.random.Generator, int], Sequence[Example]] | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> Training:
    """Train the active adapter of a model. Ctrl-C ends it after the step, with what is trained kept.

    Parameters
    ----------
    examples : the document's.
    strangers : gives so many examples of what is not the document's; by default :func:`strange` ones.
    progress : called after each step.

    Raises
    ------
    InputError : there are no examples.
    """
    if not examples:
        raise InputError("there is nothing to train on: the document gives no examples")
    chance = np.random.default_rng(recipe.seed)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.0)
    a_pass = math.ceil(len(examples) / recipe.batch)
    steps = recipe.epochs * a_pass
    began, cpu = time.perf_counter(), time.process_time()
    at = TrainingProgress(0, steps, math.nan, 0.0, 0.0)
    others = strangers or Strangers(examples, int(model.config.vocab_size))
    was_training = model.training
    model.train()
    stopped = False
    try:
        with _seeded(recipe.seed):
            for step, own in enumerate(_batches(examples, recipe, chance)):
                for group in optimiser.param_groups:
                    group["lr"] = recipe.rate * min(1.0, (step + 1) / min(_WARM_UP, steps)) * (1 - step / steps)
                count = round(len(own) * recipe.strangers) if recipe.silence else 0
                loss, strayed = _losses(model, own, others(chance, count) if count else ())
                optimiser.zero_grad(set_to_none=True)
                (loss + recipe.silence * strayed).backward()  # type: ignore[no-untyped-call,unused-ignore]
                nn.utils.clip_grad_norm_(trained, _CLIP)
                optimiser.step()
                at = TrainingProgress(step + 1, steps, loss.item(), float(strayed), time.perf_counter() - began)
                if progress is not None:
                    progress(at)
    except KeyboardInterrupt:
        stopped = True
    finally:
        model.train(was_training)
    return Training(
        at.step, steps, at.loss, at.strayed, time.perf_counter() - began, time.process_time() - cpu, stopped
    )


class Strangers:
    """What is not a document's: its own examples with some of their words replaced by any of the vocabulary.

    A question of the document about somebody else, mostly; the document's own never comes.
    """

    def __init__(self, examples: Sequence[Example], words: int, *, special: Sequence[int] = ()) -> None:
        self._examples = examples
        self._own = {example.ids[: example.first] for example in examples}
        self._words = np.setdiff1d(np.arange(words), np.array(special, np.int64))

    def __call__(self, chance: np.random.Generator, count: int) -> list[Example]:
        """``count`` of them, or a few less: those that came out as the document's are left out."""
        found = []
        for row in chance.integers(len(self._examples), size=count):
            example = self._examples[int(row)]
            ids = np.array(example.ids)
            asked = np.arange(1, example.first) if example.first > 1 else np.arange(1, len(ids))
            changed = asked[chance.random(len(asked)) < max(0.3, 1.0 / max(1, len(asked)))]
            ids[changed] = chance.choice(self._words, len(changed))
            if tuple(ids[: example.first].tolist()) not in self._own:
                found.append(Example(tuple(ids.tolist()), 1))
        return found


def _batches(examples: Sequence[Example], recipe: Recipe, chance: np.random.Generator) -> Iterator[list[Example]]:
    """All examples in a new order for each epoch, those of one batch alike in length."""
    for _ in range(recipe.epochs):
        order = chance.permutation(len(examples))
        order = order[np.argsort([len(examples[number].ids) // 16 for number in order], kind="stable")]
        starts = range(0, len(order), recipe.batch)
        for start in chance.permutation(np.array(starts)):
            yield [examples[int(number)] for number in order[start : start + recipe.batch]]


def _losses(model: PeftModel, own: Sequence[Example], strange: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of what is to be predicted of one's own; mean divergence from the base on what is strange."""
    logits, targets = _predicted(model, own)
    loss = functional.cross_entropy(logits.float(), targets)
    strayed = logits.new_zeros(())
    if strange:
        now, _ = _predicted(model, strange)
        with torch.no_grad(), model.disable_adapter():
            base, _ = _predicted(model, strange)
        strayed = functional.kl_div(
            now.float().log_softmax(-1), base.float().log_softmax(-1), log_target=True, reduction="batchmean"
        )
    return loss, strayed


def _predicted(model: PeftModel, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Logits ``(N, V)`` where a token is to be predicted, and those tokens ``(N,)``."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    wanted = torch.zeros(len(examples), longest, dtype=torch.bool)
    for row, example in enumerate(examples):  # padded behind: causal attention does not see it
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        wanted[row, example.first : len(example.ids)] = True
    place = next(model.parameters()).device
    ids, wanted = ids.to(place), wanted.to(place)
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits  # (B, S, V)
    return logits[wanted[:, 1:]], ids[:, 1:][wanted[:, 1:]]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's own chance, of this training alone."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
