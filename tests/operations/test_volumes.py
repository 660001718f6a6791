"""A day with too few or too many rows is noticed, one that is like its weekday is not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from flows.access.addresses import connect
from flows.declare import Calendar, Deadline, Freshness, Replace
from flows.kinds.postgres import Database, Table
from flows.operations.alerts import Condition
from flows.operations.checks.volumes import volume_unusual
from flows.operations.volumes import Volume, volumes
from tests.conftest import TestDatabase
from tests.kinds.loading import at
from tests.operations.volumes import loaded

MONDAY = date(2026, 3, 30)
#: Sundays have a fifth of it, and no two days are the same.
WEEKS = {
    day: (200 if day.isoweekday() == 7 else 1000) + (day.toordinal() * 37) % 60
    for day in (MONDAY - timedelta(days=n) for n in range(1, 20 * 7))
}


async def measured(warehouse: TestDatabase, last: date, days: int = 1) -> list[Volume]:
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        return await volumes(connection, last, days)


def shop_with(holidays: Sequence[date]) -> Database:
    calendar = Calendar("its", [day.isoformat() for day in holidays])
    promise = Freshness(expected_by=Deadline("0 7 * * *", holidays=calendar))
    baskets = Table("baskets", key="basket_id", load=Replace())
    return Database("shop", connection="shop", tables=[baskets], freshness=promise)


async def found(warehouse: TestDatabase, day: date, holidays: Sequence[date] = ()) -> list[Condition]:
    """What the check says in the night after that day."""
    night = datetime(day.year, day.month, day.day, 1, tzinfo=UTC) + timedelta(days=1)
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        return await volume_unusual(connection, night, [shop_with(holidays)])


@pytest.mark.parametrize(
    ("rows", "state"), [(1020, "usual"), (500, "low"), (0, "low"), (2300, "high"), (1080, "usual")]
)
async def test_a_day_is_compared_with_its_weekday(warehouse: TestDatabase, rows: int, state: str) -> None:
    loaded(warehouse, "baskets", {**WEEKS, MONDAY: rows})
    (volume,) = await measured(warehouse, MONDAY)
    assert (volume.state, volume.rows, volume.known) == (state, rows, 10)
    assert volume.lowest is not None
    assert volume.highest is not None
    assert 900 < volume.lowest < 1000 < volume.highest < 1200


def few(rows: int) -> dict[date, int]:
    """Ten weeks of days with that many rows."""
    return {day: rows for day in WEEKS if day >= MONDAY - timedelta(days=75)}


@pytest.mark.parametrize(
    ("usually", "rows", "state"),
    [
        (3, 5, "usual"), (3, 1, "usual"), (3, 8, "usual"), (3, 0, "low"), (3, 40, "high"), (1, 0, "low"),
        (1, 2, "usual"),
        (12, 20, "usual"), (12, 0, "low"), (60, 75, "usual"), (60, 25, "low"), (99, 140, "usual"), (99, 45, "low"),
        (0, 0, "usual"), (0, 2, "usual"),
    ],
)  # fmt: skip
async def test_few_rows_vary_and_no_rows_at_all_are_noticed(
    warehouse: TestDatabase, usually: int, rows: int, state: str
) -> None:
    """Where each day had three rows, five were an alarm, by a spread of 3 % that no count of three can have."""
    loaded(warehouse, "baskets", {**few(usually), MONDAY: rows}, loads=1)
    (volume,) = await measured(warehouse, MONDAY)
    assert volume.state == state
    assert volume.lowest is not None
    assert (rows < volume.lowest) == (state == "low"), "what is shown as usual agrees"
    found_by_check = await found(warehouse, MONDAY)
    assert len(found_by_check) == (state != "usual")


async def test_a_table_that_is_empty_on_some_days_is_not_low_without_rows(warehouse: TestDatabase) -> None:
    loaded(warehouse, "baskets", {**few(3), MONDAY - timedelta(days=15): 0, MONDAY: 0}, loads=1)
    (volume,) = await measured(warehouse, MONDAY)
    assert (volume.state, volume.lowest) == ("usual", 0)


async def test_the_second_day_without_rows_is_sent(warehouse: TestDatabase) -> None:
    sunday = MONDAY - timedelta(days=1)
    loaded(warehouse, "baskets", {**few(3), sunday: 0, MONDAY: 0}, loads=1)
    (condition,) = await found(warehouse, MONDAY)
    assert (condition.severity, "0 rows" in condition.what) == ("warning", True)


async def test_a_quiet_sunday_is_usual_and_as_a_monday_it_is_low(warehouse: TestDatabase) -> None:
    loaded(warehouse, "baskets", {**WEEKS, MONDAY: WEEKS[MONDAY - timedelta(days=1)]})
    sunday, monday = await measured(warehouse, MONDAY, 2)
    assert (sunday.state, monday.state) == ("usual", "low")


async def test_with_fewer_than_eight_of_its_weekdays_nothing_is_said(warehouse: TestDatabase) -> None:
    loaded(
        warehouse,
        "baskets",
        {day: rows for day, rows in WEEKS.items() if day > MONDAY - timedelta(weeks=8)} | {MONDAY: 0},
    )
    (volume,) = await measured(warehouse, MONDAY)
    assert (volume.state, volume.known) == ("learning", 7)
    assert await found(warehouse, MONDAY) == []


async def test_the_first_unusual_day_is_information_and_the_second_a_warning(warehouse: TestDatabase) -> None:
    loaded(
        warehouse, "baskets", {**WEEKS, MONDAY: 500, MONDAY + timedelta(days=1): 480, MONDAY + timedelta(days=2): 1010}
    )
    (first,) = await found(warehouse, MONDAY)
    (second,) = await found(warehouse, MONDAY + timedelta(days=1))
    assert (first.severity, second.severity) == ("info", "warning")
    assert "500 rows on 2026-03-30, which is low" in first.what
    assert await found(warehouse, MONDAY + timedelta(days=2)) == []


async def test_a_holiday_is_neither_judged_nor_usual(warehouse: TestDatabase) -> None:
    weeks = dict(WEEKS)
    holidays = [MONDAY - timedelta(weeks=n) for n in range(6)]
    for day in holidays:
        weeks[day] = 3
    loaded(warehouse, "baskets", weeks)
    assert await found(warehouse, MONDAY, holidays) == []
    # The control: without the calendar the first of them is noticed, and an ordinary day after them, too.
    assert [each.severity for each in await found(warehouse, MONDAY - timedelta(weeks=5))] == ["info"]
    loaded(warehouse, "baskets", {MONDAY + timedelta(weeks=1): 1010})
    assert [each.severity for each in await found(warehouse, MONDAY + timedelta(weeks=1))] == ["info"]
    assert await found(warehouse, MONDAY + timedelta(weeks=1), holidays) == []


@pytest.mark.parametrize("strategy", ["reload", "backfill", "repair", "limited", "initial"])
async def test_rows_that_were_read_again_do_not_count(warehouse: TestDatabase, strategy: str) -> None:
    loaded(warehouse, "baskets", {**WEEKS, MONDAY: 1010})
    loaded(warehouse, "baskets", {MONDAY - timedelta(weeks=1): 900_000}, loads=1, strategy=strategy)
    (volume,) = await measured(warehouse, MONDAY)
    assert volume.state == "usual"
    assert volume.known >= 9


async def test_one_day_of_an_outage_does_not_become_what_is_usual(warehouse: TestDatabase) -> None:
    weeks = {**WEEKS, MONDAY - timedelta(weeks=1): 0, MONDAY - timedelta(weeks=2): 5000}
    loaded(warehouse, "baskets", {**weeks, MONDAY: 500})
    assert [volume.state for volume in await measured(warehouse, MONDAY)] == ["low"]


async def test_a_table_that_was_not_loaded_is_left_to_freshness(warehouse: TestDatabase) -> None:
    loaded(warehouse, "baskets", WEEKS)
    assert await measured(warehouse, MONDAY) == []
    assert await found(warehouse, MONDAY) == []
