"""One server: its address, its client, and requests that end by a deadline whatever it does."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx

from carrel.errors import InputError
from carrel.generation.remote.failures import FailedReplyError, malformed, of_status, timed_out, unreachable

_CONNECT_S = 10.0
_LONGEST_LINE = 10_000_000  # bytes
_LONGEST_ERROR = 100_000


class Deadline:
    """One stretch of time for all that a call does."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = asyncio.get_running_loop().time() + seconds

    @property
    def left_s(self) -> float:
        return self._end - asyncio.get_running_loop().time()


class Server:
    """Sends requests to an address; every failure is a FailedReplyError.

    Parameters
    ----------
    base_url : with the version, such as ``http://localhost:8000/v1``.
    api_key : sent as a bearer token; never part of a text of Carrel's.
    idle_s : the longest silence in the middle of a reply.
    """

    def __init__(
        self, base_url: str, api_key: str | None = None, headers: Mapping[str, str] | None = None, idle_s: float = 60.0
    ) -> None:
        parts = urlsplit(base_url) if isinstance(base_url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"base_url is an address such as http://localhost:8000/v1, not {base_url!r}")
        if parts.username or parts.password:
            raise InputError("base_url holds a password: give it as api_key= or in headers=")
        self.base_url = base_url.rstrip("/")
        self.host = parts.hostname
        self.root = self.base_url.removesuffix("/v1")
        self.idle_s = idle_s
        self._headers = {**(headers or {}), **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
        self._client: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"Server({self.base_url!r})"

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def client(self) -> httpx.AsyncClient:
        if self._client is None:
            limits = httpx.Limits(max_connections=64, max_keepalive_connections=16)
            timeout = httpx.Timeout(None, connect=_CONNECT_S)  # the rest is watched here
            # a proxy of the environment is none for this machine
            self._client = httpx.AsyncClient(
                headers=self._headers, timeout=timeout, limits=limits, trust_env=not self.is_local
            )
        return self._client

    @property
    def is_open(self) -> bool:
        return self._client is not None

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def get(self, url: str, deadline: Deadline) -> bytes:
        """The body at an address."""
        async with self._response("GET", url, None, deadline) as response:
            return await self._body(response, deadline)

    async def post(self, url: str, content: Mapping[str, object], deadline: Deadline) -> bytes:
        """The whole body of the reply."""
        async with self._response("POST", url, content, deadline) as response:
            return await self._body(response, deadline)

    async def lines(self, url: str, content: Mapping[str, object], deadline: Deadline) -> AsyncGenerator[str, None]:
        """The lines of a reply as they come; only a line feed ends one."""
        async with self._response("POST", url, content, deadline) as response:
            chunks, rest = response.aiter_bytes(), b""
            while True:
                chunk = await self._next(chunks, deadline)
                *lines, rest = (rest + (chunk or b"")).split(b"\n")
                for line in lines:
                    yield line.rstrip(b"\r").decode("utf-8", "replace")
                if len(rest) > _LONGEST_LINE:
                    raise malformed(self.base_url, "has a line without an end")
                if chunk is None:
                    if rest:
                        yield rest.decode("utf-8", "replace")
                    return

    @asynccontextmanager
    async def _response(
        self, method: str, url: str, content: Mapping[str, object] | None, deadline: Deadline
    ) -> AsyncGenerator[httpx.Response, None]:
        """A response whose status is a success."""
        try:
            request = self.client.build_request(method, url, json=content)
            response = await asyncio.wait_for(self.client.send(request, stream=True), max(0.0, deadline.left_s))
        except (asyncio.TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            self._failed(error, deadline, "did not answer")
        try:
            if not response.is_success:
                body = (await self._body(response, deadline))[:_LONGEST_ERROR]
                raise of_status(self.base_url, response.status_code, response.headers, body)
            yield response
        finally:
            await response.aclose()

    async def _body(self, response: httpx.Response, deadline: Deadline) -> bytes:
        chunks, body = response.aiter_bytes(), bytearray()
        while (chunk := await self._next(chunks, deadline)) is not None:
            body += chunk
            if len(body) > 10 * _LONGEST_LINE:
                raise malformed(self.base_url, "does not end")
        return bytes(body)

    async def _next(self, chunks: Any, deadline: Deadline) -> bytes | None:
        """The next bytes, None at the end."""
        left = deadline.left_s
        try:
            chunk: bytes = await asyncio.wait_for(anext(chunks), max(0.0, min(left, self.idle_s)))
        except StopAsyncIteration:
            return None
        except asyncio.TimeoutError as error:
            if left > self.idle_s:
                raise timed_out(self.base_url, self.idle_s, "fell silent, and said nothing more") from error
            self._failed(error, deadline, "did not finish")
        except httpx.HTTPError as error:
            self._failed(error, deadline, "did not finish")
        return chunk

    def _failed(self, error: Exception, deadline: Deadline, what: str) -> NoReturn:
        if isinstance(error, asyncio.TimeoutError):
            raise timed_out(self.base_url, deadline.seconds, what) from error
        failed: FailedReplyError = unreachable(self.base_url, error)
        raise failed from error
