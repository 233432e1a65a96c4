"""Any server that speaks OpenAI's chat-completions protocol: vLLM, llama.cpp, Ollama, LM Studio, OpenAI and others."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from carrel.errors import InputError, UnknownModelError
from carrel.generation.chat import ChatGenerator
from carrel.generation.messages import INSTRUCTIONS, Message, Placement, finish_reason
from carrel.generation.remote.counting import MarginTokenizer, ServerTokenizer, TiktokenTokenizer
from carrel.generation.remote.failures import FailedReplyError, malformed
from carrel.generation.remote.portal import portal
from carrel.generation.remote.replies import Reply, Request, adapted
from carrel.generation.remote.server import Deadline, Server
from carrel.generation.remote.tries import Tries
from carrel.generation.replies import ending
from carrel.tokens import Tokenizer
from carrel.types import Completion, Event, Prompt, TextEvent

T = TypeVar("T")
_A_MESSAGE = 6  # tokens of a chat template around each message, where they cannot be counted
_DISCOVERY_S = 20.0


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of a model: its name, its window in tokens (None: it does not say), how to count."""

    model: str
    window: int | None
    tokenizer: Tokenizer
    counts_chats: bool = False


class OpenAICompatible(ChatGenerator):
    """Sends prompts to a chat-completions server and streams what it says; nothing is sent before the first call.

    Model, context window and tokenizer are asked of the server where they are not given: ``/v1/models``, and vLLM's
    ``/tokenize``; for OpenAI itself tiktoken, where it is installed; else a tokenizer with a margin, whose name says
    so. A prompt that does not fit the window is an error before it is sent.

    Parameters
    ----------
    model : its name there; may be left out where a server has one only.
    base_url : the address with the version.
    api_key : sent as a bearer token.
    context_window : tokens, prompt and reply together; the server's own by default.
    tokenizer : counts budgets; by default as above.
    max_tokens : of a reply; fewer where the window leaves less.
    temperature, seed, stop : as the protocol has them; a server that refuses one is asked without it.
    logprobs : ask for the log-probabilities of the reply's tokens.
    timeout_s : the longest that a call takes, all tries and waits together.
    retries : further tries after a failure that may pass: no connection, a broken reply, 429 and 5xx.
    placement : where the passages of earlier turns are: "last" or "append" (carrel.generation.messages).
    instructions : how to answer and to cite; empty for none.
    headers, extra : further HTTP headers, and fields of the request.

    Raises
    ------
    InputError : an argument is of no use.
    """

    name: ClassVar[str] = "openai"

    def __init__(
        self,
        model: str | None = None,
        base_url: str = "http://localhost:8000/v1",
        *,
        api_key: str | None = None,
        context_window: int | None = None,
        tokenizer: Tokenizer | None = None,
        max_tokens: int = 512,
        temperature: float | None = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        logprobs: bool = False,
        timeout_s: float = 120.0,
        retries: int = 3,
        placement: Placement = "last",
        instructions: str = INSTRUCTIONS,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(max_tokens=max_tokens, placement=placement, instructions=instructions)
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not timeout_s > 0:
            raise InputError(f"timeout_s must be above 0, not {timeout_s!r}")
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise InputError(f"retries is a number of further tries, 0 or more, not {retries!r}")
        self.server = Server(base_url, api_key, headers)
        self.model, self.timeout_s, self.retries = model, timeout_s, retries
        self._request = Request(model or "", max_tokens, temperature, seed, tuple(stop), logprobs, dict(extra or {}))
        self._window, self._tokenizer = context_window, tokenizer
        self._served: Served | None = None
        self._refused: set[str] = set()  # fields that the server does not take
        weakref.finalize(self, _close_later, self.server)

    def __repr__(self) -> str:
        return f"OpenAICompatible({self.model!r}, {self.server.base_url!r})"

    # -- what the server is ---------------------------------------------------------------------

    @property
    def served(self) -> Served:
        """What the server says of the model; asked once."""
        if self._served is None:
            self._served = portal().call(self._tried(self._discover, min(_DISCOVERY_S, self.timeout_s)))
        return self._served

    @property
    def context_window(self) -> int | None:  # type: ignore[override]
        return self._window if self._window is not None else self.served.window

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer or self.served.tokenizer

    async def _discover(self, deadline: Deadline) -> Served:
        model, window = await self._listed(deadline)
        counted = await self._asked_to_count(model, {"prompt": "a"}, deadline)
        if counted is not None:
            of_server = counted[2]
            window = window if of_server is None else min(window or of_server, of_server)
            return Served(model, window, ServerTokenizer(model, self._tokenize), counts_chats=True)
        tokenizer: Tokenizer = MarginTokenizer(model)
        if not self.server.is_local and self.server.host.endswith("openai.com"):
            with suppress(Exception):  # not installed, no such model, no network: the margin says so by its name
                tokenizer = await asyncio.to_thread(TiktokenTokenizer, model)
        return Served(model, window, tokenizer)

    async def _listed(self, deadline: Deadline) -> tuple[str, int | None]:
        """The model's name, and its window where the server's list has one."""
        where = self.server.base_url
        try:
            content: Any = json.loads(await self.server.get(f"{where}/models", deadline))
            rows = [row for row in content["data"] if isinstance(row["id"], str)]
        except FailedReplyError as failed:
            if self.model and isinstance(failed.error, UnknownModelError):  # a server without that list
                return self.model, None
            raise
        except (ValueError, TypeError, KeyError):
            raise malformed(where, "is no list of models") from None
        names = [row["id"] for row in rows]
        if self.model is None and len(rows) == 1:
            return names[0], _window_of(rows[0])
        if self.model not in names and (self.model is None or names):
            known = ", ".join(names[:20]) or "none"
            asked = f"has no model {self.model!r}" if self.model else "has several models, or none: name one"
            raise FailedReplyError(UnknownModelError(f"{where} {asked}. It has: {known}"))
        return str(self.model), next((_window_of(row) for row in rows if row["id"] == self.model), None)

    async def _asked_to_count(
        self, model: str, what: Mapping[str, object], deadline: Deadline
    ) -> tuple[int, list[str], int | None] | None:
        """(tokens, the tokens as they are written, the window) by ``/tokenize``; None where there is no such thing."""
        body = {"model": model, "add_special_tokens": False, "return_token_strs": True, **what}
        try:
            found: Any = json.loads(await self.server.post(f"{self.server.root}/tokenize", body, deadline))
            window = found.get("max_model_len")
            return int(found["count"]), list(found.get("token_strs") or []), window if _is_count(window) else None
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        except FailedReplyError as failed:
            if failed.again:
                raise
            return None

    def _tokenize(self, text: str) -> tuple[int, list[str]]:
        async def counted(deadline: Deadline) -> tuple[int, list[str]]:
            found = await self._asked_to_count(self.served.model, {"prompt": text}, deadline)
            if found is None:
                raise malformed(self.server.base_url, "to /tokenize is no number of tokens")
            return found[:2]

        return portal().call(self._tried(counted, self.timeout_s))

    def chat_tokens(self, messages: Sequence[Message]) -> int:
        """The tokens of its texts, and a few for what is around each."""
        count = self.tokenizer.count
        return sum(count(message.content) + _A_MESSAGE for message in messages)

    # -- asking ---------------------------------------------------------------------------------

    def complete(self, prompt: Prompt) -> Completion:
        served = self.served  # asked before the loop is busy with this call
        return portal().call(self._tried(lambda deadline: self._completed(prompt, served, deadline), self.timeout_s))

    def stream(self, prompt: Prompt) -> Iterator[Event]:
        """Text as it comes, then the (empty) citations, then usage. To stop reading ends the request."""
        served = self.served
        yield from portal().iterate(lambda: self._streamed(prompt, served))

    async def _completed(self, prompt: Prompt, served: Served, deadline: Deadline) -> Completion:
        reply = Reply(self._where(served))
        body = await self._body(prompt, served, deadline, stream=False)
        reply.feed(await self.server.post(f"{self.server.base_url}/chat/completions", body, deadline))
        reply.end(schema=prompt.schema)
        return self._completion(reply, served)

    async def _streamed(self, prompt: Prompt, served: Served) -> AsyncGenerator[Event, None]:
        """Tried again only as long as nothing has been passed on."""
        tries, begun = Tries(self.timeout_s, self.retries, self._refused), False
        while True:
            reply = Reply(self._where(served))
            try:
                async with aclosing(self._pieces(prompt, served, reply, tries.deadline)) as pieces:
                    async for text in pieces:
                        begun = True
                        yield TextEvent(text)
                break
            except FailedReplyError as failed:
                if begun:
                    raise failed.error from failed
                await tries.wait(failed)
        for event in ending(self._completion(reply, served)):
            yield event

    async def _pieces(
        self, prompt: Prompt, served: Served, reply: Reply, deadline: Deadline
    ) -> AsyncGenerator[str, None]:
        body = await self._body(prompt, served, deadline, stream=True)
        async with aclosing(self.server.lines(f"{self.server.base_url}/chat/completions", body, deadline)) as lines:
            async for line in lines:
                if text := reply.feed_line(line):
                    yield text
                if reply.done:
                    break
        reply.end(streamed=True, schema=prompt.schema)

    async def _tried(self, attempt: Callable[[Deadline], Awaitable[T]], seconds: float) -> T:
        """The result of an attempt, made again while its failures may pass and time is left."""
        tries = Tries(seconds, self.retries, self._refused)
        while True:
            try:
                return await attempt(tries.deadline)
            except FailedReplyError as failed:
                await tries.wait(failed)

    # -- one request ----------------------------------------------------------------------------

    def _where(self, served: Served) -> str:
        return f"{served.model} at {self.server.base_url}"

    async def _body(self, prompt: Prompt, served: Served, deadline: Deadline, *, stream: bool) -> dict[str, object]:
        """The request, once its prompt is known to fit the window."""
        messages, most = self.messages(prompt), self.most_tokens(prompt)
        window = self._window if self._window is not None else served.window
        if window is not None:
            most = self.room(prompt, await self._count(messages, served, deadline), window, self._where(served))
        request = replace(self._request, model=served.model, max_tokens=most)
        return adapted(request.body(messages, prompt.schema, stream), self._refused)

    async def _count(self, messages: Sequence[Message], served: Served, deadline: Deadline) -> int:
        """The tokens of a chat as the server renders it, where it tells them."""
        if served.counts_chats and self._tokenizer is None:
            what = {"messages": [message.as_dict() for message in messages], "add_generation_prompt": True}
            found = await self._asked_to_count(served.model, what, deadline)
            if found is not None:
                return found[0]
        return await asyncio.to_thread(self.chat_tokens, messages)  # a server's tokenizer waits for this very loop

    def _completion(self, reply: Reply, served: Served) -> Completion:
        tokenizer = self._tokenizer or served.tokenizer
        ended, model = finish_reason(reply.text, reply.finished), reply.model or served.model
        completion = Completion(reply.text, finish_reason=ended, model=model)
        if reply.usage is not None:
            completion = replace(completion, usage=replace(reply.usage, tokenizer=tokenizer.name))
        return replace(completion, logprobs=tuple(reply.logprobs))

    # -- ending ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        portal().call(self.server.close())


def _close_later(server: Server) -> None:
    """Close the connections of a generator that nobody holds any more."""
    if server.is_open:
        portal().submit(server.close())


def _window_of(row: Mapping[str, Any]) -> int | None:
    """The window that a list of models gives one, by the names that servers have for it."""
    meta: Any = row.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    named: list[Any] = [row.get(name) for name in ("max_model_len", "context_length", "context_window")]
    for value in (*named, meta.get("n_ctx")):
        if _is_count(value):
            return int(value)
    return None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
