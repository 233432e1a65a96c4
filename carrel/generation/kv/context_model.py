"""A model that reads a context once and then any number of texts after it, token by token."""

from __future__ import annotations

import copy
import inspect
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from carrel.asynchronous import stop_if_cancelled
from carrel.errors import GenerationError, InputError
from carrel.generation.kv.application import Applied, apply
from carrel.generation.kv.base import SparseAttention
from carrel.generation.kv.caches import ContextCache, GrowingLayer, QuantisedLayer
from carrel.generation.kv.contexts import ContextStore, EncodedContext, Layers, alone
from carrel.generation.kv.fingerprints import model_fingerprint
from carrel.generation.kv.policies import Everything, KVPolicy
from carrel.generation.kv.quantisation import pack_keys, pack_values

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PIECE = 2048  # tokens read at once, where a policy lets a context be read in pieces


@dataclass(eq=False)
class Continuation:
    """A text in progress: the context that it begins with, and the tokens after that."""

    context: EncodedContext
    rest: list[int]

    @property
    def length(self) -> int:
        """All tokens."""
        return len(self.context.ids) + len(self.rest)


class ContextModel:
    """Runs a causal model over contexts that stay and texts that follow them. Several threads may share it.

    Parameters
    ----------
    model : a decoder of the transformers library, on its device, in its type.
    policy : what is kept of a context's keys and values.
    attention : sparse attention for what follows a context; a fresh copy is fitted to each.
    folder : where contexts are kept as files; None for none. stored_bits : 16, 8 or 4, of a number in a file,
        where the policy does not say it.
    limit_bytes : of memory for contexts.

    Raises
    ------
    InputError : the policy or the attention does not go with the model, or not with each other.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        policy: KVPolicy | None = None,
        attention: SparseAttention | None = None,
        folder: Path | None = None,
        stored_bits: int = 16,
        limit_bytes: int = 2**31,
    ) -> None:
        self.model, self.policy = model, policy or Everything()
        self.policy.check(model)
        if stored_bits not in (16, 8, 4):
            raise InputError(f"A stored context has 16, 8 or 4 bits a number, not {stored_bits}.")
        if self.policy.hides and attention is not None:
            raise InputError(f"{self.policy.label} hides keys by a mask, which {attention.name} attention cannot heed.")
        self._bits = self.policy.bits or stored_bits
        self._full = _attends_to_all(model)
        if not self._full and (attention is not None or not isinstance(self.policy, Everything) or folder is not None):
            raise InputError(
                f"{type(model).__name__} has layers with a sliding window or a state of their own, which lose what they"
                " have read: its contexts cannot be kept, compressed or read sparsely."
            )
        self._attention = attention
        self._applied: Applied | None = None if attention is None else apply(model, attention)
        parameters = inspect.signature(model.forward).parameters
        self._last_only: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        label = f"{self.policy.label} in {self._bits}"
        fingerprint = model_fingerprint(model) if folder is not None else ""
        self.store = ContextStore(
            limit_bytes, folder, fingerprint=fingerprint, policy=label, bits=self.policy.bits, device=self.device
        )
        self._lock = threading.RLock()

    @property
    def device(self) -> torch.device:
        """Where the tokens go in."""
        weight: Any = self.model.get_input_embeddings().weight
        device: torch.device = weight.device
        return device

    def close(self) -> None:
        """Forget the contexts in memory, and give the model its own attention back."""
        with self._lock:
            self.store.clear()
            if self._applied is not None:
                self._applied.remove()
                self._applied = None

    # -- contexts -------------------------------------------------------------------------------

    def context(self, ids: Sequence[int]) -> tuple[EncodedContext, bool]:
        """The context of these tokens, and whether it was there already; else it is read now, which takes a while.

        A model whose layers lose what they have read has an empty context: ``ids`` of it says what was kept.
        """
        wanted = tuple(ids) if self._full else ()
        with self._lock:
            if found := self.store.find(wanted):
                return found, True
            encoded, layers = self._read(wanted)
            self.store.add(encoded, layers if self.store.folder is not None else None)
            return encoded, False

    def _read(self, ids: tuple[int, ...]) -> tuple[EncodedContext, Layers]:
        began = time.perf_counter()
        if not ids:
            return EncodedContext((), 0, None, None, {}, 0, 0.0, 0), []
        cache = DynamicCache(config=self.model.config)
        if self._applied is not None and self._attention is not None:
            self._applied.method = copy.deepcopy(self._attention)
            self._applied.method.reset()
        with torch.inference_mode():
            with self.policy.reading(self.model):
                for start, piece in self._pieces(ids):
                    self._forward(piece, start, cache)
            state = self.policy.state(self.model)
            read: list[Any] = cache.layers
            kept = [self.policy.kept(number, layer.keys, layer.values) for number, layer in enumerate(read)]
            kept = [(alone(keys), alone(values)) for keys, values in kept]
            length = kept[0][0].shape[2]
            if any(keys.shape[2] != length for keys, _ in kept):
                raise GenerationError(f"{self.policy.label} kept a different number of keys in each layer")
            layers = self._packed(kept)
            context = EncodedContext(ids, length, None, None, state, self.policy.hidden(state), 0.0, _bytes(kept, ids))
            if self.policy.bits is None:
                context.cache = ContextCache([GrowingLayer(keys, values) for keys, values in kept])
            else:
                context.cache = ContextCache([QuantisedLayer(keys, values) for keys, values in layers])
            self._fit(context)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        context.prefill_s = time.perf_counter() - began
        return context, layers

    def _packed(self, kept: list[tuple[Tensor, Tensor]]) -> Layers:
        """As a file has them, or a policy of few bits; nothing where there is neither."""
        if self.policy.bits is None and self.store.folder is None:
            return []
        return [(pack_keys(keys, self._bits), pack_values(values, self._bits)) for keys, values in kept]

    def _pieces(self, ids: tuple[int, ...]) -> Iterator[tuple[int, tuple[int, ...]]]:
        pieces = 1 if self.policy.one_pass else math.ceil(len(ids) / _PIECE)
        size = math.ceil(len(ids) / pieces)  # even, or the last might be short enough to be read sparsely
        for start in range(0, len(ids), size):
            stop_if_cancelled()
            yield start, ids[start : start + size]

    def _fit(self, context: EncodedContext) -> None:
        """Give a context sparse attention of its own."""
        if self._applied is None or self._attention is None or context.cache is None:
            return
        method = copy.deepcopy(self._attention)
        self._applied.method = method
        self._applied.fit(context.cache)
        context.attention = method

    # -- texts ----------------------------------------------------------------------------------

    def begin(self, context: EncodedContext, rest: Sequence[int]) -> Continuation:
        """A text that begins with a context; at least one token comes after it."""
        if not rest:
            raise InputError("A text has at least one token after its context.")
        with self._lock:
            self.store.shrink()
        return Continuation(context, list(rest))

    def shared(self, text: Continuation) -> int:
        """How many of the tokens after the context were read for the text before this one."""
        with self._lock:
            return min(common_length(text.context.tail, text.rest), len(text.rest) - 1) if self._full else 0

    def logits(self, text: Continuation) -> Tensor:
        """What comes next, (V,) in float32, from all tokens of the text. Reads only those that were not read yet.

        Texts of one context may take turns: one that finds another's tokens in the cache reads its own again, from
        where the two differ.
        """
        context = text.context
        with self._lock, torch.inference_mode():
            cache = self._awake(context) if self._full else self._own_cache(text)
            if context.owner is not text:
                common = common_length(context.tail, text.rest)
                context.tail, context.owner = context.tail[:common], text
            del context.tail[len(text.rest) - 1 :]  # the last token is read in any case
            if self._full:
                cache.crop(context.kept + len(context.tail))
            with self._asking(context):
                return self._feed(text, cache)

    def _feed(self, text: Continuation, cache: Any) -> Tensor:
        context, logits = text.context, None
        while (done := len(context.tail)) < len(text.rest):
            stop_if_cancelled()
            piece = text.rest[done : done + _PIECE]
            logits = self._forward(piece, len(context.ids) + done, cache)
            context.tail += piece
        if logits is None:
            raise RuntimeError("nothing to read")
        return logits

    def _awake(self, context: EncodedContext) -> Any:
        if not context.ids:
            context.cache = context.cache or DynamicCache(config=self.model.config)
            return context.cache
        cache = context.wake(self.policy.bits)
        if self._applied is not None and context.attention is None:  # it comes from a file
            self._fit(context)
        return cache

    def _own_cache(self, text: Continuation) -> Any:
        """A cache that cannot be cut: a new one, unless it holds the beginning of this very text."""
        context = text.context
        if context.cache is None or context.owner is not text or len(context.tail) >= len(text.rest):
            context.cache, context.tail, context.owner = DynamicCache(config=self.model.config), [], text
        return context.cache

    @contextmanager
    def _asking(self, context: EncodedContext) -> Iterator[None]:
        if self._applied is not None:
            method = context.attention or self._attention
            if method is not None and self._applied.method is not method:
                self._applied.method.restart()
                self._applied.method = method
        with self.policy.asking(self.model, context.state):
            yield

    def _forward(self, ids: Sequence[int], position: int, cache: Any) -> Tensor:
        """Read tokens at positions from ``position`` on; the logits after the last, (V,)."""
        tokens = torch.tensor([list(ids)], dtype=torch.int64, device=self.device)  # (1, N)
        positions = torch.arange(position, position + len(ids), device=self.device)[None]  # (1, N)
        output = self.model(
            input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True, **self._last_only
        )
        logits: Tensor = output.logits[0, -1].float()
        return logits


def _attends_to_all(model: PreTrainedModel) -> bool:
    """Whether every layer attends to all tokens before, so that a context can be cut and kept."""
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return kinds == {"full_attention"} and window is None


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))


def _bytes(layers: list[tuple[Tensor, Tensor]], ids: tuple[int, ...]) -> int:
    """What all keys and values of these tokens take as the model has them."""
    return sum(
        states.shape[0] * states.shape[1] * len(ids) * states.shape[3] * states.element_size()
        for layer in layers
        for states in layer
    )
