"""What callers give a memory, checked where it comes in."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import datetime

from carrel.errors import InputError
from carrel.inputs import check_kind, check_text, well_formed
from carrel.memory.base import Utterance

_LONGEST_NAME = 500  # characters of a user, session or speaker


def checked_name(what: str, value: object) -> str:
    """The name of a user, a session or a speaker; ``what`` is how the message calls it."""
    text = check_text(what, value)
    if not text.strip() or len(text) > _LONGEST_NAME:
        raise InputError(f"{what} is a name of 1 to {_LONGEST_NAME} characters, not {value!r:.100}")
    if well_formed(text) != text:  # two of them would become one
        raise InputError(f"{what} has characters that are no text (lone surrogates): {value!r:.100}")
    return text


def checked_utterance(said: Utterance | str) -> Utterance:
    """An utterance that can be written, with its time."""
    said = Utterance(said) if isinstance(said, str) else said
    check_kind("what is said", said, Utterance)
    text = well_formed(check_text("the text of a turn", said.text))
    if not text.strip():
        raise InputError("the text of a turn is empty: there is nothing to remember")
    session = checked_name("a session", said.session) if said.session else ""
    speaker = well_formed(said.speaker) if isinstance(said.speaker, str) else said.speaker
    return Utterance(text, checked_name("a speaker", speaker), seconds(said.said_at), session)


def seconds(value: float | datetime | None) -> float:
    """Seconds since 1970; now for None."""
    if value is None:
        return time.time()
    found = value.timestamp() if isinstance(value, datetime) else value
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
        raise InputError(f"a time is a number of seconds since 1970, or a datetime, not {value!r:.100}")
    return float(found)


def checked_ids(turn: int | Sequence[int] | None) -> list[int]:
    """Ids of turns, given as one, several or none."""
    ids = [] if turn is None else [turn] if isinstance(turn, int) else list(turn)
    for each in ids:
        if isinstance(each, bool) or not isinstance(each, int):
            raise InputError(f"the id of a turn is a whole number, not {each!r:.100}")
    return ids
