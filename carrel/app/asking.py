"""Commands that ask a library: ask, context, search, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from carrel.app import options as given
from carrel.app import rendering, shapes
from carrel.app.console import emit, note, show, show_piece, show_text, stderr
from carrel.app.failing import Code
from carrel.app.place import Place, resolve_single
from carrel.types import CitationsEvent, TextEvent, UsageEvent

if TYPE_CHECKING:
    from carrel.library import Library
    from carrel.options import AskOptions


def ask(
    question: given.Question,
    explain: given.Explain = False,
    budget: given.Budget = given.BUDGET,
    limit: given.Limit = None,
    where: given.WhereTexts = None,
    retriever: given.RetrieverName = None,
    cutoff: given.CutoffText = None,
    order: given.PassageOrder = given.Order.relevance,
    whole: given.Whole = False,
    recency: given.Recency = None,
    mode: given.Mode = given.ModeName.balanced,
    server: given.Server = None,
    model: given.Model = None,
    user: given.MemoryOf = None,
    session: given.MemorySession = None,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    encoder: given.EncoderName = None,
    as_json: given.AsJson = False,
) -> None:
    """Answer a question from the documents, with citations.

    The reader finds the words that answer and quotes their sentence: the document's own text between the characters
    given. With --server a language model writes the answer, and its citation marks are checked against the documents.
    When the documents do not seem to hold an answer, it says so and exits with 3. With --user or
    --session, what that user said before is recalled first, a follow-up is made whole, and question and answer are
    kept; where the documents do not answer, it quotes what the user said of it.
    """
    search = given.search_options(limit, where, retriever, cutoff, recency, mode)
    place, generator = Place(library, tenant, collection, encoder), given.make_generator(server, model)
    with place.to_read() if user is None and session is None else place.to_change() as opened:
        options: AskOptions = {
            **given.context_options(search, budget, order, whole),
            "generator": generator,
            "history": (),
            "memory": given.memory_of(opened, user, session),
            "remember": True,
        }
        if generator is not None and not as_json:
            if _stream(opened, given.joined(question), options, explain):
                raise typer.Exit(Code.NO_ANSWER)
            return
        answer = opened.ask(given.joined(question), **options)
        if as_json:
            emit(shapes.answer(answer))
        else:
            show(*rendering.answer(answer))
            if explain:
                show(rendering.ledger(answer.ledger))
        if answer.abstained:
            place.note_if_empty(opened)
            raise typer.Exit(Code.NO_ANSWER)


def _stream(opened: Library, question: str, options: AskOptions, explain: bool) -> bool:
    """Print an answer as it is written; whether it is that there is none."""
    abstained = False
    for event in opened.stream(question, **options):
        if isinstance(event, TextEvent):
            show_piece(event.text)
        elif isinstance(event, CitationsEvent):
            show_piece("\n")
            show(*rendering.evidence(event.citations, event.unsupported))
        elif isinstance(event, UsageEvent):
            abstained = event.finish_reason == "abstained"
            if explain:
                show(rendering.ledger(event.ledger))
    return abstained


def context(
    question: given.Question,
    explain: given.Explain = False,
    budget: given.Budget = given.BUDGET,
    limit: given.Limit = None,
    where: given.WhereTexts = None,
    retriever: given.RetrieverName = None,
    cutoff: given.CutoffText = None,
    order: given.PassageOrder = given.Order.relevance,
    whole: given.Whole = False,
    recency: given.Recency = None,
    mode: given.Mode = given.ModeName.balanced,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    encoder: given.EncoderName = None,
    as_json: given.AsJson = False,
) -> None:
    """Print the passages for a question, inside a token budget, ready for a prompt.

    Only the context is printed on stdout; what --explain tells goes to stderr.
    """
    search = given.search_options(limit, where, retriever, cutoff, recency, mode)
    place = Place(library, tenant, collection, encoder)
    with place.to_read() as opened:
        found = opened.context(given.joined(question), **given.context_options(search, budget, order, whole))
        if as_json:
            emit(shapes.context(found))
        elif found.passages:
            show_text(found.text)
        if explain and not as_json:
            show(rendering.ledger(found.ledger), console=stderr())
        if not found.passages:
            note("Nothing was found.")
            place.note_if_empty(opened)
            raise typer.Exit(Code.NO_ANSWER)
    if not as_json and stderr().is_terminal:
        passages = rendering.counted(len(found.passages), "passage")
        note(f"\n{found.tokens:,} of {found.budget:,} tokens ({found.tokenizer}), {passages}")


def search(
    question: given.Question,
    explain: Annotated[bool, given.flag("--explain", help="Show every score of each passage.")] = False,
    limit: given.Limit = 10,
    where: given.WhereTexts = None,
    retriever: given.RetrieverName = None,
    cutoff: given.CutoffText = None,
    recency: given.Recency = None,
    mode: given.Mode = given.ModeName.balanced,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    encoder: given.EncoderName = None,
    as_json: given.AsJson = False,
) -> None:
    """List the passages that fit a question best, with their scores."""
    options = given.search_options(limit, where, retriever, cutoff, recency, mode)
    place = Place(library, tenant, collection, encoder)
    text = given.joined(question)
    with place.to_read() as opened:
        found = opened.search(text, **options)
        if as_json:
            emit({"question": text, "passages": shapes.passages(found)})
        else:
            show(*rendering.passages(found, explain=explain))
        if not found:
            note("Nothing was found.")
            place.note_if_empty(opened)
            raise typer.Exit(Code.NO_ANSWER)


def why(
    document: Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its id, or the path of its file.")],
    question: given.Question,
    budget: given.Budget = given.BUDGET,
    limit: given.Limit = None,
    where: given.WhereTexts = None,
    retriever: given.RetrieverName = None,
    cutoff: given.CutoffText = None,
    order: given.PassageOrder = given.Order.relevance,
    whole: given.Whole = False,
    recency: given.Recency = None,
    mode: given.Mode = given.ModeName.balanced,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    encoder: given.EncoderName = None,
    as_json: given.AsJson = False,
) -> None:
    """Follow one document through every stage: why it is in the context, or where it fell out."""
    options = given.search_options(limit, where, retriever, cutoff, recency, mode)
    with Place(library, tenant, collection, encoder).to_read() as opened:
        id = resolve_single(opened, document)  # noqa: A001
        found = opened.why(id, given.joined(question), **given.context_options(options, budget, order, whole))
    if as_json:
        emit(shapes.trace(found))
    else:
        show(*rendering.trace(found))
