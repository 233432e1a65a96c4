"""Answers with what documents were trained into: their adapters are merged into the model for one question."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from carrel.asynchronous import handed_over
from carrel.errors import DocumentNotFoundError, InputError
from carrel.generation.base import Generator
from carrel.generation.transformers_engine import TransformersGenerator
from carrel.generation.vllm_engine import VLLMEngine
from carrel.inputs import check_flag
from carrel.memory.parametric.document_adapters import DocumentAdapters
from carrel.memory.parametric.files import AdapterFiles, StoredAdapter, read_adapter
from carrel.memory.parametric.merging import SERVED_RANKS, Merged, merge
from carrel.memory.parametric.recipes import PARAMETRIC_RAG, Recipe
from carrel.tokens import Tokenizer
from carrel.types import Completion, Event, Prompt, UsageEvent

if TYPE_CHECKING:
    from carrel.generation.chat import ChatGenerator
    from carrel.generation.kv.contexts import ContextStore
    from carrel.library import Library
    from carrel.memory.parametric.applying import Layers
    from carrel.memory.parametric.pairs import PairMaker
    from carrel.memory.parametric.training import TrainingProgress

Mode = Literal["combine", "closed"]
Missing = Literal["train", "skip"]
_AT_ONCE = 64  # prompts of many that are put to vLLM


@dataclass
class _Carried:
    """Which adapters a question is answered with, and what was done for it."""

    adapters: list[StoredAdapter] = field(default_factory=list)
    trained: int = 0
    missing: int = 0
    beyond: int = 0
    train_s: float = 0.0
    merge_s: float = 0.0
    cached: bool = False
    rank: int = 0
    layers: Layers | None = None
    folder: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Others for other adapters, and for those that were trained anew; the order of retrieval does not count."""
        return tuple(one.digest for one in self.adapters)

    def metrics(self) -> dict[str, float]:
        """For the ledger."""
        return {
            "adapters": len(self.adapters), "adapters_trained": self.trained, "adapters_missing": self.missing,
            "adapters_beyond": self.beyond,
            "adapters_known": min((float(one.trained.get("known", 1.0)) for one in self.adapters), default=0.0),
            "adapters_rank": self.rank, "adapters_cached": float(self.cached), "adapters_train_s": self.train_s,
            "adapters_merge_s": self.merge_s,
            "adapters_bytes": sum(adapter.size_bytes for adapter in self.adapters),
        }  # fmt: skip


