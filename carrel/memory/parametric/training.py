"""Training an adapter: a few passes over what a document says, while it learns to be silent on all else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from carrel.asynchronous import stop_if_cancelled
from carrel.errors import InputError, MissingDependencyError, ModelError
from carrel.memory.parametric.disturbance import Disturbance
from carrel.memory.parametric.examples import Example
from carrel.memory.parametric.layers import check_bare, check_layers
from carrel.memory.parametric.recipes import Recipe
from carrel.memory.parametric.wording import Rewording

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WARM_UP = 0.05  # of the steps
_LARGEST_STEP = 1.0  # norm of a gradient
_NEIGHBOURS_EXAMPLES = 64  # a step, of each adapter that is merged in
_CHECKED, _AT_ONCE = 256, 16  # questions in the end, and of them in one batch
_OWN, _OTHER, _SILENT = range(3)

Tensors = dict[str, NDArray[np.float32]]
"""The matrices of an adapter by the names that peft gives them in a file."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another document's adapter, and what it must go on to know while this one is merged with it."""

    tensors: Tensors
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Of one adapter: steps done and in all, the loss of the last step, seconds."""

    step: int
    steps: int
    loss: float
    seconds: float


Progress = Callable[[TrainingProgress], object]


@dataclass(frozen=True, slots=True)
class Trained:
    """An adapter as it goes to a file: tensors, peft's configuration, and how the training went."""

    tensors: Tensors
    config: dict[str, Any]
    figures: dict[str, float]


def train(
    model: PreTrainedModel,
    own: Sequence[Example],
    recipe: Recipe,
    *,
    others: Sequence[Example] = (),
    neighbours: Sequence[Neighbour] = (),
    words: Sequence[int] = (),
    start: Tensors | None = None,
    progress: Progress | None = None,
) -> Trained:
    """An adapter that knows what the examples say; the model itself is as it was, whatever happens.

    Besides its own examples each step has ``recipe.others`` of the texts in ``others``, of which the adapter must make
    what the bare model makes (Kullback-Leibler divergence) and to whose states it must add little; a disturbance (see
    Disturbance) that it must be heard in; and up to ``recipe.beside`` of the neighbours merged in, whose own examples
    must stay right. So adapters that are merged later disturb each other less; nothing of it is in Parametric RAG
    (arXiv 2501.15915). Ctrl-C ends it after the step, with what is trained; ``figures["stopped"]`` is then 1.
    ``figures["known"]`` is the share of the questions whose answers are the likeliest tokens in the end, with nothing
    to read (of some hundred questions, where there are more).

    Parameters
    ----------
    words : tokens that may be added to questions, where the recipe asks for ``reworded`` ones.
    start : the matrices to go on from, of the recipe's rank; new ones by default.

    Raises
    ------
    InputError : there is nothing to learn. MissingDependencyError : peft is not installed.
    ModelError : the model has no layers of the recipe's names, or the loss is no number any more.
    """
    if not own:
        raise InputError("there is nothing to train on: the document gave neither text nor pairs")
    chance = np.random.default_rng(recipe.seed)
    began, cpu = time.perf_counter(), time.process_time()
    with (
        torch.inference_mode(mode=False),  # whoever asks a question may be in it
        torch.enable_grad(),
        adapted(model, recipe, [each.tensors for each in neighbours], start) as learner,
        disturbed(learner, recipe, chance),
    ):
        steps = max(recipe.steps, recipe.epochs * math.ceil(len(own) / recipe.batch))
        optimizer = torch.optim.AdamW(learner.weights, lr=recipe.rate, weight_decay=0.0)
        rewording = Rewording(own, words, recipe.reworded, chance)
        loss, done = math.nan, 0
        try:
            for chosen in _chosen(own, recipe, steps, chance):
                _set_rate(optimizer, recipe.rate, done, steps)
                loss = _step(learner, _Texts(rewording(chosen), others, neighbours, recipe), chance, optimizer)
                rewording.told(loss)
                done += 1
                if progress is not None:
                    progress(TrainingProgress(done, steps, loss, time.perf_counter() - began))
                stop_if_cancelled()
        except KeyboardInterrupt:
            if not done:
                raise
        figures = known(learner, own) if done == steps else {}
        figures |= {
            "steps": done, "loss": loss, "stopped": float(done < steps),
            "wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu,
        }  # fmt: skip
        return Trained(learner.tensors(), peft_config(recipe), figures)


def _chosen(own: Sequence[Example], recipe: Recipe, steps: int, chance: np.random.Generator) -> Iterator[list[Example]]:
    """The examples of each step: all of them come before one comes again."""
    order: list[int] = []
    for _ in range(steps):
        if len(order) < min(recipe.batch, len(own)):
            order = chance.permutation(len(own)).tolist()
        chosen, order = [own[at] for at in order[: recipe.batch]], order[recipe.batch :]
        yield chosen


