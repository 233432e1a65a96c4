"""Flows: generator functions that say what they need, and drivers that get it for them.

A flow yields a request, a list of requests, or other flows, and is sent the replies; it returns a typed result. It
does no input or output and calls no model: so it is tested with a script, and runs alike in a thread, on an event
loop, among many others, or again from its journal.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from carrel.errors import InputError
from carrel.types import Passage, Prompt

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    from carrel.retrieval.filters import Where

    P = ParamSpec("P")
else:
    P = TypeVar("P")

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

MOST_REPLY_TOKENS = 512
"""Kept free for a reply where a prompt names no number; a quarter of a small window."""


def _check_prompt(request: str, prompt: object) -> None:
    if not isinstance(prompt, Prompt):
        raise InputError(
            f"{request} takes a carrel.types.Prompt, such as Prompt(question, passages), not {prompt!r:.80}"
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """Put a prompt to the generator; the reply is a carrel.types.Completion.

    ``example`` is a reply of the form that is wanted: carrel.agents.plan goes on with it. With ``stream``, the text is
    passed on to whoever watches the run as it comes.
    """

    prompt: Prompt
    example: str = ""
    stream: bool = False

    def __post_init__(self) -> None:
        _check_prompt("Ask", self.prompt)


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Search the library; the reply is a tuple of passages, best first.

    With ``budget``, they are those of a context of so many tokens (``Library.context``); else ``limit`` chunks
    (``Library.search``). ``mode`` and ``retriever`` are the library's own where empty.
    """

    query: str
    limit: int = 10
    budget: int | None = None
    where: Where | None = None
    mode: str = ""
    retriever: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.query, str):
            raise InputError(f"Retrieve takes the text to search for, not {self.query!r:.80}")


@dataclass(frozen=True, slots=True)
class Pack:
    """Pack passages that come best first into so many tokens, as rendered; the reply is a tuple of passages.

    They are pruned to what tells most for the question, as a context of the library is. Of the first ``floor``, the
    best sentence stays whatever its score: where several passages are needed together, each alone says little.
    """

    question: str
    passages: tuple[Passage, ...]
    budget: int
    floor: int = 0


@dataclass(frozen=True, slots=True)
class Read:
    """Read a document of the library by its id; the reply is the carrel.types.Document."""

    document_id: str


@dataclass(frozen=True, slots=True)
class Fit:
    """Ask how many passages a prompt can take besides its own; the reply is a ``Fitted``.

    Passages are taken in their order while prompt and reply fit the generator's window, each whole but for the last,
    which is cut at the end of a sentence; with ``whole``, only where it is the first, too. Within a sentence only
    the first is cut. ``limit`` is the most tokens of them, where the window is larger.
    """

    prompt: Prompt
    passages: tuple[Passage, ...]
    limit: int | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        _check_prompt("Fit", self.prompt)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a prompt takes of passages, and what is left of them, both in order; nothing is lost between."""

    taken: tuple[Passage, ...]
    left: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Score passages for a question; the reply is a tuple of relevances, 0 to 1: the reader's probabilities."""

    question: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Embed:
    """Embed texts; the reply is a float32 array of unit vectors, (texts, dimensions). Queries are embedded as such."""

    texts: tuple[str, ...]
    queries: bool = False


@dataclass(frozen=True, slots=True)
class Bind:
    """Find what the marks of a text rest on; the reply is a verified carrel.generation.binding.Bound."""

    text: str
    passages: tuple[Passage, ...]
    question: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """Call a tool by its name; the reply is a carrel.agents.signatures.Result. A journal keeps it: no tool is called
    again for a run that goes on.

    ``tokens`` is about how many it may say, which carrel.agents.plan goes on with: a plan calls no tool.
    """

    tool: str
    arguments: Mapping[str, Any]
    tokens: int = 1000


Request = Ask | Retrieve | Pack | Read | Fit | Score | Embed | Bind | Call
REQUESTS = (Ask, Retrieve, Pack, Read, Fit, Score, Embed, Bind, Call)
"""All kinds of requests."""


@dataclass(frozen=True, slots=True)
class Flow(Generic[R_co]):
    """A flow with its arguments, not yet begun: it can be begun again, which planning and resuming rest on."""

    name: str
    arguments: Mapping[str, Any]
    begin: Callable[[], Steps[R_co]] = field(repr=False, compare=False)
    citation: str = field(default="", repr=False)


Step = Request | Flow[Any] | Generator[Any, Any, Any]
"""What a flow may yield; generators are flows that need no name of their own."""
Steps = Generator[Step | Sequence[Step], Any, R]
"""A flow that has begun and will return an R."""


class FlowFunction(Generic[P, R]):
    """A generator function whose call makes a Flow. ``name`` and ``citation`` are what docs and journals call it."""

    def __init__(self, function: Callable[P, Steps[R]], citation: str) -> None:
        self.function, self.citation = function, citation
        self.name: str = function.__name__
        functools.update_wrapper(self, function)
        self._signature = inspect.signature(function)

    def __repr__(self) -> str:
        return f"{self.name}, which makes a flow when it is called"

    def __call__(self, *arguments: P.args, **keywords: P.kwargs) -> Flow[R]:
        bound = self._signature.bind(*arguments, **keywords)
        bound.apply_defaults()

        def begin() -> Steps[R]:
            return self.function(*arguments, **keywords)

        return Flow(self.name, dict(bound.arguments), begin, self.citation)


def flow(citation: str = "") -> Callable[[Callable[P, Steps[R]]], FlowFunction[P, R]]:
    """Make a generator function a flow; ``citation`` is its paper: authors, title, arXiv id."""
    if not isinstance(citation, str):
        raise InputError("a flow is marked with @flow(), with parentheses")

    def decorate(function: Callable[P, Steps[R]]) -> FlowFunction[P, R]:
        if not inspect.isgeneratorfunction(function):
            raise InputError(f"a flow is a generator function, one that yields; {function.__name__} is none")
        return FlowFunction(function, citation)

    return decorate
