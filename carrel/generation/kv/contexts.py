"""Contexts that were read once: in memory under a limit, and in files that a restart finds again."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from carrel.errors import CarrelError, StoredContextError
from carrel.generation.kv.base import SparseAttention
from carrel.generation.kv.caches import ContextCache, GrowingLayer, QuantisedLayer
from carrel.generation.kv.context_files import ContextRecord, load_context, save_context, sweep
from carrel.generation.kv.quantisation import Packed

logger = logging.getLogger(__name__)
_NAME = re.compile(r"[0-9a-f]{40}\.safetensors")
Layers = list[tuple[Packed, Packed]]


@dataclass(eq=False)
class EncodedContext:
    """What a model keeps of a text that it has read.

    Attributes
    ----------
    ids : the tokens that were read; the next one has position ``len(ids)``, however few keys were kept.
    packed : keys and values of each layer as a file had them; None once they are in ``cache``.
    cache : ready for questions; None before the first one.
    kept : keys of a head.
    state, hidden : of the policy (KVPolicy).
    prefill_s : seconds that the reading took. load_s : seconds that its file took, where it came from one.
    dense_bytes : of all keys and values as the model has them.
    tail : the tokens that the cache holds after the context, of the question asked last.
    owner : the unfinished text whose tail that is; None where nobody needs it any more.
    attention : sparse attention fitted to this context.
    """

    ids: tuple[int, ...]
    kept: int
    packed: Layers | None
    cache: ContextCache | DynamicCache | None
    state: dict[str, Tensor]
    hidden: int
    prefill_s: float
    dense_bytes: int
    tail: list[int] = field(default_factory=list)
    owner: object = None
    attention: SparseAttention | None = None
    load_s: float = 0.0

    @property
    def size_bytes(self) -> int:
        """Memory of all that the context keeps: whole buffers with the room in them, masks, what an attention knows."""
        return held_bytes(self.cache, self.packed, self.state, self.attention)

    @property
    def kept_bytes(self) -> int:
        """The same without what questions have left in the cache and the room for more of them."""
        cache = self.cache.bytes_of(self.kept) if isinstance(self.cache, ContextCache) else 0
        return cache + held_bytes(self.packed, self.state, self.attention)

    def wake(self, bits: int | None) -> ContextCache | DynamicCache:
        """The cache for questions. ``bits``: in which they are computed; None: as the model has its numbers."""
        if self.cache is None:
            layers = self.packed or []
            if bits is None:
                self.cache = ContextCache([GrowingLayer(keys.unpack(), values.unpack()) for keys, values in layers])
            else:
                self.cache = ContextCache([QuantisedLayer(keys, values) for keys, values in layers])
            self.packed, self.tail, self.owner = None, [], None
        return self.cache


def held_bytes(*things: object) -> int:
    """Memory of all tensors in these objects of Carrel's, each storage once and whole."""
    storages: dict[int, int] = {}
    seen: set[int] = set()
    waiting: list[Any] = list(things)
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, Tensor):
            storage = found.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(found, dict):
            waiting += found.values()
        elif isinstance(found, list | tuple):
            waiting += found
        elif type(found).__module__.startswith("carrel."):
            waiting += [getattr(found, name) for name in _attributes(found)]
    return sum(storages.values())


def alone(states: Tensor) -> Tensor:
    """The same, not as a part of something larger, which would stay in memory with it."""
    return states.clone() if states.untyped_storage().nbytes() > states.nbytes else states


def _attributes(found: object) -> list[str]:
    """Names of what an object holds in itself, in slots or not."""
    slots = [name for kind in type(found).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(found, name)]
    return [*getattr(found, "__dict__", {}), *slots]


