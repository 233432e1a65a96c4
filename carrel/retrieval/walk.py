"""Finds the files to load: folders in sorted order, without what is hidden, ignored or plainly no text."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from carrel.errors import InputError
from carrel.types import Skipped

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILES = (".gitignore", ".ignore", ".carrelignore")  # a later one overrides an earlier one
LIBRARY_FILE = "carrel.db"
MAX_FILE_MB = 256  # a larger file is skipped unless asked for: it is read whole, and its text takes several times that
_FOLDERS_PASSED_OVER = frozenset({"node_modules", "__pycache__", "CVS"})  # the others are hidden anyway
_BINARY_SUFFIXES = {
    "an image": "png jpg jpeg gif bmp tif tiff webp ico heic heif avif psd xcf raw cr2 nef svg "
    "svgz eps xpm xbm pbm pgm ppm dxf dwg stl gltf glb",
    "sound or video": "mp3 wav flac ogg m4a aac opus mp4 mkv mov avi webm wmv m4v mpg mpeg",
    "an archive": "zip tar gz tgz bz2 xz zst 7z rar jar war whl iso dmg deb rpm apk",
    "an executable or object file": "exe dll so dylib o a obj bin class pyc pyo wasm",
    "a font": "ttf otf woff woff2 eot",
    "a database or binary data": "db sqlite sqlite3 parquet arrow feather npy npz pkl pickle pt pth onnx safetensors "
    "gguf h5 hdf5 faiss",
}
_KIND_OF_SUFFIX = {f".{suffix}": kind for kind, suffixes in _BINARY_SUFFIXES.items() for suffix in suffixes.split()}


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to load. ``modified_at`` is in seconds since 1970; ``named`` is false for what a folder holds."""

    path: str
    size_bytes: int
    modified_at: float
    named: bool = True


@dataclass(frozen=True, slots=True)
class _Ignore:
    """The ignore rules of one folder, for the paths below it."""

    folder: str
    spec: GitIgnoreSpec


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    rules: tuple[_Ignore, ...]


def walk(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Iterator[FoundFile | Skipped]:
    """Yield the files at ``paths``, each once, and a Skipped for each that a reader would expect but not get.

    A file that is named is always taken. Folders are walked in sorted order; hidden entries, those that
    ``.gitignore``, ``.ignore`` or ``.carrelignore`` exclude, version control, ``node_modules``, caches, virtual
    environments and Carrel's own folder are passed over. Inside a git repository the ignore files between its
    root and the folder count too, unless they exclude the folder itself: it was named. Links are followed only
    where they are named. Raises InputError for a path that does not exist.
    """
    seen: set[str] = set()
    names = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    for name in names:
        for item in _start(os.fspath(name)):
            key = os.path.abspath(item.path) if isinstance(item, FoundFile) else f"\0{os.path.abspath(item.id)}"
            if key not in seen:
                seen.add(key)
                yield item


def _start(name: str) -> Iterator[FoundFile | Skipped]:
    try:
        status = os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"There is no file or folder {name}. Check the name.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be opened: {_reason(error)}.") from None
    if stat.S_ISREG(status.st_mode):
        yield FoundFile(name, status.st_size, status.st_mtime)
    elif stat.S_ISDIR(status.st_mode):
        yield from _walk_folder(name)
    else:
        yield Skipped(name, "neither a file nor a folder")


def _walk_folder(root: str) -> Iterator[FoundFile | Skipped]:
    rules, unreadable = _rules_above(root)
    yield from unreadable
    waiting: list[_Folder | FoundFile | Skipped] = [_Folder(root, rules)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, _Folder):
            waiting.extend(reversed(_entries(item)))
        else:
            yield item


def _entries(folder: _Folder) -> list[_Folder | FoundFile | Skipped]:
    """Return what a folder holds, in order of name."""
    try:
        with os.scandir(folder.path) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        return [Skipped(folder.path, f"the folder cannot be read: {_reason(error)}")]
    names = {entry.name for entry in entries}
    if LIBRARY_FILE in names:
        return [Skipped(folder.path, "a Carrel library keeps its data here")]
    if "pyvenv.cfg" in names:
        return []
    rules = folder.rules
    found: list[_Folder | FoundFile | Skipped] = []
    if ignore_files := [name for name in IGNORE_FILES if name in names]:
        spec, unreadable = _read_rules(folder.path, ignore_files)
        rules = (*rules, _Ignore(folder.path, spec))
        found.extend(unreadable)
    for entry in entries:
        if not entry.name.startswith(".") and (item := _entry(entry, rules)) is not None:
            found.append(item)
    return found


def _entry(entry: os.DirEntry[str], rules: tuple[_Ignore, ...]) -> _Folder | FoundFile | Skipped | None:
    try:
        is_folder = entry.is_dir()
        if (is_folder and entry.name in _FOLDERS_PASSED_OVER) or _is_ignored(entry.path, is_folder, rules):
            return None
        if entry.is_symlink() and not os.path.exists(entry.path):
            return Skipped(entry.path, "a broken link")
        if entry.is_symlink():
            return Skipped(entry.path, "a link, which is not followed; to take what it leads to, name the link itself")
        if is_folder:
            return _Folder(entry.path, rules)
        if not entry.is_file():
            return Skipped(entry.path, "neither a file nor a folder")
        if kind := _KIND_OF_SUFFIX.get(PurePath(entry.name).suffix.lower()):
            return Skipped(entry.path, f"{kind}, which no loader reads")
        status = entry.stat()
    except OSError as error:
        return Skipped(entry.path, f"cannot be read: {_reason(error)}")
    return FoundFile(entry.path, status.st_size, status.st_mtime, named=False)


def _rules_above(root: str) -> tuple[tuple[_Ignore, ...], list[Skipped]]:
    """The rules that a named folder inherits: those from the root of its git repository down to it."""
    here = os.path.abspath(root)
    folders: list[str] = []
    while not os.path.exists(os.path.join(here, ".git")):
        parent = os.path.dirname(here)
        if parent == here:
            return (), []  # in no repository
        folders.insert(0, parent)
        here = parent
    rules: list[_Ignore] = []
    unreadable: list[Skipped] = []
    for folder in folders:
        if names := [name for name in IGNORE_FILES if os.path.lexists(os.path.join(folder, name))]:
            spec, skipped = _read_rules(folder, names)
            rules.append(_Ignore(folder, spec))
            unreadable += skipped
    if _is_ignored(os.path.abspath(root), True, tuple(rules)):
        return (), []
    return tuple(rules), unreadable


def _read_rules(folder: str, names: list[str]) -> tuple[GitIgnoreSpec, list[Skipped]]:
    from pathspec import GitIgnoreSpec

    lines: list[str] = []
    skipped: list[Skipped] = []
    for name in names:
        path = os.path.join(folder, name)
        try:
            with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
                added = file.read().splitlines()
            GitIgnoreSpec.from_lines(added)
        except (OSError, ValueError) as error:
            skipped.append(Skipped(path, f"its rules cannot be read: {_reason(error)}"))
        else:
            lines.extend(added)
    return GitIgnoreSpec.from_lines(lines), skipped


def _is_ignored(path: str, is_folder: bool, rules: tuple[_Ignore, ...]) -> bool:
    """Tell what the nearest folder's rules say of a path that they mention."""
    for rule in reversed(rules):
        relative = os.path.relpath(path, rule.folder).replace(os.sep, "/") + ("/" if is_folder else "")
        verdict = rule.spec.check_file(relative).include
        if verdict is not None:
            return verdict
    return False


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
