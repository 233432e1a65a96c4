"""Commands that look at a library: list, show, doctor, methods."""

from __future__ import annotations

from typing import Annotated

import typer

from carrel.app import options as given
from carrel.app import rendering, shapes
from carrel.app.console import emit, note, show, show_exactly, show_text, stdout
from carrel.app.failing import Code
from carrel.app.place import Place, resolve_single


def list_documents(
    where: given.WhereTexts = None,
    limit: Annotated[int | None, typer.Option("--limit", "-k", metavar="N", help="Documents at most.")] = None,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    as_json: given.AsJson = False,
) -> None:
    """List the documents, by id."""
    place = Place(library, tenant, collection)
    filters = given.parse_where(where or ())
    with place.to_read() as opened:
        found = opened.documents(where=filters)
        taken = found if limit is None else found[: max(0, limit)]
        if as_json:
            emit({"library": str(place.path), "documents": shapes.documents(taken)})
        elif taken:
            show(rendering.documents(taken, stdout().width))
        if not found and not as_json:
            note("No document passes the filter." if filters else "No documents.")
            place.note_if_empty(opened)
    if taken and not as_json:
        of = f"{len(taken):,} of " if len(taken) < len(found) else ""
        note(f"{of}{rendering.counted(len(found), 'document')}, {sum(info.chunks for info in found):,} chunks")


def show_document(
    document: Annotated[str, typer.Argument(metavar="ID", help="The document's id, or the path of its file.")],
    text: Annotated[bool, given.flag("--text", help="Only the text, exactly as it is cited.")] = False,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    as_json: given.AsJson = False,
) -> None:
    """Show a document: what is known of it, and its text."""
    with Place(library, tenant, collection).to_read() as opened:
        found = opened.document(resolve_single(opened, document))
    if as_json:
        emit(shapes.document(found))
        return
    if text:
        show_exactly(found.text)
    else:
        show(rendering.document_head(found), "")
        show_text(found.text)


def doctor(
    repair: Annotated[bool, given.flag("--repair", help="Rebuild the word index from the store first.")] = False,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    encoder: given.EncoderName = None,
    as_json: given.AsJson = False,
) -> None:
    """Check the library's files, its encoder and its indexes.

    Exits with 4 when something is not in order; what to do stands beside it.
    """
    place = Place(library, tenant, collection, encoder)
    with place.to_change() if repair else place.to_read() as opened:
        found = opened.doctor(repair=repair)
    if as_json:
        emit(shapes.checks(found, str(place.path)))
    else:
        show(rendering.checks(found))
    if not all(check.ok for check in found):
        raise typer.Exit(Code.LIBRARY)


def methods(as_json: given.AsJson = False) -> None:
    """List the methods that can be chosen, with their papers."""
    from dataclasses import asdict

    from carrel.registry import methods as registered

    found = registered()
    if as_json:
        emit({"methods": [asdict(method) for method in found]})
    else:
        show(rendering.methods(found))
