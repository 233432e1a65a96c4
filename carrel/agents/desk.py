"""Does what flows ask for: the one place where agents touch models, libraries and documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrel.agents.base import Ask, Bind, Embed, Fit, Read, Request, Retrieve, Score
from carrel.agents.fitting import fit
from carrel.errors import InputError
from carrel.generation.answering import check_generator
from carrel.inputs import check_kind
from carrel.modes import make_mode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from carrel.embeddings.base import TextEncoder
    from carrel.generation.base import Generator
    from carrel.library import Library
    from carrel.retrieval.reranking import Reranker
    from carrel.types import Passage


class Desk:
    """A generator, and a library where a flow needs one.

    Parameters
    ----------
    generator : answers asks; the embedded reader as worker (carrel.agents.reader_worker) by default.
    library : answers retrievals; without one, they are errors.
    mode : which models score and bind: "balanced" or "thorough" the reader, "fast" embeddings and rules; by default
        that of the library, or "balanced".
    """

    def __init__(self, generator: Generator | None = None, library: Library | None = None, mode: str = "") -> None:
        from carrel.library import Library as LibraryClass

        check_kind("a library", library, LibraryClass)
        self.library = library
        self.mode = make_mode(mode or (library.mode if library else "balanced")).name
        if generator is None:
            from carrel.agents.reader_worker import ReaderWorker

            generator = ReaderWorker()
        self.generator = check_generator(generator)
        self._reranker: Reranker | None = None
        self._encoder: TextEncoder | None = None

    @property
    def name(self) -> str:
        """Who answers, scores and binds: what a journal keeps replies under."""
        return f"{self.generator.name} {getattr(self.generator, 'model', None) or ''} {self.mode}"

    def perform(self, request: Request) -> Any:
        """The reply to a request other than an Ask, which the driver puts to the generator."""
        if isinstance(request, Retrieve):
            return self._retrieve(request)
        if isinstance(request, Read):
            return self._needed("read a document").document(request.document_id)
        if isinstance(request, Fit):
            return fit(request, self.generator)
        if isinstance(request, Score):
            return self._score(request)
        if isinstance(request, Embed):
            return self._embed(request)
        if isinstance(request, Bind):
            return self._bind(request)
        assert isinstance(request, Ask)
        raise InputError("an Ask is put to the generator")

    def _needed(self, purpose: str) -> Library:
        if self.library is None:
            raise InputError(f"this flow wants to {purpose}: give the driver a library=, as carrel.open makes them")
        return self.library

    def _retrieve(self, request: Retrieve) -> tuple[Passage, ...]:
        library, mode = self._needed(f"search for {request.query!r:.60}"), request.mode or self.mode
        if request.budget is None:
            return tuple(library.search(request.query, limit=request.limit, where=request.where, mode=mode))
        return library.context(request.query, budget=request.budget, where=request.where, mode=mode).passages

    def _score(self, request: Score) -> tuple[float, ...]:
        if not request.passages:
            return ()
        if self.mode == "fast":
            texts = tuple(passage.text for passage in request.passages)
            query, vectors = self._embed(Embed((request.question,), queries=True)), self._embed(Embed(texts))
            return tuple(float(min(1.0, max(0.0, score))) for score in vectors @ query[0])
        if self._reranker is None:
            from carrel.reader.methods import ReaderReranker, shipped_reader

            self._reranker = ReaderReranker(shipped_reader())
        return tuple(map(float, self._reranker.checked_scores(request.question, request.passages)))

    def _embed(self, request: Embed) -> NDArray[np.float32]:
        from carrel.embeddings.base import TextEncoder

        if self._encoder is None:
            own = self.library.encoder if self.library else None
            if not isinstance(own, TextEncoder):
                from carrel.embeddings.minilm import MiniLM

                own = MiniLM()
            self._encoder = own
        texts = list(request.texts)
        return self._encoder.encode_queries(texts) if request.queries else self._encoder.encode_texts(texts)

    def _bind(self, request: Bind) -> Any:
        from carrel.generation.binding import bind
        from carrel.generation.rules import RuleVerifier
        from carrel.generation.verification import Verifier

        verifier: Verifier = RuleVerifier()
        if make_mode(self.mode).depth:
            from carrel.reader.verifier import ReaderVerifier

            verifier = ReaderVerifier()
        return bind(request.text, request.passages, request.question or None, verifier)
