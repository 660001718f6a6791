"""Deadlines by a driven clock: daylight saving, month ends, holidays."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from flows.declare import Calendar, Deadline, Freshness, Merge, Replace, Timestamp
from flows.kinds.api import Endpoint
from flows.kinds.dlt import Resource
from flows.kinds.postgres import Database, Table
from flows.values.errors import DeclarationError

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
HOLIDAYS = Calendar("berlin", ["12-25", "2026-04-03"])
_DAY = timedelta(days=1)


def local(deadline: Deadline, first: date, last: date) -> list[str]:
    """The deadlines of these days, in local time."""
    zone = ZoneInfo(deadline.zone)
    begin = datetime(first.year, first.month, first.day, tzinfo=zone) - timedelta(seconds=1)
    end = datetime(last.year, last.month, last.day, tzinfo=zone) + _DAY
    return [f"{moment.astimezone(zone):%a %m-%d %H:%M%z}" for moment in deadline.between(begin, end)]


def test_every_working_day_leaves_out_weekends_and_holidays() -> None:
    without = Deadline("0 7 * * 1-5", BERLIN)
    assert local(without, date(2026, 4, 2), date(2026, 4, 6)) == [
        "Thu 04-02 07:00+0200",
        "Fri 04-03 07:00+0200",
        "Mon 04-06 07:00+0200",
    ]
    observed = Deadline("0 7 * * 1-5", BERLIN, holidays=HOLIDAYS)
    assert local(observed, date(2026, 4, 2), date(2026, 4, 6)) == ["Thu 04-02 07:00+0200", "Mon 04-06 07:00+0200"]


def test_a_holiday_without_a_year_is_one_every_year() -> None:
    daily = Deadline("0 7 * * *", BERLIN, holidays=HOLIDAYS)
    for year in (2026, 2027, 2031):
        assert len(local(daily, date(year, 12, 24), date(year, 12, 26))) == 2


def test_a_holiday_is_a_day_of_the_deadlines_zone() -> None:
    """00:30 in Berlin is still the day before in UTC."""
    daily = Deadline("30 0 * * *", BERLIN, holidays=HOLIDAYS)
    assert local(daily, date(2026, 12, 24), date(2026, 12, 26)) == ["Thu 12-24 00:30+0100", "Sat 12-26 00:30+0100"]


@pytest.mark.parametrize(
    ("zone", "forward", "back"),
    [(BERLIN, date(2026, 3, 29), date(2026, 10, 25)), (NEW_YORK, date(2026, 3, 8), date(2026, 11, 1))],
)
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 2 * * *", "30 1 * * *", "0 3 * * *", "0,30 2 * * *", "0 7 * * *"])
def test_a_deadline_at_a_fixed_time_comes_once_a_day_when_clocks_change(
    zone: str, forward: date, back: date, cron: str
) -> None:
    per_day = cron.count(",") + 1
    for changed in (forward, back):
        found = local(Deadline(cron, zone), changed - _DAY, changed + _DAY)
        # Both times of a skipped hour are one moment.
        expected = 1 if changed == forward and "2 *" in cron else per_day
        assert len([each for each in found if f"{changed:%m-%d}" in each]) == expected
        assert len(found) == 2 * per_day + expected


def test_a_skipped_hour_moves_its_deadline_to_the_next_minute_that_exists() -> None:
    assert local(Deadline("30 2 * * *", BERLIN), date(2026, 3, 29), date(2026, 3, 29)) == ["Sun 03-29 03:00+0200"]
    assert local(Deadline("30 2 * * *", NEW_YORK), date(2026, 3, 8), date(2026, 3, 8)) == ["Sun 03-08 03:00-0400"]


def test_in_a_doubled_hour_a_fixed_time_is_the_first_and_an_interval_is_both() -> None:
    day = date(2026, 10, 25)
    assert local(Deadline("30 2 * * *", BERLIN), day, day) == ["Sun 10-25 02:30+0200"]
    hourly = local(Deadline("*/30 * * * *", BERLIN), day, day)
    assert [each[10:] for each in hourly if " 02:30" in each] == ["02:30+0200", "02:30+0100"]
    assert len(hourly) == 2 * 25 + 1  # midnight at both ends


@pytest.mark.parametrize(
    "cron", ["30 2 * * *", "0 1-3 * * *", "*/20 * * * *", "15 */2 * * *", "0 3 * * *", "59 1 * * *"]
)
@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])
def test_looking_every_few_minutes_finds_each_deadline_exactly_once(cron: str, zone: str) -> None:
    deadline = Deadline(cron, zone)
    for begin in (datetime(2026, month, day, 20, tzinfo=UTC) for month, day in ((3, 7), (3, 28), (10, 24), (10, 31))):
        moments = [begin + timedelta(minutes=11 * step) for step in range(100)]
        seen = [found for one, following in pairwise(moments) for found in deadline.between(one, following)]
        assert seen == deadline.between(moments[0], moments[-1])
        assert seen == sorted(set(seen))


def test_month_ends_are_those_of_each_month() -> None:
    month_end = local(Deadline("0 18 L * *", BERLIN), date(2028, 1, 1), date(2028, 4, 30))
    assert [each[4:9] for each in month_end] == ["01-31", "02-29", "03-31", "04-30"]
    thirty_first = local(Deadline("0 18 31 * *", BERLIN), date(2026, 1, 1), date(2026, 6, 1))
    assert [each[4:9] for each in thirty_first] == ["01-31", "03-31", "05-31"]


def test_last_and_next_are_found_across_years() -> None:
    leap_day = Deadline("0 7 29 2 *")
    now = datetime(2027, 6, 1, tzinfo=UTC)
    assert leap_day.last(now) == datetime(2024, 2, 29, 7, tzinfo=UTC)
    assert leap_day.next(now) == datetime(2028, 2, 29, 7, tzinfo=UTC)


def test_a_load_counts_from_the_deadline_before_and_no_longer_than_declared() -> None:
    hourly, daily = Deadline("0 * * * *"), Deadline("0 7 * * *")
    due = datetime(2026, 5, 4, 7, tzinfo=UTC)
    assert hourly.opens_at(due) == due - timedelta(hours=1)
    assert daily.opens_at(due) == due - timedelta(hours=12)
    assert Deadline("0 7 * * *", within="3 h").opens_at(due) == due - timedelta(hours=3)


@pytest.mark.parametrize("cron", ["0 7 * *", "0 0 7 * * *", "61 7 * * *", "0 7 30 2 *", "every day", "", "@daily"])
def test_no_cron_expression_is_refused_at_import(cron: str) -> None:
    with pytest.raises(DeclarationError, match="not a cron expression") as refused:
        Deadline(cron)
    assert "0 7 * * 1-5" in refused.value.fix


@pytest.mark.parametrize("zone", ["Europe/Berln", "", "../etc"])
def test_an_unknown_zone_is_refused_at_import(zone: str) -> None:
    with pytest.raises(DeclarationError, match="time zone"):
        Deadline("0 7 * * *", zone)


@pytest.mark.parametrize("holiday", ["2026-02-30", "25.12.2026", "christmas", "13-01", 20261225])
def test_a_holiday_that_is_no_date_is_refused_at_import(holiday: str) -> None:
    with pytest.raises(DeclarationError, match="not a date"):
        Calendar("berlin", [holiday])


def test_freshness_that_cannot_be_measured_is_refused_at_import() -> None:
    for declared in (
        {"loaded_within": "soon"},
        {"loaded_within": "0 h"},
        {"event": "sold_at"},
        {"critical": True},
        {"expected_by": "0 7 * * *"},
    ):
        with pytest.raises(DeclarationError):
            Freshness(**declared)
    no_event = Freshness(event_within="1 day")
    with pytest.raises(DeclarationError, match="no cursor that is a time"):
        Table("stores", key="store_id", load=Replace(), freshness=no_event)
    with pytest.raises(DeclarationError, match="no cursor that is a time"):
        Endpoint("stores", path="/stores", freshness=no_event)
    with pytest.raises(DeclarationError, match="no cursor that is a time"):
        Resource("stores", key="id", cursor="id", cursor_type="bigint", load=Merge(), freshness=no_event)
    baskets = Table("baskets", key="id", cursor=Timestamp("at"), load=Merge(), freshness=no_event)
    # Of a source, it is about those tables that have one.
    Database("shop", connection="shop", tables=[baskets, Table("stores", load=Replace())], freshness=no_event)
