"""Results for people, as things that rich prints."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from carrel.app.console import clean, on_one_line, shown

if TYPE_CHECKING:
    from carrel.registry import Method
    from carrel.retrieval.doctor import Check
    from carrel.retrieval.store.documents import DocumentInfo
    from carrel.retrieval.trace import Trace
    from carrel.types import (
        Answer,
        Citation,
        Document,
        IngestReport,
        Ledger,
        LedgerEntry,
        Passage,
        Skipped,
        UnsupportedMark,
    )

LISTED = 10
_QUOTE_CHARACTERS = 600
_SNIPPET_CHARACTERS = 320
_ID_CHARACTERS = 160
_FIGURES_WIDTH = 34  # of the columns beside document and title, gaps included


def counted(number: int, what: str) -> str:
    """``1 document``, ``2,000 documents``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def make_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table in the style of all; numbers stand to the right."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        number = column in right
        table.add_column(column, justify="right" if number else "left", no_wrap=number, overflow="fold")
    return table


def _indented(item: RenderableType, by: int = 4) -> Padding:
    return Padding(item, (0, 0, 0, by), expand=False)


# -- answers ----------------------------------------------------------------------------------


def answer(found: Answer) -> Iterator[RenderableType]:
    """The answer and its citations."""
    yield _highlighted(found)
    yield from evidence(found.citations, found.unsupported)


def evidence(citations: Sequence[Citation], unsupported: Sequence[UnsupportedMark] = ()) -> Iterator[RenderableType]:
    """What was quoted, by the numbers of the passages, and the marks that nothing bears out."""
    for number in sorted({citation.number for citation in citations}):
        yield Text()
        yield Group(*_cited(number, [citation for citation in citations if citation.number == number]))
    if unsupported:
        yield Text()
    for mark in unsupported:
        sentence = clean(_shortened(" ".join(mark.sentence.split()), _QUOTE_CHARACTERS))
        yield Text.assemble((f"[{mark.number}] does not bear this out: ", "yellow"), f"“{sentence}”")


def _highlighted(found: Answer) -> Text:
    """The text; the words in it that answer stand out."""
    if found.abstained or not found.answers:
        return Text(clean(found.text), style="dim" if found.abstained else "bold")
    best = found.answers[0]
    before = " ".join(best.citation.quote[: best.start - best.citation.start].split())
    words = clean(" ".join(best.text.split()))
    text = Text(clean(found.text))
    start = text.plain.find(words, max(0, len(clean(before))))
    if start >= 0:
        text.stylize("bold green", start, start + len(words))
    return text


def _cited(number: int, citations: Sequence[Citation]) -> Iterator[RenderableType]:
    """All that was quoted under one number: a passage can be quoted more than once."""
    first = citations[0]
    title = first.title or shown(first.source or first.document_id)
    yield Text.assemble((f"[{number}] ", "bold cyan"), clean(" ".join(title.split())))
    for citation in citations:
        yield _indented(Text(_place(citation), style="cyan"))
        quote = _shortened(citation.quote.strip(), _QUOTE_CHARACTERS)
        yield _indented(Text(f"“{clean(quote)}”", style="italic"))


def _place(found: Citation | Passage) -> str:
    """Document, page and characters."""
    page = [] if found.page is None else [f"page {found.page}"]
    return ", ".join([shown(found.document_id), *page, f"characters {found.start:,}–{found.end:,}"])


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most].rsplit(maxsplit=1)[0] + " …"


def ledger(found: Ledger) -> Group:
    """What every stage took in and gave out, its time and its reason."""
    table = make_table("stage", "in", "out", "tokens", "ms", "reason", right=("in", "out", "tokens", "ms"))
    for entry in found.entries:
        table.add_row(
            entry.stage,
            f"{entry.items_in:,}",
            f"{entry.items_out:,}",
            _tokens(entry),
            f"{1000 * entry.seconds:.1f}",
            clean(entry.reason or _details(entry)),
        )
    table.add_row("total", "", "", "", f"{1000 * found.seconds:.1f}", "", style="bold")
    return Group(Text(), table, Text(f"Tokens counted with {found.tokenizer}.", style="dim"))


