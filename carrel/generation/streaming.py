"""An answer as it is written: its text, the marks of each finished sentence, and in the end all that was checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from carrel.generation import replies
from carrel.generation.answering import finish, make_binder, may_have_marks
from carrel.generation.base import Generator
from carrel.generation.citations import verified
from carrel.options import Options
from carrel.pipeline import Trail
from carrel.types import CitationsEvent, Context, Document, Event, MarksEvent, Prompt, TextEvent

if TYPE_CHECKING:
    from carrel.generation.binding import Binder


def written(
    generator: Generator,
    prompt: Prompt,
    context: Context,
    read: Callable[[str], Document],
    trail: Trail,
    options: Options,
) -> Iterator[Event]:
    """What follows the sources in a stream. A piece of text is passed on before anything is looked up in it.

    Parameters
    ----------
    read : gives a document by its id, to check the citations against.
    """
    marks = _Marks(context, read, options.mode)
    for said in replies.stream(generator, prompt):
        if isinstance(said, TextEvent):
            yield said
            if not generator.cites:
                yield from marks.after(said.text)
            continue
        answer = finish(
            context,
            said,
            read,
            trail,
            budget=options.budget,
            streamed=True,
            mode=options.mode,
            binder=marks.binder,
        )
        _, end = replies.ending(said)
        yield CitationsEvent(answer.citations, answer.answers, answer.unsupported)
        yield replace(end, ledger=answer.ledger)


class _Marks:
    """The marks of a text that is being written. Until the first bracket comes, nothing is done."""

    def __init__(self, context: Context, read: Callable[[str], Document], mode: str) -> None:
        self._context, self._read, self._mode = context, cache(read), mode
        self._waiting: list[str] = []  # before the first bracket
        self._failed = False
        self.binder: Binder | None = None

    def after(self, piece: str) -> list[MarksEvent]:
        """The events of the sentences that a piece of text finished."""
        if self._failed:
            return []
        if self.binder is None:
            self._waiting.append(piece)
            if not may_have_marks(piece):
                return []
        try:
            return self._bound(piece)
        except Exception:  # the text goes on; at the end all is judged that was not, and that may say what is wrong
            self._failed = True
            return []

    def _bound(self, piece: str) -> list[MarksEvent]:
        if self.binder is None:
            self.binder, piece = make_binder(self._context, self._mode), "".join(self._waiting)
        return [
            MarksEvent(span.start, span.end, verified(bound.citations, self._read, self._context), bound.unsupported)
            for span, bound in self.binder.add(piece)
        ]
