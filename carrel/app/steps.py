"""The steps of a flow that was run, a line each: its trace, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from carrel.app import rendering
from carrel.app.console import clean, shown

if TYPE_CHECKING:
    from carrel.agents import Run, Trace


def figures(ended: Run[Any]) -> str:
    """What a run took: calls, tokens, and seconds."""
    asks = ended.trace.asks
    parts = [
        rendering.counted(len(asks), "call"),
        f"{ended.usage.total_tokens:,} tokens",
        f"{ended.trace.seconds:.1f} s",
    ]
    if kept := sum(ask.replayed for ask in asks):
        parts.insert(1, f"{kept} of them from the journal")
    return ", ".join(parts)


def explained(ended: Run[Any], question: str) -> Iterator[Table | Text]:
    """Every step with its tokens and seconds, a line each, and why the way was taken where the flow chose one."""
    for entry in getattr(getattr(ended.result, "ledger", None), "entries", ()):
        if entry.reason:
            yield Text(clean(f"{entry.stage}: {entry.reason}"), style="italic")
            yield Text()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("step")
    rows = [(_labelled(branch, step, question), *_counted(step)) for branch, step in _branches(ended.trace)]
    for place, heading in enumerate(("tokens in", "out", "seconds"), start=1):
        width = max(len(heading), *(len(str(row[place])) for row in rows))
        table.add_column(heading, justify="right", no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*row)
    yield table
    yield Text(figures(ended), style="dim")


def _branches(trace: Trace) -> Iterator[tuple[str, Trace]]:
    """Each step in order, with the lines of the tree that lead to it."""
    waiting = [(trace, "", "")]
    while waiting:
        step, branch, below = waiting.pop()
        yield branch, step
        for place in range(len(step.children) - 1, -1, -1):
            is_last = place == len(step.children) - 1
            ends = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
            waiting.append((step.children[place], below + ends[0], below + ends[1]))


def _counted(step: Trace) -> tuple[str, str, str]:
    tokens = (f"{step.tokens_in:,}", f"{step.tokens_out:,}") if step.kind == "ask" else ("", "")
    return *tokens, f"{step.seconds:.3f}"


def _labelled(branch: str, step: Trace, question: str) -> Text:
    """A step in a few words: the question is left out where it is the one that all ask."""
    what = (clean(step.name.lstrip("_") or step.kind), "bold" if step.name else "")
    label = Text.assemble((branch, "dim"), what, no_wrap=True, overflow="ellipsis")  # cut where room is short
    if step.replayed:
        label.append("  from the journal", "green")
    if step.error:
        label.append(f"  {clean(' '.join(step.error.split()))}", "red")
    kind, _, asked = step.note.partition(": ")
    is_known = step.kind == "ask" and bool(asked) and " ".join(question.split()).startswith(asked.rstrip("…"))
    if said := kind if is_known else step.note:
        label.append(f"  {shown(said)}", "cyan")
    return label