def _tokens(entry: LedgerEntry) -> str:
    if entry.tokens_in is None:
        return "" if entry.tokens_out is None else f"{entry.tokens_out:,}"
    return f"{entry.tokens_in:,} → {entry.tokens_out or 0:,}"


def _details(entry: LedgerEntry) -> str:
    return ", ".join(f"{key} {value}" for key, value in entry.details.items() if isinstance(value, str))


def passages(found: Sequence[Passage], *, explain: bool) -> Iterator[RenderableType]:
    """Search results: place, score, where it stands, and how it begins."""
    for number, passage in enumerate(found, start=1):
        if number > 1:
            yield Text()
        title = (passage.prefix.partition("\n")[0] or passage.title).strip()
        head = Text.assemble((f"{number}. ", "bold cyan"), (clean(title), "bold"))
        snippet = " ".join(" … ".join(passage.pieces).split())
        yield Group(
            head,
            _indented(Text.assemble((_place(passage), "cyan"), (f"  {_score(passage)}", "dim"))),
            *([_indented(Text(_all_scores(passage), style="dim"))] if explain else []),
            _indented(Text(clean(_shortened(snippet, _SNIPPET_CHARACTERS)))),
        )


def _score(passage: Passage) -> str:
    """The score that ranked it: the last that was given."""
    scores = passage.scores
    ranked = (scores.relevance, scores.rank_fused, scores.fused, scores.dense, scores.lexical)
    return next((f"score {score:.3f}" for score in ranked if score is not None), "")


def _all_scores(passage: Passage) -> str:
    names = ("dense", "lexical", "fused", "rank_fused", "relevance")
    given = ((name, getattr(passage.scores, name)) for name in names)
    return ", ".join(f"{name} {score:.3f}" for name, score in given if score is not None)


def trace(found: Trace) -> Iterator[RenderableType]:
    """The way of one document through the stages."""
    yield Text.assemble((shown(found.document_id), "bold cyan"), "  asked: ", (clean(found.question), "italic"))
    yield Text()
    table = Table.grid(padding=(0, 2, 0, 0))
    for step in found.steps:
        mark = Text("kept", style="green") if step.kept else Text("out", style="bold red")
        table.add_row(_indented(Text(step.stage), 2), mark, Text(_shorter_paths(clean(step.message)), overflow="fold"))
    yield table
    yield Text()
    if found.fell_out_at is not None:
        yield Text(f"Not in the context: it fell out at {found.fell_out_at}.", style="bold")
        return
    yield Text(f"In the context with {counted(len(found.passages), 'passage')}:", style="bold")
    for passage in found.passages:
        yield _indented(Text(_place(passage), style="cyan"), 2)


def _shorter_paths(message: str) -> str:
    return message.replace(os.path.join(os.getcwd(), ""), "")


# -- documents --------------------------------------------------------------------------------


def _middle_cut(id: str) -> str:  # noqa: A002
    """An id for a column of its own: of a very long one, how it begins and ends."""
    half = _ID_CHARACTERS // 2
    return id if len(id) <= _ID_CHARACTERS else f"{id[:half]} … {id[-half:]}"


def documents(found: Sequence[DocumentInfo], width: int) -> Table:
    """One line a document: where room is short, it is the title that is cut."""
    figures = ("characters", "chunks", "changed")
    table = make_table("document", "title", *figures, right=figures)
    longest = max((len(_middle_cut(shown(info.id))) for info in found), default=0)
    titles = table.columns[1]
    titles.no_wrap, titles.overflow, titles.max_width = True, "ellipsis", max(12, width - longest - _FIGURES_WIDTH)
    for info in found:
        id = _middle_cut(shown(info.id))  # noqa: A001
        title = "" if info.title == info.id else clean(" ".join(info.title.split()))
        changed = _day(info.added_at if info.modified_at is None else info.modified_at)
        table.add_row(id, title, f"{info.characters:,}", f"{info.chunks:,}", changed)
    return table


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d")


