"""An agent: a loop in which a model calls tools, within a number of steps and tokens, and then answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from carrel.agents.acting import (
    CLOSING,
    EXAMPLE_ANSWER,
    REPEATED,
    UNUSABLE,
    Action,
    Shown,
    ask_with,
    example_of,
    read_reply,
    schema_of,
    task_of,
    unknown,
)
from carrel.agents.base import Call, Steps, flow
from carrel.agents.replying import Written, bound_marks
from carrel.agents.signatures import Result, Signature
from carrel.errors import InputError, MalformedReplyError, RefusalError, ReplyFormatError
from carrel.generation.extractive import ABSTENTION
from carrel.options import check_question
from carrel.types import Completion, Prompt

Ended = Literal["answered", "steps", "tokens", "refused"]


@dataclass(frozen=True, slots=True)
class Acted:
    """An agent's answer and how it came by it.

    Attributes
    ----------
    answer : its marks are bound to passages that tools returned and the last prompt showed.
    actions : every call, and every reply that was none, in order.
    ended : why no more tools were called: it "answered", its steps or tokens were spent, or the model declined.
    tokens : of all its prompts and replies.
    """

    answer: Written
    actions: tuple[Action, ...]
    ended: Ended
    tokens: int


@flow("Yao et al., ReAct: Synergizing Reasoning and Acting in Language Models, arXiv 2210.03629")
def agent(
    question: str, tools: Sequence[Signature], *, steps: int = 8, tokens: int | None = None, reply_tokens: int = 512
) -> Steps[Acted]:
    """Let a model call tools until it can answer; any model that writes will do, it replies in JSON.

    What no longer fits the window is left out, the oldest results first, and the model is told so. The same call is
    not made twice, unless what it returned is left out by now.

    Parameters
    ----------
    tools : what may be called, such as ``library.as_tools()``; the driver is given the same as ``tools=``.
    steps : the most calls, those included that could not be made; then it must answer.
    tokens : of prompts and replies together; once they are spent, it must answer.
    reply_tokens : the most tokens of one reply.

    Raises
    ------
    InputError : no tools, or two of one name; fewer than 1 step. ReplyFormatError : twice in a row a reply is neither
        a call nor an answer. RefusalError : the model declines before anything was found, or to answer.
    """
    check_question(question)
    offered = {tool.name: tool for tool in tools}
    if not offered or len(offered) < len(tools) or steps < 1 or (tokens is not None and tokens < 1):
        raise InputError("an agent has one tool or more, each of another name, 1 step or more, and 1 token or more")
    base = Prompt(question, task=task_of(tools), schema=schema_of(tools), max_tokens=reply_tokens, kind="step")
    done: list[Action] = []
    spent, ended = 0, ""
    while True:
        ended = ended or _spent(done, spent, steps, tokens)
        prompt = replace(base, notes=(CLOSING,), schema=base.schema and schema_of(())) if ended else base
        example = EXAMPLE_ANSWER if ended else example_of(tools[0], question, len(done))
        try:
            reply, shown = yield from ask_with(prompt, done, example)
            spent += reply.usage.total_tokens
            if reply.finish_reason == "refused":
                raise RefusalError(f"the model declined to go on with {question!r:.80}: {reply.text:.200}")
        except RefusalError:
            if ended or not done:
                raise
            ended = "refused"
            continue
        except MalformedReplyError:  # an engine that does not hold its model to a schema: in words only, then
            if base.schema is None:
                raise
            base = replace(base, schema=None)
            continue
        said = _read(reply, done, closing=bool(ended))
        if isinstance(said, str):
            answer = yield from _answer(said, reply, shown)
            return Acted(answer, tuple(done), ended or "answered", spent)  # type: ignore[arg-type]
        done.append((yield from _done(said, offered, done, shown)))


def _spent(done: Sequence[Action], tokens_spent: int, steps: int, tokens: int | None) -> Ended | Literal[""]:
    if sum(1 for action in done if action.tool) >= steps:
        return "steps"
    return "tokens" if tokens is not None and tokens_spent >= tokens else ""


def _read(reply: Completion, done: Sequence[Action], *, closing: bool) -> Action | str:
    """What a reply is; for one that cannot be used, the action that says why. A second in a row is an error."""
    if reply.finish_reason == "abstained":
        return ABSTENTION
    try:
        return read_reply(reply.text, closing=closing)
    except ValueError as error:
        why = f"{error}{', and it was cut off at its most tokens' if reply.finish_reason == 'length' else ''}"
    if done and not done[-1].tool:
        raise ReplyFormatError(f"twice the model's reply could not be used: {why}. It was: {reply.text!r:.200}")
    return Action("", said=UNUSABLE.format(why=why))


def _done(action: Action, offered: dict[str, Signature], done: Sequence[Action], shown: Shown) -> Steps[Action]:
    """An action with what came of it; a call that cannot be made is answered in words."""
    if not action.tool:
        return action
    if action.tool not in offered:
        return replace(action, said=unknown(action.tool, offered))
    tool = offered[action.tool]
    try:
        action = replace(action, arguments=tool.checked(action.arguments))
    except ValueError as error:
        return replace(action, said=str(error))
    before = [other.call for other in done[shown.forgotten :] if other.called]  # what they returned is still there
    if action.call in before and shown.is_whole and not tool.repeatable:
        return replace(action, said=REPEATED)
    result: Result = yield Call(action.tool, action.arguments, tool.most_tokens)
    return replace(action, said=result.besides, passages=result.passages, called=True)


def _answer(text: str, reply: Completion, shown: Shown) -> Steps[Written]:
    """The answer with its marks bound to what the prompt showed."""
    passages = shown.prompt.passages
    if text == ABSTENTION:
        return Written(text, passages=passages, abstained=True)
    bound = yield from bound_marks(replace(reply, text=text, citations=()), shown.prompt)
    return Written(text, bound.citations, passages, bound.unsupported, confidence=reply.confidence)
