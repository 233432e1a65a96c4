"""The command that runs flows: chains of agents, iterative retrieval, and their kin."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrel.app import options as given
from carrel.app import rendering
from carrel.app.console import emit, note, show, shown, stderr
from carrel.app.failing import Code
from carrel.app.place import Place, resolve
from carrel.app.progress import shown_progress
from carrel.app.steps import explained, figures
from carrel.errors import (
    AuthenticationError,
    BudgetSpentError,
    DocumentNotFoundError,
    GenerationTimeoutError,
    InputError,
    MalformedReplyError,
    RateLimitError,
    ServerConnectionError,
)

if TYPE_CHECKING:
    from carrel.agents import Budget, Flow, Happened, Plan, Run
    from carrel.agents.replying import Written
    from carrel.library import Library
    from carrel.types import Document

_SPENDING = "Spending"
_PASSING = (
    AuthenticationError, GenerationTimeoutError, MalformedReplyError, RateLimitError, ServerConnectionError,
)  # fmt: skip
"""Failures after which the same command, given again, may go on."""
_DONE = {
    "retrieve": "searched", "pack": "packed", "read": "read", "fit": "fitted", "score": "scored", "embed": "embedded",
    "bind": "checked citations", "call": "called a tool",
}  # fmt: skip
"""What has just ended, in the line of progress. None of a document's own words: they are not ours to draw."""


class FlowName(str, Enum):
    """The flows that a question can be put to."""

    router = "router"
    iterative = "iterative"
    chain_of_agents = "chain_of_agents"
    map_reduce = "map_reduce"
    refine = "refine"
    tree_summary = "tree_summary"
    clustered = "clustered"
    retrieve_then_reason = "retrieve_then_reason"
    literature_review = "literature_review"


NAMES = tuple(name.value for name in FlowName)
READS_DOCUMENTS = {FlowName.chain_of_agents, FlowName.map_reduce, FlowName.refine, FlowName.tree_summary}


def flow_name(text: str) -> FlowName:
    """The flow that is meant by what was typed.

    Raises
    ------
    InputError : there is none, or it can be run from Python only.
    """
    typed = text.strip().lower().replace("-", "_")
    if typed in NAMES:
        return FlowName(typed)
    from carrel import agents

    if any(typed == each.name for each in agents.FLOWS):
        said = f"{typed} runs from Python only, as carrel.agents.{typed}."
    else:
        near = difflib.get_close_matches(typed, NAMES, 1)
        said = f"there is no flow {text!r}." + (f" Is {near[0]} meant?" if near else "")
    raise InputError(f"{said} Choose from: {', '.join(NAMES)}")


FlowText = Annotated[
    str,
    typer.Argument(metavar="FLOW", autocompletion=lambda: list(NAMES), help=f"One of {', '.join(NAMES)}."),
]
QuestionWords = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUESTION", help="Quotes around it are optional. tree_summary needs none.", show_default=False
    ),
]
Documents = Annotated[
    list[str] | None,
    typer.Option(
        "--document", "-d", metavar="DOCUMENT", help="What is read whole: an id, or a file's path. Repeat it."
    ),
]
PlanFlag = Annotated[bool, given.flag("--plan", help="Only say how many calls and tokens it may take.")]
JournalPath = Annotated[
    Path | None,
    typer.Option(
        "--journal", metavar="FILE", help="Keep every reply there: the same command goes on where it was stopped.",
        rich_help_panel=_SPENDING,
    ),
]  # fmt: skip
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", metavar="N", help="Tokens in all.", rich_help_panel=_SPENDING)
]
MaxCalls = Annotated[
    int | None, typer.Option("--max-calls", metavar="N", help="Calls of the model.", rich_help_panel=_SPENDING)
]
MaxSeconds = Annotated[
    float | None, typer.Option("--max-seconds", metavar="S", help="Seconds in all.", rich_help_panel=_SPENDING)
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", metavar="N", help="Calls at once.", rich_help_panel=_SPENDING)
]


