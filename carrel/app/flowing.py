"""The command that runs flows: chains of agents, iterative retrieval, and their kin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrel.app import options as given
from carrel.app import rendering
from carrel.app.console import emit, note, show, stderr
from carrel.app.failing import Code
from carrel.app.place import Place, resolve
from carrel.app.progress import shown_progress
from carrel.errors import InputError

if TYPE_CHECKING:
    from carrel.agents import Flow, Happened, Run
    from carrel.agents.replying import Written
    from carrel.library import Library
    from carrel.types import Document

_SPENDING = "Spending"


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


READS_DOCUMENTS = {FlowName.chain_of_agents, FlowName.map_reduce, FlowName.refine, FlowName.tree_summary}

Name = Annotated[FlowName, typer.Argument(metavar="FLOW", help=", ".join(f"{name.value}" for name in FlowName))]
Documents = Annotated[
    list[str] | None,
    typer.Option(
        "--document", "-d", metavar="DOCUMENT", help="What is read whole: an id, or a file's path. Repeat it."
    ),
]
Plan = Annotated[bool, given.flag("--plan", help="Only say how many calls and tokens it may take.")]
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
    name: Name,
    question: given.Question,
    documents: Documents = None,
    plan: Plan = False,
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

    router chooses by how hard the question looks. iterative, clustered, retrieve_then_reason and literature_review
    search the library; chain_of_agents, map_reduce, refine and tree_summary read the documents named with --document.
    The embedded reader does the work by quoting; with --server a language model does it. Where there is no answer, the
    exit code is 3.
    """
    from carrel import agents
    from carrel.agents.codec import plain

    with Place(library, tenant, collection, encoder).to_read() as opened:
        made = make_flow(name, given.joined(question), _read(opened, name, documents or ()))
        about: dict[str, Any] = {
            "generator": given.make_generator(server, model), "library": opened, "mode": mode.value,
            "concurrency": concurrency,
        }  # fmt: skip
        if plan:
            planned = agents.plan(made, **about)
            if as_json:
                facts = plain(planned)
                emit({key: value for key, value in facts.items() if key != "trace"})
            else:
                show(str(planned))
            return
        budget = agents.Budget(max_tokens, max_calls, max_seconds)
        with _watched(as_json) as watch, _resumable(journal):
            ended = agents.run(made, budget=budget, journal=journal, watch=watch, **about)
        answer = written(ended.result)
        if as_json:
            emit({"flow": name.value, "result": plain(ended.result), "usage": plain(ended.usage),
                  "trace": ended.trace.as_json()})  # fmt: skip
        else:
            _show(ended, answer, explain)
        if answer.abstained:
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


def _read(library: Library, name: FlowName, named: Sequence[str]) -> list[Document]:
    """The documents to read.

    Raises
    ------
    InputError : a flow that reads documents was given none, or one that searches was given some.
    """
    if name in READS_DOCUMENTS and not named:
        raise InputError(f"{name.value} reads whole documents: name them with --document. See them with: carrel list")
    if named and name not in READS_DOCUMENTS and name is not FlowName.retrieve_then_reason:
        raise InputError(f"{name.value} searches the whole library, and takes no --document")
    return [library.document(id) for id in resolve(library, named)]  # noqa: A001


def _show(ended: Run[Any], answer: Written, explain: bool) -> None:
    show(answer.text, *rendering.evidence(answer.citations, answer.unsupported))
    for what in getattr(ended.result, "skipped", ()):
        note(f"not read: {what}")
    if explain:
        show("", ended.trace.tree())
    elif stderr().is_terminal:
        calls = rendering.counted(len(ended.trace.asks), "call")
        note(f"\n{calls}, {ended.usage.total_tokens:,} tokens, {ended.trace.seconds:.1f} s")


@contextmanager
def _watched(quiet: bool) -> Iterator[Callable[[Happened], None]]:
    """Progress: calls, tokens, and what was done last."""
    with shown_progress(quiet) as tell:
        calls = tokens = 0

        def watch(happened: Happened) -> None:
            nonlocal calls, tokens
            if happened.event is None and happened.trace.kind == "ask":
                calls += 1
                tokens += happened.trace.tokens_in + happened.trace.tokens_out
            figures = f"{rendering.counted(calls, 'call')}, {tokens:,} tokens"
            tell(happened.trace.note.partition(":")[0] or happened.trace.kind, calls, None, figures)

        yield watch


@contextmanager
def _resumable(journal: Path | None) -> Iterator[None]:
    """Say how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        if journal is not None:
            note(f"What was replied is kept in {journal}: the same command goes on from there.")
        raise
