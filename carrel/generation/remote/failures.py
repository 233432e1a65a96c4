"""What can go wrong between a request and its reply, as errors that say what to do, and when to try again."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from carrel.errors import (
    AuthenticationError,
    ContextOverflowError,
    GenerationError,
    GenerationTimeoutError,
    MalformedReplyError,
    RateLimitError,
    RefusalError,
    ServerConnectionError,
    UnknownModelError,
)
from carrel.generation.replies import reason_of

_TOO_LONG = re.compile(
    r"context[_ ](?:length|window|size)|maximum (?:context|input|prompt)|(?:prompt|input|request) is too long"
    r"|too many (?:input )?tokens|exceeds? the (?:model|maximum|available)|max_model_len",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model.{0,120}(?:not (?:exist|found)|does not exist|unknown)|no such model", re.IGNORECASE | re.S
)
_FILTERED = re.compile(r"content[_ ](?:filter|policy|management)|safety (?:system|policy)", re.IGNORECASE)
_TRIED_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_NUMBER = re.compile(r"\s*\d{1,9}(?:\.\d+)?\s*", re.ASCII)
_SHOWN = 300  # characters of what a server says


class FailedReplyError(Exception):
    """A reply that is a failure: the error to raise, whether to try again, and how long the server wants to be left."""

    def __init__(self, error: GenerationError, again: bool = False, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.again, self.wait_s = error, again, wait_s


@dataclass
class Backoff:
    """How long to wait before the next try: twice as long each time, at random up to that (full jitter).

    A wait that the server names is kept to. Reference: Brooker, "Exponential Backoff And Jitter" (AWS, 2015).
    """

    retries: int
    first_s: float = 0.5
    longest_s: float = 8.0
    chance: random.Random = field(default_factory=random.Random)
    tried: int = 0

    def wait_s(self, failed: FailedReplyError, left_s: float) -> float | None:
        """Seconds to wait, or None to give up: all tries are spent, or the wait would outlast the deadline."""
        if not failed.again or self.tried >= self.retries:
            return None
        self.tried += 1
        longest = min(self.longest_s, self.first_s * 2 ** (self.tried - 1))
        wait = self.chance.uniform(0, longest) if failed.wait_s is None else failed.wait_s
        return wait if wait < left_s else None


def of_status(where: str, status: int, headers: Mapping[str, str], body: bytes) -> FailedReplyError:
    """What a status that is no success means. ``where`` names server and model."""
    said = message_of(body)
    again = status in _TRIED_AGAIN
    wait = retry_after_s(headers) if again else None
    detail = f": {said}" if said else ""
    error: GenerationError
    if status in (401, 403):
        error = AuthenticationError(f"{where} refuses the key (HTTP {status}){detail}. Set another with api_key=.")
    elif status == 404 or (status == 400 and _NO_MODEL.search(said)):
        error = UnknownModelError(
            f"{where}: not found (HTTP {status}){detail}. Check the address and the model's name."
        )
    elif status == 429:
        error = RateLimitError(f"{where} takes no more requests for now (HTTP 429){detail}. Ask less often.")
        again = b"insufficient_quota" not in body
    elif status in (400, 413, 422) and (status == 413 or _TOO_LONG.search(said)):
        error = ContextOverflowError(f"the prompt is too long for {where}{detail}. Use a smaller budget.")
    elif status in (400, 403, 451) and _FILTERED.search(said):
        error = RefusalError(f"{where} declines to answer{detail}")
    elif 300 <= status < 400:
        place = headers.get("location", "another address")
        error = ServerConnectionError(f"{where} has moved (HTTP {status}) to {place}. Give that address as base_url.")
    else:
        error = GenerationError(f"{where} failed (HTTP {status}){detail}")
    return FailedReplyError(error, again, wait)


def of_message(where: str, content: Any) -> FailedReplyError:
    """What an error that came inside a reply means."""
    body = json.dumps({"error": content}).encode()
    code = content.get("code") if isinstance(content, Mapping) else None
    status = int(code) if isinstance(code, (int, str)) and str(code).isdigit() and 400 <= int(code) < 600 else 500
    return of_status(where, status, {}, body)


def malformed(where: str, what: str) -> FailedReplyError:
    """A reply that is none; servers behind proxies do that for a moment, so it is tried again."""
    return FailedReplyError(MalformedReplyError(f"the reply of {where} {what}"), again=True)


def unreachable(where: str, error: Exception) -> FailedReplyError:
    """No connection, or one that broke."""
    said = f"cannot reach {where} ({reason_of(error)}). Is the server running at this address?"
    return FailedReplyError(ServerConnectionError(said), again=True)


def timed_out(where: str, seconds: float, what: str) -> FailedReplyError:
    """Too slow; the time allowed is for all tries together, so there is none left."""
    return FailedReplyError(
        GenerationTimeoutError(f"{where} {what} within {seconds:g} s. Allow more with timeout_s=, or ask for less.")
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks for, as a number or a date; None where it names none."""
    try:
        for name, seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            if _NUMBER.fullmatch(headers.get(name, "")):
                return float(headers[name]) * seconds
        value = headers.get("retry-after")
        if value is None:
            return None
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def message_of(body: bytes) -> str:
    """What a server says of its failure, on one line."""
    text = body.decode("utf-8", "replace")
    try:
        content: Any = json.loads(text)
    except ValueError:
        content = re.sub(r"<[^>]*>", " ", text)
    for key in ("error", "detail", "message"):
        if isinstance(content, Mapping) and key in content:
            content = content[key]
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        content = content[0].get("msg", content[0])
    said = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    said = " ".join(said.split())
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
