"""What a memory takes, and what it says of the rest."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import pytest

from carrel.errors import InputError
from carrel.memory import Utterance
from carrel.memory.inputs import checked_ids, checked_name, checked_utterance, seconds


def test_times_are_seconds() -> None:
    at = datetime(2024, 5, 3, 12, tzinfo=timezone.utc)
    assert (seconds(at), seconds(5)) == (at.timestamp(), 5.0)
    assert abs(seconds(None) - time.time()) < 5
    for wrong in (float("nan"), float("inf"), True, "now"):
        with pytest.raises(InputError, match="a time is a number of seconds"):
            seconds(wrong)  # type: ignore[arg-type]


def test_a_text_is_an_utterance_of_the_user() -> None:
    said = checked_utterance("hello")
    assert (said.text, said.speaker, said.session) == ("hello", "user", "")
    assert isinstance(said.said_at, float)
    half = checked_utterance(Utterance("half \ud83d", "Ann", 3, "s"))
    assert half == Utterance("half \ufffd", "Ann", 3.0, "s")


def test_names_have_letters_and_an_end() -> None:
    assert checked_name("a user", " ann ") == " ann "
    for wrong in ("", " \n", "x" * 501):
        with pytest.raises(InputError, match="a user is a name of 1 to 500 characters"):
            checked_name("a user", wrong)


def test_two_users_do_not_become_one(make) -> None:
    for wrong in ("\udc80", "ann\udcff"):
        with pytest.raises(InputError, match="lone surrogates"):
            make(user=wrong)
    with make() as memory:
        assert memory.observe("hello", speaker="Bob \ud83d").speaker == "Bob \ufffd"


def test_ids_are_whole_numbers() -> None:
    assert (checked_ids(None), checked_ids(3), checked_ids((3, 4))) == ([], [3], [3, 4])
    with pytest.raises(InputError, match="whole number"):
        checked_ids(["3"])  # type: ignore[list-item]
