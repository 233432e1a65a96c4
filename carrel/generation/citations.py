"""Citations are checked against the source before anyone sees them, and so are the marks that point to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from carrel.errors import DocumentNotFoundError
from carrel.types import Citation, Context, Document, page_at

# Code is no place for marks; ``[1](...)`` is a link, and four digits are a year.
_MARK = re.compile(
    r"```.*?```|`[^`\n]*`|(?<!\\)\[(?P<numbers>\d{1,3}(?:\s{0,2},\s{0,2}\d{1,3})*)\](?!\()", re.DOTALL | re.ASCII
)
_NUMBER = re.compile(r"\d+", re.ASCII)
_SPACES = " \t\u00a0\u202f"


def verified(citations: Sequence[Citation], read: Callable[[str], Document], context: Context) -> tuple[Citation, ...]:
    """The citations whose quote stands in the document at the place they name, inside a passage of the context.

    A quote that cannot be found is dropped: an answer with fewer citations beats one with a false one.
    The page is that of the quote's first character, whatever page the citation came with.
    """
    documents: dict[str, Document | None] = {}
    out: list[Citation] = []
    for citation in citations:
        if citation.document_id not in documents:
            try:
                documents[citation.document_id] = read(citation.document_id)
            except DocumentNotFoundError:  # removed while the answer was written
                documents[citation.document_id] = None
        document = documents[citation.document_id]
        if document is None or not citation.quote:
            continue
        if document.text[citation.start : citation.end] == citation.quote and _is_inside(citation, context):
            out.append(replace(citation, page=page_at(document.pages, citation.start)))
    return tuple(out)


def _is_inside(citation: Citation, context: Context) -> bool:
    """Whether the passage that it names holds it."""
    if not 1 <= citation.number <= len(context.passages):
        return False
    passage = context.passages[citation.number - 1]
    inside = passage.start <= citation.start and citation.end <= passage.end
    return passage.document_id == citation.document_id and inside


def without_dangling_marks(
    text: str, given: Iterable[Citation], found_true: Sequence[Citation], passages: int
) -> tuple[str, int]:
    """The text without the marks that lead nowhere, and how many they were.

    A mark such as ``[7]`` leads nowhere when the context has no passage of that number, or when what was cited
    under it was not found in the source. Brackets inside a quotation are the source's own and stay.

    Parameters
    ----------
    given : the citations that came with the text.
    found_true : those of them that were verified.
    passages : how many the context has.
    """
    true = {citation.number for citation in found_true}
    false = {citation.number for citation in given} - true
    quoted = set(_quoted_brackets(text, found_true))
    out: list[str] = []
    last, position, removed = "", 0, 0  # last: the character that the text so far ends with
    for match in _MARK.finditer(text):
        if match["numbers"] is None or match.start() in quoted:
            continue
        numbers = _NUMBER.findall(match["numbers"])
        kept = [number for number in numbers if 1 <= int(number) <= passages and int(number) not in false]
        if len(kept) == len(numbers):
            continue
        removed += len(numbers) - len(kept)
        before, position = text[position : match.start()], match.end()
        if kept:
            before += f"[{', '.join(kept)}]"
        elif (before.rstrip(_SPACES) or last)[-1:] in ("", "\n"):  # it began the line
            while text[position : position + 1] in (*_SPACES,):
                position += 1
        elif not text[position : position + 1].isalnum():
            before = before.rstrip(_SPACES)
        out.append(before)
        last = before[-1:] or last
    return "".join([*out, text[position:]]), removed


def _quoted_brackets(text: str, citations: Iterable[Citation]) -> Iterator[int]:
    """Where brackets stand that belong to a quotation, as it is in the source or on one line."""
    quotes = {quote for citation in citations for quote in (citation.quote, " ".join(citation.quote.split()))}
    for quote in quotes:
        brackets = [offset for offset, character in enumerate(quote) if character == "["]
        start = text.find(quote) if brackets else -1
        while start >= 0:
            yield from (start + offset for offset in brackets)
            start = text.find(quote, start + 1)
