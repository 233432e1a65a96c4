"""Adapters as files in a library's folder: in peft's format, with a note of what they are good for.

An adapter's key is its document's content, its base model and its recipe. It goes with its document, whoever removes
that (carrel.retrieval.store.adapters).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrel.embeddings.base import digest
from carrel.errors import AdapterError, DocumentNotFoundError, InputError, MissingDependencyError, StoreError
from carrel.memory.parametric.recipes import Recipe, as_dict
from carrel.retrieval.store import adapters as places
from carrel.retrieval.store import documents as stored
from carrel.retrieval.store.adapters import PROVENANCE

if TYPE_CHECKING:
    from carrel.library import Library
    from carrel.memory.parametric.merging import Merged, Tensors
    from carrel.memory.parametric.training import Trained

FORMAT = "carrel-adapter/1"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_ANEW = "It is trained anew when it is needed."
MERGED_BYTES = 2**30  # of a collection's merged sets; those that were used longest ago go first
_MALFORMED = (OSError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """An adapter of a library.

    Attributes
    ----------
    documents : of which it was trained; several where it is a merged set.
    base : the fingerprint of its base model; ``model`` : that model's name.
    folder : in peft's format, for vLLM or peft itself.
    size_bytes : of its files. trained : what the training said of itself.
    digest : of its weights, so another one for one that was trained anew.
    """

    documents: tuple[str, ...]
    base: str
    model: str
    recipe: str
    rank: int
    folder: Path
    size_bytes: int
    trained: Mapping[str, Any]
    digest: str = ""


class AdapterFiles:
    """The adapters of one collection of a library."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def find(self, document_id: str, base: str, recipe: Recipe, taught: str = "") -> StoredAdapter | None:
        """The adapter of a document as it is now, of this base model and recipe; None where there is none.

        Parameters
        ----------
        taught : what made its questions.

        Raises
        ------
        DocumentNotFoundError : the document is not in the library. AdapterError : its note is damaged.
        """
        folder = places.folder_of(self._root(), self._library._scope, document_id)
        place = folder / _name(self.content(document_id), base, recipe, taught)
        return described(place) if place.is_dir() else None

    def put(
        self, document_id: str, content: str, base: str, model: str, recipe: Recipe, trained: Trained, taught: str = ""
    ) -> StoredAdapter:
        """Keep an adapter, whole or not at all, in place of one of the same recipe and the sets that had that.

        Parameters
        ----------
        content : hash of the document that it was trained on, of :meth:`content`. taught : as of :meth:`find`.

        Raises
        ------
        DocumentNotFoundError : the document has been removed or changed meanwhile, so nothing is kept.
        """
        note = _note((document_id,), base, model, recipe.name, int(trained.config["r"]))
        note |= {"content": content, "settings": as_dict(recipe), "trained": trained.figures}
        store, scope = self._library._store, self._library._scope
        with store.write() as connection:
            root = places.root_of(connection)
            if stored.known_hashes(connection, scope, [document_id]).get(document_id) != content:
                raise DocumentNotFoundError(
                    f"the document {document_id!r} was removed or changed while its adapter was trained:"
                    " the adapter is not kept"
                )
            place = places.folder_of(root, scope, document_id) / _name(content, base, recipe, taught)
            made = places.partial(root)
            write_adapter(made, trained.tensors, trained.config, note)
            if place.exists():
                places.remove_merged(root, scope, [document_id])
            places.publish(made, place)
        return described(place)

    def put_merged(
        self,
        members: Sequence[StoredAdapter],
        merged: Callable[[], Merged],
        base: str,
        model: str,
        kind: str = "merged",
    ) -> StoredAdapter:
        """Several adapters as one, in a folder that one request to vLLM can name; made where it is not there yet.

        Raises
        ------
        DocumentNotFoundError : one of the documents has been removed meanwhile.
        """
        names = "\n".join([kind, base, *sorted(one.digest for one in members)])
        name = hashlib.blake2b(names.encode(), digest_size=16).hexdigest()
        scope = self._library._scope
        place = places.merged_folder(self._root(), scope) / name
        with suppress(AdapterError, OSError):  # where it is damaged it is made anew
            if place.is_dir():
                kept = described(place)
                os.utime(place / PROVENANCE)  # it was used
                return kept
        found = merged()
        documents = tuple(document for one in members for document in one.documents)
        note = _note(documents, base, model, kind, found.rank) | {"trained": dict(found.figures)}
        with self._library._store.write():
            if not all(one.folder.is_dir() for one in members):
                raise DocumentNotFoundError("a document was removed while its adapter was merged: nothing is kept")
            made = places.partial(self._root())
            write_adapter(made, found.tensors, found.config, note)
            places.publish(made, place)
            places.shrink_merged(self._root(), scope, MERGED_BYTES, place)
        return described(place)

    def content(self, document_id: str) -> str:
        """The hash of a document as it is in the library now.

        Raises
        ------
        DocumentNotFoundError
        """
        with self._library._store.read() as connection:
            found = stored.known_hashes(connection, self._library._scope, [document_id])
        if document_id not in found:
            raise DocumentNotFoundError(f"no document has the id {document_id!r}. See them with: carrel list")
        return found[document_id]

    def all(self, *, merged: bool = False) -> list[StoredAdapter]:
        """The adapters of the collection, by document; with ``merged`` the merged sets too.

        A damaged one is there as well, its documents unknown.
        """
        base = self._root() / str(self._library._scope.id)
        folders = sorted(base.glob("*/*")) if base.is_dir() else []
        found = []
        for folder in folders:
            if merged or folder.parent.name != places.MERGED:
                try:
                    found.append(described(folder))
                except AdapterError:
                    if folder.is_dir():  # else it has just been removed
                        found.append(StoredAdapter((), "", "", "damaged", 0, folder, _size(folder), {}))
        return sorted(found, key=lambda one: (one.documents, one.model, one.recipe, one.folder.name))

    def remove(self, document_ids: Sequence[str] | None = None) -> int:
        """Delete the adapters of documents, or all of the collection; how many bytes they took."""
        before = sum(one.size_bytes for one in self.all(merged=True))
        store, scope = self._library._store, self._library._scope
        with store.write() as connection:
            if document_ids is None:
                places.drop(self._root(), [self._root() / str(scope.id)])
            else:
                places.remove(connection, scope, document_ids)
        return before - sum(one.size_bytes for one in self.all(merged=True))

    def _root(self) -> Path:
        return self._library._store.folder / places.FOLDER


