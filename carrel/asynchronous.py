"""The async face of a library: each call is the synchronous one on a thread, so the logic is written once."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, TypeVar, Unpack

    from carrel.pipeline import AskOptions, ContextOptions, SearchOptions
    from carrel.retrieval.ingest import Source
    from carrel.retrieval.progress import ProgressCallback
    from carrel.types import Answer, Context, Event, IngestReport, Passage

    P = ParamSpec("P")
    R = TypeVar("R")


async def _thread(call: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
    """Run a call on a thread; asyncio is imported only where it is used."""
    import asyncio

    return await asyncio.to_thread(call, *arguments, **keywords)


class AsyncLibrary(ABC):
    """Methods that do not block the event loop; each takes what its synchronous namesake takes."""

    # What the methods below stand on, defined by Library.
    add: Callable[..., IngestReport]
    sync: Callable[..., IngestReport]
    remove: Callable[..., tuple[str, ...]]
    search: Callable[..., list[Passage]]
    context: Callable[..., Context]
    ask: Callable[..., Answer]
    stream: Callable[..., Iterator[Event]]

    async def aadd(
        self, sources: Source | Iterable[Source], *, dry_run: bool = False, progress: ProgressCallback | None = None
    ) -> IngestReport:
        """``add`` on a thread."""
        return await _thread(self.add, sources, dry_run=dry_run, progress=progress)

    async def async_(
        self, folder: str | Path, *, dry_run: bool = False, progress: ProgressCallback | None = None
    ) -> IngestReport:
        """``sync`` on a thread (the underscore is there because ``async`` is a keyword)."""
        return await _thread(self.sync, folder, dry_run=dry_run, progress=progress)

    async def aremove(self, ids: str | Iterable[str], *, purge: bool = False) -> tuple[str, ...]:
        """``remove`` on a thread."""
        return await _thread(self.remove, ids, purge=purge)

    async def asearch(self, question: str, **options: Unpack[SearchOptions]) -> list[Passage]:
        """``search`` on a thread."""
        return await _thread(self.search, question, **options)

    async def acontext(self, question: str, **options: Unpack[ContextOptions]) -> Context:
        """``context`` on a thread."""
        return await _thread(self.context, question, **options)

    async def aask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """``ask`` on a thread."""
        return await _thread(self.ask, question, **options)

    async def astream(self, question: str, **options: Unpack[AskOptions]) -> AsyncIterator[Event]:
        """``stream``, each event produced on a thread; stopping early stops the generator."""
        events = self.stream(question, **options)
        busy = threading.Lock()  # a generator that is running cannot be closed

        def advance() -> Event | None:
            with busy:
                return next(events, None)

        def close() -> None:
            with busy:
                if isinstance(events, Generator):
                    events.close()

        try:
            while (event := await _thread(advance)) is not None:
                yield event
        finally:
            if busy.locked():  # cancelled in the middle of an event: closed as soon as that one has come
                asyncio.get_running_loop().run_in_executor(None, close)
            else:
                close()
