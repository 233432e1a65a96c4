"""A model that reads a context once and then any number of texts after it, token by token."""

from __future__ import annotations

import copy
import inspect
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from carrel.asynchronous import stop_if_cancelled
from carrel.errors import GenerationError, InputError
from carrel.generation.kv.application import Applied, apply, is_applied
from carrel.generation.kv.base import SparseAttention
from carrel.generation.kv.caches import ContextCache, GrowingLayer, QuantisedLayer, Tail, put_tail, tail_of
from carrel.generation.kv.contexts import ContextStore, EncodedContext, Layers, alone
from carrel.generation.kv.fingerprints import model_fingerprint
from carrel.generation.kv.policies import Everything, KVPolicy
from carrel.generation.kv.quantisation import pack_keys, pack_values

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOCKS: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()  # a model's hooks are its own
_PIECE = 2048  # tokens read at once, where a policy lets a context be read in pieces


@dataclass(eq=False)
class Continuation:
    """A text in progress: the context that it begins with, and the tokens after that.

    ``aside`` are its keys and values behind the context while another text has its turn, ``read`` how many tokens they
    are of; ``cache`` is its own where the model's caches cannot be cut.
    """

    context: EncodedContext
    rest: list[int]
    aside: Tail | None = None
    read: int = 0
    cache: Any = None


