"""A deadline is missed once, also when clocks change, and not on holidays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from flows.access.addresses import connect
from flows.declare import Calendar, Deadline, Freshness
from flows.operations.alerts import open_alerts, report
from flows.operations.attainment import attainments
from flows.operations.checks.freshness import NAME, late
from tests.conftest import TestDatabase
from tests.kinds.loading import at
from tests.nightly import nightly
from tests.operations.ledger import HOUR, MONDAY, Ledger, source, table

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


@pytest.fixture
async def ledger(warehouse: TestDatabase) -> AsyncIterator[Ledger]:
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        yield Ledger(connection)


async def test_a_holiday_silences_the_deadline_and_without_the_calendar_it_is_told(ledger: Ledger) -> None:
    await ledger.load(MONDAY - 24 * HOUR)
    holidays = Calendar("berlin", ["2026-06-15"])
    for calendar, expected in ((holidays, []), (None, [("deadline missed", "shop.baskets", "error")])):
        due = Deadline("0 7 * * 1-5", BERLIN, holidays=calendar)
        ledger.declare(source(table(freshness=Freshness(expected_by=due))))
        assert await ledger.told(MONDAY + 12 * HOUR) == expected


async def test_a_load_after_the_deadline_ends_the_alert_and_does_not_meet_the_next(ledger: Ledger) -> None:
    ledger.declare(source(table(freshness=Freshness(expected_by=Deadline("0 7 * * *")))))
    await ledger.load(MONDAY - 24 * HOUR)
    seven = MONDAY + 7 * HOUR
    assert len(await ledger.late(seven)) == 1
    await ledger.load(seven + HOUR)
    assert await ledger.told(seven + 2 * HOUR) == []
    assert len(await ledger.late(seven + 24 * HOUR)) == 1


async def test_a_load_at_the_deadline_meets_it(ledger: Ledger) -> None:
    ledger.declare(source(table(freshness=Freshness(expected_by=Deadline("0 7 * * *")))))
    await ledger.load(MONDAY - 24 * HOUR)
    await ledger.load(MONDAY + 7 * HOUR)
    assert await ledger.told(MONDAY + 7 * HOUR + HOUR / 60) == []


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        (BERLIN, datetime(2026, 3, 29, tzinfo=UTC)),
        (BERLIN, datetime(2026, 10, 25, tzinfo=UTC)),
        (NEW_YORK, datetime(2026, 3, 8, tzinfo=UTC)),
        (NEW_YORK, datetime(2026, 11, 1, tzinfo=UTC)),
    ],
)
# The hour that is left out or comes twice; tests/declare/test_deadline.py asks for the moments of others.
@pytest.mark.parametrize("cron", ["30 2 * * *", *nightly("0 7 * * *", "30 1 * * *")])
@pytest.mark.parametrize("is_met", [True, False])
async def test_when_clocks_change_a_deadline_is_met_or_missed_exactly_once(
    ledger: Ledger, zone: str, day: datetime, cron: str, is_met: bool
) -> None:
    """The watch looks every 20 minutes; each beginning of an alert is one that somebody is told of."""
    due = Deadline(cron, zone)
    ledger.declare(source(table(freshness=Freshness(expected_by=due))))
    moments = due.between(day - 48 * HOUR, day + 48 * HOUR)
    (changed,) = [moment for moment in moments if moment.astimezone(ZoneInfo(zone)).date() == day.date()]
    in_time = [moment - HOUR / 2 for moment in moments if moment != changed or is_met]
    for ended in sorted([*in_time, changed + 5 * HOUR]):
        await ledger.load(ended)
    began, was_late = 0, False
    for minutes in range(0, 60 * 15, 20):
        is_late = bool(await ledger.late(changed - 7 * HOUR + minutes * HOUR / 60))
        began, was_late = began + (is_late and not was_late), is_late
    assert began == (0 if is_met else 1)

    (reading,) = [one for one in await ledger.clocks.read(ledger.connection, changed + 6 * HOUR) if one.deadline]
    (share,) = await attainments(ledger.connection, [reading], changed + 6 * HOUR)
    assert share is not None
    assert (share.deadlines or 0) - (share.met or 0) == (0 if is_met else 1)


async def test_a_clock_that_jumps_forward_and_back_leaves_nothing_behind(ledger: Ledger) -> None:
    ledger.declare(
        source(table(freshness=Freshness(loaded_within="2 h", expected_by=Deadline("0 7 * * *", within="20 h"))))
    )
    await ledger.load(MONDAY - HOUR)

    async def round_at(now: datetime) -> list[str]:
        await report(ledger.connection, NAME, await ledger.late(now))
        return sorted(alert.about for alert in await open_alerts(ledger.connection))

    assert await round_at(MONDAY) == []
    assert await round_at(MONDAY + 48 * HOUR) == ["deadline missed shop.baskets", "late shop.baskets"]
    assert await round_at(MONDAY + HOUR / 60) == []
    assert await round_at(MONDAY - 24 * HOUR) == []


async def test_a_load_of_a_clock_that_was_ahead_keeps_no_table_fresh(ledger: Ledger) -> None:
    ledger.declare(source(table(freshness=Freshness(loaded_within="2 h"))))
    await ledger.load(MONDAY - HOUR)
    await ledger.load(MONDAY + 4 * 365 * 24 * HOUR)
    assert await ledger.told() == []
    assert len(await ledger.late(MONDAY + 3 * HOUR)) == 1


async def test_without_a_time_the_warehouses_clock_counts(ledger: Ledger) -> None:
    ledger.declare(source(table(freshness=Freshness(loaded_within="2 h"))))
    now = await ledger.connection.fetchval("select clock_timestamp()")
    await ledger.load(now - HOUR)
    assert await late(ledger.connection, clocks=ledger.clocks) == []
    await ledger.connection.execute("update ops.loads set finished_at = finished_at - interval '2 hours'")
    assert len(await late(ledger.connection, clocks=ledger.clocks)) == 1
