"""Days of the calendar, in the zone of whoever speaks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.memory.days import MachineZone, day_of, in_zone, start_of, zone_of
from carrel.testing import FakeGenerator

TOKYO = ZoneInfo("Asia/Tokyo")
MORNING = datetime(2023, 5, 8, 8, 30, tzinfo=TOKYO)  # the evening before in Greenwich


@pytest.fixture
def in_zurich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Zurich")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@given(st.integers(-(10**10), 10**10), st.sampled_from(["UTC", "Asia/Tokyo", "America/New_York", "Europe/Zurich"]))
def test_a_time_is_in_its_day(at: int, name: str) -> None:
    with in_zone(zone_of(name)):
        day = day_of(at)
        assert day == datetime.fromtimestamp(0, ZoneInfo(name)).date() or at
        assert start_of(day) <= at < start_of(day + timedelta(days=1))


def test_without_a_zone_days_are_of_utc() -> None:
    assert day_of(MORNING.timestamp()) == date(2023, 5, 7)
    with in_zone(TOKYO):
        assert day_of(MORNING.timestamp()) == date(2023, 5, 8)
    for far in (-1e300, 1e300, -(10.0**11), 1e12):
        assert day_of(far) in (date.min, date.max)
        with in_zone(TOKYO):
            assert day_of(far) in (date.min, date.max)
    with in_zone(TOKYO):
        assert start_of(date.min) < start_of(date.max)


def test_zones_by_name() -> None:
    assert zone_of("utc") is timezone.utc and zone_of(TOKYO) is TOKYO
    for wrong in ("Mars/Olympus", "", "../etc/passwd", 3):
        with pytest.raises(InputError, match="time zone"):
            zone_of(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["2023-01-05", "2023-07-05", "2023-03-26", "2023-10-29"])
def test_the_machine_is_where_it_is(in_zurich: None, name: str) -> None:
    zone, zurich = MachineZone(), ZoneInfo("Europe/Zurich")
    begin = datetime.fromisoformat(name).replace(tzinfo=timezone.utc)
    for hour in range(30):
        when = begin + timedelta(hours=hour)
        assert when.astimezone(zone).replace(tzinfo=None) == when.astimezone(zurich).replace(tzinfo=None)
        clock = when.astimezone(zurich)
        assert clock.replace(tzinfo=zone).timestamp() == when.timestamp()


def test_yesterday_is_the_users(make) -> None:
    with make(zone="Asia/Tokyo") as memory:
        memory.observe("I joined the choir yesterday.", said_at=MORNING)
        assert memory.flush(10)
        text = memory.in_session("new").recall("When did I join the choir?").text
        assert "[8 May 2023]" in text and "yesterday = 7 May 2023" in text
        evening = MORNING.replace(hour=23)
        assert "choir" in memory.in_session("new").recall("What did I tell you today?", now=evening).text
    generator = FakeGenerator("{}")
    with make(zone="Asia/Tokyo", generator=generator) as memory:
        memory.observe("I joined the choir.", said_at=MORNING)
        memory.flush(5)
        assert generator.prompts[0].passages[0].title == "user, 8 May 2023"


def test_the_command_line_tells_the_day_that_it_was_told(tmp_path) -> None:
    def ran(*words: str) -> str:
        command = [sys.executable, "-m", "carrel", "memory", *words, "--library", str(tmp_path / "library")]
        around = {**os.environ, "TZ": "Europe/Zurich"}
        return subprocess.run(command, env=around, capture_output=True, text=True, check=True, timeout=60).stdout

    ran("observe", "I joined the choir yesterday.", "--at", "2023-05-08")
    assert "2023-05-08" in ran("list")
    found = ran("recall", "When did I join the choir?", "--at", "2023-06-01", "--session", "new")
    assert "[8 May 2023]" in found and "yesterday = 7 May 2023" in found