def flow(
    named: FlowText,
    question: QuestionWords = None,
    documents: Documents = None,
    plan: PlanFlag = False,
    explain: Annotated[bool, given.flag("--explain", help="Show every step with its tokens and time.")] = False,
    journal: JournalPath = None,
    max_tokens: MaxTokens = None,
    max_calls: MaxCalls = None,
    max_seconds: MaxSeconds = None,
    concurrency: Concurrency = 8,
    mode: given.Mode = given.ModeName.balanced,
    server: given.Server = None,
    model: given.Model = None,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    encoder: given.EncoderName = None,
    as_json: given.AsJson = False,
) -> None:
    """Answer a question in several steps: read a document to its end, or look further with what was found.

    Flows that search the library: router takes the way that suits how hard the question looks; iterative follows one
    fact to the next; clustered gathers what many documents say; retrieve_then_reason collects facts, then concludes;
    literature_review writes related work, and needs --server.

    Flows that read the documents named with --document, to their end: chain_of_agents (a question about some part),
    map_reduce and refine (every part has a share), tree_summary (what does it say).

    The embedded reader does the work by quoting; with --server a language model does it. Where there is no answer, the
    exit code is 3.
    """
    from carrel import agents
    from carrel.agents.codec import plain

    name = flow_name(named)
    asked, budget = _question(name, question or ()), _budget(max_tokens, max_calls, max_seconds)
    if name is FlowName.literature_review and server is None and not plan:
        raise InputError(f"{name.value} writes, which the embedded reader does not: name a server with --server URL")
    with Place(library, tenant, collection, encoder).to_read() as opened:
        made = make_flow(name, asked, _read(opened, name, documents or ()))
        about: dict[str, Any] = {
            "generator": given.make_generator(server, model), "library": opened, "mode": mode.value,
            "concurrency": concurrency,
        }  # fmt: skip
        if plan:
            _show_plan(agents.plan(made, **about), as_json)
            return
        with _watched(as_json) as watch, _resumable(journal):
            ended = agents.run(made, budget=budget, journal=journal, watch=watch, **about)
        answer = written(ended.result)
        if as_json:
            emit({"flow": name.value, "result": plain(ended.result), "usage": plain(ended.usage),
                  "trace": ended.trace.as_json()})  # fmt: skip
        else:
            _show(ended, answer, asked, explain)
        if answer.abstained:
            if not as_json:
                Place(library, tenant, collection).note_if_empty(opened)
            raise typer.Exit(Code.NO_ANSWER)


def make_flow(name: FlowName, question: str, documents: Sequence[Document]) -> Flow[Any]:
    """The flow of a name, with its arguments."""
    from carrel import agents

    if name is FlowName.tree_summary:
        return agents.tree_summary(documents, question=question)
    if name in READS_DOCUMENTS:
        reading: Callable[..., Flow[Any]] = getattr(agents, name.value)
        return reading(question, documents)
    if name is FlowName.retrieve_then_reason and documents:
        return agents.retrieve_then_reason(question, documents)
    searching: Callable[..., Flow[Any]] = getattr(agents, name.value)
    return searching(question)


def written(result: Any) -> Written:
    """The text that a flow gives in the end."""
    from carrel.agents.replying import Written

    for name in ("answer", "summary", "review", "text"):
        found = getattr(result, name, None)
        if isinstance(found, Written):
            return found
    raise TypeError(f"{type(result).__name__} has no text")


def _question(name: FlowName, words: Sequence[str]) -> str:
    """The question; a summary can do without.

    Raises
    ------
    InputError : it is missing, or empty.
    """
    question = given.joined(words)
    if name is not FlowName.tree_summary and not question.strip():
        what = "the question is empty" if words else "a question is missing"
        raise InputError(f"{what}. Ask something, such as: carrel flow {name.value} 'When was the pier built?'")
    return question


