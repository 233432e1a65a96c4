"""What a run has of its journal: the keys of its flows, replies found and kept, and the errors that flows survived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from carrel.agents.journal import Journal, given_to, key_of
from carrel.errors import JournalError

if TYPE_CHECKING:
    from carrel.agents.base import Flow
    from carrel.agents.desk import Desk
    from carrel.agents.machine import Due


class Record:
    """The journal as the flows of one run see it; without one, it knows nothing and keeps nothing.

    Raises
    ------
    JournalError : the journal is closed.
    """

    def __init__(self, journal: Journal | None, flows: Sequence[Flow[Any]], desk: Desk) -> None:
        if journal is not None and journal.closed:
            raise JournalError(f"the journal {journal.path} is closed: nothing could be kept in it. Open it anew.")
        self.journal, self.desk = journal, desk
        self.keys = [] if journal is None else _numbered(key_of(flow, desk.name) for flow in flows)
        self.given = [""] * len(flows) if journal is None else [given_to(flow) for flow in flows]
        self._failures: dict[int, list[tuple[Due, BaseException]]] = {}

    def find(self, number: int, due: Due) -> tuple[bool, Any]:
        """(True, the reply, or the error that the flow survived) where a request of a flow was settled before."""
        if self.journal is None:
            return False, None
        return self.journal.find(self.keys[number], due.path, due.request, self._source(number, due))

    def keep(self, number: int, due: Due, reply: object) -> None:
        if self.journal is not None:
            self.journal.keep(self.keys[number], due.path, due.request, reply, self._source(number, due))

    def failed(self, number: int, due: Due, error: BaseException) -> None:
        """A request failed. That is kept only once the flow goes on after it: else it is to be asked again."""
        if self.journal is not None and not due.trace.replayed:
            self._failures.setdefault(number, []).append((due, error))

    def survived(self, number: int, survived: Iterable[BaseException]) -> None:
        """A flow went on after errors: what it asks next rests on them."""
        causes = {id(cause) for error in survived for cause in _causes(error)}
        if not causes or self.journal is None:
            return
        failures = self._failures.pop(number, [])
        self._failures[number] = [each for each in failures if id(each[1]) not in causes]
        for due, error in failures:
            if id(error) in causes:
                self.journal.keep_failure(self.keys[number], due.path, due.request, error, self._source(number, due))

    def _source(self, number: int, due: Due) -> str:
        """What a reply is drawn from besides its request."""
        return f"{self.given[number]} {self.desk.source(due.request)}".strip()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised for."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop()
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [cause.__cause__, cause.__context__]


def _numbered(keys: Iterable[str]) -> list[str]:
    """Keys of which none is twice: the second of two equal flows has replies of its own."""
    counts: Counter[str] = Counter()
    out = []
    for key in keys:
        counts[key] += 1
        out.append(f"{key} {counts[key]}" if counts[key] > 1 else key)
    return out
