"""The async face: it says what the synchronous one says, blocks no loop, and can be left at any moment."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import carrel
from carrel.asynchronous import handed_over, on_thread, stop_if_cancelled
from carrel.embeddings.base import Vectors
from carrel.errors import DocumentNotFoundError, EmptyQuestionError, StoreClosedError
from carrel.generation.base import Generator
from carrel.testing import HashEncoder, WordTokenizer
from carrel.types import (
    Answer,
    Completion,
    Context,
    Document,
    Event,
    Ledger,
    Prompt,
    SourcesEvent,
    TextEvent,
    UsageEvent,
)

QUESTION = "When does the ferry leave?"
NO_LEDGER = Ledger("")
NO_WORK = ("as_tools",)  # nothing in it takes time
PUBLIC = [
    name
    for name, value in vars(carrel.Library).items()
    if inspect.isfunction(value) and name[0] != "_" and name not in NO_WORK
]
TWINS = {
    name: "async_folder" if name == "sync" else f"a{name}"
    for name in PUBLIC
    if not hasattr(vars(carrel.Library)[name], "__wrapped__")
}


@pytest.fixture
def library(tmp_path: Path) -> Iterator[carrel.Library]:
    """Two documents."""
    with carrel.open(tmp_path / "library", encoder=HashEncoder()) as library:
        library.add([Document("The ferry leaves at nine.", "ferry"), Document("Lamps burn all night.", "lamps")])
        yield library


class Slow(Generator):
    """Streams a word every so often, and says when it was closed."""

    name = "slow"

    def __init__(self, pause_s: float) -> None:
        self.pause_s, self.closed, self.running = pause_s, threading.Event(), threading.Event()

    @property
    def tokenizer(self) -> WordTokenizer:
        return WordTokenizer()

    def complete(self, prompt: Prompt) -> Completion:
        time.sleep(self.pause_s)
        return Completion("word")

    def stream(self, prompt: Prompt) -> Iterator[Event]:
        try:
            for number in range(1000):
                self.running.set()
                time.sleep(self.pause_s)
                yield TextEvent(str(number))
        finally:
            self.closed.set()


def untimed(value: object) -> object:
    """Without the times, which differ from call to call."""
    if isinstance(value, Answer):
        return replace(value, ledger=NO_LEDGER, context=untimed(value.context))
    if isinstance(value, (Context, UsageEvent)):
        return replace(value, ledger=NO_LEDGER)
    if isinstance(value, SourcesEvent):
        return SourcesEvent(untimed(value.context))  # type: ignore[arg-type]
    return value


async def test_it_says_what_the_synchronous_face_says(library) -> None:
    options = {"budget": 50, "order": "document"}
    assert await library.asearch(QUESTION, limit=1) == library.search(QUESTION, limit=1)
    assert untimed(await library.acontext(QUESTION, **options)) == untimed(library.context(QUESTION, **options))
    assert untimed(await library.aask(QUESTION, **options)) == untimed(library.ask(QUESTION, **options))
    events = [untimed(event) async for event in library.astream(QUESTION, **options)]
    assert events == [untimed(event) for event in library.stream(QUESTION, **options)]


async def test_adding_removing_and_sync(library, tmp_path: Path) -> None:
    assert (await library.aadd(Document("New.", "new"))).added == ("new",)
    assert (await library.aadd(Document("Newer.", "new"), dry_run=True)).planned
    assert await library.aremove("new") == ("new",)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("The anchor is heavy.")
    assert len((await library.async_folder(tmp_path / "files")).added) == 1
    assert (await library.aadd_text("A text.", id="text", title="Text", metadata={"n": 1})).added == ("text",)
    assert library.document("text").metadata == {"n": 1}


async def test_looking_and_looking_after(library, tmp_path: Path) -> None:
    assert await library.adocuments() == library.documents() != []
    assert [info.id for info in await library.adocuments(where={"id": "ferry"})] == ["ferry"]
    assert await library.adocument("ferry") == library.document("ferry")
    assert await library.awhy("ferry", QUESTION, budget=50) == library.why("ferry", QUESTION, budget=50)
    assert all(check.ok for check in await library.adoctor(repair=True))
    progress = []
    with carrel.open(tmp_path / "library", encoder=HashEncoder(seed=1)) as other:
        assert (await other.areindex(progress=progress.append)).embedded == 2
        assert progress and [info.id for info in other.documents()] == ["ferry", "lamps"]
        other.remove("lamps")
        await other.apurge()
        assert b"Lamps burn" not in (tmp_path / "library" / "carrel.db").read_bytes()


async def test_a_closed_library_says_so(library) -> None:
    library.close()
    await library.aclose()  # again: nothing to do
    for name in set(TWINS.values()) - {"aclose"}:
        first = {"aadd": ["x"], "aadd_text": ["x"], "async_folder": ["."], "aremove": ["x"], "adocument": ["x"]}
        arguments = first.get(name, ["x", "x"] if name == "awhy" else [])
        if name in ("asearch", "acontext", "aask", "astream"):
            arguments = [QUESTION]
        keywords = {"aadd_text": {"id": "x"}, "amemory": {"user": "x"}}.get(name, {})
        call = getattr(library, name)(*arguments, **keywords)
        with pytest.raises(StoreClosedError, match="was closed. Open it again with"):
            await (anext(call) if name == "astream" else call)


async def test_a_twin_follows_what_a_subclass_makes_of_it(tmp_path: Path) -> None:
    class Loud(carrel.Library):
        def document(self, id: str) -> Document:
            return Document(id.upper(), id)

    with Loud(tmp_path, encoder=HashEncoder()) as library:
        assert (await library.adocument("a")).text == "A"


async def test_errors_come_through(library) -> None:
    with pytest.raises(EmptyQuestionError):
        await library.aask("?")
    with pytest.raises(DocumentNotFoundError):
        await library.aremove("nothing")
    with pytest.raises(TypeError, match="colour"):
        await library.asearch(QUESTION, colour="red")
    with pytest.raises(EmptyQuestionError):
        await anext(library.astream("?"))


async def test_the_loop_is_not_blocked(library) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await library.aask(QUESTION, generator=Slow(0.2))
    ticking.cancel()
    assert ticks >= 5


async def test_many_at_once(library) -> None:
    answers = await asyncio.gather(*(library.aask(QUESTION) for _ in range(16)))
    assert {answer.text for answer in answers} == {library.ask(QUESTION).text}


async def test_leaving_a_stream_early_stops_the_generator(library) -> None:
    generator = Slow(0.0)
    stream = library.astream(QUESTION, generator=generator)
    async for event in stream:
        if isinstance(event, TextEvent):
            break
    await stream.aclose()
    assert generator.closed.wait(2)


async def test_cancelling_in_the_middle_of_an_event_is_a_cancellation(library) -> None:
    generator = Slow(1.0)

    async def read() -> None:
        async for _ in library.astream(QUESTION, generator=generator):
            pass

    task = asyncio.create_task(read())
    assert await asyncio.to_thread(generator.running.wait, 5)
    started = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - started < 0.5  # the loop does not wait for the event
    assert await asyncio.to_thread(generator.closed.wait, 5)


class Watched(HashEncoder):
    """Says when it embeds, and takes its time."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.at_work, self.slices = threading.Event(), 0

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        self.slices += 1
        if self.slices == 6:
            self.at_work.set()
        time.sleep(0.02)
        return super().encode_texts(texts)


