"""What an agent has done so far, as a prompt that fits; and its next reply, as a call or an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from carrel.agents.base import Ask, Fit, Fitted, Steps
from carrel.agents.schemas import shown, strict
from carrel.agents.signatures import Signature, loaded
from carrel.agents.tasks import DATA, MARKS
from carrel.errors import ContextOverflowError
from carrel.generation.extractive import ABSTENTION
from carrel.inputs import well_formed
from carrel.types import Completion, Passage, Prompt

TASK = (
    "Answer the question with the help of the tools below, one call at a time. Reply with one JSON object and nothing"
    ' else: {{"tool": its name, "arguments": {{...}}}} to call a tool, or {{"answer": text}} once you can answer from'
    f" the numbered passages, which tools have returned. {MARKS} {DATA} So is all else that tools return. The notes are"
    " the calls made so far. Do not repeat a call. If the documents do not answer the question, the answer is exactly:"
    f" {ABSTENTION}\nTools, and their arguments:\n{{tools}}"
)
EXAMPLE_ANSWER = json.dumps({"answer": ABSTENTION})
CLOSING = "No further tool can be called. Reply with the answer now, from the passages, as a JSON object."
REPEATED = "This call was made before, and what it returned is above. Call it with other arguments, or answer."
UNUSABLE = "Your last reply could not be used: {why}. Reply with one JSON object, as it was asked for."
LEFT_OUT = "Some passages of earlier calls are left out for want of room. Call again for what is still needed."
FORGOTTEN = "The first calls are left out for want of room."
NO_ROOM = "What it returned is left out for want of room."
_MOST_BRACES = 50  # from which a JSON object is tried to be read
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Action:
    """One step of an agent: a call, or a reply that was none.

    Attributes
    ----------
    tool, arguments : what was asked for; no tool where the reply could not be used.
    said : what came back besides passages, or why nothing was called.
    called : whether the tool was called.
    """

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    said: str = ""
    passages: tuple[Passage, ...] = ()
    called: bool = False

    @property
    def call(self) -> str:
        """The call on one line, by which two are the same."""
        return well_formed(f"{self.tool} {json.dumps(self.arguments, sort_keys=True, ensure_ascii=False)}")


@dataclass(frozen=True, slots=True)
class Shown:
    """A prompt with what was done so far, as much of it as fits.

    Attributes
    ----------
    less : how many times something was left out.
    forgotten : of so many actions, counted from the first, it does not show what they returned.
    is_whole : it shows every passage of the others.
    """

    prompt: Prompt
    less: int = 0
    forgotten: int = 0
    is_whole: bool = True


def task_of(tools: Sequence[Signature]) -> str:
    """The task, with what is offered; it is the same at every step, so that a server's prefix cache keeps it."""
    return TASK.format(tools="\n".join(map(_described, tools)))


def _described(tool: Signature) -> str:
    """A tool and its arguments, a line each: half the tokens of the schema."""
    lines = [f"- {tool.name}: {tool.description}"]
    for name, schema in tool.parameters.get("properties", {}).items():
        is_plain = schema["type"] not in ("object", "array") and "enum" not in schema
        kind = schema["type"] if is_plain else json.dumps(schema, ensure_ascii=False)
        need = "" if name in tool.parameters.get("required", ()) else ", optional"
        lines.append(f"  {name} ({kind}{need}): {schema.get('description', '') if is_plain else ''}".rstrip(": "))
    return "\n".join(lines)


