"""What surprised the model stays: token entropy, and the keys that a bounded cache retains by it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from carrel.errors import GenerationError, InputError
from carrel.generation.kv.ordering import top_indices
from carrel.generation.kv.policies import KeysValues, KVPolicy, checked_share, spelled

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BLOCK = 256  # tokens whose distributions are in float32 at a time


def surprisals(logits: Tensor, ids: Tensor) -> Tensor:
    """How little each token was expected, -log p(token | before) in nats: logits (N, V) before ids (N,), to (N,).

    The paper calls it token entropy: it is that of the one token which came, not of the whole distribution.
    """
    found = [
        -piece.float().log_softmax(-1).gather(1, wanted[:, None])[:, 0]
        for piece, wanted in zip(torch.split(logits, _BLOCK), torch.split(ids, _BLOCK), strict=True)
    ]
    return torch.cat(found) if found else logits.new_zeros(0, dtype=torch.float32)


def retained(scores: Tensor, number: int, *, sinks: int, recent: int) -> Tensor:
    """Which of N tokens stay, (..., number), ascending: the first, the last, and of the others the highest scores.

    Of equal scores the earlier token stays. Where ``number`` is less than sinks and recent tokens together, sinks go
    before recent ones.
    """
    length = scores.shape[-1]
    first = min(sinks, number)
    last = min(recent, number - first)
    ranked = scores.float().clone()
    ranked[..., :first] = torch.inf
    ranked[..., max(0, length - last) :] = torch.inf
    return top_indices(ranked, min(number, length))


class SirLLM(KVPolicy):
    """Keeps the first tokens, the last ones, and of the others those that the model expected least.

    Which they are is known from the model's own reading of the context, so that nothing is read twice; all heads and
    layers keep the same tokens, and positions stay those of the whole context. Meanwhile the logits of all tokens that
    are read at once are in memory, 2,048 times the vocabulary, and not only the last ones. For a dialogue without end,
    where the scores also fade from turn to turn: carrel.generation.kv.streaming.

    Parameters
    ----------
    keep : the share that stays, above 0 and at most 1. sinks : tokens at the start that always stay.
    recent : the share of what stays that goes to the last tokens.

    Reference: Yao et al., "SirLLM: Streaming Infinite Retentive LLM", arXiv 2405.12528.
    """

    name: ClassVar[str] = "sirllm"
    citation: ClassVar[str] = "SirLLM, arXiv 2405.12528"
    one_pass = False
    needs_all = True

    def __init__(self, keep: float, *, sinks: int = 4, recent: float = 0.25) -> None:
        self.keep, self.sinks, self.recent = checked_share(self.name, keep), sinks, recent
        if sinks < 0 or not 0 <= recent <= 1:
            raise InputError(f"sinks is a number of tokens and recent a share of what stays, not {sinks} and {recent}.")
        self.drops = keep < 1
        self._scores: Tensor | None = None

    @property
    def label(self) -> str:
        knobs = {"sinks": (self.sinks, 4), "recent": (self.recent, 0.25)}
        others = "".join(f",{name}={value}" for name, (value, usual) in knobs.items() if value != usual)
        return f"{self.name}:{spelled(self.keep)}{others}"

    @contextmanager
    def reading(self, model: PreTrainedModel) -> Iterator[None]:
        """Writes down how surprising each token is, whatever the pieces that the context is read in."""
        self._scores = None
        if not self.drops:
            yield
            return
        listener = _Listener()
        hooks: list[Any] = [
            model.register_forward_pre_hook(listener.before, with_kwargs=True),
            model.register_forward_hook(listener.after, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        self._scores = torch.cat(listener.scores) if listener.scores else None

    def kept(self, layer: int, keys: Tensor, values: Tensor) -> KeysValues:
        if not self.drops:
            return keys, values
        length, scores = keys.shape[2], self._scores
        if scores is None or len(scores) != length:
            raise GenerationError(f"{self.label} has not seen how the {length} tokens of this context were read.")
        number = max(1, round(self.keep * length))
        index = retained(scores, number, sinks=self.sinks, recent=int(self.recent * number)).to(keys.device)
        return keys.index_select(2, index), values.index_select(2, index)


class _Listener:
    """Hears what a model reads and what it expected."""

    def __init__(self) -> None:
        self.scores: list[Tensor] = []
        self._expected: Tensor | None = None  # after the piece before, (1, V)
        self._ids: Tensor | None = None

    def before(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """All logits are needed, not only the last."""
        bound = inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments
        self._ids = bound["input_ids"][0]
        return args, {name: value for name, value in kwargs.items() if name != "logits_to_keep"}

    def after(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._ids is None:
            return
        logits: Tensor = output.logits[0]  # (N, V)
        self.scores.append(follow(self._expected, logits, self._ids))
        self._expected = logits[-1:].clone()


def follow(expected: Tensor | None, logits: Tensor, ids: Tensor) -> Tensor:
    """Surprisals of a piece of text, (N,): ``expected`` (1, V) is what came before it, logits (N, V) what it makes.

    Nothing expects the first token of all: its surprisal is 0.
    """
    inner = surprisals(logits[:-1], ids[1:])
    first = inner.new_zeros(1) if expected is None else surprisals(expected, ids[:1])
    return torch.cat([first, inner])
