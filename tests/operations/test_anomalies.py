"""Unusual columns and late arrivals become one alert each, wake somebody on the second day, and end when accepted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from flows.access.addresses import connect
from flows.operations.alerts import Condition, open_alerts, report
from flows.operations.anomalies import accept, anomalies
from flows.operations.checks.anomalies import arrival_unusual, columns_unusual
from flows.operations.checks.volumes import volume_unusual
from flows.values.errors import ConfigurationError
from tests.conftest import TestDatabase
from tests.kinds.loading import at
from tests.operations.profiles import profiled
from tests.operations.volumes import loaded
from tests.publish.two_ends import run_sql

#: Accepting looks back from today, by the warehouse's clock.
TODAY = datetime.now(UTC).date()
WEEKS = {TODAY - timedelta(days=n): 0.01 for n in range(1, 80)}


def midnight(day: date, hours: float = 1) -> datetime:
    """In the night after that day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, hours=hours)


async def found(warehouse: TestDatabase, day: date) -> list[Condition]:
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        return await columns_unusual(connection, midnight(day), [])


def days_ago(number: int) -> date:
    return TODAY - timedelta(days=number)


def profiled_up_to(warehouse: TestDatabase, last: date, changed: dict[date, float]) -> None:
    days = {day: share for day, share in {**WEEKS, **changed}.items() if day <= last}
    run_sql(warehouse.url("loader"), "truncate ops.profiles, ops.profile_days, ops.anomalies")
    profiled(warehouse, "status", days)
    profiled(warehouse, "calm", days_like(days))
    # Days that were looked at when they were the last one.
    run_sql(
        warehouse.url("loader"),
        "insert into ops.profile_days (source_system, table_name, day, column_name, kind, loads, rows, null_share, "
        "compared_at) select source_system, table_name, (profiled_at at time zone 'UTC')::date, column_name, kind, 1, "
        "rows, null_share, now() from ops.profiles where profiled_at < %s::date - 3",
        [last],
    )


def days_like(days: dict[date, float]) -> dict[date, float]:
    return dict.fromkeys(days, 0.0)


async def test_the_first_day_is_information_the_second_a_warning_and_a_usual_day_ends_it(
    warehouse: TestDatabase,
) -> None:
    changed = {days_ago(3): 0.3, days_ago(2): 0.35}
    profiled_up_to(warehouse, days_ago(1), changed)
    (first,) = await found(warehouse, days_ago(3))
    (second,) = await found(warehouse, days_ago(2))
    assert (first.severity, second.severity) == ("info", "warning")
    assert first.subject == "shop.baskets"
    assert "status: null share 30.0 %, usually 0.0 % to" in first.what
    assert "calm" not in first.what
    assert await found(warehouse, days_ago(1)) == []


async def test_an_accepted_change_is_over_at_once_and_becomes_what_is_usual(warehouse: TestDatabase) -> None:
    profiled_up_to(warehouse, days_ago(1), {days_ago(2): 0.3, days_ago(1): 0.3})
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        assert [each.severity for each in await found(warehouse, days_ago(1))] == ["warning"]
        with pytest.raises(ConfigurationError, match="no unusual day is open"):
            await accept(connection, "shop.baskets", "calm", "a typo", "ann")
        accepted = await accept(connection, "shop.baskets", "status", "guests need no status", "ann")
        assert (accepted.since, accepted.days) == (days_ago(2), 2)
        assert await found(warehouse, days_ago(1)) == []
        # The days before are forgotten: it is learning.
        profiled(warehouse, "status", {TODAY: 0.9})
        assert await found(warehouse, TODAY) == []
        kept = await connection.fetchrow("select reason, accepted_by, by_role from ops.acceptances")
    assert kept is not None
    assert tuple(kept) == ("guests need no status", "ann", "medallion_loader")


async def test_the_watch_does_not_compare_a_day_twice(warehouse: TestDatabase) -> None:
    profiled_up_to(warehouse, days_ago(1), {days_ago(1): 0.3})
    before = await found(warehouse, days_ago(1))
    run_sql(
        warehouse.url("loader"),
        "update ops.profile_days set null_share = 0.9 where column_name = 'calm' and day = %s",
        [days_ago(1)],
    )
    assert await found(warehouse, days_ago(1)) == before != []


async def test_a_day_of_a_full_reload_is_left_out(warehouse: TestDatabase) -> None:
    profiled_up_to(warehouse, days_ago(1), {days_ago(1): 0.3})
    profiled(warehouse, "status", {days_ago(1): 0.9}, strategy="reload")
    assert await found(warehouse, days_ago(1)) == []


async def test_rows_that_come_three_hours_late_are_noticed_while_they_are_missing(warehouse: TestDatabase) -> None:
    loaded(warehouse, "baskets", dict.fromkeys(WEEKS, 500), loads=1)  # at midnight
    run_sql(
        warehouse.url("loader"),
        "update ops.loads set finished_at = started_at + interval '6 hours' "
        "+ extract(day from started_at)::int % 7 * interval '2 minutes'",
    )
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        yesterday = days_ago(1)
        # An hour later, as with daylight saving, is not late.
        assert await arrival_unusual(connection, midnight(yesterday, 6.2), []) == []
        assert await arrival_unusual(connection, midnight(yesterday, 7), []) == []
        (late,) = await arrival_unusual(connection, midnight(yesterday, 9), [])
        assert (late.severity, late.subject) == ("info", "shop.baskets")
        assert "no rows yet" in late.what
        await connection.execute(
            "update ops.loads set finished_at = finished_at + interval '3 hours' where started_at >= $1::date",
            yesterday,
        )
        # Until rows are expected, yesterday's lateness stays; then it is the second day.
        (still,) = await arrival_unusual(connection, midnight(yesterday, 2), [])
        assert (still.severity, "first rows at 09:" in still.what) == ("info", True)
        (again,) = await arrival_unusual(connection, midnight(yesterday, 9), [])
        assert again.severity == "warning"


async def test_all_that_is_unusual_of_a_table_is_one_incident_and_volumes_can_be_accepted(
    warehouse: TestDatabase,
) -> None:
    profiled_up_to(warehouse, days_ago(1), {days_ago(1): 0.3})
    loaded(warehouse, "baskets", {**dict.fromkeys(WEEKS, 500), days_ago(1): 100})
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        night = midnight(days_ago(1))
        columns, volume = await columns_unusual(connection, night, []), await volume_unusual(connection, night, [])
        assert {each.cause for each in (*columns, *volume)} == {"shop.baskets: unusual data"}
        await report(connection, "volumes", volume)
        await report(connection, "columns", columns)
        assert len(await open_alerts(connection)) == 2
        assert {each.measure for each in await anomalies(connection, days_ago(9))} == {"volume", "nulls"}
        await accept(connection, "shop.baskets", None, "the second shop closed", "ann")
        assert await volume_unusual(connection, night, []) == []
        assert await columns_unusual(connection, night, []) == []
