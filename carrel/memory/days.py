"""The days of the calendar that times fall on, in the zone of whoever speaks: half an hour past midnight is today.

What reads turns works in UTC unless a block says otherwise (``in_zone``); a memory says its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache

from carrel.errors import InputError

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_STEADY_S = 900.0


class MachineZone(tzinfo):
    """The zone that this machine is set to, summer time and all."""

    def utcoffset(self, when: datetime | None) -> timedelta:
        """The difference to UTC at a time of the clock here."""
        found = (when or datetime.now()).replace(tzinfo=None, fold=0 if when is None else when.fold)
        return found.astimezone().utcoffset() or timedelta(0)

    def dst(self, when: datetime | None) -> timedelta | None:
        """Not known."""
        return None

    def tzname(self, when: datetime | None) -> str | None:
        """As the machine calls it."""
        return (when or datetime.now()).replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, when: datetime) -> datetime:
        """The time of the clock here."""
        return when.replace(tzinfo=timezone.utc).astimezone().replace(tzinfo=self)


_ZONE: ContextVar[tzinfo] = ContextVar("carrel_memory_zone", default=timezone.utc)


def zone_of(zone: str | tzinfo | None) -> tzinfo:
    """A zone by its name, such as "Europe/Zurich"; that of this machine for None.

    Raises
    ------
    InputError : there is none of this name.
    """
    if zone is None:
        return MachineZone()
    if isinstance(zone, tzinfo):
        return zone
    if isinstance(zone, str):
        from zoneinfo import ZoneInfo

        try:
            return timezone.utc if zone.upper() in ("UTC", "Z") else ZoneInfo(zone)
        except (ValueError, OSError, LookupError) as error:
            raise InputError(
                f"no time zone {zone!r} is known here: give a name such as 'Europe/Zurich' (a machine without the"
                " list of them needs: pip install tzdata), or a tzinfo"
            ) from error
    raise InputError(f"a time zone is a name such as 'Europe/Zurich' or a tzinfo, not {zone!r:.100}")


@contextmanager
def in_zone(zone: tzinfo) -> Iterator[None]:
    """While the block runs, days are those of a zone."""
    token = _ZONE.set(zone)
    try:
        yield
    finally:
        _ZONE.reset(token)


def day_of(at: float) -> date:
    """The day of a time in seconds since 1970; the first or the last there is for one beyond the calendar."""
    try:
        return date.fromordinal(_EPOCH_DAY + math.floor((at + _offset(_ZONE.get(), at // _STEADY_S)) / 86400))
    except (OverflowError, ValueError, OSError):
        return date.min if at < 0 else date.max


@lru_cache(maxsize=100_000)
def _offset(zone: tzinfo, step: float) -> float:
    """Seconds that the clock of a zone is ahead, by quarters of an hour since 1970: clocks change between them."""
    if zone is timezone.utc:
        return 0.0
    when = (_EPOCH + timedelta(seconds=step * _STEADY_S)).astimezone(zone)
    return (when.utcoffset() or timedelta(0)).total_seconds()


def start_of(day: date) -> float:
    """When a day begins, in seconds since 1970."""
    return _start_of(_ZONE.get(), day)


@lru_cache(maxsize=100_000)
def _start_of(zone: tzinfo, day: date) -> float:
    if zone is not timezone.utc:
        try:
            return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
        except (OverflowError, ValueError, OSError):  # at an end of the calendar
            pass
    return (day - date(1970, 1, 1)).days * 86400.0