def _budget(tokens: int | None, calls: int | None, seconds: float | None) -> Budget:
    """What may be spent.

    Raises
    ------
    InputError : a bound is not above 0.
    """
    from carrel.agents import Budget

    for option, value in (("--max-tokens", tokens), ("--max-calls", calls), ("--max-seconds", seconds)):
        if value is not None and not value > 0:
            raise InputError(f"{option} is a number above 0, not {value:g}")
    return Budget(tokens, calls, seconds)


def _read(library: Library, name: FlowName, named: Sequence[str]) -> list[Document]:
    """The documents to read.

    Raises
    ------
    InputError : a flow that reads documents was given none, or one that searches was given some.
    DocumentNotFoundError : one of them is not in the library.
    """
    if name in READS_DOCUMENTS and not named:
        raise InputError(f"{name.value} reads whole documents: name them with --document. See them with: carrel list")
    if named and name not in READS_DOCUMENTS and name is not FlowName.retrieve_then_reason:
        raise InputError(f"{name.value} searches the whole library, and takes no --document")
    ids = dict.fromkeys(id for each in named for id in _resolved(library, each))  # noqa: A001
    return [library.document(id) for id in ids]  # noqa: A001


def _resolved(library: Library, name: str) -> list[str]:
    """Ids of what was named; what is on disk only is told from what is nowhere."""
    try:
        return resolve(library, [name])
    except DocumentNotFoundError as error:
        if name and os.path.isdir(name):
            said = f"{shown(name)} is a folder: name its documents, each with --document. See them with: carrel list"
            raise DocumentNotFoundError(said) from error
        if os.path.isfile(name):
            said = f"{shown(name)} is not in the library. Add it first, with: carrel add {shown(name)}"
            raise DocumentNotFoundError(said) from error
        raise


def _show_plan(planned: Plan, as_json: bool) -> None:
    if not as_json:
        show(str(planned))
        return
    from carrel.agents.codec import plain

    facts = plain(planned)
    emit({key: value for key, value in facts.items() if key != "trace"})


def _show(ended: Run[Any], answer: Written, question: str, explain: bool) -> None:
    show(answer.text, *rendering.evidence(answer.citations, answer.unsupported))
    for name in ("skipped", "reports", "hallucinated"):
        for what in getattr(ended.result, name, ()):
            note(f"{name.removesuffix('s')}: {what}")
    if explain:
        show("", *explained(ended, question))
    elif stderr().is_terminal:
        note(f"\n{figures(ended)}")


@contextmanager
def _watched(quiet: bool) -> Iterator[Callable[[Happened], None]]:
    """Progress: calls, tokens, seconds, and what was done last."""
    with shown_progress(quiet) as tell:
        calls = tokens = 0
        began = time.monotonic()

        def watch(happened: Happened) -> None:
            nonlocal calls, tokens
            step = happened.trace
            if happened.event is not None:
                done = "writing"
            elif step.kind == "ask":
                calls, tokens = calls + 1, tokens + step.tokens_in + step.tokens_out
                done = "got a reply"
            else:
                done = _DONE.get(step.kind, step.kind)
            seconds = time.monotonic() - began
            tell(done, calls, None, f"{rendering.counted(calls, 'call')}, {tokens:,} tokens, {seconds:.0f} s")

        tell("working", 0, None, "")
        yield watch


@contextmanager
def _resumable(journal: Path | None) -> Iterator[None]:
    """Say how to go on after Ctrl-C, a spent budget, or a server that failed."""
    try:
        yield
    except BudgetSpentError as error:
        if journal is None:
            how = "With --journal FILE, what was replied is kept, and the same command with a larger budget goes on"
        else:
            how = f"What was replied is kept in {journal}: the same command with a larger budget goes on from there"
        raise BudgetSpentError(f"{error}. {how}") from error
    except (KeyboardInterrupt, *_PASSING):
        if journal is not None:
            note(f"What was replied is kept in {journal}: the same command goes on from there.")
        else:
            note("Nothing is kept. With --journal FILE, the same command would go on where it was stopped.")
        raise
