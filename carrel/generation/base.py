"""The contract of whatever turns a prompt into text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from carrel.asynchronous import streaming_twin, twin
from carrel.generation import replies
from carrel.tokens import Tokenizer
from carrel.types import Completion, Event, Prompt, TextEvent


class Generator(ABC):
    """Completes structured prompts: a chat server renders them to messages, a reader takes their parts.

    ``context_window`` is in tokens of ``tokenizer``, prompt and reply together; None means that any prompt fits.
    A context is packed to leave room in it for the question and the reply. Errors are
    carrel.errors.GenerationError and its kin; any other exception becomes one, and so does a reply that is none.
    Usage that a reply leaves out is counted with ``tokenizer`` (carrel.generation.replies). ``cites`` says that its
    completions come with citations of its own: the marks of its text are then not bound while it streams.
    """

    name: ClassVar[str]
    citation: ClassVar[str] = ""
    context_window: int | None = None
    cites: bool = False

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """Counts budgets for this generator."""

    @abstractmethod
    def complete(self, prompt: Prompt) -> Completion:
        """The whole reply."""

    def stream(self, prompt: Prompt) -> Iterator[Event]:
        """The reply as events: text, then citations, then usage. By default the whole reply at once."""
        completion = replies.complete(self, prompt)
        yield TextEvent(completion.text)
        yield from replies.ending(completion)

    def count_tokens(self, text: str) -> int:
        return self.tokenizer.count(text)

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt as it is rendered for this generator."""
        from carrel.generation.rendering import render_prompt

        return self.tokenizer.count(render_prompt(prompt))

    def fixed_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt without its passages: what the window must hold besides them."""
        from carrel.generation.rendering import render_prompt
        from carrel.retrieval.packing import SEPARATOR

        return self.tokenizer.count(f"{SEPARATOR}{render_prompt(replace(prompt, passages=()))}")

    acomplete = twin(complete)
    astream = streaming_twin(stream)
