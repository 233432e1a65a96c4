"""The adapters of a library's documents for one base model: found, trained where they are missing, put together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrel.errors import AdapterError, InputError, StoreReadOnlyError
from carrel.generation.transformers_engine import TransformersGenerator
from carrel.generation.vllm_engine import VLLMEngine
from carrel.inputs import check_kind
from carrel.memory.parametric.files import AdapterFiles, StoredAdapter, read_adapter
from carrel.memory.parametric.merging import SERVED_RANKS, Merged, merge
from carrel.memory.parametric.pairs import ReaderPairs
from carrel.memory.parametric.recipes import PARAMETRIC_RAG, Recipe, make_recipe

if TYPE_CHECKING:
    from carrel.library import Library
    from carrel.memory.parametric.lessons import Lesson
    from carrel.memory.parametric.pairs import PairMaker
    from carrel.memory.parametric.training import TrainingProgress

logger = logging.getLogger(__name__)


class DocumentAdapters:
    """Trains documents into adapters and merges those, one at a time; parameters as of ParametricGenerator.

    Attributes
    ----------
    files : where they are kept. lock : to hold, with that of the model, while something is trained or answered.
    """

    def __init__(
        self,
        library: Library,
        engine: TransformersGenerator,
        *,
        served: VLLMEngine | None = None,
        recipe: str | Recipe = PARAMETRIC_RAG,
        pairs: PairMaker | None = None,
        reconciled: bool = True,
        progress: Callable[[TrainingProgress], object] | None = None,
    ) -> None:
        from carrel.library import Library

        check_kind("a library", library, Library)
        check_kind("an engine", engine, TransformersGenerator)
        if engine.contexts is not None:
            raise InputError("an engine with contexts=... cannot carry adapters: what it keeps there knows none")
        if served is not None:
            _check_served(served, engine)
        self.library, self.engine, self.served = library, engine, served
        self.files, self._reconciles, self.progress = AdapterFiles(library), reconciled, progress
        self.wanted, self._pairs = make_recipe(recipe), pairs
        self._base = ""
        self._recipe: Recipe | None = None
        self._whole: set[str] = set()  # digests of adapters that were read
        self.lock = threading.RLock()

    @property
    def model(self) -> Any:
        """The base model."""
        return self.engine.loaded.runner.model

    @property
    def base(self) -> str:
        """The fingerprint of the base model."""
        from carrel.generation.kv.fingerprints import model_fingerprint

        with self.lock:
            if not self._base:
                self._base = model_fingerprint(self.model)
            return self._base

    @property
    def recipe(self) -> Recipe:
        """As it is for this model; see Recipe.fitted."""
        if self._recipe is None:
            self._recipe = self.wanted.fitted(sum(weight.numel() for weight in self.model.parameters()))
        return self._recipe

    @property
    def steps(self) -> int:
        """Passes that a merged set is trained for; 0 for the sum as it is."""
        return self.recipe.reconciled if self._reconciles else 0

    def sound(self, document_id: str) -> StoredAdapter | None:
        """The adapter of a document, read once to see that it is whole; a damaged one is none."""
        found = self.stored(document_id)
        if found is None or found.digest in self._whole:
            return found
        try:
            read_adapter(found, self.base)
        except AdapterError as error:
            found = self.stored(document_id)  # another process may have put a new one in its place
            try:
                if found is not None:
                    read_adapter(found, self.base)
            except AdapterError:
                logger.warning("the adapter of %r is left out: %s", document_id, error)
                return None
        if found is not None:
            self._whole.add(found.digest)
        return found

    def stored(self, document_id: str) -> StoredAdapter | None:
        """The adapter of a document as it is now; None where there is none, it is damaged, or its training was stopped.

        Raises
        ------
        DocumentNotFoundError : there is no such document.
        """
        try:
            found = self.files.find(document_id, self.base, self.recipe, self._taught)
        except AdapterError:
            return None
        return None if found is None or found.trained.get("stopped") else found

    def train(self, document_id: str) -> StoredAdapter:
        """Train the adapter of a document and keep it, in place of one that it has.

        Ctrl-C keeps what is trained, for ``AdapterFiles``, where there is no finished one, and is raised; no question
        is answered with it.

        Raises
        ------
        DocumentNotFoundError : there is no such document. InputError : it gives nothing to learn.
        StoreReadOnlyError : the library is open to be read.
        """
        from carrel.generation.kv.context_model import lock_of
        from carrel.memory.parametric.training import train

        if self.is_read_only:
            raise StoreReadOnlyError(
                "the library was opened read-only: its documents cannot be trained into adapters. Open it without"
                " read_only, or answer with missing='skip'."
            )
        content = self.files.content(document_id)
        with self.lock, lock_of(self.model):
            taught = self._lesson(document_id)
            trained = train(
                self.model, taught.own, self.recipe, others=taught.others, words=taught.words, progress=self.progress
            )
        stopped = bool(trained.figures["stopped"])
        if stopped and self.stored(document_id) is not None:
            raise KeyboardInterrupt
        name = self.engine.loaded.tokenizer.name
        stored = self.files.put(document_id, content, self.base, name, self.recipe, trained, self._taught)
        if stopped:
            raise KeyboardInterrupt
        return stored

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be kept."""
        return self.library._store.read_only

    @property
    def _taught(self) -> str:
        """What makes the questions: an adapter of other questions is another one."""
        made = self._pairs or ReaderPairs()
        return str(getattr(made, "name", "") or getattr(made, "__qualname__", type(made).__qualname__))

    def _lesson(self, document_id: str) -> Lesson:
        from carrel.memory.parametric.lessons import lesson

        document = self.library.document(document_id)
        pairs = (self._pairs or ReaderPairs())(document)
        return lesson(document, pairs, self.engine, self.recipe, self.served or self.engine)

    def merged(self, adapters: Sequence[StoredAdapter]) -> StoredAdapter:
        """A set of adapters as one in the library's folder, of a rank that vLLM takes; made where it is not there.

        Raises
        ------
        AdapterError : one is damaged or of another base model. DocumentNotFoundError : one's document has gone.
        """
        from carrel.generation.kv.context_model import lock_of

        ranks = [rank for rank in SERVED_RANKS if self.served is None or rank <= self.served.adapter_rank]
        kind = f"merged-{self.steps}" + (f"-{ranks[-1]}" if sum(one.rank for one in adapters) > ranks[-1] else "")
        with self.lock, lock_of(self.model):
            return self.files.put_merged(
                adapters, lambda: self.together(adapters, ranks), self.base, self.engine.loaded.tokenizer.name, kind
            )

    def together(self, adapters: Sequence[StoredAdapter], ranks: Sequence[int]) -> Merged:
        """The exact sum, with zeros up to such a rank; trained on all its documents where that is wanted."""
        summed = merge([read_adapter(adapter, self.base) for adapter in adapters], ranks=ranks)
        if not self.steps or len(adapters) < 2:
            return summed
        from carrel.memory.parametric.reconciling import reconcile

        lessons = [self._lesson(document) for adapter in adapters for document in adapter.documents]
        return reconcile(self.model, summed, lessons, self.recipe, self.progress)


def _check_served(served: object, engine: TransformersGenerator) -> None:
    """Raise InputError where a served model is none, takes no adapters, or is another one."""
    check_kind("served", served, VLLMEngine)
    assert isinstance(served, VLLMEngine)
    if served.adapter_rank < SERVED_RANKS[0]:
        raise InputError(
            f"{served!r} takes adapters up to rank {served.adapter_rank}: make it with adapter_rank=64, or what a"
            " merged set needs"
        )
    if Path(served.model).name != Path(engine.model).name:
        raise InputError(
            f"adapters are trained on {engine.model} here, and vLLM serves {served.model}: give both the same model"
        )
