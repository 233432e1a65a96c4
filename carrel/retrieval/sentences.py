"""Sentence boundaries, as offsets: the spans tile the text, so nothing is lost or rewritten."""

from __future__ import annotations

import re

from carrel.types import Span

# Letters of scripts without capitals: Hebrew, Arabic, those of India, East Asian.
_CASELESS = r"\u05d0-\u07ff\u0900-\u0dff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
# A closing mark, quotes or brackets after it, then space and something that can open a sentence;
# or an East Asian full stop; or a line that ends a paragraph or begins a list item; or a heading of Markdown with
# prose right under it.
_BOUNDARY = re.compile(
    rf"""(?<![.!?…؟۔।])[.!?…؟۔।]+[”’"')\]]*(?:\[\d+\])*(?P<space>\s+)(?=[“‘"'(\[]*[A-Z0-9À-ÖØ-ÞΑ-ΩА-Я¿¡{_CASELESS}])
    |[。！？]+[」』”’）]*(?P<cjk>\s*)
    |(?P<line>\n\s*\n\s*|\n(?=\s*(?:[-*•]|\d{{1,3}}[.)])\s))
    |(?:\A|(?<=\n\n))\#{{1,6}}[ \t][^\n]*(?P<heading>\n)(?=[A-ZÀ-ÖØ-ÞΑ-ΩА-Я{_CASELESS}][\w’']*[ ,])""",
    re.VERBOSE,
)
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st gen col lt capt sgt rev hon gov sen rep no nos vs etc fig figs eq eqs sec ch vol pp"
    " ed eds al inc ltd co corp jan feb mar apr jun jul aug sep sept oct nov dec ca approx dept est cf viz ie eg"
    " i.e e.g u.s u.k u.n a.m p.m ph.d b.c a.d d.c".split()
)
_LAST_WORD = re.compile(r"[\w.]+$")
_LIST_NUMBER = re.compile(r"\d{1,3}[.)]\s")
_LINE_START = re.compile(r"(?:^|\n)[^\S\n]*$")


def _abbreviated(text: str, stop: int) -> bool:
    """Whether the full stop at ``stop`` belongs to an abbreviation, an initial or the number of a list item."""
    if text[stop] != ".":
        return False
    found = _LAST_WORD.search(text, max(0, stop - 12), stop)
    if found is None:
        return False
    word = found.group()
    if word.isdecimal() and len(word) <= 3:
        return _LINE_START.search(text[max(0, found.start() - 16) : found.start()]) is not None
    return (len(word) == 1 and word.isupper() and word != "I") or word.lower() in _ABBREVIATIONS


def _breaks(text: str, space: str, end: int) -> bool:
    """Whether the white space that ends at ``end`` parts paragraphs or list items, whatever stands before it."""
    return space.count("\n") > 1 or ("\n" in space and _LIST_NUMBER.match(text, end) is not None)


def split_sentences(text: str, start: int = 0, end: int | None = None) -> list[Span]:
    """Spans of the sentences of ``text[start:end]``; each keeps the white space that follows it.

    Parameters
    ----------
    text, start, end : the text, and the part of it to split (character offsets).

    Returns
    -------
    Spans that tile ``[start, end)``; empty when the range is.
    """
    end = len(text) if end is None else end
    spans: list[Span] = []
    position = start
    for match in _BOUNDARY.finditer(text, start, end):
        space = match.group("space")
        if space is not None and not _breaks(text, space, match.end()) and _abbreviated(text, match.start()):
            continue
        if not text[position : match.end()].strip():
            continue
        spans.append(Span(position, match.end()))
        position = match.end()
    if position < end:
        if spans and not text[position:end].strip():
            spans[-1] = Span(spans[-1].start, end)
        else:
            spans.append(Span(position, end))
    return spans
