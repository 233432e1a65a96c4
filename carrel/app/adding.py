"""Commands that change a library: add, sync, remove, purge, reindex."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carrel.app import options as given
from carrel.app import rendering, shapes
from carrel.app.console import emit, note, show, shown, warn
from carrel.app.failing import Code, stop
from carrel.app.place import Place, resolve
from carrel.app.progress import ingest_progress
from carrel.errors import InputError
from carrel.inputs import check_source
from carrel.retrieval.walk import MAX_FILE_MB

if TYPE_CHECKING:
    from carrel.library import Library
    from carrel.types import Document, IngestReport

_STDIN = "-"
_TEXT = "Text from stdin (-)"

DryRun = Annotated[bool, given.flag("--dry-run", "-n", help="Only say what would be done; nothing is written.")]
Quiet = Annotated[bool, given.flag("--quiet", "-q", help="No progress and no summary; problems are still told.")]
MaxFileMb = Annotated[
    float, typer.Option("--max-file-mb", metavar="MB", min=1, help="Files larger than this are skipped, unread.")
]
Verbose = Annotated[bool, given.flag("--verbose", "-v", help="List everything, however long.")]


def add(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files and folders; - reads one text from stdin.")],
    dry_run: DryRun = False,
    max_file_mb: MaxFileMb = MAX_FILE_MB,
    verbose: Verbose = False,
    quiet: Quiet = False,
    id: Annotated[  # noqa: A002
        str,
        typer.Option("--id", metavar="ID", help="Its id: replaces the document that has it.", rich_help_panel=_TEXT),
    ] = "",
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="Its title.", rich_help_panel=_TEXT)] = "",
    meta: Annotated[
        list[str] | None,
        typer.Option("--meta", metavar="KEY=VALUE", help="Its metadata; repeat for more.", rich_help_panel=_TEXT),
    ] = None,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    encoder: given.EncoderName = None,
    as_json: given.AsJson = False,
) -> None:
    """Add files, folders, or a text from stdin.

    What is unchanged since the last time costs nothing. The library is made when there is none. A file that
    cannot be read is listed with the reason and stops nothing.
    """
    place = Place(library, tenant, collection, encoder)
    from carrel.retrieval.reading import storable_path

    text_given = bool(id or title or meta)
    sources = [_source(path, id, title, meta or []) for path in _checked(paths, text_given)]
    with place.to_fill(dry_run=dry_run) as opened, _resumable(opened, as_json), ingest_progress(quiet) as progress:
        report = opened.add(sources, dry_run=dry_run, max_file_mb=max_file_mb, progress=progress)
    _tell(report, place, verbose=verbose, quiet=quiet, as_json=as_json)
    named = {id if path == _STDIN else storable_path(os.path.abspath(path)) for path in paths}
    if any(skipped.id in named for skipped in report.skipped):
        raise typer.Exit(Code.FAILED)


def _checked(paths: Sequence[str], text_given: bool) -> Sequence[str]:
    """The paths, once it is sure that all of them are there: nothing is added when one is mistyped."""
    for path in paths:
        if path != _STDIN and not os.path.lexists(check_source("a path", path)):
            raise InputError(f"there is no file or folder {path}. Check the name.")
    if paths.count(_STDIN) > 1:
        raise InputError("- can be given once: stdin is one text")
    if text_given and _STDIN not in paths:
        raise InputError("--id, --title and --meta describe a text from stdin: add - to the paths")
    return paths


def _source(path: str, id: str, title: str, meta: Sequence[str]) -> str | Document:  # noqa: A002
    if path != _STDIN:
        return path
    from carrel.retrieval.loaders.decoding import decode
    from carrel.types import Document

    if not id:
        raise InputError("a text from stdin needs an id: carrel add - --id NAME")
    metadata = given.parse_metadata(meta)
    if sys.stdin.isatty():
        note("Reading the text from the keyboard; end it with Ctrl-D on a line of its own.")
    text = decode(sys.stdin.buffer.read(), "stdin")
    return Document(text=text, id=id, title=title, metadata=metadata)


def _folder(text: str) -> Path:
    return check_source("the folder to follow", text)


def sync(
    folder: Annotated[Path, typer.Argument(parser=_folder, metavar="FOLDER", help="The folder to follow.")],
    dry_run: DryRun = False,
    max_file_mb: MaxFileMb = MAX_FILE_MB,
    verbose: Verbose = False,
    quiet: Quiet = False,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    encoder: given.EncoderName = None,
    as_json: given.AsJson = False,
) -> None:
    """Make the library hold a folder as it is now.

    Adds what is new or changed, and removes the documents whose files have gone from this folder.
    """
    place = Place(library, tenant, collection, encoder)
    if not folder.is_dir():
        what = "is no folder. To add a file use: carrel add" if folder.exists() else "does not exist. Check the name"
        raise InputError(f"{folder} {what}")
    with place.to_fill(dry_run=dry_run) as opened, _resumable(opened, as_json), ingest_progress(quiet) as progress:
        report = opened.sync(folder, dry_run=dry_run, max_file_mb=max_file_mb, progress=progress)
    _tell(report, place, verbose=verbose, quiet=quiet, as_json=as_json)


@contextmanager
def _resumable(library: Library, as_json: bool) -> Iterator[None]:
    """After Ctrl-C, say what is safe and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        held = rendering.counted(len(library.documents()), "document")
        message = f"interrupted. What was committed is safe: {held}. Run the same command again to go on from there."
        raise stop("Interrupted", message, Code.INTERRUPTED, as_json=as_json) from None


