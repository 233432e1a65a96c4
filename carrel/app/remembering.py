"""Commands on the memory of conversations: observe, recall, list, import and forget."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrel.app import options as given
from carrel.app import recollections
from carrel.app.console import emit, note, show, show_text, stderr
from carrel.app.failing import Code
from carrel.app.place import Place
from carrel.app.progress import shown_progress
from carrel.app.rendering import counted
from carrel.errors import InputError, StoreNotFoundError
from carrel.inputs import check_source, well_formed

if TYPE_CHECKING:
    from carrel.memory import ConversationMemory, Utterance

_WHO = "Whose memory"
User = Annotated[
    str,
    typer.Option("--user", "-u", metavar="NAME", envvar="CARREL_USER", help="Whose memory.", rich_help_panel=_WHO),
]
Session = Annotated[
    str,
    typer.Option("--session", "-s", metavar="NAME", help="Which conversation.", rich_help_panel=_WHO),
]
Tenant = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose users.", rich_help_panel=_WHO)]
When = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="DATE", help="When it was said, such as 2024-05-31 or 2024-05-31T14:05. Default: now."
    ),
]
Since = Annotated[str | None, typer.Option("--since", metavar="DATE", help="Only what was said from this date on.")]
Before = Annotated[str | None, typer.Option("--before", metavar="DATE", help="Only what was said before this date.")]
USER, SESSION = "me", "default"


@contextmanager
def _opened(place: Place, user: str, session: str, *, make: bool = False) -> Iterator[ConversationMemory]:
    """The memory, in a library that is there, or is made."""
    if not make and not place.exists:
        command = 'carrel memory observe "I keep bees."'
        where = "" if str(place.path) == ".carrel" else f" --library {place.path}"
        raise StoreNotFoundError(
            f"there is no library at {place.path}, so nothing was said yet. Begin with: {command}{where}"
        )
    opening = place.to_fill() if make else place.to_change()
    with opening as library:
        yield library.memory(user=user, session=session)


def _embed(memory: ConversationMemory, quiet: bool) -> None:
    """Wait for the vectors of turns that have none yet; tell how far it has come where there are many."""
    with shown_progress(quiet) as tell:
        left = total = memory.status().unembedded
        while left and not memory.flush(0.5):
            status = memory.status()
            if status.failure and not memory.flush(0):
                note(f"{counted(status.unembedded, 'turn')} could not be embedded: {status.failure}")
                return
            left = status.unembedded
            tell("embedding turns", total - left, total, f"{total - left:,} of {total:,}")


def observe(
    text: Annotated[list[str], typer.Argument(metavar="TEXT", help="What was said; - reads it from stdin.")],
    speaker: Annotated[str, typer.Option("--speaker", metavar="NAME", help="Who said it.")] = "user",
    at: When = None,
    user: User = USER,
    session: Session = SESSION,
    library: given.LibraryPath = given.LIBRARY,
    tenant: Tenant = "local",
    as_json: given.AsJson = False,
) -> None:
    """Keep something that was said.

    It is safe when the command returns. The next recall makes its vector.
    """
    said = sys.stdin.read() if text == ["-"] else given.joined(text)
    with _opened(Place(library, tenant), user, session, make=True) as memory:
        turn = memory.observe(said, speaker=speaker, said_at=_time("--at", at))
        memory.stream.embedder.stop()  # before it has begun: to load the model takes longer than all else
    if as_json:
        emit({"turn": asdict(turn)})
    else:
        show(f"Kept as turn {turn.id} of the user {user!r}, in the conversation {session!r}.")


def recall(
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="Quotes around it are optional.")],
    budget: Annotated[int, typer.Option("--budget", "-b", metavar="TOKENS", help="Tokens at most.")] = 1000,
    at: Annotated[
        str | None, typer.Option("--at", metavar="DATE", help='When it is asked, for "last May"; now if left out.')
    ] = None,
    read: Annotated[bool, given.flag("--read", help="Have the reader read the best turns: slower, surer.")] = False,
    explain: Annotated[bool, given.flag("--explain", help="Show what was found, with scores, newest last.")] = False,
    user: User = USER,
    session: Session = SESSION,
    library: given.LibraryPath = given.LIBRARY,
    tenant: Tenant = "local",
    encoder: given.EncoderName = None,
    as_json: given.AsJson = False,
) -> None:
    """Print what the memory holds for a query, inside a token budget, ready for a prompt.

    The last turns of the conversation come with what is found in all of them. When nothing is found, it says so and
    exits with 3.
    """
    with _opened(Place(library, tenant, encoder=encoder), user, session) as memory:
        _embed(memory, quiet=as_json)
        found = memory.recall(given.joined(query), budget=budget, now=_time("--at", at), reader=read)
        empty = not memory.turns(last=1)
    if as_json:
        emit(asdict(found))
    elif explain:
        show(*recollections.explained(found))
    else:
        parts = recollections.parts(found)
        if parts:
            show_text("\n\n".join(parts))
            if found.needed and not found.holds_answer:
                note("Nothing in it seems to answer the question.")
        elif empty:
            note(f"Nothing was said by the user {user!r} yet. Name another with --user.")
        else:
            note("Nothing that was said seems to be of use here.")
    if not (found.text or found.stable or found.recent):
        raise typer.Exit(Code.NO_ANSWER)


def list_turns(
    last: Annotated[int | None, typer.Option("--last", "-k", metavar="N", help="Only the last turns.")] = None,
    since: Since = None,
    before: Before = None,
    session: Annotated[
        str | None,
        typer.Option("--session", "-s", metavar="NAME", help="Only this conversation.", rich_help_panel=_WHO),
    ] = None,
    sessions: Annotated[bool, given.flag("--sessions", help="List the conversations instead.")] = False,
    notes: Annotated[bool, given.flag("--notes", help="List what was written about the turns instead.")] = False,
    user: User = USER,
    library: given.LibraryPath = given.LIBRARY,
    tenant: Tenant = "local",
    as_json: given.AsJson = False,
) -> None:
    """List what was said, in the order of time."""
    start, end = _time("--since", since), _time("--before", before)
    found: Sequence[Any]
    with _opened(Place(library, tenant), user, SESSION) as memory:
        if sessions:
            what, found = "conversation", memory.sessions()
        elif notes:
            what, found = "note", memory.notes()
        else:
            what, found = "turn", memory.turns(session=session, since=start, before=end, last=last)
    if as_json:
        emit({"user": user, f"{what}s": [asdict(each) for each in found]})
        return
    if found:
        show(recollections.DRAWN[what](found))
    note(f"{counted(len(found), what)} of {user}")


def import_turns(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON Lines with text, and perhaps speaker, said_at and session.")
    ],
    user: User = USER,
    session: Session = SESSION,
    library: given.LibraryPath = given.LIBRARY,
    tenant: Tenant = "local",
    encoder: given.EncoderName = None,
    as_json: given.AsJson = False,
) -> None:
    """Keep the turns of a file, one JSON object a line.

    said_at is a date, or seconds since 1970. Of a file with a faulty line nothing is kept. What is imported twice is
    there twice.
    """
    path = check_source("the file to import", file)
    with _opened(Place(library, tenant, encoder=encoder), user, session, make=True) as memory:
        with shown_progress(as_json) as tell:
            ids = memory.observe_many(
                list(_utterances(path)), progress=lambda done: tell("keeping turns", done, None, counted(done, "turn"))
            )
        _embed(memory, quiet=as_json)
    if as_json:
        emit({"user": user, "turns": len(ids), "first": ids[0] if ids else None, "last": ids[-1] if ids else None})
    else:
        show(f"Kept {counted(len(ids), 'turn')} of {user}.")


def forget(
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID", help="Turns, by the ids that list shows.")] = None,
    matching: Annotated[
        str | None,
        typer.Option(
            "--matching", metavar="WORDS", help="Every turn with these words one after another, whatever their case."
        ),
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", "-s", metavar="NAME", help="All of a conversation.")
    ] = None,
    everything: Annotated[bool, given.flag("--everything", help="All that is known of the user.")] = False,
    dry_run: Annotated[bool, given.flag("--dry-run", help="Only show what would go.")] = False,
    purge: Annotated[bool, given.flag("--purge", help="Also erase the bytes from the library's files.")] = False,
    yes: Annotated[bool, given.flag("--yes", help="Do not ask.")] = False,
    user: User = USER,
    library: given.LibraryPath = given.LIBRARY,
    tenant: Tenant = "local",
    as_json: given.AsJson = False,
) -> None:
    """Forget turns, with their vectors and all that was written from them.

    Nothing gives them back afterwards, from any process. It shows what would go, and asks first.
    """
    chosen: dict[str, Any] = {"turn": ids or None, "matching": matching, "session": session, "user": everything}
    if sum(bool(each) for each in chosen.values()) != 1:
        raise InputError("say what to forget: ids of turns, --matching WORDS, --session NAME, or --everything")
    with _opened(Place(library, tenant), user, SESSION) as memory:
        plan = memory.forget(**chosen, dry_run=True)
        missing = sorted(set(ids or ()) - set(plan.turns))
        if missing:
            raise InputError(f"{user} has no turn {missing[0]}. See them with: carrel memory list --user {user}")
        if not as_json:
            _show_plan(memory, plan.turns, len(plan.notes), user)
        if plan.turns and not dry_run:
            _confirm(yes)
            plan = memory.forget(**chosen, purge=purge)
    done = not plan.planned
    if as_json:
        figures = {"turns": list(plan.turns), "notes": list(plan.notes), "planned": plan.planned}
        emit({"user": user, **figures, "purged": purge and done})
    elif done:
        show(f"Forgotten{', and the bytes are erased' if purge else ''}.")


def _show_plan(memory: ConversationMemory, turns: Sequence[int], notes: int, user: str) -> None:
    if not turns:
        note(f"Nothing of {user} is to be forgotten here.")
        return
    shown = memory.turns(ids=turns[:10])
    show(recollections.turns(shown), console=stderr())
    more = f" ({len(turns) - len(shown):,} of them not shown)" if len(turns) > len(shown) else ""
    written = f", and {counted(notes, 'note')} written from them" if notes else ""
    note(f"{counted(len(turns), 'turn')} of {user}{more}{written}")


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked here. To forget all of this without being asked, add --yes")
    if not typer.confirm("Forget all of this?", err=True):
        note("Nothing was forgotten.")
        raise typer.Exit(Code.FAILED)


def _utterances(path: Path) -> Iterator[Utterance]:
    """The turns of a JSON Lines file.

    Raises
    ------
    InputError : a line is no such object; says which.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            yield from _parsed(file, path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _parsed(lines: Iterable[str], path: Path) -> Iterator[Utterance]:
    from carrel.memory import Utterance

    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where} is no JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise InputError(f'{where} is no turn: an object such as {{"text": "I keep bees.", "speaker": "user"}}')
        unknown = sorted(set(row) - {"text", "speaker", "said_at", "session", "id"})
        if unknown:
            raise InputError(f"{where} has {unknown[0]!r}. A turn has text, speaker, said_at and session.")
        said_at = row.get("said_at")
        if isinstance(said_at, str):
            said_at = _time(f"said_at in {where}", said_at)
        if not row["text"].strip():
            continue
        yield Utterance(well_formed(row["text"]), row.get("speaker") or "user", said_at, row.get("session") or "")


def _time(what: str, text: str | None) -> float | None:
    """Seconds since 1970 from a date, local time unless it says otherwise; None for None."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        raise InputError(f"{what} takes a date such as 2024-05-31 or 2024-05-31T14:05, not {text!r}") from None
