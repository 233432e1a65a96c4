"""Generators without a model, for tests of applications, agents and prompts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from carrel.errors import GenerationError
from carrel.generation import replies
from carrel.generation.base import Generator
from carrel.testing.tokenizers import WordTokenizer
from carrel.tokens import Tokenizer
from carrel.types import Completion, Event, Prompt, TextEvent

Script = str | Completion | BaseException | Callable[[Prompt], "str | Completion"]
_PIECES = re.compile(r"\s*\S+|\s+\Z")


class FakeGenerator(Generator):
    """Says what a script says, one entry a call, and keeps the prompts it was given.

    Parameters
    ----------
    script : replies in their order: a text, a Completion, an error to raise, or a function of the prompt. A single
        one is given to every call.
    context_window : tokens of the tokenizer, by default any number.
    tokenizer : by default words and punctuation marks are tokens.

    Raises
    ------
    GenerationError : when called more often than the script has replies.
    """

    name: ClassVar[str] = "fake"

    def __init__(
        self,
        script: Script | Iterable[Script] = "",
        *,
        context_window: int | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        is_one = isinstance(script, (str, Completion, BaseException)) or callable(script)
        self._always: Script | None = script if is_one else None  # type: ignore[assignment]
        self._script: list[Script] = [] if is_one else list(script)  # type: ignore[arg-type]
        self.cites = any(isinstance(said, Completion) and said.citations for said in [self._always, *self._script])
        self.context_window, self._tokenizer = context_window, tokenizer or WordTokenizer()
        self.prompts: list[Prompt] = []

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    def complete(self, prompt: Prompt) -> Completion:
        self.prompts.append(prompt)
        if self._always is None and len(self.prompts) > len(self._script):
            raise GenerationError(f"the script of {self.name} has {len(self._script)} replies, and no more are left")
        said = self._script[len(self.prompts) - 1] if self._always is None else self._always
        if isinstance(said, BaseException):
            raise said
        if not isinstance(said, (str, Completion)):
            said = said(prompt)
        return said if isinstance(said, Completion) else Completion(said)

    def stream(self, prompt: Prompt) -> Iterator[Event]:
        """The same reply word by word."""
        completion = replies.complete(self, prompt)
        for piece in _PIECES.findall(completion.text):
            yield TextEvent(piece)
        yield from replies.ending(completion)


class EchoGenerator(FakeGenerator):
    """Says its prompt again, as it would be rendered: what a model is shown, word for word."""

    name: ClassVar[str] = "echo"

    def __init__(self, *, context_window: int | None = None, tokenizer: Tokenizer | None = None) -> None:
        from carrel.generation.rendering import render_prompt

        super().__init__(render_prompt, context_window=context_window, tokenizer=tokenizer)
