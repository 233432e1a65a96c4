"""Tools: what a model may call by name, with a JSON schema of the arguments.

They serve any client that calls functions: chat servers (``as_openai``), the Model Context Protocol (``as_mcp``), or
the flow ``agent``. A model's mistake is answered in words that it can act on, never by an exception.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from carrel.agents.schemas import Schema, check_schema, checked
from carrel.errors import InputError
from carrel.types import Passage

DEFAULT_TOKENS = 1000
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool says. ``text`` is all of it, as a model is shown it; the passages that it quotes are in it.

    Attributes
    ----------
    passages : what marks ``[1]``, ``[2]`` of the text stand for, in order.
    remark : what the text says besides the passages; where there are none, the text itself.
    """

    text: str
    passages: tuple[Passage, ...] = ()
    remark: str = ""

    @property
    def besides(self) -> str:
        """What it says besides its passages."""
        return self.remark if self.passages else self.text


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model is told of a tool: all that a flow needs to call it.

    Parameters
    ----------
    parameters : JSON schema of the arguments, an object; see carrel.agents.schemas for what it may say.
    most_tokens : of what it says, which plans go by.
    repeatable : whether the same call may say something else later.

    Raises
    ------
    InputError : a name that clients refuse, or a schema that is none.
    """

    name: str
    description: str
    parameters: Schema
    most_tokens: int = DEFAULT_TOKENS
    repeatable: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InputError(f"a tool's name has up to 64 letters, digits, _ and -, unlike {self.name!r:.80}")
        check_schema(self.parameters, f"the schema of {self.name}")
        if self.parameters["type"] != "object":
            raise InputError(f"the schema of {self.name} is that of an object: the arguments by their names")

    def checked(self, arguments: object) -> dict[str, Any]:
        """The arguments, if the schema allows them.

        Raises
        ------
        ValueError : it does not; the message is for the model.
        """
        try:
            found: dict[str, Any] = checked(arguments, self.parameters)
        except ValueError as error:
            raise ValueError(f"{self.name} was not called: {error}. Correct the arguments and call again.") from None
        return found

    def as_openai(self) -> dict[str, Any]:
        """An entry of ``tools`` in a request to a chat server."""
        described = {"name": self.name, "description": self.description, "parameters": deepcopy(dict(self.parameters))}
        return {"type": "function", "function": described}

    def as_mcp(self) -> dict[str, Any]:
        """An entry of the tools that a server of the Model Context Protocol lists."""
        return {"name": self.name, "description": self.description, "inputSchema": deepcopy(dict(self.parameters))}


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Tool(Signature):
    """A tool with what it does.

    Parameters
    ----------
    run : takes the arguments, checked, and gives a text or a Result. An InputError that it raises is told to the
        model; any other error is the caller's.
    shorten : cuts a message to the model to the tokens there are.
    """

    run: Callable[[Mapping[str, Any]], Result | str] = lambda arguments: ""
    shorten: Callable[[str], str] = _as_it_is

    @property
    def signature(self) -> Signature:
        """What a model is told of it. Flows take either; a journal writes functions down, and no other callables."""
        return Signature(self.name, self.description, self.parameters, self.most_tokens, self.repeatable)

    def result(self, arguments: Mapping[str, Any] | str) -> Result:
        """What the tool says to arguments, whatever they are; a text is read as JSON, as chat servers send it."""
        try:
            given = self.checked(loaded(arguments))
        except ValueError as error:
            return Result(self.shorten(str(error)))
        try:
            said = self.run(given)
        except InputError as error:
            return Result(self.shorten(str(error)))
        return said if isinstance(said, Result) else Result(said)

    def call(self, arguments: Mapping[str, Any] | str) -> str:
        """The text of ``result``: what goes back to the model."""
        return self.result(arguments).text


def loaded(arguments: object) -> object:
    """Arguments as they are meant: a text is read as JSON where it is some."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments  # which no schema of an object allows