def document_head(found: Document) -> Table:
    """What is known of a document, line by line."""
    table = Table.grid(padding=(0, 2, 0, 0))
    length, pages = counted(len(found.text), "character"), counted(len(found.pages), "page")
    rows = [
        ("id", shown(found.id)),
        ("title", clean(found.title)),
        ("source", shown(found.source) if found.source != found.id else ""),
        ("type", f"{found.media_type}, read by {found.extractor}" if found.extractor else found.media_type),
        ("length", f"{length}, {pages}" if found.pages else length),
        ("changed", "" if found.modified_at is None else _day(found.modified_at)),
        *((key, clean(_value(value))) for key, value in found.metadata.items()),
    ]
    for name, value in rows:
        if value:
            table.add_row(Text(clean(name), style="cyan"), Text(value, overflow="fold"))
    return table


def _value(value: object) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)


# -- ingest -----------------------------------------------------------------------------------


def report(found: IngestReport, library: str, *, verbose: bool) -> Iterator[RenderableType]:
    """The closing summary of add and sync."""
    kinds = (("added", found.added), ("updated", found.updated), ("unchanged", found.unchanged))
    counts = [f"{len(ids):,} {name}" for name, ids in kinds if ids or name == "added"]
    counts += [f"{len(ids):,} {name}" for name, ids in (("removed", found.removed), ("skipped", found.skipped)) if ids]
    if found.planned:
        yield Text(f"Nothing was written. This is what would be done: {', '.join(counts)}.", style="bold")
        yield from _plan(found, verbose)
    else:
        documents = len(found.added) + len(found.updated) + len(found.unchanged)
        rate = f", {documents / found.seconds:,.0f} documents/s" if found.seconds > 0 and documents > 1 else ""
        chunks = f"{counted(found.chunks, 'chunk')} in " if found.chunks else ""
        figures = f" {chunks}{found.seconds:.1f} s{rate}. Library: {clean(library)}"
        yield Text.assemble((f"{', '.join(counts)}.", "bold"), (figures, "dim"))
    reasons = Counter(item.reason for item in found.skipped)
    rare_first = sorted(found.skipped, key=lambda item: reasons[item.reason])
    yield from _listed("skipped", [skipped(item) for item in rare_first], verbose)


def skipped(found: Skipped) -> str:
    """What was skipped, and why; the name stands there once."""
    reason = found.reason
    for name in (found.id, os.path.basename(found.id)):
        for mark in (": ", ", ", " "):
            reason = reason.removeprefix(name + mark)
    return f"{shown(found.id)}: {on_one_line(_shorter_paths(reason))}"


def _plan(found: IngestReport, verbose: bool) -> Iterator[RenderableType]:
    for name, ids in (("add", found.added), ("update", found.updated), ("remove", found.removed)):
        yield from _listed(name, [shown(id) for id in ids], verbose)  # noqa: A001


def _listed(name: str, lines: Sequence[str], verbose: bool) -> Iterator[RenderableType]:
    if not lines:
        return
    most = len(lines) if verbose else LISTED
    yield Text(f"{name}:", style="yellow" if name == "skipped" else "")
    for line in lines[:most]:
        yield _indented(Text(line, overflow="fold"), 2)
    if len(lines) > most:
        yield _indented(Text(f"and {len(lines) - most:,} more; see all with --verbose or --json", style="dim"), 2)


# -- the library ------------------------------------------------------------------------------


def checks(found: Iterable[Check]) -> Table:
    """What doctor found, and what to do."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for check in found:
        mark = Text("ok", style="green") if check.ok else Text("problem", style="bold red")
        message = Text(clean(check.message), overflow="fold")
        if check.remedy:
            message.append(f"\nto do: {clean(check.remedy)}", style="yellow")
        table.add_row(mark, check.name, message)
    return table


def methods(found: Sequence[Method]) -> Table:
    """The methods, by kind."""
    table = make_table("kind", "name", "idea", "source")
    before = ""
    for method in found:
        kind = "" if method.kind == before else method.kind
        table.add_row(kind, method.name, method.idea.replace("``", ""), Text(method.citation, style="dim"))
        before = method.kind
    return table