class ContextStore:
    """Contexts by the tokens they begin with.

    Parameters
    ----------
    limit_bytes : of memory, of all contexts together; the least recently used go first.
    folder : where contexts are files, too; None for none.
    fingerprint, policy : of the model and of what it keeps, so that nothing else is ever taken for a context of it.
    bits : in which the policy computes; None: as the model has its numbers.
    device : where contexts are read to.
    """

    def __init__(
        self,
        limit_bytes: int,
        folder: Path | None,
        *,
        fingerprint: str,
        policy: str,
        bits: int | None,
        device: torch.device,
    ) -> None:
        self.limit_bytes, self.folder = limit_bytes, folder
        self.fingerprint, self.policy, self.bits, self.device = fingerprint, policy, bits, device
        self._contexts: list[EncodedContext] = []  # the least recently used first
        if folder is not None:
            sweep(folder)

    @property
    def size_bytes(self) -> int:
        """Memory of all contexts."""
        return sum(context.size_bytes for context in self._contexts)

    def __len__(self) -> int:
        return len(self._contexts)

    def find(self, ids: tuple[int, ...]) -> EncodedContext | None:
        """The context of exactly these tokens, from memory or from its file."""
        for context in self._contexts:
            if context.ids == ids:
                self._contexts.remove(context)
                self._contexts.append(context)
                return context
        return self._read(ids) if ids else None

    def add(self, context: EncodedContext, layers: Layers | None = None) -> None:
        """Keep a context, in a file where there is a folder; ``layers`` is what the file holds of it.

        A file that cannot be written is a warning: the context is there, only a restart will read it again.
        """
        self._hold(context)
        if self.folder is not None and layers:
            record = ContextRecord(
                ids=context.ids, layers=layers, state=context.state, policy=self.policy, fingerprint=self.fingerprint,
                prefill_s=context.prefill_s, dense_bytes=context.dense_bytes, hidden=context.hidden,
            )  # fmt: skip
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                save_context(self._path(context.ids), record)
            except (OSError, StoredContextError) as error:
                logger.warning("a context was not saved in %s: %s", self.folder, error)

    def shrink(self) -> None:
        """Drop contexts until the rest fit the limit; the newest stays as long as it is in use."""
        while len(self._contexts) > 1 and self.size_bytes > self.limit_bytes:
            del self._contexts[0]

    def clear(self) -> None:
        """Forget what is in memory; files stay."""
        self._contexts.clear()

    def forget(self, ids: tuple[int, ...] | None = None) -> int:
        """Forget one context or all, their files, too, whatever model or policy they are of; how many files went."""
        self._contexts = [] if ids is None else [context for context in self._contexts if context.ids != ids]
        if self.folder is None or not self.folder.is_dir():
            return 0
        files = [path for path in self.folder.glob("*.safetensors") if _NAME.fullmatch(path.name)]
        if ids is not None:
            files = [path for path in files if path == self._path(ids)]
        for path in files:
            path.unlink(missing_ok=True)
        return len(files)

    def _hold(self, context: EncodedContext) -> None:
        self._contexts.append(context)
        self.shrink()

    def _path(self, ids: tuple[int, ...]) -> Path:
        digest = hashlib.sha256(f"{self.fingerprint}\n{self.policy}\n".encode())
        digest.update(torch.tensor(ids, dtype=torch.int64).numpy().tobytes())
        return Path(self.folder or ".") / f"{digest.hexdigest()[:40]}.safetensors"

    def _read(self, ids: tuple[int, ...]) -> EncodedContext | None:
        """From the file; a damaged one is a warning, and the context is read anew."""
        if self.folder is None or not (path := self._path(ids)).is_file():
            return None
        began = time.perf_counter()
        try:
            record = load_context(path, fingerprint=self.fingerprint, policy=self.policy, device=self.device)
        except (CarrelError, OSError) as error:
            logger.warning("%s; the text is read again", error)
            return None
        if record.ids != ids:  # no two contexts have had one name yet
            return None
        context = EncodedContext(
            ids, int(record.layers[0][0].shape[2]), record.layers, None,
            {name: alone(tensor) for name, tensor in record.state.items()},
            record.hidden, record.prefill_s, record.dense_bytes,
        )  # fmt: skip
        context.wake(self.bits)
        context.load_s = time.perf_counter() - began
        self._hold(context)
        return context
