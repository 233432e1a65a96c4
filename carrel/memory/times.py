"""Times as people say them: yesterday, two weekends ago, last May; each an interval of days, from when it was said.

Everything is in days of the calendar (of UTC, or of a zone: carrel.memory.days). A week begins on Monday; a weekend is
its Saturday and Sunday. Where a month or a weekday is said without a year or a week, it is the nearest: in the past
where nothing says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from carrel.memory.days import day_of, start_of

_MONTH_NAMES = "january february march april may june july august september october november december".split()
_DAY_NAMES = "monday tuesday wednesday thursday friday saturday sunday".split()
_MONTHS = {name[:length]: number for number, name in enumerate(_MONTH_NAMES, 1) for length in (3, 4, len(name))}
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_NUMBERS = {
    **{word: number for number, word in enumerate(
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
        " eighteen nineteen twenty".split(), 1
    )},
    **dict(thirty=30, forty=40, fifty=50, sixty=60, ninety=90, hundred=100),
    **dict.fromkeys(("a", "an"), 1),
    **dict.fromkeys(("a couple of", "couple of", "a couple"), 2),
    **dict.fromkeys(("a few", "few"), 3),
    **dict.fromkeys(("several",), 4),
}
_N = r"(?P<n>\d{1,3}|" + "|".join(sorted(_NUMBERS, key=len, reverse=True)) + r")"
_MONTH = (
    r"(?P<month>january|february|march|april|may|june|july|august|september|october|november|december"
    r"|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec)\b\.?"
)
_MONTH_TOO = _MONTH.replace("<month>", "<month2>")
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_YEAR_TOO = _YEAR.replace("<year>", "<year2>")
_WEEKDAY = r"(?P<weekday>monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_SEASON = r"(?P<season>spring|summer|autumn|fall|winter)"
_UNIT = r"(?P<unit>day|week|weekend|month|year)"
_UNIT_ALONE = r"\s*(?P<unit>year|month)(?:\s+and\s+a\s+half)?\s+(?:ago|back|earlier)\b"
_WHICH = r"(?P<which>last|past|previous|this past|this|current|next|coming|upcoming|following)"
_FUTURE = ("next", "coming", "upcoming", "following")
Precision = Literal["day", "days", "month", "year"]


@dataclass(frozen=True, slots=True)
class Time:
    """A time that was said: its words, where they stand, and the days from ``start`` up to, not with, ``end``.

    ``relative``: whether it depends on when it was said.
    """

    words: str
    at: int
    start: date
    end: date
    relative: bool

    def shown(self) -> str:
        """The days, as short as they can be told: 7 May 2023, June 2023, 2022, 1–7 May 2023."""
        last = self.end - timedelta(days=1)
        if last == self.start:
            return day_shown(self.start)
        if self.start.day == self.start.month == 1 and self.end == date(self.start.year + 1, 1, 1):
            return str(self.start.year)
        if self.start.day == 1 and self.end == _first_of_month(self.start, 1):
            return f"{_month(self.start)} {self.start.year}"
        if (self.start.year, self.start.month) == (last.year, last.month):
            return f"{self.start.day}–{day_shown(last)}"
        begin = f"{self.start.day} {_month(self.start)}"
        return f"{begin}{f' {self.start.year}' if self.start.year != last.year else ''} – {day_shown(last)}"

    def seconds(self) -> tuple[float, float]:
        """The same in seconds since 1970."""
        return start_of(self.start), start_of(self.end)


def day_shown(day: date) -> str:
    """As in 7 May 2023."""
    return f"{day.day} {_month(day)} {day.year}"


def _month(day: date) -> str:
    return _MONTH_NAMES[day.month - 1].capitalize()


def _first_of_month(day: date, months: int = 0) -> date:
    whole = day.year * 12 + day.month - 1 + months
    return date(whole // 12, whole % 12 + 1, 1)


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


_Interval = tuple[date, date]
_Found = re.Match[str]


def _days(start: date, count: int = 1) -> _Interval:
    return start, start + timedelta(days=count)


def _months(first: date, count: int = 1) -> _Interval:
    return first, _first_of_month(first, count)


def _unit(unit: str, anchor: date, shift: int) -> _Interval:
    """The day, week, weekend, month or year that is ``shift`` of them from the one of ``anchor``."""
    if unit == "day":
        return _days(anchor + timedelta(days=shift))
    if unit == "week":
        return _days(_monday(anchor) + timedelta(weeks=shift), 7)
    if unit == "weekend":
        return _days(_monday(anchor) + timedelta(weeks=shift, days=5), 2)
    if unit == "month":
        return _months(_first_of_month(anchor, shift))
    return date(anchor.year + shift, 1, 1), date(anchor.year + shift + 1, 1, 1)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else _NUMBERS[text]


def _named_day(found: _Found, anchor: date) -> _Interval:
    offsets = {"the day before yesterday": -2, "day before yesterday": -2, "yesterday": -1, "last night": -1,
               "tomorrow": 1, "the day after tomorrow": 2, "day after tomorrow": 2}  # fmt: skip
    return _days(anchor + timedelta(days=offsets.get(" ".join(found.group().lower().split()), 0)))


def _ago(found: _Found, anchor: date) -> _Interval:
    count, unit = _number(found["n"].lower()), found["unit"].lower()
    if unit == "weekend":  # the weekend just gone is one ago
        return _unit("weekend", anchor, -count)
    if unit == "day":
        return _days(anchor - timedelta(days=count))
    if unit == "week":
        middle = anchor - timedelta(weeks=count)
        return _days(middle - timedelta(days=1), 3) if count == 1 else _days(_monday(middle), 7)
    return _unit(unit, anchor, -count)


def _ahead(found: _Found, anchor: date) -> _Interval:
    count, unit = _number(found["n"].lower()), found["unit"].lower()
    if unit in ("day", "week"):
        return _days(anchor + timedelta(days=count * (7 if unit == "week" else 1)))
    return _unit(unit, anchor, count)


def _running(found: _Found, anchor: date) -> _Interval:
    """The last three weeks: up to today."""
    count, unit = _number(found["n"].lower()), found["unit"].lower()
    start = anchor - timedelta(days=count * {"day": 1, "week": 7, "weekend": 7, "month": 31, "year": 366}[unit])
    return start, anchor + timedelta(days=1)


def _relative_unit(found: _Found, anchor: date) -> _Interval:
    which = found["which"].lower()
    shift = 1 if which in _FUTURE else 0 if which in ("this", "current") else -1
    return _unit(found["unit"].lower(), anchor, shift)


def _relative_weekday(found: _Found, anchor: date) -> _Interval:
    which = (found["which"] or "").lower()
    ahead = (_DAY_NAMES.index(found["weekday"].lower()) - anchor.weekday()) % 7
    if which in _FUTURE or which == "this":
        return _days(anchor + timedelta(days=ahead or (7 if which in _FUTURE else 0)))
    return _days(anchor - timedelta(days=(-ahead % 7) or 7))


def _plain_weekday(found: _Found, anchor: date) -> _Interval:
    ahead = (_DAY_NAMES.index(found["weekday"].lower()) - anchor.weekday()) % 7
    return _days(anchor - timedelta(days=-ahead % 7))


def _relative_month(found: _Found, anchor: date) -> _Interval:
    month, which = _MONTHS[found["month"].lower()], found["which"].lower()
    first = date(anchor.year, month, 1)
    if which in _FUTURE:
        return _months(first if month > anchor.month else _first_of_month(first, 12))
    if which in ("this", "current"):
        return _months(first)
    return _months(first if month < anchor.month else _first_of_month(first, -12))


def _season(year: int, season: str) -> _Interval:
    return _months(date(year, _SEASONS[season], 1), 3)


def _relative_season(found: _Found, anchor: date) -> _Interval:
    season, which = found["season"].lower(), found["which"].lower()
    interval = _season(anchor.year, season)
    if which in ("this", "current"):
        return interval
    if which in _FUTURE:
        return interval if interval[0] > anchor else _season(anchor.year + 1, season)
    return interval if interval[1] <= anchor else _season(anchor.year - 1, season)


def _date(found: _Found, anchor: date) -> _Interval | None:
    """A day of a month; without a year the last one that was, or the coming one within three months."""
    day, month = int(found["day"]), _MONTHS[found["month"].lower()]
    year = int(found["year"]) if found["year"] else anchor.year
    try:
        start = date(year, month, day)
        if not found["year"] and start > anchor + timedelta(days=92):
            start = date(year - 1, month, day)
    except ValueError:
        return None
    return _days(start)


def _iso(found: _Found, anchor: date) -> _Interval | None:
    try:
        return _days(date.fromisoformat(found.group()))
    except ValueError:
        return None


def _figures(found: _Found, anchor: date) -> _Interval | None:
    """03/05/2023: in May or in March, so from the one day to the other; with a point the day comes first."""
    one, two, year = int(found["one"]), int(found["two"]), int(found["year"])
    orders = [(one, two)] if found["mark"] == "." else [(one, two), (two, one)]
    days = sorted(date(year, month, day) for day, month in orders if month <= 12 and day <= _days_in(year, month))
    return (days[0], days[-1] + timedelta(days=1)) if days else None


def _days_in(year: int, month: int) -> int:
    return (_first_of_month(date(year, month, 1), 1) - date(year, month, 1)).days if month else 0


def _range(found: _Found, anchor: date) -> _Interval:
    """From March to May; over the turn of a year where the second month is the earlier one."""
    first, last = (_MONTHS[found[name].lower()] for name in ("month", "month2"))
    told = found["year2"] or found["year"]
    end = int(found["year2"]) if found["year2"] else int(found["year"]) + (last < first) if told else anchor.year
    begin = int(found["year"]) if found["year"] else end - (last < first)
    if not told and date(begin, first, 1) > anchor:
        begin, end = begin - 1, end - 1
    return date(begin, first, 1), _first_of_month(date(end, last, 1), 1)


def _half(found: _Found, anchor: date) -> _Interval:
    """Half a year ago: a month; half a month ago: a week."""
    if found["unit"].lower() == "month":
        return _unit("week", anchor, -2)
    return _unit("month", anchor, -6 if found["half"] else -18)


def _fortnight(found: _Found, anchor: date) -> _Interval:
    return _unit("week", anchor, -2 * _number((found["n"] or "one").lower()))


def _month_of_year(found: _Found, anchor: date) -> _Interval:
    return _months(date(int(found["year"]), _MONTHS[found["month"].lower()], 1))


def _plain_month(found: _Found, anchor: date) -> _Interval:
    first = date(anchor.year, _MONTHS[found["month"].lower()], 1)
    return _months(first if first <= anchor + timedelta(days=92) else _first_of_month(first, -12))


def _season_of_year(found: _Found, anchor: date) -> _Interval:
    return _season(int(found["year"]), found["season"].lower())


def _year(found: _Found, anchor: date) -> _Interval:
    return date(int(found["year"]), 1, 1), date(int(found["year"]) + 1, 1, 1)


def _near_day(found: _Found, anchor: date) -> _Interval:
    """Just now, this morning."""
    return _days(anchor)


_Rule = tuple[re.Pattern[str], Callable[[_Found, date], _Interval | None], bool]


def _rule(pattern: str, read: Callable[[_Found, date], _Interval | None], *, relative: bool = True) -> _Rule:
    return re.compile(rf"\b(?:{pattern})", re.IGNORECASE), read, relative


_RULES: tuple[_Rule, ...] = (
    _rule(r"\d{4}-\d\d-\d\d\b", _iso, relative=False),
    _rule(rf"(?P<one>\d{{1,2}})(?P<mark>[/.])(?P<two>\d{{1,2}})(?P=mark){_YEAR}\b", _figures, relative=False),
    _rule(
        rf"(?:between|from)\s+{_MONTH}(?:,?\s+{_YEAR})?\s+(?:and|to|until|till|through)\s+{_MONTH_TOO}(?:,?\s+{_YEAR_TOO}\b)?",
        _range, relative=False,
    ),
    _rule(rf"{_DAY}(?:\s+of)?\s+{_MONTH},?(?:\s+{_YEAR}\b)?", _date, relative=False),
    _rule(rf"{_MONTH}\s+{_DAY}\b(?!:)(?:,?\s+{_YEAR}\b)?", _date, relative=False),
    _rule(rf"{_MONTH},?\s+(?:of\s+)?{_YEAR}\b", _month_of_year, relative=False),
    _rule(rf"{_SEASON}\s+(?:of\s+|in\s+)?{_YEAR}\b", _season_of_year, relative=False),
    _rule(r"(?:the\s+)?day\s+before\s+yesterday\b|(?:the\s+)?day\s+after\s+tomorrow\b", _named_day),
    _rule(
        r"yesterday\b|tomorrow\b|last\s+night\b|today\b|tonight\b|this\s+(?:morning|afternoon|evening)\b", _named_day
    ),
    _rule(rf"(?:(?P<half>half)\s+a|(?:a|one)\s+(?=year\s+and\s+a\s+half)){_UNIT_ALONE}", _half),
    _rule(rf"(?:{_N}\s+)?fortnights?\s+(?:ago|back|earlier)\b", _fortnight),
    _rule(rf"{_N}\s+{_UNIT}s?\s+(?:ago|back|earlier)\b", _ago),
    _rule(rf"in\s+{_N}\s+{_UNIT}s?\b(?!\s+(?:ago|of)\b)", _ahead),
    _rule(rf"(?:the\s+)?(?:past|last)\s+{_N}\s+{_UNIT}s?\b", _running),
    _rule(rf"{_WHICH}\s+{_UNIT}\b(?!s)", _relative_unit),
    _rule(rf"{_WHICH}\s+{_WEEKDAY}\b", _relative_weekday),
    _rule(rf"{_WHICH}\s+{_MONTH}", _relative_month),
    _rule(rf"{_WHICH}\s+{_SEASON}\b", _relative_season),
    _rule(rf"on\s+{_WEEKDAY}\b", _plain_weekday),
    _rule(rf"(?:in|since|until|till|during|of|by|early|late|mid|before|after|around)[\s-]+{_MONTH}", _plain_month),
    _rule(rf"{_YEAR}\b(?!\s*(?:people|dollars|euros|kg|km|miles|%))", _year, relative=False),
)


_LETTERS = (  # in most turns there are none of them, nor a hint among those that have some
    "day", "ago", "week", "month", "year", "back", "earlier", "night", "morning", "afternoon", "evening", "tomorrow",
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "spring", "summer", "autumn",
    "fall", "winter",
)  # fmt: skip
_FIGURES = re.compile(r"\d{4}")
_HINT = re.compile(
    r"\d{4}|\bago\b|days?\b|\b(?:last|this|to)\s*(?:night|morning|afternoon|evening)|today|tomorrow|\bweek|\bmonth"
    r"|fortnight|\byear|\bback\b|\bearlier\b|\b(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)\b"
    r"|january|february|march|april|august|september|october|november|december|spring|summer|autumn|\bfall\b|winter"
)


def _hinted(text: str) -> bool:
    """Whether a text may tell a time; in small letters, as to look for both takes three times as long."""
    small = text.lower()
    if not _FIGURES.search(small) and not any(letters in small for letters in _LETTERS):
        return False
    return _HINT.search(small) is not None


def times(text: str, said_at: float) -> list[Time]:
    """The times that a text tells, in order, read as of when it was said (seconds since 1970).

    Of readings that overlap, the first rule's counts, the more special ones first. Words that could be anything else
    ("may", "fall", "soon", "recently") are left alone.
    """
    if not _hinted(text):
        return []
    anchor = day_of(said_at)
    found: list[Time] = []
    taken: list[tuple[int, int]] = []
    for pattern, read, relative in _RULES:
        for match in pattern.finditer(text):
            start, end = match.span()
            if any(start < other_end and other_start < end for other_start, other_end in taken):
                continue
            try:
                interval = read(match, anchor)
            except (ValueError, OverflowError):  # before the year 1 or after 9999
                continue
            if interval is not None:
                taken.append((start, end))
                found.append(Time(match.group(), start, *interval, relative))
    return sorted(found, key=lambda time: time.at)
