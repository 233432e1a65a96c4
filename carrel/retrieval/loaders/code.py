"""Source code: the text as it is, divided at its top-level definitions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING

from carrel.retrieval.loaders.base import Loader
from carrel.retrieval.loaders.decoding import decode
from carrel.retrieval.loaders.structure import line_starts
from carrel.types import Block, Document, Skipped

if TYPE_CHECKING:
    import ast

LANGUAGES = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".mjs": "javascript", ".jsx": "javascript",
    ".ts": "typescript", ".tsx": "typescript", ".c": "c", ".h": "c", ".cc": "c++", ".cpp": "c++", ".cxx": "c++",
    ".hpp": "c++", ".cu": "cuda", ".cs": "c#", ".java": "java", ".kt": "kotlin", ".scala": "scala", ".go": "go",
    ".rs": "rust", ".swift": "swift", ".rb": "ruby", ".php": "php", ".pl": "perl", ".lua": "lua", ".r": "r",
    ".jl": "julia", ".hs": "haskell", ".ml": "ocaml", ".ex": "elixir", ".exs": "elixir", ".erl": "erlang",
    ".clj": "clojure", ".sh": "shell", ".bash": "shell", ".zsh": "shell", ".ps1": "powershell", ".sql": "sql",
    ".css": "css", ".scss": "css", ".vue": "vue", ".proto": "protobuf", ".cmake": "cmake", ".f90": "fortran",
}  # fmt: skip
_MAX_PARSED_CHARACTERS = 2_000_000  # a Python file above this is data, and its syntax tree would take gigabytes
_CONTINUES = re.compile(r"[\s)}\]]|end\b|else\b|elif\b|except\b|finally\b|catch\b")


class CodeLoader(Loader):
    """Program text in the common languages; ``language`` is in the metadata."""

    name = "code"
    suffixes = tuple(LANGUAGES)
    media_type = "text/x-source"

    def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield one document, a block for each top-level definition; a class has one for each method."""
        text = decode(data, path)
        file = PurePath(path)
        language = LANGUAGES.get(file.suffix.lower(), "")
        blocks = _python_blocks(text) if language == "python" else None
        if blocks is None:
            blocks = list(_blocks_by_layout(text))
        metadata = {"language": language} if language else None
        yield self.document(path, text, title=file.name, blocks=blocks, metadata=metadata)


def _python_blocks(text: str) -> list[Block] | None:
    """Return the blocks of a Python file, None if it does not parse. A method's ``header`` is its class line."""
    import ast

    if len(text) > _MAX_PARSED_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the file's own: an invalid escape, an assertion on a tuple
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    cuts: list[tuple[int, str]] = [(0, "")]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            cuts.append((_first_line(node, text, starts), ""))
            if isinstance(node, ast.ClassDef):
                header = text[starts[node.lineno - 1] :].partition("\n")[0].strip()
                methods = (inner for inner in node.body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef))
                cuts.extend((_first_line(method, text, starts), header) for method in methods)
            assert node.end_lineno is not None
            cuts.append((node.end_lineno, ""))
    cuts.append((len(starts), ""))
    blocks = []
    for (line, header), (next_line, _) in pairwise(cuts):
        start = starts[line] if line < len(starts) else len(text)
        end = starts[next_line] if next_line < len(starts) else len(text)
        if end > start and (block := _trimmed(text, start, end, header)):
            blocks.append(block)
    return blocks


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, text: str, starts: list[int]) -> int:
    """Return the line (from 0) where a definition begins, with its decorators and the comment above it."""
    line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    while line and text[starts[line - 1] : starts[line]].lstrip().startswith("#"):
        line -= 1
    return line


def _blocks_by_layout(text: str) -> Iterator[Block]:
    """Yield a block for each part that begins, after a blank line, at the left margin with more than a bracket."""
    starts = line_starts(text)
    begin = 0
    blank = False
    for start, end in pairwise(starts):
        line = text[start:end]
        if blank and not _CONTINUES.match(line):
            if block := _trimmed(text, begin, start):
                yield block
            begin = start
        blank = line.isspace()
    if block := _trimmed(text, begin, len(text)):
        yield block


def _trimmed(text: str, start: int, end: int, header: str = "") -> Block | None:
    """Return the block without blank lines around it; its first line keeps its indentation."""
    part = text[start:end]
    if not part or part.isspace():
        return None
    lead = part[: len(part) - len(part.lstrip())]
    first = start + lead.rfind("\n") + 1
    return Block(first, start + len(part.rstrip()), "code", header=header)