def many() -> list[Document]:
    return [Document(f"Lamp {number} burns. " * 30, f"d{number}") for number in range(1500)]


def vectors_of(library: carrel.Library) -> int:
    """How many vectors the library holds, of whatever encoder."""
    with library._store.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM vectors").scalar() or 0)


async def cancelled(call: Coroutine[Any, Any, object], encoder: Watched) -> None:
    """Start a call, cancel it once it has embedded some, and wait for its thread to end."""
    task = asyncio.create_task(call)
    assert await asyncio.to_thread(encoder.at_work.wait, 20)
    started = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - started < 1  # at once, not when the thread has ended
    slices = -1
    while slices != encoder.slices:
        slices = encoder.slices
        await asyncio.sleep(0.3)


@pytest.mark.parametrize("given", [many, lambda: iter(many())], ids=["list", "iterator"])
async def test_cancelling_an_addition_stops_its_thread_and_keeps_what_was_written(tmp_path: Path, given) -> None:
    encoder = Watched()
    async with carrel.open(tmp_path, encoder=encoder) as library:
        await cancelled(library.aadd(given()), encoder)
        written = len(library.documents())
        assert 0 < written < 1200
        assert all(check.ok for check in library.doctor())
        await asyncio.sleep(0.2)
        assert len(library.documents()) == written
        report = await library.aadd(given())
        assert len(report.unchanged) == written and len(report.added) == 1500 - written


