"""The command that trains, lists and removes the adapters of a library: adapters."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrel.app import options as given
from carrel.app import rendering
from carrel.app.console import emit, note, show, shown
from carrel.app.failing import Code
from carrel.app.place import Place, resolve
from carrel.app.progress import shown_progress
from carrel.errors import AdapterError, DocumentNotFoundError, InputError

if TYPE_CHECKING:
    from carrel.library import Library
    from carrel.memory.parametric.files import StoredAdapter
    from carrel.memory.parametric.training import TrainingProgress


Quiet = Annotated[bool, given.flag("--quiet", "-q", help="No progress.")]


class Action(str, Enum):
    """What is done with adapters."""

    list = "list"
    train = "train"
    remove = "remove"


def adapters(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]", help="Documents, by ids or files; to train or list, all where none is named."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="FOLDER", help="The base model to train them on.")
    ] = None,
    every: Annotated[bool, given.flag("--all", help="Remove those of all documents.")] = False,
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME", help="How to train: parametric-rag or lift.")
    ] = "parametric-rag",
    library: given.LibraryPath = given.LIBRARY,
    tenant: given.Tenant = "local",
    collection: given.Collection = "default",
    quiet: Quiet = False,
    as_json: given.AsJson = False,
) -> None:
    """Train documents into adapters of a model, list them, or remove them.

    Training makes questions of a document and has the model learn their answers: a minute or so a document on a
    GPU, more on a CPU. What has an adapter already costs nothing. What cannot be learnt from is listed with the
    reason and stops nothing. An adapter goes with its document, when that is removed or changed.
    """
    if action is Action.remove and not names and not every:
        raise InputError("name the documents whose adapters are to go, or add --all")
    if (model is None) == (action is Action.train):
        raise InputError(
            "To train adapters, name the model they are for: carrel adapters train --model FOLDER"
            if model is None
            else f"--model is for training: carrel adapters {action.value} takes none"
        )
    place = Place(library, tenant, collection)
    with place.to_read() if action is Action.list else place.to_change() as opened:
        wanted = resolve(opened, names) if names else None
        if action is Action.remove:
            _remove(opened, wanted, as_json)
            return
        failed: dict[str, str] = {}
        if model is None:
            found = _listed(opened, wanted)
        else:
            found, failed = _trained(opened, wanted, model, recipe, quiet=quiet or as_json)
    if as_json:
        emit({"library": str(place.path), "adapters": [_shape(one) for one in found], "failed": failed})
    else:
        _tell(found, failed)
    if failed and names:
        raise typer.Exit(Code.FAILED)


def _tell(found: list[StoredAdapter], failed: dict[str, str]) -> None:
    for one in found:
        name = ", ".join(map(shown, one.documents)) or "(damaged)"
        show(
            f"{name}: {one.recipe}, rank {one.rank}, for {shown(one.model)}, {one.size_bytes / 1e6:.1f} MB{_known(one)}"
        )
    for document, reason in failed.items():
        note(f"no adapter for {shown(document)}: {shown(reason)}")
    note(f"{rendering.counted(len(found), 'adapter')}, {sum(one.size_bytes for one in found) / 1e6:.1f} MB")


def _known(one: StoredAdapter) -> str:
    """What an adapter has learnt, as far as its training knows."""
    if one.trained.get("stopped"):
        return ", stopped before its end: not used"
    share = one.trained.get("known")
    if share is None:
        return ", its text alone" if one.trained else ""
    return f", knows {100 * share:.0f} % of its questions"


def _listed(library: Library, wanted: list[str] | None) -> list[StoredAdapter]:
    from carrel.memory.parametric.files import AdapterFiles

    every = AdapterFiles(library).all(merged=True)
    return [one for one in every if wanted is None or not set(wanted).isdisjoint(one.documents)]


def _remove(library: Library, wanted: list[str] | None, as_json: bool) -> None:
    from carrel.memory.parametric.files import AdapterFiles

    count = len(_listed(library, wanted))
    freed = AdapterFiles(library).remove(wanted)
    if as_json:
        emit({"removed": count, "bytes": freed})
    else:
        show(f"Removed {rendering.counted(count, 'adapter')}, {freed / 1e6:.1f} MB.")


def _trained(
    library: Library, wanted: list[str] | None, model: str, recipe: str, *, quiet: bool
) -> tuple[list[StoredAdapter], dict[str, str]]:
    """Each document that has none yet, and why some have none now; Ctrl-C leaves those that are done."""
    from carrel.generation.transformers_engine import TransformersGenerator
    from carrel.memory.parametric.generator import ParametricGenerator

    ids = [info.id for info in library.documents()] if wanted is None else wanted
    found, failed = [], {}
    with TransformersGenerator(model) as engine, shown_progress(quiet) as tell:
        name = ""

        def progress(at: TrainingProgress) -> None:
            tell(name, at.step, at.steps, f"step {at.step} of {at.steps}, loss {at.loss:.2f}")

        generator = ParametricGenerator(library, engine, recipe=recipe, progress=progress)
        for number, one in enumerate(ids):
            name = f"{number + 1} of {len(ids)}: {shown(one)}"
            tell(name, 0, None, "making questions")
            try:
                found.append(generator.stored(one) or generator.train(one))
            except (InputError, DocumentNotFoundError, AdapterError) as error:
                failed[one] = str(error)
    return found, failed


def _shape(one: StoredAdapter) -> dict[str, Any]:
    return {
        "documents": list(one.documents), "model": one.model, "base": one.base, "recipe": one.recipe,
        "rank": one.rank, "folder": str(one.folder), "bytes": one.size_bytes, "trained": dict(one.trained),
    }  # fmt: skip