class ParametricGenerator(Generator):
    """Answers with the adapters of the retrieved documents, merged into one. Needs ``carrel[torch]``.

    Which documents: those of the prompt's passages, the best first. A document whose text has changed is trained
    anew, for its old adapter went with the old text.

    Parameters
    ----------
    library : whose documents they are, and where the adapters are kept.
    engine : runs the base model, to train and, without ``served``, to answer; without ``contexts``, whose files know
        nothing of adapters.
    served : answers instead, many questions at once, each with its own documents. It was given the same model as
        ``engine``, and an ``adapter_rank``; a merged set of a higher rank is cut to that.
    recipe : of the adapters, by name or as it is; a published one is fitted to the size of the model.
    mode : ``combine``, passages in the prompt and adapters in the model, or ``closed``, adapters alone.
    missing : ``train`` an adapter that is not there (seconds to minutes, before the answer), or ``skip`` it.
    pairs : makes questions and answers of a document to train on; by default the reader does.
    reconciled : whether a merged set of several is trained on for the steps of the recipe, when it is first used
        (seconds); without, and where the recipe has none, it is the exact sum. What was reconciled is kept with the
        library and goes with any of its documents.
    most : adapters at once, at most. cache_bytes : of memory, for merged sets.
    progress : called while an adapter or a merged set is trained.

    Raises
    ------
    InputError : an argument is of no use. ModelError, AdapterError : as of the engine and the files, at an answer.
    """

    name: ClassVar[str] = "parametric"
    citation: ClassVar[str] = "Parametric Retrieval Augmented Generation, arXiv 2501.15915"

    def __init__(
        self,
        library: Library,
        engine: TransformersGenerator,
        *,
        served: VLLMEngine | None = None,
        recipe: str | Recipe = PARAMETRIC_RAG,
        mode: Mode = "combine",
        missing: Missing = "train",
        pairs: PairMaker | None = None,
        reconciled: bool = True,
        most: int = 5,
        cache_bytes: int = 2**28,
        progress: Callable[[TrainingProgress], object] | None = None,
    ) -> None:
        for name, value, known in (("mode", mode, get_args(Mode)), ("missing", missing, get_args(Missing))):
            if value not in known:
                raise InputError(f"{name} is one of {', '.join(known)}, not {value!r}")
        for name, number in (("most", most), ("cache_bytes", cache_bytes)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise InputError(f"{name} is a whole number above 0, not {number!r}")
        check_flag("reconciled", reconciled)
        self.adapters = DocumentAdapters(
            library, engine, served=served, recipe=recipe, pairs=pairs, reconciled=reconciled, progress=progress
        )
        self.engine, self.served, self.mode, self.missing = engine, served, mode, missing
        self.most, self.cache_bytes = most, cache_bytes
        self._merged: OrderedDict[tuple[str, ...], Layers] = OrderedDict()
        self._spoke_with: tuple[tuple[str, ...], ContextStore | None] = (), None

    def __repr__(self) -> str:
        return f"ParametricGenerator({self.engine!r}, recipe={self.adapters.wanted.name!r}, mode={self.mode!r})"

    # -- its adapters ---------------------------------------------------------------------------

    @property
    def files(self) -> AdapterFiles:
        """Where they are kept."""
        return self.adapters.files

    @property
    def base(self) -> str:
        """The fingerprint of the base model."""
        return self.adapters.base

    @property
    def recipe(self) -> Recipe:
        """As it is for this model; see Recipe.fitted."""
        return self.adapters.recipe

    def stored(self, document_id: str) -> StoredAdapter | None:
        """The adapter of a document as it is now; see DocumentAdapters.stored."""
        return self.adapters.stored(document_id)

    def train(self, document_id: str) -> StoredAdapter:
        """Train the adapter of a document and keep it; see DocumentAdapters.train."""
        return self.adapters.train(document_id)

    def merged(self, adapters: Sequence[StoredAdapter]) -> StoredAdapter:
        """A set of adapters as one, for vLLM; see DocumentAdapters.merged."""
        return self.adapters.merged(adapters)

    # -- what it is -----------------------------------------------------------------------------

    @property
    def speaker(self) -> ChatGenerator:
        """The one that answers."""
        return self.served or self.engine

    @property
    def context_window(self) -> int | None:  # type: ignore[override]
        return self.speaker.context_window

    @property
    def tokenizer(self) -> Tokenizer:
        return self.speaker.tokenizer

    def prompt_tokens(self, prompt: Prompt) -> int:
        return self.speaker.prompt_tokens(self._sent(prompt))

    def fixed_tokens(self, prompt: Prompt) -> int:
        return self.speaker.fixed_tokens(prompt)

    @property
    def _model(self) -> Any:
        return self.adapters.model

    def _sent(self, prompt: Prompt) -> Prompt:
        from carrel.memory.parametric.lessons import closed

        return prompt if self.mode == "combine" else closed(prompt)

    # -- answering ------------------------------------------------------------------------------

    def complete(self, prompt: Prompt) -> Completion:
        carried = self._gathered(prompt)
        with self._answering(carried) as speaker:
            completion = speaker.complete(self._sent(prompt))
        return replace(completion, metrics={**completion.metrics, **carried.metrics()})

    def complete_many(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """The replies to many prompts, in their order; vLLM computes them together, each with its adapters."""
        if self.served is None or len(prompts) < 2:
            return [self.complete(prompt) for prompt in prompts]
        with ThreadPoolExecutor(min(len(prompts), _AT_ONCE)) as pool:
            return list(pool.map(self.complete, prompts))

    def stream(self, prompt: Prompt) -> Iterator[Event]:
        """Text as it comes, then the (empty) citations, then usage. To stop reading stops the model.

        A model in this process speaks as fast as it can, however slowly it is read: it has these adapters in it, and
        whoever else asks it waits.
        """
        carried = self._gathered(prompt)

        def events() -> Iterator[Event]:
            with self._answering(carried) as speaker:
                for event in speaker.stream(self._sent(prompt)):
                    if isinstance(event, UsageEvent):
                        event = replace(event, metrics={**event.metrics, **carried.metrics()})
                    yield event

        yield from events() if self.served is not None else handed_over(events)

    def _gathered(self, prompt: Prompt) -> _Carried:
        """The adapters that a prompt is answered with, trained and merged where they are not there."""
        from carrel.generation.kv.context_model import lock_of

        with self.adapters.lock, lock_of(self._model):
            carried = self._carried(prompt)
            if carried.adapters:
                if self.served is None:
                    self._layers(carried)
                else:
                    self._put_together(carried)
            return carried

    @contextmanager
    def _answering(self, carried: _Carried) -> Iterator[Generator]:
        """What answers, with adapters in it."""
        from carrel.generation.kv.context_model import lock_of

        if self.served is not None:
            yield self.served if carried.folder is None else self.served.adapted(carried.folder)
            return
        with self.adapters.lock, lock_of(self._model), self._speaking(carried):
            yield self.engine

    def _carried(self, prompt: Prompt) -> _Carried:
        """The adapters of the documents of a prompt's passages; those missing are trained, or left out.

        Raises
        ------
        DocumentNotFoundError : in ``closed``, where no passage is of a document of the library.
        """
        carried = _Carried()
        documents = list(dict.fromkeys(passage.document_id for passage in prompt.passages))
        carried.beyond = max(0, len(documents) - self.most)
        unknown: DocumentNotFoundError | None = None
        for document in documents[: self.most]:
            try:
                found = self.adapters.sound(document)
                if found is None and self.missing == "train":
                    began = time.perf_counter()
                    found = self.train(document)
                    carried.trained += 1
                    carried.train_s += time.perf_counter() - began
            except DocumentNotFoundError as error:  # removed meanwhile, or nobody's
                found, unknown = None, error
            if found is None:
                carried.missing += 1
            else:
                carried.adapters.append(found)
        if unknown is not None and not carried.adapters and self.mode == "closed":
            raise unknown
        carried.adapters.sort(key=lambda one: one.digest)
        return carried

    # -- the model with a merged set in it ------------------------------------------------------

    @contextmanager
    def _speaking(self, carried: _Carried) -> Iterator[None]:
        """Keys and values that are computed meanwhile are of other weights: they serve these adapters alone."""
        from carrel.memory.parametric.applying import applied

        if not carried.adapters:
            yield
            return
        names, store = self._spoke_with
        with (
            self.engine.loaded.runner.changed(store if names == carried.names else None) as store,
            applied(self._model, self._layers(carried)),
        ):
            self._spoke_with = carried.names, store
            yield

    def _layers(self, carried: _Carried) -> Layers:
        """The merged set; from memory, where it was used not long ago."""
        if carried.layers is not None:
            return carried.layers
        found = self._merged.pop(carried.names, None)
        carried.cached = found is not None
        if found is None:
            began = time.perf_counter()
            found = self._merge(carried.adapters)
            carried.merge_s = time.perf_counter() - began
        carried.rank, carried.layers = found.rank, found
        self._merged[carried.names] = found
        while len(self._merged) > 1 and sum(each.size_bytes for each in self._merged.values()) > self.cache_bytes:
            self._merged.popitem(last=False)
        return found

    def _merge(self, adapters: Sequence[StoredAdapter]) -> Layers:
        from carrel.memory.parametric.applying import Layers

        if self.adapters.steps and len(adapters) > 1 and self.adapters.is_read_only:
            merged = self.adapters.together(adapters, SERVED_RANKS)
        elif self.adapters.steps and len(adapters) > 1:
            tensors, config = read_adapter(self.merged(adapters), self.base)
            merged = Merged(dict(tensors), config, int(config["r"]), exact=False)
        else:
            merged = merge([read_adapter(adapter, self.base) for adapter in adapters])
        return Layers.of(merged.tensors, merged.config, self.engine.loaded.runner.device)

    def _put_together(self, carried: _Carried) -> None:
        """The folder that a request to vLLM names."""
        assert self.served is not None
        (first, *rest), began = carried.adapters, time.perf_counter()
        if rest or first.rank > self.served.adapter_rank:
            first = self.merged(carried.adapters)
            carried.merge_s = time.perf_counter() - began
        carried.folder, carried.rank = first.folder, first.rank
