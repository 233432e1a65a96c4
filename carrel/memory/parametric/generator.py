"""Answers with what documents were trained into: their adapters are merged into the model for one question."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from carrel.asynchronous import handed_over
from carrel.errors import InputError
from carrel.generation.base import Generator
from carrel.generation.transformers_engine import TransformersGenerator
from carrel.generation.vllm_engine import VLLMEngine
from carrel.inputs import check_flag, check_kind
from carrel.memory.parametric.files import AdapterFiles, StoredAdapter, read_adapter
from carrel.memory.parametric.merging import SERVED_RANKS, Merged, merge
from carrel.memory.parametric.recipes import PARAMETRIC_RAG, Recipe, make_recipe
from carrel.tokens import Tokenizer
from carrel.types import Completion, Event, Prompt, UsageEvent

if TYPE_CHECKING:
    from carrel.generation.chat import ChatGenerator
    from carrel.generation.kv.contexts import ContextStore
    from carrel.library import Library
    from carrel.memory.parametric.applying import Layers
    from carrel.memory.parametric.lessons import Lesson
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
    train_s: float = 0.0
    merge_s: float = 0.0
    cached: bool = False
    rank: int = 0
    layers: Layers | None = None
    folder: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Others for other adapters."""
        return tuple(f"{one.folder.parent.name}/{one.folder.name}" for one in self.adapters)

    def metrics(self) -> dict[str, float]:
        """For the ledger."""
        return {
            "adapters": len(self.adapters), "adapters_trained": self.trained, "adapters_missing": self.missing,
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
        from carrel.library import Library

        check_kind("a library", library, Library)
        check_kind("an engine", engine, TransformersGenerator)
        for name, value, known in (("mode", mode, get_args(Mode)), ("missing", missing, get_args(Missing))):
            if value not in known:
                raise InputError(f"{name} is one of {', '.join(known)}, not {value!r}")
        for name, number in (("most", most), ("cache_bytes", cache_bytes)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise InputError(f"{name} is a whole number above 0, not {number!r}")
        check_flag("reconciled", reconciled)
        if engine.contexts is not None:
            raise InputError("an engine with contexts=... cannot carry adapters: what it keeps there knows none")
        if served is not None:
            _check_served(served, engine)
        self.library, self.engine, self.mode, self.missing = library, engine, mode, missing
        self.served = served
        self.files, self._reconciles = AdapterFiles(library), reconciled
        self.most, self.cache_bytes, self.progress = most, cache_bytes, progress
        self._wanted, self._pairs = make_recipe(recipe), pairs
        self._base = ""
        self._recipe: Recipe | None = None
        self._merged: OrderedDict[tuple[str, ...], Layers] = OrderedDict()
        self._spoke_with: tuple[tuple[str, ...], ContextStore | None] = (), None
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"ParametricGenerator({self.engine!r}, recipe={self._wanted.name!r}, mode={self.mode!r})"

    # -- what it is -----------------------------------------------------------------------------

    @property
    def base(self) -> str:
        """The fingerprint of the base model."""
        from carrel.generation.kv.fingerprints import model_fingerprint

        with self._lock:
            if not self._base:
                self._base = model_fingerprint(self._model)
            return self._base

    @property
    def recipe(self) -> Recipe:
        """As it is for this model; see Recipe.fitted."""
        if self._recipe is None:
            self._recipe = self._wanted.fitted(sum(weight.numel() for weight in self._model.parameters()))
        return self._recipe

    @property
    def _steps(self) -> int:
        """That a merged set is trained on."""
        return self.recipe.reconciled if self._reconciles else 0

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
        return self.engine.loaded.runner.model

    def _sent(self, prompt: Prompt) -> Prompt:
        return prompt if self.mode == "combine" else replace(prompt, passages=())

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

        with self._lock, lock_of(self._model):
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
        with self._lock, lock_of(self._model), self._speaking(carried):
            yield self.engine

    def _carried(self, prompt: Prompt) -> _Carried:
        """The adapters of the documents of a prompt's passages; those missing are trained, or left out."""
        carried = _Carried()
        for document in list(dict.fromkeys(passage.document_id for passage in prompt.passages))[: self.most]:
            found = self.stored(document)
            if found is None and self.missing == "skip":
                carried.missing += 1
                continue
            if found is None:
                began = time.perf_counter()
                found = self.train(document)
                carried.trained += 1
                carried.train_s += time.perf_counter() - began
            carried.adapters.append(found)
        return carried

    def stored(self, document_id: str) -> StoredAdapter | None:
        """The adapter of a document as it is now; None where there is none, or its training was stopped.

        Raises
        ------
        DocumentNotFoundError : there is no such document. AdapterError : the adapter's note is damaged.
        """
        found = self.files.find(document_id, self.base, self.recipe)
        return None if found is None or found.trained.get("stopped") else found

    def train(self, document_id: str) -> StoredAdapter:
        """Train the adapter of a document and keep it, in place of one that it has.

        Ctrl-C keeps what is trained, for ``AdapterFiles``, and is raised; no question is answered with it.

        Raises
        ------
        DocumentNotFoundError : there is no such document. InputError : it gives nothing to learn.
        """
        from carrel.generation.kv.context_model import lock_of
        from carrel.memory.parametric.training import train

        content = self.files.content(document_id)
        with self._lock, lock_of(self._model):
            taught = self._lesson(document_id)
            trained = train(self._model, taught.own, self.recipe, others=taught.others, progress=self.progress)
        name = self.engine.loaded.tokenizer.name
        stored = self.files.put(document_id, content, self.base, name, self.recipe, trained)
        if trained.figures["stopped"]:
            raise KeyboardInterrupt
        return stored

    def _lesson(self, document_id: str) -> Lesson:
        from carrel.memory.parametric.lessons import lesson
        from carrel.memory.parametric.pairs import ReaderPairs

        document = self.library.document(document_id)
        return lesson(document, (self._pairs or ReaderPairs())(document), self.engine, self.recipe, self.speaker)

    def merged(self, adapters: Sequence[StoredAdapter]) -> StoredAdapter:
        """A set of adapters as one in the library's folder, of a rank that vLLM takes; made where it is not there.

        Raises
        ------
        AdapterError : one is damaged or of another base model. DocumentNotFoundError : one's document has gone.
        """
        from carrel.generation.kv.context_model import lock_of

        ranks = [rank for rank in SERVED_RANKS if self.served is None or rank <= self.served.adapter_rank]
        kind = f"merged-{self._steps}" + (f"-{ranks[-1]}" if sum(one.rank for one in adapters) > ranks[-1] else "")
        with self._lock, lock_of(self._model):
            return self.files.put_merged(
                adapters, lambda: self._together(adapters, ranks), self.base, self.engine.loaded.tokenizer.name, kind
            )

    def _together(self, adapters: Sequence[StoredAdapter], ranks: Sequence[int]) -> Merged:
        """The exact sum, with zeros up to such a rank; trained on all its documents where that is wanted."""
        summed = merge([read_adapter(adapter, self.base) for adapter in adapters], ranks=ranks)
        if not self._steps or len(adapters) < 2:
            return summed
        from carrel.memory.parametric.reconciling import reconcile

        lessons = [self._lesson(document) for adapter in adapters for document in adapter.documents]
        return reconcile(self._model, summed, lessons, self.recipe, self.progress)

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

        if self._steps and len(adapters) > 1:
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


def _check_served(served: object, engine: TransformersGenerator) -> None:
    """Raise InputError where a served model is none, takes no adapters, or is another one."""
    check_kind("served", served, VLLMEngine)
    assert isinstance(served, VLLMEngine)
    if not served.adapter_rank:
        raise InputError(f"{served!r} takes no adapters: make it with adapter_rank=64, or what a merged set needs")
    if Path(served.model).name != Path(engine.model).name:
        raise InputError(
            f"adapters are trained on {engine.model} here, and vLLM serves {served.model}: give both the same model"
        )
