"""Does what flows ask for: the one place where agents touch models, libraries and documents."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from carrel.agents.base import Ask, Bind, Call, Embed, Fit, Pack, Read, Request, Retrieve, Score
from carrel.agents.codec import digest
from carrel.agents.fitting import fit
from carrel.agents.packing import pack
from carrel.agents.signatures import Result, Tool
from carrel.embeddings.base import TextEncoder
from carrel.errors import InputError
from carrel.generation.answering import check_generator
from carrel.inputs import check_kind
from carrel.modes import make_mode

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from carrel.compression.base import Pruner
    from carrel.generation.base import Generator
    from carrel.library import Library
    from carrel.options import ContextOptions
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
    tools : answer calls; by default those of the library.
    """

    def __init__(
        self,
        generator: Generator | None = None,
        library: Library | None = None,
        mode: str = "",
        tools: Iterable[Tool] | None = None,
    ) -> None:
        from carrel.library import Library as LibraryClass

        check_kind("a library", library, LibraryClass)
        self.library = library
        self.mode = make_mode(mode or (library.mode if library else "balanced")).name
        if generator is None:
            from carrel.agents.reader_worker import ReaderWorker

            generator = ReaderWorker()
        self.generator = check_generator(generator)
        given = library.as_tools() if tools is None and library is not None else tools or ()
        self.tools = _by_name(given)
        self._reranker: Reranker | None = None
        self._encoder: TextEncoder | None = None

    @property
    def name(self) -> str:
        """Who answers, scores and binds: what a journal keeps replies under."""
        return f"{self.generator.name} {getattr(self.generator, 'model', None) or ''} {self.mode}"

    def source(self, request: Request) -> str:
        """What a reply is drawn from besides its request: the documents of the library, or what encodes texts."""
        if self.library is None:
            return ""
        if isinstance(request, (Retrieve, Read)):
            return self._state
        encoder = self.library.encoder
        is_encoded = isinstance(request, Embed) and isinstance(encoder, TextEncoder)
        return f"encoder:{digest(encoder.fingerprint)}" if is_encoded else ""

    @cached_property
    def _state(self) -> str:
        """A fingerprint of the library, as it was when the run first asked for it."""
        assert self.library is not None
        documents = [(info.id, info.characters, info.added_at) for info in self.library.documents()]
        return f"library:{digest([self.library.encoder.fingerprint, sorted(documents)])}"

    def perform(self, request: Request) -> Any:
        """The reply to a request other than an Ask, which the driver puts to the generator."""
        if isinstance(request, Retrieve):
            return self._retrieve(request)
        if isinstance(request, Pack):
            return pack(request, self.generator.tokenizer, None if self.mode == "fast" else self._pruner)
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
        if isinstance(request, Call):
            return self._call(request)
        assert isinstance(request, Ask)
        raise InputError("an Ask is put to the generator")

    def _needed(self, purpose: str) -> Library:
        if self.library is None:
            raise InputError(f"this flow wants to {purpose}: give the driver a library=, as carrel.open makes them")
        return self.library

    def _retrieve(self, request: Retrieve) -> tuple[Passage, ...]:
        library, mode = self._needed(f"search for {request.query!r:.60}"), request.mode or self.mode
        where, retriever = request.where, request.retriever or None
        if request.budget is not None:
            options: ContextOptions = {"where": where, "mode": mode, "retriever": retriever, "budget": request.budget}
            return library.context(request.query, **options).passages
        return tuple(library.search(request.query, limit=request.limit, where=where, mode=mode, retriever=retriever))

    @cached_property
    def _pruner(self) -> Pruner:
        from carrel.reader.methods import ReaderPruner

        return ReaderPruner()

    def _call(self, request: Call) -> Result:
        if request.tool not in self.tools:
            raise InputError(f"this flow calls the tool {request.tool!r}: give the driver tools= that have it")
        return self.tools[request.tool].result(request.arguments)

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


def _by_name(tools: Iterable[Tool]) -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    if isinstance(tools, (str, Tool)):
        raise InputError(f"tools is a list of tools, such as library.as_tools(), not {tools!r:.80}")
    for tool in tools:
        check_kind("a tool", tool, Tool)
        if tool.name in found:
            raise InputError(f"two tools have the name {tool.name!r}")
        found[tool.name] = tool
    return found