class ContextModel:
    """Runs a causal model over contexts that stay and texts that follow them.

    Several threads may share it, and several of these one model: they take turns, token by token; a context is read in
    one turn.

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
        check_kind(model)
        if is_applied(model) and attention is None:
            raise InputError("This model's attention is sparse now: close the generator that made it so first.")
        self._full = attends_to_all(model)
        if not self._full and (attention is not None or not isinstance(self.policy, Everything) or folder is not None):
            raise InputError(
                f"{type(model).__name__} has layers with a sliding window, which lose what they have read, or rotary"
                " frequencies that change with the length: its contexts cannot be kept, compressed or read sparsely."
            )
        self._attention = attention
        self._applied: Applied | None = None if attention is None else apply(model, attention)
        parameters = inspect.signature(model.forward).parameters
        self._last_only: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._takes_positions = "position_ids" in parameters
        reading = "" if attention is None else attention.prefill_label
        label = " ".join(part for part in (self.policy.label, f"in {self._bits}", reading) if part)
        fingerprint = model_fingerprint(model) if folder is not None else ""
        self._make_store: Callable[[], ContextStore] = lambda: ContextStore(
            limit_bytes, folder, fingerprint=fingerprint, policy=label, bits=self.policy.bits, device=self.device
        )
        self.store = self._make_store()
        self._lock = lock_of(model)
        self._is_closed = False

    @property
    def device(self) -> torch.device:
        """Where the tokens go in."""
        weight: Any = self.model.get_input_embeddings().weight
        device: torch.device = weight.device
        return device

    def close(self) -> None:
        """Forget the contexts in memory, and give the model its own attention back."""
        with self._lock:
            self._is_closed = True
            self.store.clear()
            if self._applied is not None:
                self._applied.remove()
                self._applied = None

    # -- contexts -------------------------------------------------------------------------------

    @contextmanager
    def changed(self, store: ContextStore | None = None) -> Iterator[ContextStore]:
        """While the model has other weights: what it keeps of its contexts is apart, in a store of these weights.

        Parameters
        ----------
        store : that an earlier such block gave; a new one by default. There are no files in it.
        """
        with self._lock:
            if store is None:
                store = self._make_store()
                store.folder = None
            usual, self.store = self.store, store
            try:
                yield store
            finally:
                self.store = usual

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

    def forget(self, ids: tuple[int, ...] | None = None) -> int:
        """Forget a context, or all, in memory and in files; how many files went."""
        with self._lock:
            return self.store.forget(ids)

    def _read(self, ids: tuple[int, ...]) -> tuple[EncodedContext, Layers]:
        began = time.perf_counter()
        if not ids:
            return EncodedContext((), 0, None, None, {}, 0, 0.0, 0, attention=copy.deepcopy(self._attention)), []
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
            if self.policy.bits is None:  # rounded as a restart will find them
                whole = [(keys.unpack(), values.unpack()) for keys, values in layers] if layers else kept
                context.cache = ContextCache([GrowingLayer(keys, values) for keys, values in whole])
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
        """A text that begins with a context; at least one token comes after it. ``end`` it."""
        if not rest:
            raise InputError("A text has at least one token after its context.")
        with self._lock:
            self.store.shrink()
        return Continuation(context, list(rest))

    def end(self, text: Continuation) -> None:
        """Nothing more is asked of a text: the next one takes its place, and what both begin with."""
        with self._lock:
            text.aside = text.cache = None
            if text.context.owner is text:
                text.context.owner = None

    def shared(self, text: Continuation) -> int:
        """How many of the tokens after the context were read for the text before this one."""
        with self._lock:
            return min(common_length(text.context.tail, text.rest), len(text.rest) - 1) if self._full else 0

    def logits(self, text: Continuation) -> Tensor:
        """What comes next, (V,) in float32, from all tokens of the text. Reads only those that were not read yet.

        Texts of one context may take turns: the keys and values of the others stand aside meanwhile.

        Raises
        ------
        GenerationError : the model was closed.
        """
        with self._lock, torch.inference_mode():
            if self._is_closed:
                raise GenerationError("the model was closed while it wrote a reply")
            if not self._full:
                return self._logits_alone(text)
            context, cache = text.context, self._awake(text.context)
            if context.owner is not text:
                self._take_turn(text, cache)
            del context.tail[len(text.rest) - 1 :]  # the last token is read in any case
            cache.crop(context.kept + len(context.tail))
            logits = None
            with self._asking(context):
                while (done := len(context.tail)) < len(text.rest):
                    stop_if_cancelled()
                    piece = text.rest[done : done + _PIECE]
                    logits = self._forward(piece, len(context.ids) + done, cache)
                    context.tail += piece
            if logits is None:
                raise RuntimeError("nothing to read")
            return logits

    def _take_turn(self, text: Continuation, cache: Any) -> None:
        """Set the tail of an unfinished text aside, and put this one's in its place."""
        context = text.context
        if isinstance(context.owner, Continuation):
            cache.crop(context.kept + len(context.tail))
            context.owner.aside, context.owner.read = tail_of(cache, context.kept), len(context.tail)
        if text.aside is not None:
            cache.crop(context.kept)
            put_tail(cache, text.aside)
            context.tail, text.aside = text.rest[: text.read], None
        else:
            context.tail = context.tail[: common_length(context.tail, text.rest)]
        context.owner = text
        if context.attention is not None:
            context.attention.restart()

    def _logits_alone(self, text: Continuation) -> Tensor:
        """With a cache that cannot be cut, which is the text's own."""
        if text.cache is None or text.read >= len(text.rest):
            text.cache, text.read = DynamicCache(config=self.model.config), 0
        cache, size = text.cache, _PIECE if _is_steady(self.model) else len(text.rest)
        text.cache, logits = None, None  # gone, should the model fail
        while text.read < len(text.rest):
            stop_if_cancelled()
            piece = text.rest[text.read : text.read + size]
            logits = self._forward(piece, text.read, cache)
            text.read += len(piece)
        text.cache = cache
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

    @contextmanager
    def _asking(self, context: EncodedContext) -> Iterator[None]:
        if self._applied is not None and context.attention is not None:
            self._applied.method = context.attention
        with self.policy.asking(self.model, context.state):
            yield

    def _forward(self, ids: Sequence[int], position: int, cache: Any) -> Tensor:
        """Read tokens at positions from ``position`` on; the logits after the last, (V,)."""
        tokens = torch.tensor([list(ids)], dtype=torch.int64, device=self.device)  # (1, N)
        places: dict[str, Tensor] = {}
        if self._takes_positions:
            places["position_ids"] = torch.arange(position, position + len(ids), device=self.device)[None]  # (1, N)
        output = self.model(input_ids=tokens, past_key_values=cache, use_cache=True, **places, **self._last_only)
        logits: Tensor = output.logits[0, -1].float()
        return logits


def lock_of(model: PreTrainedModel) -> Any:
    """The lock to hold while a model computes, whoever else has it."""
    return _LOCKS.setdefault(model, threading.RLock())


def check_kind(model: PreTrainedModel) -> None:
    """Raise InputError where a model keeps something else of what it has read than keys and values."""
    kinds = set(getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ())
    other = sorted(kinds - {"full_attention", "sliding_attention", "chunked_attention"})
    takes_cache = "past_key_values" in inspect.signature(model.forward).parameters
    if other or not takes_cache or getattr(model, "_is_stateful", False):
        raise InputError(
            f"{type(model).__name__} has layers with a state of their own ({', '.join(other) or 'recurrent'}), which is"
            " not supported in this process. Run it behind a server, or with vLLM."
        )


def attends_to_all(model: PreTrainedModel) -> bool:
    """Whether every layer attends to all tokens before, so that a context can be cut and kept."""
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    return kinds == {"full_attention"} and window is None and takes_positions and _is_steady(model)


def _is_steady(model: PreTrainedModel) -> bool:
    """Whether a token's rotation is the same however long the text gets."""
    return not any(getattr(module, "rope_type", "") in ("dynamic", "longrope") for module in model.modules())


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