async def test_cancelling_stops_what_adds_by_other_names(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for document in many()[:900]:
        (tmp_path / "files" / f"{document.id}.txt").write_text(document.text)
    encoder = Watched()
    async with carrel.open(tmp_path / "library", encoder=encoder) as library:
        await cancelled(library.async_folder(tmp_path / "files"), encoder)
        assert 0 < len(library.documents()) < 900
        library.sync(tmp_path / "files")
    other = Watched(seed=1)
    async with carrel.open(tmp_path / "library", encoder=other) as library:
        await cancelled(library.areindex(), other)
        written = vectors_of(library)
        assert 900 < written < 1800
        await asyncio.sleep(0.2)
        assert vectors_of(library) == written
        await library.areindex()
        assert vectors_of(library) == 900


async def test_a_call_is_stopped_by_its_own_cancellation_alone(library) -> None:
    encoder = Watched()
    with carrel.open(library.path, collection="other", encoder=encoder) as other:
        await asyncio.gather(cancelled(other.aadd(many()), encoder), library.aadd(many()[:300]))
    assert len(library.documents()) == 302
    stop_if_cancelled()  # nobody awaits this thread


async def test_async_with_closes(tmp_path: Path) -> None:
    async with carrel.open(tmp_path, encoder=HashEncoder()) as library:
        assert isinstance(library, carrel.Library)
        await library.aadd_text("The ferry leaves at nine.", id="ferry")
    with pytest.raises(StoreClosedError):
        async with library:
            pass
    with pytest.raises(ZeroDivisionError):
        async with carrel.open(tmp_path, encoder=HashEncoder()) as library:
            raise ZeroDivisionError
    with pytest.raises(StoreClosedError):
        library.documents()


@pytest.mark.parametrize("name", TWINS)
def test_each_operation_has_a_twin_that_takes_the_same(name: str) -> None:
    twin = getattr(carrel.Library, TWINS[name])
    assert inspect.signature(twin) == inspect.signature(getattr(carrel.Library, name))
    assert inspect.isasyncgenfunction(twin) if name == "stream" else inspect.iscoroutinefunction(twin)
    assert twin.__doc__.startswith(f"``{name}``")


def test_there_is_no_other_name_for_a_twin() -> None:
    assert set(PUBLIC) == {*TWINS, *TWINS.values()}


def test_handed_over_runs_ahead_of_its_reader_and_raises_where_it_is_read() -> None:
    done = threading.Event()

    def counting() -> Iterator[int]:
        yield from range(3)
        done.set()
        raise ValueError("no more")

    items = handed_over(counting)
    assert next(items) == 0
    assert done.wait(5)  # nobody has read the rest
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_handed_over_stops_with_its_reader() -> None:
    closed, mine = threading.Event(), threading.get_ident()
    running: list[int] = []

    def endless() -> Iterator[int]:
        try:
            number = 0
            while True:
                running.append(threading.get_ident())
                yield number
                number += 1
                stop_if_cancelled()
        finally:
            closed.set()

    items = handed_over(endless)
    assert next(items) == 0 and mine not in running
    items.close()  # type: ignore[attr-defined]
    assert closed.is_set()


async def test_handed_over_is_cancelled_with_the_task_that_awaits_it() -> None:
    ended = threading.Event()

    def slow() -> Iterator[int]:
        try:
            while True:
                time.sleep(0.01)
                stop_if_cancelled()
        finally:
            ended.set()
        yield 0

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(on_thread(lambda: list(handed_over(slow))), 0.2)
    assert await asyncio.to_thread(ended.wait, 5)
