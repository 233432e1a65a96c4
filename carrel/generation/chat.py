"""What generators that answer as a chat share: prompts as messages, and the room that the window leaves for a reply."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from carrel.errors import ContextOverflowError, InputError
from carrel.generation.base import Generator
from carrel.generation.messages import Message, Placement, check_placement, render_messages
from carrel.types import Prompt

if TYPE_CHECKING:
    from typing_extensions import Self

_LEAST_REPLY = 16
"""Tokens without which a reply says nothing; fewer are enough where fewer were asked for."""


class ChatGenerator(Generator):
    """Renders prompts to the messages of a chat; a subclass puts them to its model.

    A subclass gives ``tokenizer``, ``context_window``, ``chat_tokens``, ``complete`` and ``close``. It calls ``room``
    before it generates (``most_tokens`` where no window is known), carrel.generation.messages.finish_reason for how a
    reply ended, and, where it streams, carrel.generation.replies.ending for what follows the text. As a
    context manager it closes itself.

    Parameters
    ----------
    max_tokens : of a reply; a prompt may ask for fewer.
    placement : where the passages of earlier turns are: "last" or "append" (carrel.generation.messages).
    instructions : how to answer and to cite; empty for none.

    Raises
    ------
    InputError : an argument is of no use.
    """

    def __init__(self, *, max_tokens: int, placement: Placement, instructions: str) -> None:
        _check_tokens("max_tokens", max_tokens)
        check_placement(placement)
        self.max_tokens, self.placement, self.instructions = max_tokens, placement, instructions

    @abstractmethod
    def chat_tokens(self, messages: Sequence[Message]) -> int:
        """The tokens of a chat with what its template adds, up to where the reply begins."""

    @abstractmethod
    def close(self) -> None:
        """Free what the generator holds; the next call begins anew."""

    def messages(self, prompt: Prompt) -> list[Message]:
        # how to answer is of no use where something else is wanted: the task of a flow's step says how to do that
        instructions = self.instructions if prompt.kind == "answer" else ""
        return render_messages(prompt, self.placement, instructions)

    def prompt_tokens(self, prompt: Prompt) -> int:
        return self.chat_tokens(self.messages(prompt))

    def fixed_tokens(self, prompt: Prompt) -> int:
        return self.prompt_tokens(replace(prompt, passages=()))

    def most_tokens(self, prompt: Prompt) -> int:
        """The most tokens of the reply to a prompt: the generator's limit or the prompt's, whichever is smaller.

        Raises
        ------
        InputError : the prompt's limit is no number above 0.
        """
        if prompt.max_tokens is None:
            return self.max_tokens
        _check_tokens("max_tokens of a prompt", prompt.max_tokens)
        return min(self.max_tokens, prompt.max_tokens)

    def room(self, prompt: Prompt, used: int, window: int, where: str) -> int:
        """The most tokens of a reply: ``most_tokens``, or what a window leaves beside ``used`` of the prompt.

        Parameters
        ----------
        where : names the model in the error.

        Raises
        ------
        ContextOverflowError : too little is left to say anything. InputError : as of ``most_tokens``.
        """
        most, left = self.most_tokens(prompt), window - used
        if left < min(_LEAST_REPLY, most):
            raise ContextOverflowError(
                f"the prompt has {used:,} tokens, and {where} reads {window:,}, prompt and reply together."
                " Use a smaller budget, fewer turns of history, or a model with a larger window."
            )
        return min(most, left)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_tokens(what: str, count: object) -> None:
    """Raise InputError for what is no number of tokens."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"{what} must be above 0, not {count!r}")
