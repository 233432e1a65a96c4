"""What a document must be to be stored; one that is not fails alone and never stops the others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace

from carrel.errors import DocumentError
from carrel.inputs import well_formed
from carrel.types import Block, Document

_TEXTS = ("id", "text", "title", "source", "media_type", "extractor")


def storable(document: Document) -> Document:
    """The document, with halves of surrogate pairs in its text and title replaced by U+FFFD.

    Raises
    ------
    DocumentError : it cannot be stored; the text says what of it is wrong.
    """
    _check_types(document)
    if "\0" in document.id:
        raise DocumentError("its id holds NUL characters")
    if not document.id.strip():
        raise DocumentError("it has no id: give Document(id=...) a name that is unique in the collection")
    if not document.text.strip():
        raise DocumentError("it holds no text")
    if "\x00" in document.text:
        raise DocumentError("its text holds NUL characters, so it is probably not text")
    try:
        for text in (document.id, document.source, document.media_type, document.extractor):
            text.encode("utf-8")
        json.dumps(dict(document.metadata), ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError) as error:  # halves of surrogate pairs, dates, NaN
        raise DocumentError(f"it cannot be stored: {error}") from error
    text, title = well_formed(document.text), well_formed(document.title)
    return document if (text, title) == (document.text, document.title) else replace(document, text=text, title=title)


def _check_types(document: Document) -> None:
    for name in _TEXTS:
        _check(name, getattr(document, name), "a text", isinstance(getattr(document, name), str))
    facts, when, pages, blocks = document.metadata, document.modified_at, document.pages, document.blocks
    named = isinstance(facts, Mapping) and all(isinstance(key, str) for key in facts)
    _check("metadata", facts, "a mapping of names to values", named)
    _check("modified_at", when, "a number (seconds since 1970) or None", when is None or _is_finite(when))
    _check("pages", pages, "a tuple of offsets", isinstance(pages, tuple) and all(_is_offset(page) for page in pages))
    length, end = len(document.text), 0
    _check("blocks", blocks, "a tuple of Blocks", isinstance(blocks, tuple))
    for block in blocks:
        fits = isinstance(block, Block) and _is_offset(block.start) and _is_offset(block.end)
        fits = fits and end <= block.start <= block.end <= length
        _check("blocks", block, "Blocks inside the text, in order", fits)
        end = block.end


def _check(field: str, value: object, wanted: str, fits: bool) -> None:
    if not fits:
        raise DocumentError(f"its {field} must be {wanted}, not {value!r:.100}")


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_offset(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
