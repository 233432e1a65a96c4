"""The memory of one user's conversations: everything said is kept as it was said, found again, and forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime, tzinfo
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from carrel.asynchronous import stop_if_cancelled, twin
from carrel.errors import InputError
from carrel.inputs import check_flag, check_text, well_formed
from carrel.memory import forgetting
from carrel.memory import notes as noted
from carrel.memory import turns as stored
from carrel.memory.background import Background
from carrel.memory.base import Memory, Note, NoteKind, Recollection, StoredTurn, Utterance
from carrel.memory.days import in_zone, zone_of
from carrel.memory.forgetting import Forgotten
from carrel.memory.inputs import checked_ids, checked_name, checked_utterance, seconds
from carrel.memory.status import MemoryStatus, status_of
from carrel.memory.store import MemoryStream, UserTurns
from carrel.memory.turns import Owner, Session

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from carrel.agents.signatures import Tool
    from carrel.generation.base import Generator
    from carrel.tokens import Tokenizer

_TURNS_A_TRANSACTION = 500


class ConversationMemory(Memory):
    """Keeps every turn as it was said, in the library's transaction, and recalls by relevance, recency and importance.

    A turn is durable when ``observe`` returns, and can be found by its words at once; its vector follows behind. A
    memory is of one user of one tenant; its session is the conversation that goes on, whose last turns ``recall``
    gives besides what it finds in all the others. Safe to use from several threads and processes at the same time.

    Reference: Liang et al., "SCM: Enhancing Large Language Model with Self-Controlled Memory", arXiv 2304.13343;
    Park et al., "Generative Agents", arXiv 2304.03442.

    Parameters
    ----------
    stream : of the library; see ``Library.memory`` and ``carrel.memory.open``, which make it.
    tokenizer : counts the budget of ``recall``.
    tenant, user, session : whose memory, and which conversation.
    generator : rewrites follow-up questions, and writes notes of what was said; needless.
    zone : the time zone of the user, whose days "yesterday" and "last May" are, such as "Europe/Zurich"; that of this
        machine by default.
    on_close : what to close with the memory.
    """

    name: ClassVar[str] = "conversation"
    citation: ClassVar[str] = "SCM, arXiv 2304.13343; Generative Agents, arXiv 2304.03442"

    def __init__(
        self,
        stream: MemoryStream,
        tokenizer: Tokenizer,
        *,
        tenant: str,
        user: str,
        session: str = "default",
        generator: Generator | None = None,
        zone: str | tzinfo | None = None,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self.tenant, self.user = checked_name("a tenant", tenant), checked_name("a user", user)
        self.session = checked_name("a session", session)
        if generator is not None:
            from carrel.generation.answering import check_generator

            check_generator(generator)
        self.stream, self.tokenizer, self.generator = stream, tokenizer, generator
        self._writer = None if generator is None else stream.writer(generator)
        self.zone = stream.zones[self.tenant, self.user] = zone_of(zone)
        self._source = UserTurns(stream, self.tenant, self.user)
        self._on_close = on_close

    def _wake(self) -> None:
        """Have turns embedded and read that are not, after a crash or a change of encoder."""

        def has_pending(connection: Connection, owner: Owner) -> Owner | None:
            known = stored.encoder_id(connection, self.stream.embedder.fingerprint)
            return owner if stored.pending(connection, owner, known, 1) else None

        owner = self._source.read(has_pending, None)
        if owner is not None:
            self.stream.embedder.wake(owner)
        if self._writer is not None:
            unread = self._source.read(lambda connection, of: of if noted.unread(connection, of) else None, None)
            if unread is not None:
                self._writer.wake(unread)

    def in_session(self, session: str) -> ConversationMemory:
        """The same user's memory in another conversation."""
        own = {"tenant": self.tenant, "user": self.user, "generator": self.generator, "zone": self.zone}
        return ConversationMemory(self.stream, self.tokenizer, session=session, **own)  # type: ignore[arg-type]

    # -- observing ----------------------------------------------------------------------------

    def observe(self, text: str, *, speaker: str = "user", said_at: float | datetime | None = None) -> StoredTurn:
        """Keep a turn; it is durable when this returns. Its vector follows in the background.

        Parameters
        ----------
        text : as it was said.
        speaker : "user", "assistant", or a name.
        said_at : seconds since 1970, or a datetime; now by default.

        Raises
        ------
        InputError : the text is empty, or the time is none. StoreReadOnlyError, StoreBusyError : as of any write.
        """
        return self._write([checked_utterance(Utterance(text, speaker, said_at))])[0]

    def observe_many(
        self, said: Iterable[Utterance | str], *, progress: Callable[[int], object] | None = None
    ) -> list[int]:
        """Keep many turns in their order, some hundred a transaction; returns their ids.

        Utterances that name a session are written to it, the others to this memory's. After an error what is
        written so far stays. ``progress`` is called with the number of turns that are written.
        """
        if isinstance(said, (str, Utterance)):
            raise InputError("observe_many takes several turns; keep one with observe")
        written: list[int] = []
        turns = iter(said)
        while batch := [checked_utterance(each) for each in islice(turns, _TURNS_A_TRANSACTION)]:
            stop_if_cancelled()
            written += [turn.id for turn in self._write(batch)]
            if progress is not None:
                progress(len(written))
        return written

    def _write(self, said: Sequence[Utterance]) -> list[StoredTurn]:
        from carrel.memory.importance import importance

        importances = [importance(each.text) for each in said]
        with self.stream.embedder.writing, self.stream.store.write() as connection:
            owner = stored.make_owner(connection, self.tenant, self.user)
            turns = stored.insert(connection, owner, self.session, said, importances)
        self.stream.embedder.wake(owner)
        if self._writer is not None:
            self._writer.observed(owner, {turn.session for turn in turns})
        return turns

    @property
    def is_read_only(self) -> bool:
        """Whether the library was opened to be read."""
        return self.stream.store.read_only

    # -- recalling ----------------------------------------------------------------------------

    def recall(
        self, query: str, *, budget: int = 1000, now: float | datetime | None = None, reader: bool = False
    ) -> Recollection:
        """What the memory holds for a query, at most ``budget`` tokens of it as rendered.

        Parameters
        ----------
        budget : tokens of the last turns, the facts and the recalled turns together.
        now : from which "last May" is told, in seconds since 1970 or as a datetime.
        reader : have the shipped reader read the best turns once more: slower, surer.

        Raises
        ------
        EmptyQuestionError : the query has no words. BudgetError, InputError : the budget is none.
        """
        from carrel.memory.recalling import recollect

        check_text("a query", query)
        check_flag("reader", reader)
        if isinstance(budget, bool) or not isinstance(budget, int):
            raise InputError(f"the budget is a whole number of tokens, not {budget!r}")
        self._wake()
        with in_zone(self.zone):
            return recollect(
                self._source,
                well_formed(query),
                encoder=self.stream.encoder,
                tokenizer=self.tokenizer,
                budget=budget,
                session=self.session,
                now=seconds(now),
                generator=self.generator,
                reader=reader,
            )

    # -- looking ------------------------------------------------------------------------------

    def turns(
        self,
        *,
        ids: Sequence[int] | None = None,
        session: str | None = None,
        since: float | datetime | None = None,
        before: float | datetime | None = None,
        last: int | None = None,
    ) -> list[StoredTurn]:
        """What was said, in the order of time: all of it, or a session's, from a time and before one, the last so many.

        With ``ids``, those turns in their order; one that is gone is left out.
        """
        if ids is not None:
            return self._source.turns(list(ids))
        start, end = (None if value is None else seconds(value) for value in (since, before))

        def run(connection: Connection, owner: Owner) -> list[StoredTurn]:
            return stored.select(connection, owner, session=session, since=start, before=end, last=last)

        return self._source.read(run, [])

    def sessions(self) -> list[Session]:
        """The conversations of the user, by when they began."""
        return self._source.read(stored.sessions, [])

    def notes(self, kind: NoteKind | None = None, *, history: bool = False) -> list[Note]:
        """What was written about the turns: "summary" or "fact"; with ``history`` also facts that no longer hold."""
        return self._source.read(lambda connection, owner: noted.select(connection, owner, kind, history=history), [])

    def status(self) -> MemoryStatus:
        """How many turns there are, how many are still to be embedded, and what failed in the background."""

        def run(connection: Connection, owner: Owner) -> MemoryStatus:
            return status_of(connection, owner, self.stream.embedder, self._writer)

        return self._source.read(run, MemoryStatus(0, 0, 0, 0))

    @property
    def _behind(self) -> list[Background]:
        return [self.stream.embedder, *([self._writer] if self._writer is not None else [])]

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until every turn has its vector, and was read by the generator where there is one.

        A turn that the encoder could not embed is tried once more. False where that did not come about (see
        ``status``).
        """
        owner = self._source.read(lambda connection, owner: owner, None)
        if owner is None:
            return True
        started, done = time.monotonic(), True
        if not self.is_read_only:
            self.stream.embedder.try_again(owner)
        with ExitStack() as stack:
            for each in self._behind:
                stack.enter_context(each.hurried(owner))
            self._wake()
            for each in self._behind:
                left = None if timeout_s is None else max(0.0, timeout_s - time.monotonic() + started)
                done = each.wait(owner, left) and done
        status = self.status()
        return done and not status.unembedded and not status.unread

    # -- forgetting ---------------------------------------------------------------------------

    def forget(
        self,
        *,
        turn: int | Sequence[int] | None = None,
        session: str | None = None,
        user: bool = False,
        matching: str | None = None,
        dry_run: bool = False,
        purge: bool = False,
    ) -> Forgotten:
        """Forget turns, with their vectors and all notes that were written from them, in one transaction.

        Nothing returns them afterwards, in this process or another. Exactly one of the first four says which.

        Parameters
        ----------
        turn : the id of one, or several; of these, what has gone already is not counted.
        session : all of a conversation.
        user : with True everything of this user, who is unknown afterwards.
        matching : the turns that hold these words one after another, as whole words, whatever their case and accents:
            "red car" is in "The RED, car!" and not in "red cars".
        dry_run : only say what would go.
        purge : also erase the bytes, from the file of the whole library (rewrites it).

        Raises
        ------
        InputError : nothing says what to forget, or more than one thing does; no id is of this memory.
        """
        for name, flag in (("user", user), ("dry_run", dry_run), ("purge", purge)):
            check_flag(name, flag)
        chosen = [each is not None for each in (turn, session, matching)]
        if sum(chosen) + user != 1:
            raise InputError("say what to forget with one of: turn=ID, session=NAME, matching=TEXT, user=True")
        wanted = checked_ids(turn)

        def find(connection: Connection, owner: Owner) -> list[int]:
            if turn is not None:
                return wanted
            if matching is not None:
                return forgetting.matching(connection, owner, check_text("what to forget", matching))
            return stored.ids(connection, owner) if user else forgetting.in_session(connection, owner, str(session))

        gone = self._forget(find, dry_run)
        if wanted and not gone.turns:
            raise InputError(f"no turn of this memory has the id {min(wanted)}. See them with: carrel memory list")
        if purge and not dry_run:
            self.purge()
        return gone

    def _forget(self, find: Callable[[Connection, Owner], list[int]], dry_run: bool) -> Forgotten:
        if dry_run:

            def plan(connection: Connection, owner: Owner) -> Forgotten:
                turns = sorted(stored.by_id(connection, owner, find(connection, owner)))
                return Forgotten(tuple(turns), tuple(noted.of_turns(connection, owner, turns)), planned=True)

            return self._source.read(plan, Forgotten(planned=True))
        with self.stream.embedder.writing, self.stream.store.write() as connection:
            owner = stored.find_owner(connection, self.tenant, self.user)
            if owner is None:
                return Forgotten()
            gone = forgetting.forget(connection, owner, find(connection, owner))
        for behind in self._behind:  # whose messages may quote what is gone
            behind.failures.pop(owner, None)
        for turn in gone.turns:
            self.stream.embedder.refused.get(owner, {}).pop(turn, None)
        self._source.count()  # an index of a user who is unknown by now is dropped
        return gone

    def purge(self) -> None:
        """Erase the bytes of all that was forgotten, or removed from the library, by whomever."""
        from carrel.retrieval.sync import purge

        with self.stream.embedder.writing:
            purge(self.stream.store)

    def as_tools(self, *, budget: int = 1000) -> tuple[Tool, Tool]:
        """``recall`` and ``remember``, for whatever calls functions; keyword: carrel.memory.tools."""
        from carrel.memory.tools import memory_tools

        return memory_tools(self, budget=budget)

    # -- ending -------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of what was opened for this memory; turns without a vector get it when it is opened again."""
        if self._on_close is not None:
            self._on_close()

    def __enter__(self) -> ConversationMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the same without blocking the event loop -----------------------------------------------

    aobserve, aobserve_many, arecall = twin(observe), twin(observe_many), twin(recall)
    aturns, asessions, anotes, astatus = twin(turns), twin(sessions), twin(notes), twin(status)
    aflush, aforget, apurge = twin(flush), twin(forget), twin(purge)
    aclose, __aenter__, __aexit__ = twin(close), twin(__enter__), twin(__exit__)