def _set_rate(optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    warm = max(1, round(_WARM_UP * steps))
    falling = 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, (step + 1) / warm) * falling


@dataclass(frozen=True, slots=True)
class _Texts:
    """What one step may draw from."""

    own: Sequence[Example]
    others: Sequence[Example]
    neighbours: Sequence[Neighbour]
    recipe: Recipe

    def drawn(self, chance: np.random.Generator) -> tuple[list[tuple[Example, int]], list[int]]:
        """The texts of a step with what each is for, and the neighbours that are merged in."""
        most = min(self.recipe.beside, len(self.neighbours))
        beside = chance.choice(len(self.neighbours), chance.integers(most + 1), replace=False).tolist() if most else []
        texts = [(each, _OWN) for each in self.own]
        for at in beside:
            texts += [(each, _OTHER) for each in _some(self.neighbours[at].examples, _NEIGHBOURS_EXAMPLES, chance)]
        texts += [(each, _SILENT) for each in _some(self.others, self.recipe.others, chance)]
        return texts, beside


def _some(texts: Sequence[Example], count: int, chance: np.random.Generator) -> list[Example]:
    count = min(count, len(texts))
    return [texts[at] for at in chance.choice(len(texts), count, replace=False)] if count else []


def _step(learner: Learner, texts: _Texts, chance: np.random.Generator, optimizer: torch.optim.Optimizer) -> float:
    """One update; gives the loss of the document's own examples."""
    drawn, beside = texts.drawn(chance)
    learner.merge(beside)
    total = [sum(kind == each for _, kind in drawn) for each in (_OWN, _OTHER, _SILENT)]
    optimizer.zero_grad(set_to_none=True)
    own = 0.0
    for group in _alike(drawn):
        losses = _losses(learner, group, texts.recipe.silence)
        shares = [sum(kind == each for _, kind in group) / max(1, total[each]) for each in (_OWN, _OTHER, _SILENT)]
        loss = torch.stack([share * each for share, each in zip(shares, losses, strict=True)]).sum()
        if not bool(torch.isfinite(loss)):
            raise ModelError("the loss is no number any more: train with a smaller rate")
        loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
        own += shares[_OWN] * float(losses[_OWN].detach())
    torch.nn.utils.clip_grad_norm_(learner.weights, _LARGEST_STEP)
    optimizer.step()
    return own


def _alike(drawn: Sequence[tuple[Example, int]]) -> list[list[tuple[Example, int]]]:
    """Texts of about the same length together: one long text among questions would have them all filled up."""
    groups: dict[int, list[tuple[Example, int]]] = {}
    for text, kind in drawn:
        groups.setdefault(max(4, len(text.ids).bit_length()), []).append((text, kind))
    return list(groups.values())


