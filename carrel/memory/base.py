"""The contract of conversation memory, and what passes between a store of turns and the ranking over it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone, tzinfo
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from carrel.embeddings.base import Vectors
from carrel.types import Document, Prompt, Turn

NoteKind = Literal["summary", "fact"]
ABSTAINS_BELOW = 0.5
"""Of ``Recollection.answerable``: below it, what was said does not seem to answer."""


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A turn as it was said. Ids grow with the order of observation and are never used again.

    Attributes
    ----------
    speaker : "user", "assistant", or the name of whoever spoke.
    said_at : when, in seconds since 1970 (UTC).
    importance : from 0, small talk, to 1; how much there is in it to remember.
    """

    id: int
    session: str
    speaker: str
    text: str
    said_at: float
    importance: float = 0.0


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something said, to be kept: when, in seconds since 1970 or as a datetime (None: now), and in which session.

    An utterance without a session belongs to that of the memory it is given to.
    """

    text: str
    speaker: str = "user"
    said_at: float | datetime | None = None
    session: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What a generator, or the memory itself, wrote about turns: a summary of several, or a fact about the user.

    A fact has a subject: the latest fact of a subject is what holds, the others are its history.
    """

    id: int
    session: str
    kind: NoteKind
    text: str
    turns: tuple[int, ...]
    said_at: float  # of the latest of its turns
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A turn that may answer: its cosine with the query (NaN while it is not embedded) and its BM25."""

    turn: StoredTurn
    dense: float = float("nan")
    lexical: float = 0.0


class TurnSource(Protocol):
    """The turns of one user, as the ranking reads them; nothing of another user can be reached from it."""

    def search(
        self, query: str, vector: Vectors, limit: int, *, since: float | None = None, before: float | None = None
    ) -> list[Candidate]:
        """The nearest turns by cosine and the best by BM25, ``limit`` of each, joined: both scores on every one."""

    def turns(self, ids: Sequence[int]) -> list[StoredTurn]:
        """Turns by id, in the order of the ids; those that are gone are left out."""

    def around(self, id: int, reach: int) -> list[StoredTurn]:  # noqa: A002
        """The turn and up to ``reach`` turns before and after it in its session, in order."""

    def last(self, count: int, *, session: str | None = None) -> list[StoredTurn]:
        """The last turns, of a session or of all, in order."""

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """(ids, dimension); a row of NaN where a turn is not embedded yet."""

    def facts(self) -> Sequence[Note]:
        """What was written of the user that holds, by time."""

    def summaries(self, ids: Sequence[int]) -> list[Note]:
        """The summaries that were written from any of these turns, by time."""

    def span(self) -> tuple[float, float] | None:
        """When the first and the last turn were said; None where there is none."""

    def count(self) -> int:
        """How many turns there are."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """One thing remembered: turns that follow one another, raw, or the note that stands for them.

    ``superseded`` are older turns that say otherwise of the same thing, the latest first.
    """

    turns: tuple[StoredTurn, ...]
    score: float
    note: Note | None = None
    superseded: tuple[StoredTurn, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Recollection:
    """What a memory says to a query, inside a budget.

    Attributes
    ----------
    query : as asked; ``rewritten`` : as it was looked up, a follow-up question made whole.
    needed : whether the controller took memory to be of use; ``answerable`` : how likely it holds the answer, 0 to 1.
    recent : the last turns of the session (short-term); ``recalled`` : long-term, the best first.
    stable : what seldom changes (facts about the user), for the beginning of a prompt; ``text`` : what was recalled
        for this query, rendered in the order of time, for its end.
    tokens : of stable, recent and text together, as rendered; never more than ``budget``.
    best : the few turns with the highest scores, one by one, those of ``recent`` among them.
    """

    query: str
    rewritten: str
    needed: bool
    answerable: float
    recent: tuple[Turn, ...]
    recalled: tuple[Recalled, ...]
    stable: str
    text: str
    tokens: int
    budget: int
    best: tuple[Recalled, ...] = ()

    @property
    def holds_answer(self) -> bool:
        """Whether what was said is likely to answer the query."""
        return self.needed and self.answerable >= ABSTAINS_BELOW

    def into(self, prompt: Prompt) -> Prompt:
        """The prompt with the memory in it: facts with the standing documents, turns in the history and the notes."""
        standing = (Document(id="memory", text=self.stable, title="What is known of the user"),) if self.stable else ()
        notes = (self.text,) if self.text else ()
        return replace(
            prompt,
            standing=(*prompt.standing, *standing),
            history=(*self.recent, *prompt.history),
            notes=(*prompt.notes, *notes),
        )


class Memory(ABC):
    """Remembers turns and gives back, inside a budget, those that a query needs."""

    name: ClassVar[str]
    citation: ClassVar[str] = ""
    zone: tzinfo = timezone.utc
    """In which the days are told."""

    @abstractmethod
    def observe(self, text: str, *, speaker: str = "user", said_at: float | datetime | None = None) -> StoredTurn:
        """Keep a turn; it is durable when this returns. Its vector follows in the background."""

    @property
    def is_read_only(self) -> bool:
        """Whether it is known beforehand that nothing can be kept."""
        return False

    @abstractmethod
    def recall(self, query: str, *, budget: int = 1000) -> Recollection:
        """What the memory holds for a query, at most ``budget`` tokens of it as rendered."""
