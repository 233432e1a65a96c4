"""Jupyter notebooks: the cells as a reader wrote them, without what running them printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from carrel.errors import DocumentError
from carrel.retrieval.loaders.base import Loader
from carrel.retrieval.loaders.decoding import decode, normalise_newlines
from carrel.retrieval.loaders.markdown import first_heading, scan
from carrel.types import Block, Document, Scalar, Skipped


class NotebookLoader(Loader):
    """Jupyter notebooks: their text and code cells, without outputs."""

    name = "notebook"
    suffixes = (".ipynb",)
    media_type = "application/x-ipynb+json"

    def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield one document: the cells with blank lines between them, a code cell as one block."""
        notebook = _parse(decode(data, path), path)
        parts: list[str] = []
        blocks: list[Block] = []
        length = 0
        for kind, source in _cells(notebook):
            source = source.strip("\n")
            if not source.strip():
                continue
            found = [Block(0, len(source), "code")] if kind == "code" else list(scan(source))
            blocks += [replace(block, start=block.start + length, end=block.end + length) for block in found]
            parts.append(source)
            length += len(source) + 2
        text = "\n\n".join(parts)
        metadata: dict[str, Scalar | list[str]] = {}
        if language := _language(notebook):
            metadata["language"] = language
        yield self.document(path, text, title=first_heading(text, blocks), blocks=blocks, metadata=metadata)


def _parse(text: str, path: str) -> dict[str, object]:
    try:
        notebook = json.loads(text)
    except json.JSONDecodeError as error:
        raise DocumentError(
            f"{path}, line {error.lineno}: not a valid notebook ({error.msg}). Open it in Jupyter and save it again."
        ) from None
    except RecursionError:
        raise DocumentError(f"{path} nests too deeply to be read. Open it in Jupyter and save it again.") from None
    if not isinstance(notebook, dict) or not ("cells" in notebook or "worksheets" in notebook):
        raise DocumentError(f"{path} has no cells, so it is no notebook. If it is other JSON, name the file .json.")
    return notebook


def _cells(notebook: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the type and the source of each cell; up to format 3 they are in worksheets, and code is ``input``."""
    sheets = notebook.get("worksheets")
    for holder in [notebook, *(sheets if isinstance(sheets, list) else [])]:
        cells = holder.get("cells") if isinstance(holder, dict) else None
        for cell in cells if isinstance(cells, list) else []:
            if isinstance(cell, dict):
                source = cell.get("source", cell.get("input", ""))
                lines = source if isinstance(source, list) else [source]
                text = normalise_newlines("".join(line for line in lines if isinstance(line, str)))
                level = cell.get("level", 0) if cell.get("cell_type") == "heading" else 0
                is_heading = isinstance(level, int) and 1 <= level <= 6
                yield str(cell.get("cell_type")), f"{'#' * level} {text}" if is_heading else text


def _language(notebook: dict[str, object]) -> str:
    metadata = notebook.get("metadata")
    for key, name in (("kernelspec", "language"), ("language_info", "name")):
        found = metadata.get(key) if isinstance(metadata, dict) else None
        if isinstance(found, dict) and isinstance(found.get(name), str):
            return str(found[name])
    return ""