def schema_of(tools: Sequence[Signature]) -> dict[str, Any]:
    """What a reply must be, for structured output: a call or an answer, the other null; without tools, an answer.

    The root is an object and every property required, as OpenAI's servers want it.
    """
    properties: dict[str, Any] = {"answer": {"type": "string"}}
    if tools:
        properties = {
            "tool": {"anyOf": [{"type": "string", "enum": [tool.name for tool in tools]}, {"type": "null"}]},
            "arguments": {"anyOf": [*(strict(tool.parameters) for tool in tools), {"type": "null"}]},
            "answer": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_reply(text: str, *, closing: bool) -> Action | str:
    """The call that a reply asks for, or its answer.

    Raises
    ------
    ValueError : it is neither; says why.
    """
    found = _found(text)
    tool, answer = found.get("tool"), found.get("answer")
    if tool and answer:
        raise ValueError("it has both a tool and an answer")
    if tool and closing:
        raise ValueError("it calls a tool, and no further tool can be called")
    if tool and isinstance(tool, str):
        arguments = found.get("arguments") or {}
        if isinstance(arguments, str):  # as chat servers send them
            arguments = loaded(arguments)
        if not isinstance(arguments, Mapping):
            raise ValueError("its arguments are no JSON object")
        if not _is_flat(arguments):
            raise ValueError(f"its arguments are nested more than {_DEEPEST} levels deep")
        return Action(well_formed(tool), arguments)
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError(f"it has no answer{'' if closing else ' and no tool'} that is a text")
    return well_formed(answer.strip())


def _found(text: str) -> Mapping[str, Any]:
    """The first JSON object of a text that has a tool or an answer; models think aloud before, in braces, too."""
    found: list[Mapping[str, Any]] = []
    start, decoder = text.find("{"), json.JSONDecoder()
    if start < 0:
        raise ValueError("it holds no JSON object")
    for _ in range(_MOST_BRACES):
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if "tool" in value or "answer" in value:
                return value  # type: ignore[no-any-return]
            found.append(value)
        start = text.find("{", end)
        if start < 0:
            break
    if not found:
        raise ValueError("its JSON object is not whole, or is none")
    return found[0]


def _is_flat(value: object) -> bool:
    """Whether a value is nested no deeper than can be written down wherever it goes."""
    level = [value]
    for _ in range(_DEEPEST):
        inner = [item for each in level if isinstance(each, list) for item in each]
        inner += [item for each in level if isinstance(each, Mapping) for item in each.values()]
        level = inner
    return not level


def example_of(tool: Signature, question: str, step: int) -> str:
    """A call of a tool, another one at each step: what a plan goes on with."""
    properties: Mapping[str, Mapping[str, Any]] = tool.parameters.get("properties", {})
    values = {
        "string": f"{question} ({step})",
        "integer": step,
        "number": step,
        "boolean": True,
        "array": [],
        "object": {},
    }
    needed = tool.parameters.get("required", ())
    arguments = {name: properties[name].get("enum", [values[properties[name]["type"]]])[0] for name in needed}
    return json.dumps({"tool": tool.name, "arguments": arguments})


def shown_with(prompt: Prompt, done: Sequence[Action], less: int = 0) -> Steps[Shown]:
    """A prompt with what was done, as much of it as fits.

    The oldest results go first, then the oldest calls, and last what the latest call returned. Passages stand in it
    the newest first, each once.

    Parameters
    ----------
    less : begin with so many things left out.

    Raises
    ------
    ContextOverflowError : the prompt does not fit without them.
    """
    while True:
        forgotten, unnamed = _left_out(less, len(done))
        bare = replace(prompt, notes=(*_lines(done, forgotten, unnamed), *prompt.notes))
        passages = _newest_first(done[forgotten:])
        try:
            fitted: Fitted = yield Fit(bare, passages, whole=True)
            if not fitted.left:
                return Shown(replace(bare, passages=fitted.taken), less, forgotten)
            bare = replace(bare, notes=(*bare.notes, LEFT_OUT))
            fitted = yield Fit(bare, passages, whole=True)
            return Shown(replace(bare, passages=fitted.taken), less, forgotten, is_whole=False)
        except ContextOverflowError:
            if less >= 2 * len(done):
                raise
            less += 1


def _left_out(less: int, count: int) -> tuple[int, int]:
    """Of how many actions the results, and of how many even the calls, are left out."""
    latest = max(0, count - 1)
    return min(less, latest if less < 2 * count - 1 else count), min(max(0, less - latest), count - (less < 2 * count))


def _lines(done: Sequence[Action], forgotten: int, unnamed: int) -> list[str]:
    lines = [FORGOTTEN] if unnamed else []
    for number, action in enumerate(done[unnamed:], start=unnamed + 1):
        what = f"Call {number}: {action.call}" if action.tool else "A reply that was no call."
        lines.append(f"{what}\n{_returned(action) if number > forgotten else NO_ROOM}")
    return lines


def _returned(action: Action) -> str:
    """What an action brought besides its passages; on lines that pass for nothing else."""
    count = len(action.passages)
    brought = [f"{count} passage{'' if count == 1 else 's'}"] if count else []
    return "\n".join(f"| {line}" for line in [*brought, *action.said.splitlines()])


def _newest_first(done: Sequence[Action]) -> tuple[Passage, ...]:
    """The passages of actions without those that stand in another."""
    out: list[Passage] = []
    for passage in (passage for action in reversed(done) for passage in action.passages):
        if not any(_holds(other, passage) for other in out):
            out.append(passage)
    return tuple(out)


def _holds(other: Passage, passage: Passage) -> bool:
    if other.document_id != passage.document_id or (other.kept is not None and other.kept != passage.kept):
        return False
    return other.start <= passage.start and passage.end <= other.end


def ask_with(prompt: Prompt, done: Sequence[Action], example: str) -> Steps[tuple[Completion, Shown]]:
    """The reply, and what it replies to; one that counts its prompt as too long is shown less."""
    less = 0
    while True:
        shown = yield from shown_with(prompt, done, less)
        try:
            reply: Completion = yield Ask(shown.prompt, example)
        except ContextOverflowError:
            if shown.less >= 2 * len(done):
                raise
            less = shown.less + 1
        else:
            return reply, shown


def unknown(tool: str, offered: Mapping[str, Signature]) -> str:
    """What an agent is told that calls a tool which there is not."""
    return f"There is no tool {shown(tool)}. There are: {', '.join(offered)}."
