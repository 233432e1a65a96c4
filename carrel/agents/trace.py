"""What a run did, as a tree: every flow with its requests, how long each took and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carrel.agents.base import Ask, Bind, Embed, Fit, Pack, Read, Request, Retrieve, Score

if TYPE_CHECKING:
    from rich.tree import Tree

_LONGEST_ERROR = 200


@dataclass(slots=True)
class Trace:
    """A flow or a request of a run.

    Attributes
    ----------
    kind : "flow", or the request: "ask", "retrieve", "pack", "read", "fit", "score", "embed", "bind", "call".
    path : its place in the run, such as ``2/0.1``: the third step, in it the second of the first step's list.
    began, ended : seconds of one clock; ``ended`` is None while it runs.
    tokens_in, tokens_out : of an ask.
    replayed : the reply came from the journal.
    note : a request in a few words.
    error : how it failed. To find no room is no failure of a "fit": its note says so.
    """

    kind: str
    name: str
    path: str
    began: float
    ended: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    replayed: bool = False
    note: str = ""
    error: str = ""
    children: list[Trace] = field(default_factory=list)

    def child(self, kind: str, name: str, path: str, began: float) -> Trace:
        made = Trace(kind, name, path, began)
        self.children.append(made)
        return made

    def end(self, at: float, error: BaseException | None = None) -> None:
        self.ended = at
        if error is not None:
            self.error = f"{type(error).__name__}: {error}"

    @property
    def seconds(self) -> float:
        return 0.0 if self.ended is None else self.ended - self.began

    def walk(self) -> Iterator[Trace]:
        """The node itself and all below it, in the order of the run's steps."""
        waiting = [self]
        while waiting:  # a loop: flows may be nested deeper than Python's stack
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))

    @property
    def asks(self) -> list[Trace]:
        """All calls of a generator."""
        return [node for node in self.walk() if node.kind == "ask"]

    def as_json(self) -> dict[str, Any]:
        """The tree as plain values, seconds counted from its own beginning."""
        made = {id(node): node._facts(self.began) for node in self.walk()}
        for node in self.walk():
            if node.children:
                made[id(node)]["children"] = [made[id(child)] for child in node.children]
        return made[id(self)]

    def _facts(self, zero: float) -> dict[str, Any]:
        facts: dict[str, Any] = {"kind": self.kind, "path": self.path, "began_s": round(self.began - zero, 6)}
        facts |= {"seconds": round(self.seconds, 6)}
        for name in ("name", "tokens_in", "tokens_out", "replayed", "note", "error"):
            if getattr(self, name):
                facts[name] = getattr(self, name)
        return facts

    def tree(self) -> Tree:
        """The tree for a terminal: ``rich.print(trace.tree())``."""
        from rich.text import Text
        from rich.tree import Tree

        made = {id(node): Tree(Text(str(node))) for node in self.walk()}
        for node in self.walk():
            made[id(node)].children += [made[id(child)] for child in node.children]
        return made[id(self)]

    def __str__(self) -> str:
        tokens = f"  {self.tokens_in:,} -> {self.tokens_out:,} tokens" if self.kind == "ask" else ""
        marks = "  from the journal" if self.replayed else ""
        marks += f"  {' '.join(self.error.split()):.{_LONGEST_ERROR}}" if self.error else ""
        note = f"  {self.note}" if self.note else ""
        return f"{self.name or self.kind}{note}{tokens}  {self.seconds:.3f} s{marks}"


def export(trace: Trace, tracer: Any, wall_clock_offset_s: float) -> None:
    """Emit the tree as OpenTelemetry spans of the times when it ran.

    Parameters
    ----------
    tracer : an ``opentelemetry.trace.Tracer``; Carrel itself does not depend on the package.
    wall_clock_offset_s : what to add to the trace's clock for seconds since 1970 (carrel.agents.Run has it).
    """
    from opentelemetry.trace import Status, StatusCode, set_span_in_context

    waiting: list[tuple[Trace, Any]] = [(trace, None)]
    while waiting:
        node, context = waiting.pop()
        began = int((node.began + wall_clock_offset_s) * 1e9)
        span = tracer.start_span(f"{node.kind} {node.name}".strip(), context=context, start_time=began)
        span.set_attribute("carrel.path", node.path)
        if node.kind == "ask":
            span.set_attribute("gen_ai.usage.input_tokens", node.tokens_in)
            span.set_attribute("gen_ai.usage.output_tokens", node.tokens_out)
            span.set_attribute("carrel.replayed", node.replayed)
        if node.note:
            span.set_attribute("carrel.note", node.note)
        if node.error:
            span.set_status(Status(StatusCode.ERROR, node.error))
        ended = node.began if node.ended is None else node.ended
        span.end(end_time=int((ended + wall_clock_offset_s) * 1e9))
        inside = set_span_in_context(span, context)
        waiting.extend((child, inside) for child in reversed(node.children))


def in_short(request: Request) -> str:
    """A request in a few words, for people."""
    if isinstance(request, Ask):
        return f"{request.prompt.kind}: {_short(request.prompt.question)}"
    if isinstance(request, Retrieve):
        return _short(request.query)
    if isinstance(request, Read):
        return request.document_id
    if isinstance(request, Pack):
        return f"{_counted(request.passages, 'passage')}, {request.budget:,} tokens"
    if isinstance(request, (Fit, Score)):
        return _counted(request.passages, "passage")
    if isinstance(request, Embed):
        return _counted(request.texts, "query" if request.queries else "text")
    if isinstance(request, Bind):
        return f"marks to {_counted(request.passages, 'passage')}"
    return request.tool


def _counted(things: Sequence[object], name: str) -> str:
    many = f"{name}s".replace("querys", "queries")
    return f"{len(things):,} {name if len(things) == 1 else many}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:39]}…"
