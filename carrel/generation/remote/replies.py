"""The chat-completions protocol: what is sent, and replies read whole or piece by piece, without any I/O."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carrel.errors import GenerationError, RefusalError
from carrel.generation.messages import Message
from carrel.generation.remote.failures import FailedReplyError, malformed, of_message
from carrel.types import Usage

_MOST_CHARACTERS = 20_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a server, apart from the messages."""

    model: str
    max_tokens: int | None
    temperature: float | None = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    extra: Mapping[str, object] = field(default_factory=dict)

    def body(self, messages: Sequence[Message], schema: Mapping[str, object] | None, stream: bool) -> dict[str, object]:
        """The JSON of a request; what was not asked for is left to the server."""
        body: dict[str, object] = {"model": self.model, "messages": [message.as_dict() for message in messages]}
        for name, value in (("max_tokens", self.max_tokens), ("temperature", self.temperature), ("seed", self.seed)):
            if value is not None:
                body[name] = value
        if self.stop:
            body["stop"] = list(self.stop)
        if self.logprobs:
            body["logprobs"] = True
        if schema is not None:
            shape = {"name": "reply", "schema": dict(schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        if stream:
            body["stream"], body["stream_options"] = True, {"include_usage": True}
        return {**body, **self.extra}


SPARED = ("stream_options", "seed", "temperature", "logprobs")
"""What a request can do without, where a server refuses it."""


def refused_fields(said: str) -> set[str]:
    """The fields that a server's message names, of those that a request can do without or give another name."""
    return {name for name in ("max_tokens", *SPARED) if name in said}


def adapted(body: Mapping[str, object], refused: Collection[str]) -> dict[str, object]:
    """The body without the fields that its server has refused; ``max_tokens`` has another name there."""
    rest = {name: value for name, value in body.items() if name not in refused}
    if "max_tokens" in refused and "max_tokens" in body:  # OpenAI's newer models
        rest["max_completion_tokens"] = body["max_tokens"]
    return rest


@dataclass
class Reply:
    """A reply as it comes. Fed with one whole body, or with the chunks of a stream."""

    where: str
    text: str = ""
    model: str = ""
    usage: Usage | None = None
    finished: str | None = None
    logprobs: list[tuple[str, float]] = field(default_factory=list)
    refusal: str = ""
    done: bool = False

    def feed_line(self, line: str) -> str:
        """One line of a stream of server-sent events; the text that it brings.

        Raises
        ------
        FailedReplyError : it is no event of the protocol, or one that reports a failure.
        """
        name, _, data = line.partition(":")
        if not line.strip() or not name or name != "data":  # a comment, the name of an event, the end of one
            return ""
        data = data.strip()
        if data == "[DONE]":
            self.done = True
            return ""
        return self.feed(data, "delta")

    def feed(self, data: str | bytes, part: str = "message") -> str:
        """A whole body (``message``) or one chunk (``delta``) as JSON; the text that it brings."""
        try:
            content: Any = json.loads(data)
        except ValueError:
            shown = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
            raise malformed(self.where, f"is no JSON: {shown[:80]!r}") from None
        if not isinstance(content, Mapping):
            raise malformed(self.where, f"is no object: {content!r:.80}")
        if content.get("error"):
            raise of_message(self.where, content["error"])
        if isinstance(content.get("model"), str):
            self.model = content["model"]
        if isinstance(content.get("usage"), Mapping):
            self.usage = _usage(content["usage"])
        choices = content.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
            raise malformed(self.where, "has no list of choices")
        if not choices:  # the chunk with the usage
            return self._none(part)
        return self._choice(choices[0], part)

    def _none(self, part: str) -> str:
        if part == "message":
            raise malformed(self.where, "has no choice")
        return ""

    def _choice(self, choice: Mapping[str, Any], part: str) -> str:
        said = choice.get(part) or {}
        if not isinstance(said, Mapping):
            raise malformed(self.where, f"has a {part} that is no object: {said!r:.80}")
        text = said.get("content")
        if isinstance(text, list):  # parts, as some servers have them
            text = "".join(p.get("text", "") for p in text if isinstance(p, Mapping) and p.get("type") == "text")
        if text is not None and not isinstance(text, str):
            raise malformed(self.where, f"has a content that is no text: {text!r:.80}")
        self.refusal += str(said.get("refusal") or "")
        self._note_logprobs(choice.get("logprobs"))
        reason = choice.get("finish_reason")
        if reason:
            self.finished = str(reason)
        self.text += text or ""
        if len(self.text) > _MOST_CHARACTERS:
            raise FailedReplyError(GenerationError(f"the reply of {self.where} does not end; it was stopped"))
        return text or ""

    def _note_logprobs(self, found: object) -> None:
        rows = found.get("content") if isinstance(found, Mapping) else None
        for row in rows or ():
            if isinstance(row, Mapping) and isinstance(row.get("logprob"), (int, float)):
                self.logprobs.append((str(row.get("token", "")), float(row["logprob"])))

    def end(self, streamed: bool = False, schema: Mapping[str, object] | None = None) -> None:
        """Check that the reply is whole.

        Raises
        ------
        FailedReplyError : it broke off, is a refusal, or is not JSON though that was asked for.
        """
        if streamed and not self.done and self.finished is None:
            raise malformed(self.where, "broke off before its end")
        if self.refusal and not self.text:
            raise FailedReplyError(RefusalError(f"{self.where} declines to answer: {self.refusal[:300]}"))
        if self.finished == "content_filter" and not self.text:
            raise FailedReplyError(RefusalError(f"{self.where} declines to answer: a filter stopped its reply"))
        if schema is not None and self.finished != "length":
            try:
                json.loads(self.text)
            except ValueError:
                raise malformed(self.where, f"is not JSON, though that was asked for: {self.text[:80]!r}") from None


def _usage(counts: Mapping[str, Any]) -> Usage:
    details = counts.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    prompt, reply = _number(counts.get("prompt_tokens")), _number(counts.get("completion_tokens"))
    return Usage(prompt, reply, min(_number(cached), prompt))


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
