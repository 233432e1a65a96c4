"""What is remembered, as things that rich prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from carrel.app.console import clean, on_one_line
from carrel.app.rendering import counted, make_table

if TYPE_CHECKING:
    from carrel.memory import Note, Recollection, Session, StoredTurn

_TEXT_CHARACTERS = 300


def _minute(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):  # years that a calendar does not have
        return f"{seconds:.0f} s"


def _shortened(text: str) -> Text:
    line = " ".join(text.split())
    return Text(clean(line if len(line) <= _TEXT_CHARACTERS else line[:_TEXT_CHARACTERS] + " …"), overflow="fold")


def turns(found: Sequence[StoredTurn]) -> Table:
    """One line a turn."""
    drawn = make_table("id", "said", "session", "speaker", "text", right=("id",))
    for turn in found:
        drawn.add_row(
            f"{turn.id}", _minute(turn.said_at), on_one_line(turn.session), on_one_line(turn.speaker),
            _shortened(turn.text),
        )  # fmt: skip
    return drawn


def sessions(found: Sequence[Session]) -> Table:
    """One line a conversation."""
    drawn = make_table("session", "turns", "first", "last", right=("turns",))
    for session in found:
        drawn.add_row(on_one_line(session.name), f"{session.turns:,}", _minute(session.first), _minute(session.last))
    return drawn


def notes(found: Sequence[Note]) -> Table:
    """One line a note."""
    drawn = make_table("id", "said", "kind", "subject", "text", "from turns", right=("id",))
    for note in found:
        of = ", ".join(map(str, note.turns))
        drawn.add_row(
            f"{note.id}", _minute(note.said_at), note.kind, on_one_line(note.subject), _shortened(note.text), of
        )
    return drawn


DRAWN: dict[str, Callable[[Any], Table]] = {"turn": turns, "conversation": sessions, "note": notes}
"""What is listed, by what one of it is called."""


def parts(found: Recollection) -> list[str]:
    """What a recollection puts into a prompt, in its order."""
    recent = "\n".join(f"{turn.role}: {turn.text}" for turn in found.recent)
    return [part for part in (found.stable, recent, found.text) if part]


def explained(found: Recollection) -> Iterator[RenderableType]:
    """What was recalled, why, and how sure it is."""
    if found.rewritten != found.query:
        yield Text.assemble("looked up as: ", (clean(found.rewritten), "italic"))
    need = "" if found.needed else "memory does not seem to be needed; "
    yield Text(
        f"{need}{found.tokens:,} of {found.budget:,} tokens, {counted(len(found.recent), 'last turn')},"
        f" {counted(len(found.recalled), 'thing')} recalled; answerable {found.answerable:.2f}",
        style="dim",
    )
    drawn = make_table("score", "ids", "said", "text", "why", right=("score",))
    for each in found.recalled:
        ids = ", ".join(f"{turn.id}" for turn in each.turns)
        text = each.note.text if each.note else " / ".join(f"{turn.speaker}: {turn.text}" for turn in each.turns)
        said = _minute(each.turns[0].said_at) if each.turns else ""
        older = f"{counted(len(each.superseded), 'older turn')} otherwise" if each.superseded else ""
        why = "; ".join(part for part in (each.reason, older) if part)
        drawn.add_row(f"{each.score:.2f}", ids, said, _shortened(text), Text(clean(why), style="dim"))
    if found.recalled:
        yield drawn
