"""Citations are checked against the source before anyone sees them, and so are the marks that point to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from carrel.errors import DocumentNotFoundError
from carrel.generation.marks import SPACES, find_runs
from carrel.retrieval.merging import trimmed
from carrel.types import Citation, Context, Document, Passage, ShortAnswer, page_at


def cite(passage: Passage, number: int, start: int, end: int) -> Citation:
    """A citation of what stands in a passage between two offsets of its document, without white space around it."""
    span, quote = trimmed(start, passage.text[start - passage.start : end - passage.start])
    return Citation(
        number=number,
        document_id=passage.document_id,
        start=span.start,
        end=span.end,
        quote=quote,
        title=passage.title,
        source=passage.source,
        page=page_at(passage.pages, span.start),
    )


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


def verified_answers(
    answers: Sequence[ShortAnswer], read: Callable[[str], Document], context: Context
) -> tuple[ShortAnswer, ...]:
    """The short answers that stand in the document where they say, in a sentence that is cited rightly."""
    out: list[ShortAnswer] = []
    for answer in answers:
        sentences = verified([answer.citation], read, context)
        if not sentences:
            continue
        [sentence] = sentences
        inside = sentence.start <= answer.start and answer.end <= sentence.end
        if inside and answer.text and sentence.quote[answer.start - sentence.start :].startswith(answer.text):
            out.append(replace(answer, citation=sentence))
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
) -> tuple[str, int, int]:
    """The text without the marks that lead nowhere; how many were taken out, and how many are still there.

    A mark such as ``[7]`` leads nowhere when the context has no passage of that number, or when what was cited
    under it was not found in the source. It is taken out only where it can be nothing but a mark; what may as well
    be a value (``lies in [2, 20]``), and ``[1, 7]``, where one number is good, stays and is counted. Brackets
    inside a quotation are the source's own.

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
    position, removed, left = 0, 0, 0
    for run in find_runs(text):
        kept: list[int] = []
        for index, mark in enumerate(run):
            dangling = sum(not 1 <= number <= passages or number in false for number in mark.numbers)
            dangling = 0 if mark.start in quoted else dangling
            if dangling and dangling == len(mark.numbers) and mark.is_plain:
                removed += dangling
            else:
                left += dangling
                kept.append(index)
        if len(kept) < len(run):
            before, position = text[position : run[0].start], run[-1].end
            spaces = ["", *(text[run[index - 1].end : run[index].start] for index in kept[1:])]
            marks = [text[run[index].start : run[index].end] for index in kept]
            out += [before if kept else before.rstrip(SPACES), *map("".join, zip(spaces, marks, strict=False))]
    return "".join([*out, text[position:]]), removed, left


def _quoted_brackets(text: str, citations: Iterable[Citation]) -> Iterator[int]:
    """Where brackets stand that belong to a quotation, as it is in the source or on one line."""
    quotes = {quote for citation in citations for quote in (citation.quote, " ".join(citation.quote.split()))}
    for quote in quotes:
        brackets = [offset for offset, character in enumerate(quote) if character == "["]
        start = text.find(quote) if brackets else -1
        while start >= 0:
            yield from (start + offset for offset in brackets)
            start = text.find(quote, start + 1)
