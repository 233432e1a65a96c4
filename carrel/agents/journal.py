"""The journal of a run: every reply that cost something, on disk before the flow goes on.

A run that was killed is started again with the same flow and the same journal: what was asked before is read from
it, and only the rest is asked. A reply is found by the flow, its arguments and its place in it; that the question
there is still the same is checked, and if it is not, that is an error and never a wrong answer.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from carrel.agents.base import Ask, Bind, Call, Embed, Flow, Pack, Read, Request, Retrieve, Score
from carrel.agents.codec import digest, plain, restored
from carrel.agents.signatures import Result
from carrel.errors import InputError, JournalError
from carrel.generation.binding import Bound
from carrel.types import Completion, Document, Passage

if TYPE_CHECKING:
    from typing_extensions import Self

_REPLIES: dict[type, Any] = {
    Ask: Completion,
    Retrieve: tuple[Passage, ...],
    Pack: tuple[Passage, ...],
    Read: Document,
    Score: tuple[float, ...],
    Embed: np.ndarray,
    Bind: Bound,
    Call: Result,
}
"""What is kept. What a prompt can take (Fit) is counted again: it depends on nothing but the prompt."""

_Key = tuple[str, str]
_BEGINS = b'{"flow": '


class Journal:
    """Replies in a file, one JSON line each, appended and flushed to the disk one by one.

    Several flows may share one, and several runs, one after the other. Use it as a context manager, or close it.

    Parameters
    ----------
    path : the file; it is made where there is none. Another process that has it open is an error.

    Raises
    ------
    JournalError : the file cannot be opened, is used by another process, or is no journal.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._replies: dict[_Key, tuple[str, Any]] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot be opened: {error.strerror}") from error
        try:
            _lock_file(self._file.fileno(), self.path)
            self._load()
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._replies)

    def find(self, flow_key: str, path: str, request: Request) -> tuple[bool, Any]:
        """(True, the reply) where the request was answered before.

        Raises
        ------
        JournalError : another request was answered at this place of the same flow.
        """
        kept = self._replies.get((flow_key, path))
        if kept is None or type(request) not in _REPLIES:
            return False, None
        known, reply = kept
        if known != f"{type(request).__name__} {digest(request)}":
            asked, kind = known.partition(" ")[0], type(request).__name__
            what = "with other content" if asked == kind else f"an {asked}, and now a {kind}"
            raise JournalError(
                f"the run went another way than the one in {self.path}: at step {path or '0'} there was"
                f" {'a ' + kind + ' ' if asked == kind else ''}{what}. A document, the library or the code has changed"
                " since. Take a new journal to begin again."
            )
        try:
            return True, restored(_REPLIES[type(request)], reply)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise JournalError(
                f"the reply at step {path or '0'} in {self.path} cannot be read: it is damaged, or of another version"
                " of Carrel. Name another file."
            ) from error

    def keep(self, flow_key: str, path: str, request: Request, reply: object) -> None:
        """Write a reply down; it is on disk when this returns."""
        if type(request) not in _REPLIES:
            return
        said = f"{type(request).__name__} {digest(request)}"
        value = plain(reply)
        line = json.dumps({"flow": flow_key, "path": path, "request": said, "reply": value}, ensure_ascii=False)
        with self._lock:
            if self._file.closed:  # the run was stopped while this was under way
                return
            self._replies[flow_key, path] = (said, value)
            self._file.write(line.encode("utf-8", "surrogatepass") + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self) -> None:
        """Read what is there; a last line that a killed process left unfinished is cut off."""
        self._file.seek(0)
        good = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n") and (line.startswith(_BEGINS) or _BEGINS.startswith(line)):
                break
            try:
                entry = json.loads(line)
                self._replies[entry["flow"], entry["path"]] = (f"{entry['request']}", entry["reply"])
            except (ValueError, KeyError, TypeError) as error:
                raise JournalError(
                    f"{self.path} is no journal of Carrel, or is damaged at line {number}. Name another file."
                ) from error
            good += len(line)
        self._file.seek(0, os.SEEK_END)
        if self._file.tell() > good:
            self._file.truncate(good)


def key_of(flow: Flow[Any], generator: str) -> str:
    """What the replies to a flow are kept under: its name, its arguments, and who answers."""
    try:
        return f"{flow.name} {digest([generator, dict(flow.arguments)])}"
    except InputError as error:
        raise InputError(f"{flow.name}: {error}. Flows with a journal take plain values and documents.") from error


def _lock_file(descriptor: int, path: Path) -> None:
    """Keep other processes off; where the system has no such locks, nothing does."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise JournalError(f"the journal {path} is in use by another run. Wait for it, or name another.") from error
