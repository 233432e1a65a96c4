"""Files that are text but no documents: nobody wrote them, and their chunks would crowd out those somebody did."""

from __future__ import annotations

from pathlib import PurePath

_LOCK_FILES = frozenset(
    "package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock deno.lock poetry.lock uv.lock pdm.lock "
    "pixi.lock pipfile.lock cargo.lock composer.lock gemfile.lock podfile.lock mix.lock flake.lock go.sum "
    "packages.lock.json gradle.lockfile package.resolved".split()
)
_ENDINGS = (
    ((".min.js", ".min.mjs", ".min.css"), "minified code"),
    ((".js.map", ".mjs.map", ".cjs.map", ".ts.map", ".css.map"), "a source map"),
)
_MINIFIED = (".js", ".mjs", ".cjs", ".css")
_UNLESS_NAMED = "left out of folders; to take it, name the file itself"
_LEAST_BYTES = 4_000
_LONGEST_MEAN_LINE = 500  # code that people wrote has 30 to 40 characters a line


def unwanted_name(name: str) -> str:
    """Why a file of this name is left out of folders, or nothing."""
    lower = name.lower()
    kind = "a lock file" if lower in _LOCK_FILES else ""
    for endings, what in _ENDINGS:
        if lower.endswith(endings):
            kind = what
    return f"{kind}, {_UNLESS_NAMED}" if kind else ""


def unwanted_content(path: str, data: bytes) -> str:
    """Why a file with this content is left out of folders, or nothing: code without line ends is minified."""
    if PurePath(path).suffix.lower() not in _MINIFIED or len(data) < _LEAST_BYTES:
        return ""
    if len(data) <= _LONGEST_MEAN_LINE * (1 + max(data.count(b"\n"), data.count(b"\r"))):
        return ""
    return f"minified code (its lines have more than {_LONGEST_MEAN_LINE} characters), {_UNLESS_NAMED}"
