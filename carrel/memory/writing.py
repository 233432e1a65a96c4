"""What a generator writes of conversations, behind those who speak: summaries of stretches, and facts of the user."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timezone
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import Connection

from carrel.agents.schemas import checked, strict
from carrel.agents.signatures import loaded
from carrel.errors import ContextOverflowError, MalformedReplyError, RefusalError
from carrel.generation import replies
from carrel.memory import notes as noted
from carrel.memory.background import Background
from carrel.memory.base import Note, StoredTurn
from carrel.memory.days import day_of, in_zone
from carrel.memory.stated import is_told, stating, words_of
from carrel.memory.times import day_shown
from carrel.memory.turns import Owner
from carrel.types import Passage, Prompt

if TYPE_CHECKING:
    from carrel.generation.base import Generator
    from carrel.memory.store import MemoryStream

STRETCH_TURNS = 12
"""Read at a time: fewer only of a conversation that has ended, or where somebody waits."""
ENDED_AFTER_S = 3600.0  # without a word
_MOST_TOKENS = 600  # of a reply
_SHARE = 4  # of a generator's window that a stretch may have: one in so many for the reply and the words of the task
_TURN_CHARACTERS = 4000

TASK = (
    "The numbered texts are turns of a conversation, in order, each with its speaker and date. Write down what is worth"
    " remembering of them, as JSON: a summary of two sentences at most; and the facts that the speakers state about"
    ' themselves and that will matter later, each with the subject (who and which property, such as "Ann\'s home",'
    " worded alike whenever it comes up again), the fact in one sentence, the number of the turn that states it, and"
    " the words of that turn that state it, quoted exactly. Greetings and small talk hold no facts."
)
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "summary": {"type": "string", "description": "two sentences at most"},
        "facts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "subject": {"type": "string", "description": "who, and which property"},
                    "fact": {"type": "string", "description": "one sentence"},
                    "turn": {"type": "integer", "description": "the number of the turn that states it"},
                    "quote": {"type": "string", "description": "the words of that turn that state it"},
                },
                "required": ["subject", "fact", "turn", "quote"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["summary", "facts"],
    "additionalProperties": False,
}


class NoteWriter(Background):
    """Has a generator read what was said, a stretch at a time, and keeps what it writes with the turns it is from.

    A fact whose quotation does not stand in its turn, or that has a name or a number which nobody said, is dropped. Of
    the facts of a subject the latest holds; the older ones are its history. What is forgotten takes along all notes
    of the stretch that it was read in, and the turns that are left of that are read again. A turn of which the
    generator gives no notes however it is asked is put aside, so that it holds up no other.

    Reference: Liang et al., "SCM", arXiv 2304.13343 (memory summaries).
    """

    name: ClassVar[str] = "carrel-memory-writer"

    def __init__(self, stream: MemoryStream, generator: Generator) -> None:
        super().__init__(stream.store)
        self.stream, self.generator = stream, generator
        self._is_able = False  # it has given notes as asked for
        self._observed: dict[tuple[Owner, str], float] = {}

    def observed(self, owner: Owner, sessions: Iterable[str]) -> None:
        """Say that somebody speaks in these conversations now, of whatever time it is told: they have not ended."""
        for session in sessions:
            self._observed[owner, session] = time.monotonic()
        self.wake(owner)

    def work(self, owner: Owner) -> bool:
        """Have a stretch read; True when none is left to be read."""
        with self.stream.reading(owner):  # else two generators would read the same
            with self.store.read() as connection:
                stretch = unread_stretch(
                    connection, owner, whole=self.is_hurried(owner), going_on=self._going_on(owner)
                )
            if not stretch:
                return True
            with in_zone(self.stream.zones.get((owner.tenant, owner.user), timezone.utc)):
                stretch, written = self._written(self._fitting(stretch))
            with self.stream.embedder.writing, self.store.write() as connection:
                ids = [turn.id for turn in stretch]
                if noted.unread(connection, owner, ids) == len(ids):  # else another process has read them
                    noted.remove(connection, owner, noted.of_turns(connection, owner, ids))
                    noted.insert(connection, owner, written or ())
                    noted.mark_read(connection, owner, ids, refused=written is None)
        return False

    def _going_on(self, owner: Owner) -> set[str]:
        after = time.monotonic() - ENDED_AFTER_S
        self._observed = {key: when for key, when in self._observed.items() if when > after}
        return {session for of, session in self._observed if of == owner}

    def _fitting(self, stretch: list[StoredTurn]) -> list[StoredTurn]:
        """As much of the stretch as the generator's window holds; one turn at least, cut if it must be."""
        window = self.generator.context_window
        while window and len(stretch) > 1:
            room = window - min(_MOST_TOKENS, window // _SHARE)
            if self.generator.prompt_tokens(prompt_of(stretch)) <= room:
                break
            stretch = stretch[: len(stretch) // 2]
        return stretch

    def _written(self, stretch: list[StoredTurn]) -> tuple[list[StoredTurn], list[Note] | None]:
        """Of how much of a stretch there are notes, and these; None of a single turn that the generator refuses.

        Raises
        ------
        MalformedReplyError, RefusalError : it gives no notes of anything.
        """
        while True:
            try:
                found = self._asked(stretch)
            except (MalformedReplyError, RefusalError, ContextOverflowError):
                if not self._is_able:  # is it this stretch, or all of them?
                    self._asked([StoredTurn(0, "", "Ann", "I live in Rome.", 0.0)])
                    self._is_able = True
                if len(stretch) > 1:
                    stretch = stretch[: len(stretch) // 2]
                    continue
                found = None
            self._is_able = True
            return stretch, found

    def _asked(self, stretch: Sequence[StoredTurn]) -> list[Note]:
        prompt = prompt_of(stretch)
        try:
            return read_notes(replies.complete(self.generator, prompt).text, stretch)
        except MalformedReplyError:  # of a server that holds no model to a schema, or a model that was not held to it
            return read_notes(replies.complete(self.generator, replace(prompt, schema=None)).text, stretch)


def unread_stretch(
    connection: Connection, owner: Owner, *, whole: bool, now: float | None = None, going_on: Container[str] = ()
) -> list[StoredTurn]:
    """The first turns of a conversation that no generator has read, enough of them, or all of one that has ended.

    Parameters
    ----------
    whole : take what there is, however little. going_on : sessions that have not ended.
    """
    ended = (time.time() if now is None else now) - ENDED_AFTER_S
    for session, count, last in noted.unread_sessions(connection, owner):
        if whole or count >= STRETCH_TURNS or (last < ended and session not in going_on):
            return noted.unread_turns(connection, owner, session, STRETCH_TURNS)
    return []


def prompt_of(stretch: Sequence[StoredTurn]) -> Prompt:
    """What a generator is asked for a stretch. What was said is data: it stands among the passages."""
    passages = tuple(passage_of(turn) for turn in stretch)
    return Prompt(
        "What is worth remembering?", passages, task=TASK, schema=strict(SCHEMA), max_tokens=_MOST_TOKENS, kind="memory"
    )


def passage_of(turn: StoredTurn) -> Passage:
    """A turn as a prompt shows it."""
    text = turn.text[:_TURN_CHARACTERS]
    return Passage(f"turn {turn.id}", 0, len(text), text, title=f"{turn.speaker}, {day_shown(day_of(turn.said_at))}")


def read_notes(reply: str, stretch: Sequence[StoredTurn]) -> list[Note]:
    """The notes of a reply: its summary, and the facts whose quotations stand in a turn.

    Raises
    ------
    MalformedReplyError : the reply is not of the form that was asked for.
    """
    text = reply.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        found = checked(loaded(text), SCHEMA, "the notes")
    except ValueError as error:  # which quotes the reply
        raise MalformedReplyError(
            "the notes of a conversation are not as asked for: an object with a summary and facts"
        ) from error
    ids, last = tuple(turn.id for turn in stretch), max(turn.said_at for turn in stretch)
    notes = [Note(0, stretch[0].session, "summary", " ".join(found["summary"].split()), ids, last)]
    known = words_of(stretch)
    for fact in found["facts"]:
        turn = stating(fact["quote"], fact["turn"], stretch)
        if turn is not None and fact["fact"].strip() and is_told(fact["fact"], known):
            subject, words = (" ".join(fact[name].split()) for name in ("subject", "fact"))
            of = (turn.id,) if notes[0].text else ids  # a summary tells what was read together
            notes.append(Note(0, turn.session, "fact", words, of, turn.said_at, subject))
    return [note for note in notes if note.text]
