"""Citations are checked against the source before anyone sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from carrel.errors import DocumentNotFoundError
from carrel.types import Citation, Context, Document


def verified(citations: Sequence[Citation], read: Callable[[str], Document], context: Context) -> tuple[Citation, ...]:
    """The citations whose quote stands in the document at the place they name, inside a passage of the context.

    A quote that cannot be found is dropped: an answer with fewer citations beats one with a false one.
    """
    texts: dict[str, str | None] = {}
    out: list[Citation] = []
    for citation in citations:
        if citation.document_id not in texts:
            try:
                texts[citation.document_id] = read(citation.document_id).text
            except DocumentNotFoundError:  # removed while the answer was written
                texts[citation.document_id] = None
        text = texts[citation.document_id]
        if text is None or not citation.quote or text[citation.start : citation.end] != citation.quote:
            continue
        number = _number(citation, context)
        if number is not None:
            out.append(citation)
    return tuple(out)


def _number(citation: Citation, context: Context) -> int | None:
    """The number of the passage that holds the citation, when it is the one that it names."""
    if not 1 <= citation.number <= len(context.passages):
        return None
    passage = context.passages[citation.number - 1]
    inside = passage.start <= citation.start and citation.end <= passage.end
    return citation.number if passage.document_id == citation.document_id and inside else None
