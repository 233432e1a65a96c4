"""Times as people say them."""

from __future__ import annotations

from datetime import date, datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.memory.days import day_of
from carrel.memory.periods import asked_period, said_period, without_relative
from carrel.memory.times import times

DAY = 86400.0
MONDAY = datetime(2023, 5, 8, 13, 56, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("I went yesterday.", "2023-05-07", "2023-05-08"),
        ("the day before yesterday", "2023-05-06", "2023-05-07"),
        ("See you tomorrow", "2023-05-09", "2023-05-10"),
        ("last night was fun", "2023-05-07", "2023-05-08"),
        ("We met last week.", "2023-05-01", "2023-05-08"),
        ("next week then", "2023-05-15", "2023-05-22"),
        ("camping last weekend", "2023-05-06", "2023-05-08"),
        ("camping two weekends ago", "2023-04-29", "2023-05-01"),
        ("three days ago", "2023-05-05", "2023-05-06"),
        ("a couple of months ago", "2023-03-01", "2023-04-01"),
        ("two years ago", "2021-01-01", "2022-01-01"),
        ("last Saturday", "2023-05-06", "2023-05-07"),
        ("last Monday", "2023-05-01", "2023-05-02"),
        ("next Friday", "2023-05-12", "2023-05-13"),
        ("on Thursday", "2023-05-04", "2023-05-05"),
        ("last May", "2022-05-01", "2022-06-01"),
        ("last month", "2023-04-01", "2023-05-01"),
        ("last year", "2022-01-01", "2023-01-01"),
        ("last summer", "2022-06-01", "2022-09-01"),
        ("next month", "2023-06-01", "2023-07-01"),
        ("in July 2023", "2023-07-01", "2023-08-01"),
        ("in December", "2022-12-01", "2023-01-01"),
        ("in June", "2023-06-01", "2023-07-01"),
        ("on 3 July 2022", "2022-07-03", "2022-07-04"),
        ("on May 3rd, 2021", "2021-05-03", "2021-05-04"),
        ("summer of 2020", "2020-06-01", "2020-09-01"),
        ("back in 2019", "2019-01-01", "2020-01-01"),
        ("at 2022-02-28", "2022-02-28", "2022-03-01"),
        ("in two weeks", "2023-05-22", "2023-05-23"),
        ("the past 3 weeks", "2023-04-17", "2023-05-09"),
    ],
)
def test_one_time(text: str, start: str, end: str) -> None:
    found = times(text, MONDAY)
    assert [(each.start, each.end) for each in found] == [(date.fromisoformat(start), date.fromisoformat(end))]
    assert text[found[0].at :].startswith(found[0].words)


@pytest.mark.parametrize("text", ["", "You may fall.", "a march of 300 people", "soon", "30 or 40 people"])
def test_no_time(text: str) -> None:
    assert times(text, MONDAY) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("yesterday", "7 May 2023"),
        ("last month", "April 2023"),
        ("last year", "2022"),
        ("last week", "1–7 May 2023"),
        ("in two weeks", "22 May 2023"),
        ("the past 3 weeks", "17 April – 8 May 2023"),
    ],
)
def test_shown(text: str, shown: str) -> None:
    assert times(text, MONDAY)[0].shown() == shown


def test_several_in_order() -> None:
    assert [each.words for each in times("Yesterday I booked for next month.", MONDAY)] == ["Yesterday", "next month"]


@given(st.text(max_size=80), st.floats(-1e11, 1e11))
def test_any_text_can_be_read(text: str, at: float) -> None:
    for each in times(f"{text} 3 years ago {text} last week", at):
        assert each.start < each.end


def test_a_day_is_that_of_utc() -> None:
    assert day_of(MONDAY) == date(2023, 5, 8)
    assert day_of(-1.0) == date(1969, 12, 31)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("query", "since", "before"),
    [
        ("What did we talk about last week?", "2023-05-01", "2023-05-08"),
        ("What has Ann done since March?", "2023-03-01", "2023-05-09 13:56"),
        ("What did Ann do before 2022?", "1970-01-01", "2022-01-01"),
        ("What did Ann do after 1 May 2023?", "2023-05-02", "2023-05-09 13:56"),
    ],
)
def test_the_period_of_a_question(query: str, since: str, before: str) -> None:
    period = asked_period(query, MONDAY)
    assert period is not None
    assert (period.since, period.before) == (seconds(since), seconds(before))


def test_a_question_without_a_time_has_no_period() -> None:
    assert asked_period("When did Ann join the choir?", MONDAY) is None


def test_nearness_falls_with_the_distance() -> None:
    period = asked_period("last week?", MONDAY)
    assert period is not None
    end = seconds("2023-05-08")
    near = [period.nearness(at, at) for at in (seconds("2023-05-03"), end + 7 * DAY, end + 30 * DAY, end + 90 * DAY)]
    assert near[0] == 1.0 and near == sorted(near, reverse=True) and near[-1] == 0.0


@pytest.mark.parametrize(
    ("query", "since", "before"),
    [
        ("What did I tell you last week?", "2023-05-01", "2023-05-08"),
        ("What did we talk about yesterday?", "2023-05-07", "2023-05-08"),
        ("What did I say to you in March 2023 about my boat?", "2023-03-01", "2023-04-01"),
        ("Last week, what did Ann mention?", "2023-05-01", "2023-05-08"),
        ("In March 2023, what did I say?", "2023-03-01", "2023-04-01"),
    ],
)
def test_a_question_may_tell_when_something_was_said(query: str, since: str, before: str) -> None:
    period = said_period(query, MONDAY)
    assert period is not None and (period.since, period.before) == (seconds(since), seconds(before))


@pytest.mark.parametrize(
    "query",
    [
        "What did I do last week?",  # it may have been told later
        "What did I say about my trip last May?",
        "What did I tell you about last May's trip?",
        "What did I tell you?",
        "What did I say yesterday about last week?",
    ],
)
def test_or_when_it_was(query: str) -> None:
    assert said_period(query, MONDAY) is None


def test_a_time_told_from_now_is_no_word_to_look_for() -> None:
    assert without_relative("What did I tell you last May?", MONDAY) == "What did I tell you ?"
    assert without_relative("What did I buy in March 2023?", MONDAY) == "What did I buy in March 2023?"
    assert without_relative("Who was here two weeks ago, and yesterday?", MONDAY) == "Who was here , and ?"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("half a year ago", "November 2022"), ("a year and a half ago", "November 2021"),
        ("between May and July 2023", "1 May – 31 July 2023"), ("from March to May", "1 March – 31 May 2023"),
        ("from November to February", "1 November 2022 – 28 February 2023"),
        ("between December 2021 and March 2022", "1 December 2021 – 31 March 2022"),
        ("on 03/05/2023", "5 March – 3 May 2023"), ("on 3.5.2023", "3 May 2023"), ("on 12/25/2022", "25 December 2022"),
        ("on 45/45/2022", "2022"), ("twenty days ago", "18 April 2023"), ("a fortnight ago", "24–30 April 2023"),
    ],
)  # fmt: skip
def test_rarer_times(text: str, shown: str) -> None:
    assert [time.shown() for time in times(text, MONDAY)] == [shown]
