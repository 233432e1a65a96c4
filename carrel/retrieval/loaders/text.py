"""Plain text: read as it is. Paragraphs are found in the text itself; form feeds divide pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from carrel.retrieval.loaders.base import Loader
from carrel.retrieval.loaders.decoding import decode
from carrel.types import Document, Skipped

_TITLE = re.compile(r"\s*([^\n]{1,100})(?:\n[=\-~*#]{3,}[ \t]*)?\n[ \t]*\n")
_NO_TITLE = (".", ",", ":", ";", "!", "?")


class TextLoader(Loader):
    """Plain text, logs, and markup that reads well as it stands."""

    name = "text"
    suffixes = (
        *(".txt", ".text", ".log", ".rst", ".org", ".adoc", ".asciidoc", ".tex"),
        *(".ini", ".cfg", ".conf", ".toml", ".yaml", ".yml", ".xml", ".srt", ".vtt"),
    )
    media_type = "text/plain"

    def read(self, data: bytes, path: str) -> Iterator[Document | Skipped]:
        """Yield one document: the text as decoded."""
        text = decode(data, path)
        yield self.document(path, text, title=_title(text), pages=_pages(text))


def _title(text: str) -> str:
    match = _TITLE.match(text)
    line = match[1].strip() if match else ""
    return "" if line.endswith(_NO_TITLE) or not re.search(r"\w", line) else line


def _pages(text: str) -> list[int]:
    if "\f" not in text:
        return []
    return [0, *(match.end() for match in re.finditer("\f", text) if match.end() < len(text))]
