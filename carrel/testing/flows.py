"""The conformance kit for flows."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from carrel.agents import Budget, Flow, Run, arun, plan, run, run_many
from carrel.agents.codec import plain
from carrel.agents.fitting import reply_room
from carrel.agents.replying import Written
from carrel.errors import BudgetSpentError, CarrelError
from carrel.library import Library
from carrel.testing.fakes import FakeGenerator
from carrel.types import Citation, Completion, Document, Prompt

T = TypeVar("T")


class FlowConformance(ABC):
    """Subclass it, give ``make``, ``reply`` and ``documents``, and pytest holds the flow to what all flows promise.

    The library is filled with the documents. Where a flow needs none, it is not touched.
    """

    window = 700
    """Tokens of the generator that is asked: small, so that texts come in pieces."""

    @abstractmethod
    def make(self) -> Flow[Any]:
        """The flow with its arguments."""

    @abstractmethod
    def reply(self, prompt: Prompt) -> str:
        """What a model might say to a prompt: the same whenever it is asked."""

    @abstractmethod
    def documents(self) -> list[Document]:
        """What the flow reads, or finds in the library."""

    def generator(self) -> FakeGenerator:
        return FakeGenerator(self.reply, context_window=self.window)

    def library(self, folder: Path) -> Library:
        library = Library(folder / "library", mode="fast")
        library.add(self.documents())
        return library

    def test_no_prompt_goes_beyond_the_window(self, tmp_path: Path) -> None:
        generator = self.generator()
        with self.library(tmp_path) as library:
            run(self.make(), generator=generator, library=library)
        assert generator.prompts, "the flow asked nothing"
        for prompt in generator.prompts:
            used = generator.prompt_tokens(prompt)
            assert used + reply_room(prompt, self.window) <= self.window, f"{prompt.kind}: {used} tokens"

    def test_all_drivers_give_the_same(self, tmp_path: Path) -> None:
        with self.library(tmp_path) as library:
            options: dict[str, Any] = {"generator": self.generator(), "library": library}
            first = plain(run(self.make(), **options).result)
            assert plain(run(self.make(), concurrency=1, **options).result) == first
            assert plain(asyncio.run(arun(self.make(), **options)).result) == first
            assert [plain(each.result) for each in run_many([self.make(), self.make()], **options)] == [first, first]

    def test_it_goes_on_where_it_was_stopped(self, tmp_path: Path) -> None:
        """However many calls it had made; and nothing is asked twice."""
        with self.library(tmp_path) as library:
            whole = self.generator()
            first = run(self.make(), generator=whole, library=library)
            calls = len(whole.prompts)
            for stop in range(1, calls):
                journal = tmp_path / f"{stop}.journal"
                before, after = self.generator(), self.generator()
                options: dict[str, Any] = {"library": library, "journal": journal}
                [stopped] = run_many([self.make()], generator=before, budget=Budget(calls=stop), **options)
                assert isinstance(stopped.error, BudgetSpentError), repr(stopped.error)
                second: Run[Any] = run(self.make(), generator=after, **options)
                assert plain(second.result) == plain(first.result)
                assert len(before.prompts) == stop and len(before.prompts) + len(after.prompts) == calls

    def test_its_plan_is_made_without_a_model(self, tmp_path: Path) -> None:
        generator = self.generator()
        with self.library(tmp_path) as library:
            planned = plan(self.make(), generator=generator, library=library)
        assert not generator.prompts and planned.calls >= 1 and planned.tokens_in > 0

    def test_citations_are_quotations(self, tmp_path: Path) -> None:
        texts = {document.id: document.text for document in self.documents()}
        with self.library(tmp_path) as library:
            result = run(self.make(), generator=self.generator(), library=library).result
        for citation in _all(Citation, result):
            assert texts[citation.document_id][citation.start : citation.end] == citation.quote

    def test_a_refusal_is_an_error_or_named_in_the_result(self, tmp_path: Path) -> None:

        refusal = "I cannot help with that."
        with self.library(tmp_path) as library:
            generator = FakeGenerator(Completion(refusal, finish_reason="refused"), context_window=self.window)
            [ended] = run_many([self.make()], generator=generator, library=library)
        if ended.error is not None:
            assert isinstance(ended.error, CarrelError), repr(ended.error)
        else:
            texts = [each.text for each in _all(Written, ended.result)]
            assert refusal not in texts, "a refusal passed for an answer"

    def test_it_names_its_source(self) -> None:
        assert self.make().citation and self.make().name


def _all(kind: type[T], value: object) -> Iterator[T]:
    """All values of a kind anywhere in a result."""
    if isinstance(value, kind):
        yield value
    if is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _all(kind, getattr(value, each.name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _all(kind, item)