def _losses(learner: Learner, drawn: Sequence[tuple[Example, int]], silence: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of one's own, of the neighbours' and of what is to leave the model as it is; 0 where there is none."""
    kinds = torch.tensor([kind for _, kind in drawn], device=learner.device)
    ids, mask, labels = _batch([text for text, _ in drawn], learner.device)
    silent = kinds == _SILENT
    with learner.disturbance.during(kinds == _OWN, silent, mask) as calm:
        logits = learner.logits(ids, mask)
    none = logits.sum() * 0
    own, other = (
        _answers(logits, labels, kinds == kind) if bool((kinds == kind).any()) else none for kind in (_OWN, _OTHER)
    )
    strayed = none + silence * learner.disturbance.loudness()
    chosen = silent & calm
    if bool(chosen.any()):
        heard = mask[chosen][:, 1:].bool()  # the first word of all texts is every document's
        bare = learner.bare_logits(ids[chosen], mask[chosen])[:, 1:][heard].log_softmax(-1)
        now = logits[chosen][:, 1:][heard].log_softmax(-1)
        strayed = strayed + silence * kl_div(now, bare, log_target=True, reduction="batchmean")
    return own, other, strayed


def _answers(logits: Tensor, labels: Tensor, chosen: Tensor) -> Tensor:
    """Cross-entropy of what is to be learnt of some rows: logits (B, T, V), labels (B, T), -100 where nothing is."""
    return cross_entropy(logits[chosen][:, :-1].flatten(0, 1), labels[chosen][:, 1:].flatten())


def _batch(texts: Sequence[Example], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and labels, (B, T) each, padded behind."""
    longest = max(len(text.ids) for text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, text in enumerate(texts):
        end = len(text.ids)
        ids[row, :end] = torch.tensor(text.ids)
        mask[row, :end] = 1
        labels[row, text.first : end] = ids[row, text.first : end]
    return ids.to(device), mask.to(device), labels.to(device)


@contextmanager
def disturbed(learner: Learner, recipe: Recipe, chance: np.random.Generator) -> Iterator[None]:
    """While an adapter learns: what it says is measured, and disturbed as the recipe wants it."""
    learner.disturbance = Disturbance(learner.wrapped, "own", recipe.disturbance, chance)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            yield
    finally:
        learner.disturbance.remove()


def known(learner: Learner, own: Sequence[Example]) -> dict[str, float]:
    """The share of the questions that is answered without anything to read; nothing where none is asked."""
    asked = [each for each in own if each.first > 1 and not each.is_open]
    asked = [asked[at * len(asked) // _CHECKED] for at in range(_CHECKED)] if len(asked) > _CHECKED else asked
    learner.merge([])
    right = 0
    for at in range(0, len(asked), _AT_ONCE):
        ids, mask, labels = _batch(asked[at : at + _AT_ONCE], learner.device)
        with torch.no_grad():
            said = learner.logits(ids, mask)[:, :-1].argmax(-1)
        right += int(((said == labels[:, 1:]) | (labels[:, 1:] < 0)).all(-1).sum())
    return {"known": right / len(asked)} if asked else {}


# -- the model with an adapter in it ------------------------------------------------------------


class Learner:
    """A model with one adapter that learns and others that are merged in or not; see ``adapted``."""

    def __init__(self, wrapped: Any, neighbours: int) -> None:
        self.wrapped, self._neighbours = wrapped, neighbours
        self.disturbance: Disturbance  # of the layers, while it learns
        self.device: torch.device = next(wrapped.parameters()).device
        self.weights = [weight for name, weight in wrapped.named_parameters() if ".own." in name]
        self.merge([])

    def merge(self, neighbours: Sequence[int]) -> None:
        """Have the model run with the learning adapter and some neighbours."""
        self.wrapped.base_model.set_adapter(["own", *(f"beside_{at}" for at in neighbours)])
        for name, weight in self.wrapped.named_parameters():  # peft has all that is in use learn
            weight.requires_grad_(".own." in name)

    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = self.wrapped(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return out.float()

    def bare_logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad(), self.wrapped.disable_adapter():
            return self.logits(ids, mask)

    def tensors(self) -> Tensors:
        from peft import get_peft_model_state_dict

        found = get_peft_model_state_dict(self.wrapped, adapter_name="own", save_embedding_layers=False)
        return {name: tensor.detach().float().cpu().numpy().copy() for name, tensor in found.items()}


@contextmanager
def adapted(
    model: PreTrainedModel, recipe: Recipe, neighbours: Sequence[Tensors] = (), start: Tensors | None = None
) -> Iterator[Learner]:
    """The model with a new adapter in it; taken out again in the end. ``model`` must not be used meanwhile."""
    peft = _peft()
    check_bare(model)
    check_layers(model, recipe)
    config = peft.LoraConfig(**lora_settings(recipe))
    learning = [(weight, weight.requires_grad) for weight in model.parameters()]
    was_training = model.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        wrapped = peft.get_peft_model(model, config, adapter_name="own")
    try:
        if start is not None:
            peft.set_peft_model_state_dict(
                wrapped, {name: torch.from_numpy(array) for name, array in start.items()}, adapter_name="own"
            )
        for at, tensors in enumerate(neighbours):
            rank = next(array.shape[0] for name, array in tensors.items() if "lora_A" in name)
            settings = lora_settings(recipe) | {"r": rank, "lora_alpha": rank * recipe.scale}
            wrapped.add_adapter(f"beside_{at}", peft.LoraConfig(**settings))
            as_torch = {name: torch.from_numpy(array) for name, array in tensors.items()}
            peft.set_peft_model_state_dict(wrapped, as_torch, adapter_name=f"beside_{at}")
        wrapped.eval()  # no dropout: an adapter is small enough
        yield Learner(wrapped, len(neighbours))
    finally:
        wrapped.unload()
        if hasattr(model, "peft_config"):
            del model.peft_config
        model.train(was_training)
        for weight, learns in learning:
            weight.requires_grad_(learns)


def lora_settings(recipe: Recipe) -> dict[str, Any]:
    """What peft makes a layer's matrices by."""
    return {
        "r": recipe.rank, "lora_alpha": recipe.alpha, "lora_dropout": 0.0, "bias": "none",
        "target_modules": list(recipe.targets), "task_type": "CAUSAL_LM",
    }  # fmt: skip


def peft_config(recipe: Recipe) -> dict[str, Any]:
    """The adapter_config.json that peft and vLLM read."""
    return {"peft_type": "LORA", "inference_mode": True, "fan_in_fan_out": False, **lora_settings(recipe)}


def _peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        raise MissingDependencyError("peft", "torch", "Parametric memory") from error
    return peft