def _tell(report: IngestReport, place: Place, *, verbose: bool, quiet: bool, as_json: bool) -> None:
    if as_json:
        emit(shapes.report(report, str(place.path)))
    elif not quiet:
        show(*rendering.report(report, str(place.path), verbose=verbose))
    elif report.skipped:
        for skipped in report.skipped if verbose else report.skipped[: rendering.LISTED]:
            warn(f"skipped {rendering.skipped(skipped)}")
    for warning in report.warnings if verbose else report.warnings[: rendering.LISTED]:
        warn(warning)
    if not verbose and len(report.warnings) > rendering.LISTED:
        note(f"and {len(report.warnings) - rendering.LISTED:,} more warnings; see all with --verbose or --json")


def remove(
    names: Annotated[
        list[str], typer.Argument(metavar="ID", help="Ids, or files: all documents of the file are removed.")
    ],
    purge: Annotated[bool, given.flag("--purge", help="Also erase their bytes from its files.")] = False,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    as_json: given.AsJson = False,
) -> None:
    """Remove documents: text, vectors and index entries."""
    place = Place(library, tenant, collection)
    with place.to_change() as opened, _resumable(opened, as_json), ingest_progress(quiet=as_json) as progress:
        removed = opened.remove(resolve(opened, names), purge=purge, progress=progress)
    if as_json:
        emit({"library": str(place.path), "removed": list(removed), "purged": purge})
        return
    show(f"Removed {rendering.counted(len(removed), 'document')}{' and erased their bytes' if purge else ''}.")
    show(*(f"  {shown(id)}" for id in removed[: rendering.LISTED]))  # noqa: A001
    if len(removed) > rendering.LISTED:
        show(f"  and {len(removed) - rendering.LISTED:,} more")


def purge(
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    as_json: given.AsJson = False,
) -> None:
    """Erase the bytes of everything that was removed.

    Rewrites the library's files. Afterwards none of them holds what was removed.
    """
    place = Place(library, tenant, collection)
    with place.to_change() as opened:
        before = _size(place.path)
        opened.purge()
        after = _size(place.path)
    if as_json:
        emit({"library": str(place.path), "bytes_before": before, "bytes_after": after})
    else:
        show(f"Erased. {place.path} takes {after / 1e6:.1f} MB; it was {before / 1e6:.1f} MB.")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("carrel.db*"))


def reindex(
    quiet: Quiet = False,
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    encoder: given.EncoderName = None,
    as_json: given.AsJson = False,
) -> None:
    """Embed all documents with the encoder named, or the shipped one, then switch to it.

    The old vectors serve until the last new one is written. Interrupted, the same command goes on where it stopped.
    """
    place = Place(library, tenant, collection, encoder)
    with place.to_change() as opened, _resumable(opened, as_json), ingest_progress(quiet) as progress:
        report = opened.reindex(progress=progress)
        name = opened.encoder.name
    if as_json:
        figures = {"chunks": report.chunks, "embedded": report.embedded, "tokens": report.tokens}
        emit({"library": str(place.path), "encoder": name, **figures, "seconds": round(report.seconds, 3)})
    elif not quiet:
        done = f"{rendering.counted(report.embedded, 'chunk')} embedded with {name} in {report.seconds:.1f} s."
        show(done if report.embedded else f"Nothing to do: every chunk has its vector from {name}.")