def write_adapter(folder: Path, tensors: Tensors, config: Mapping[str, Any], note: Mapping[str, Any]) -> None:
    """The files of peft's format, and the note with the hash of the weights.

    Raises
    ------
    StoreError : they cannot be written.
    """
    numpy_files = _safetensors()
    written = {"base_model_name_or_path": note["model"], **config}
    try:
        (folder / WEIGHTS).write_bytes(numpy_files.save(dict(tensors), metadata={"format": "pt"}))
        (folder / CONFIG).write_text(json.dumps(written, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        whole = {**note, "sha256": _digest(folder / WEIGHTS)}
        (folder / PROVENANCE).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise StoreError(f"the adapter cannot be written to {folder.parent.parent}: {error.strerror}") from error


def described(folder: Path) -> StoredAdapter:
    """An adapter by its note.

    Raises
    ------
    AdapterError : the note is missing or damaged.
    """
    note = _read_note(folder)
    try:
        return StoredAdapter(
            tuple(str(one) for one in note["documents"]), str(note["base"]), str(note["model"]), str(note["recipe"]),
            int(note["rank"]), folder, _size(folder), dict(note.get("trained", {})), str(note["sha256"]),
        )  # fmt: skip
    except _MALFORMED as error:
        raise AdapterError(f"the note of the adapter {folder} is damaged. {_ANEW}") from error


def read_adapter(adapter: StoredAdapter, base: str) -> tuple[Tensors, dict[str, Any]]:
    """The matrices of an adapter for the base model with this fingerprint, and its configuration.

    Raises
    ------
    AdapterError : it was trained on another base model, or its files are damaged.
    """
    if adapter.base != base:
        raise AdapterError(
            f"the adapter of {', '.join(adapter.documents)} was trained on {adapter.model} ({adapter.base[:12]}), and"
            f" this model is another ({base[:12]}): train one for it, or ask with the model it is for."
        )
    numpy_files = _safetensors()
    note = _read_note(adapter.folder)
    try:
        if _digest(adapter.folder / WEIGHTS) != note["sha256"]:
            raise AdapterError(f"the weights in {adapter.folder} are damaged: their hash is another. {_ANEW}")
        config = json.loads((adapter.folder / CONFIG).read_text(encoding="utf-8"))
        if int(config["r"]) != adapter.rank or not float(config["lora_alpha"]) > 0:
            raise ValueError("its rank is another than its note says")
        return numpy_files.load_file(str(adapter.folder / WEIGHTS)), config
    except _MALFORMED as error:
        raise AdapterError(f"the adapter {adapter.folder} cannot be read: {error}. {_ANEW}") from error


def _safetensors() -> Any:
    try:
        return import_module("safetensors.numpy")
    except ModuleNotFoundError as error:
        raise MissingDependencyError("safetensors", "torch", "Parametric memory") from error


def _note(documents: Sequence[str], base: str, model: str, recipe: str, rank: int) -> dict[str, Any]:
    if not base:
        raise InputError("an adapter is kept with the fingerprint of its base model, which is empty")
    return {
        "format": FORMAT, "documents": list(documents), "base": base, "model": model, "recipe": recipe,
        "rank": rank,
    }  # fmt: skip


def _read_note(folder: Path) -> dict[str, Any]:
    try:
        note: Any = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"the note of the adapter {folder} is missing or damaged. {_ANEW}") from error
    if not isinstance(note, dict) or note.get("format") != FORMAT:
        raise AdapterError(f"the adapter {folder} has another format than {FORMAT}. {_ANEW}")
    return note


def _name(content: str, base: str, recipe: Recipe, taught: str) -> str:
    key = digest(recipe.key, taught) if taught else recipe.key
    return f"{content}-{base[:16]}-{key[:16]}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
