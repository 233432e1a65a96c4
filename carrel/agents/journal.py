"""The journal of a run: every reply that cost something, on disk before the flow goes on.

A run that was killed is started again with the same flow and the same journal: what was asked before is read from
it, and only the rest is asked. A reply is found by the flow, its arguments and its place in it; that the question
there is still the same is checked, and if it is not, that is an error and never a wrong answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from carrel import errors
from carrel.agents.base import Ask, Bind, Call, Embed, Flow, Pack, Read, Request, Retrieve, Score
from carrel.agents.codec import digest, plain, restored
from carrel.agents.signatures import Result
from carrel.errors import CarrelError, GenerationError, InputError, JournalError
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
_FAILED = "failed"
_SOURCES = {
    "given": "a document that the flow was given", "library": "the library", "encoder": "the encoder of the library",
}  # fmt: skip


class Journal:
    """Replies in a file, one JSON line each, appended and flushed to the disk one by one.

    Several flows may share one, and several runs, one after the other. Use it as a context manager, or close it. An
    error after which a flow went on is kept like a reply; a step that ended its flow is asked again.

    Parameters
    ----------
    path : the file; it is made where there is none. Another process that has it open is an error.

    Raises
    ------
    JournalError : the file cannot be opened, is used by another process, or is no journal.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise InputError(f"a journal is the path of a file, not {path!r:.80}")
        self.path = Path(path)
        self._lock = threading.Lock()
        self._replies: dict[_Key, tuple[str, Any]] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)  # a line that fails is not written later
        except (OSError, ValueError) as error:
            raise JournalError(f"the journal {self.path} cannot be opened: {_reason(error)}") from error
        try:
            _lock_file(self._file.fileno(), self.path)
            self._end = self._load()
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def closed(self) -> bool:
        return self._file.closed

    def find(self, flow_key: str, path: str, request: Request, source: str = "") -> tuple[bool, Any]:
        """(True, the reply) where the request was answered before; an error that the flow coped with is one, too.

        Parameters
        ----------
        source : what the reply is drawn from besides the request, each as kind:fingerprint, such as the library.

        Raises
        ------
        JournalError : another request was answered at this place of the same flow, or from another source.
        """
        kept = self._replies.get((flow_key, path))
        if kept is None or type(request) not in _REPLIES:
            return False, None
        known, reply = kept
        if known != _said(request, source):
            raise self._diverged(path, known, request, source)
        try:
            if isinstance(reply, dict) and list(reply) == [_FAILED]:
                return True, _error(*reply[_FAILED])
            return True, restored(_REPLIES[type(request)], reply)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise JournalError(
                f"the reply at step {path or '0'} in {self.path} cannot be read: it is damaged, or of another version"
                " of Carrel. Name another file."
            ) from error

    def _diverged(self, path: str, known: str, request: Request, source: str) -> JournalError:
        asked, before, now = known.partition(" ")[0], known.split(" ")[2:], source.split()
        kind, step = type(request).__name__, path or "0"
        changed = [each.partition(":")[0] for each in (*before, *now) if each not in before or each not in now]
        if changed and (asked == kind or changed[0] == "given"):
            return JournalError(
                f"{_SOURCES.get(changed[0], 'something')} has changed since {self.path} was written, by step {step} at"
                " the latest. Take a new journal to begin again."
            )
        what = f"{kind} with other content" if asked == kind else f"{asked}, where there is {kind} now"
        return JournalError(
            f"the run went another way than the one in {self.path}: step {step} was {what}. The code has changed since,"
            " or answers otherwise. Take a new journal to begin again."
        )

    def keep(self, flow_key: str, path: str, request: Request, reply: object, source: str = "") -> None:
        """Write a reply down; it is on disk when this returns.

        Raises
        ------
        JournalError : it cannot be written, the disk being full, say. What was kept before stays as it was.
        """
        if type(request) in _REPLIES:
            self._write(flow_key, path, _said(request, source), plain(reply))

    def keep_failure(self, flow_key: str, path: str, request: Request, error: BaseException, source: str = "") -> None:
        """Write down an error after which the flow went on: begun again, it must not find a reply there."""
        if type(request) in _REPLIES and isinstance(error, (GenerationError, InputError)):
            self._write(flow_key, path, _said(request, source), {_FAILED: [_name_of(error), str(error)]})

    def _write(self, flow_key: str, path: str, said: str, value: Any) -> None:
        entry = json.dumps({"flow": flow_key, "path": path, "request": said, "reply": value}, ensure_ascii=False)
        line = memoryview(entry.encode("utf-8", "surrogatepass") + b"\n")
        with self._lock:
            if self._file.closed:  # the run was stopped while this was under way
                return
            written = 0
            try:
                while written < len(line):
                    written += self._file.write(line[written:])
                os.fsync(self._file.fileno())
            except OSError as error:
                with contextlib.suppress(OSError):  # else the next line would follow half of this one
                    self._file.truncate(self._end)
                raise JournalError(
                    f"the journal {self.path} cannot be written: {_reason(error)}. The replies before are kept: once it"
                    " can be, the same run goes on from there."
                ) from error
            self._end += len(line)
            self._replies[flow_key, path] = (said, value)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self) -> int:
        """Read what is there; a last line that a killed process left unfinished is cut off. The length of the file."""
        good = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n") and (line.startswith(_BEGINS) or _BEGINS.startswith(line)):
                    break
                try:
                    entry = json.loads(line)
                    self._replies[entry["flow"], entry["path"]] = (f"{entry['request']}", entry["reply"])
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise JournalError(
                        f"{self.path} is no journal of Carrel, or is damaged at line {number}. Name another file."
                    ) from error
                good += len(line)
        if self._file.seek(0, os.SEEK_END) > good:
            self._file.truncate(good)
        return good


def _said(request: Request, source: str) -> str:
    """A request in the journal: its kind, its content, and what it was answered from."""
    return f"{type(request).__name__} {digest(request)} {source}".rstrip()


def _name_of(error: BaseException) -> str:
    """The nearest kind of an error that is Carrel's own."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


def _error(name: str, said: str) -> CarrelError:
    kind: type[CarrelError] = getattr(errors, name)
    if not issubclass(kind, (GenerationError, InputError)):
        raise TypeError(name)
    return kind(said)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def key_of(flow: Flow[Any], generator: str) -> str:
    """What the replies to a flow are kept under: its name, its arguments, and who answers.

    Of texts it is where they stand, and not what they say: one that has changed is an error (``given_to``).
    """
    try:
        return f"{flow.name} {digest([generator, _named(dict(flow.arguments))])}"
    except InputError as error:
        raise InputError(f"{flow.name}: {error}. Flows with a journal take plain values and documents.") from error


def given_to(flow: Flow[Any]) -> str:
    """A fingerprint of the documents and passages that a flow was given; empty where there are none."""
    arguments = dict(flow.arguments)
    return "" if _named(arguments) == plain(arguments) else f"given:{digest(arguments)}"


def _named(value: object) -> Any:
    """A plain value, in which documents and passages are named by where they stand."""
    if isinstance(value, Document):
        return ["document", plain(value.id)]
    if isinstance(value, Passage):
        return ["passage", plain(value.document_id), value.start, value.end]
    if isinstance(value, dict):
        return {str(key): _named(item) for key, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, (list, tuple)) else plain(value)


def _lock_file(descriptor: int, path: Path) -> None:
    """Keep other processes off; where the system has no such locks, nothing does."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalError(f"the journal {path} is in use by another run. Wait for it, or name another.") from error
    except OSError:  # a file system without locks
        return
