"""How often promises were kept, from the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from flows.access.addresses import connect
from flows.declare import Deadline, Freshness
from flows.operations.attainment import Attainment, attainments, kept
from tests.conftest import TestDatabase
from tests.kinds.loading import at
from tests.operations.ledger import HOUR, MONDAY, Ledger, source, table

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def ledger(warehouse: TestDatabase) -> AsyncIterator[Ledger]:
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        yield Ledger(connection)


async def test_attainment_counts_deadlines_met_and_hours_within_the_limit(ledger: Ledger) -> None:
    promise = Freshness(loaded_within="2 h", expected_by=Deadline("0 7 * * *"), event_within="1 day")
    ledger.declare(source(table(freshness=promise)))
    # Ten days, a load an hour before each deadline; two come an hour late.
    first = MONDAY - 240 * HOUR
    for day in range(10):
        await ledger.load(first + 24 * day * HOUR + (8 if day in (3, 6) else 6) * HOUR)
    await ledger.build(MONDAY - HOUR, models={"daily": {"expected_by": {"cron": "0 7 * * *"}}})
    readings = await ledger.clocks.read(ledger.connection, MONDAY)
    found = dict(
        zip(
            [(one.subject, one.clock) for one in readings],
            await attainments(ledger.connection, readings, MONDAY),
            strict=True,
        )
    )
    assert found["shop.baskets", "deadline"] == Attainment(0.8, 8, 10)
    load = found["shop.baskets", "load"]
    assert load is not None
    assert load.share == pytest.approx(20 / 234, abs=0.005)
    # Its first build began an hour ago: no deadline since.
    assert found["gold.daily", "deadline"] is None


async def shown(ledger: Ledger, now: datetime) -> dict[str, float | None]:
    readings = await ledger.clocks.read(ledger.connection, now)
    found = await attainments(ledger.connection, readings, now)
    return {one.clock: None if share is None else share.share for one, share in zip(readings, found, strict=True)}


async def test_events_and_rows_that_wait_for_gold_are_kept_as_the_watch_found_them(ledger: Ledger) -> None:
    promise = Freshness(event_within="1 h", event="at", built_within="2 h")
    ledger.declare(source(table(freshness=promise)))
    await ledger.connection.execute("create schema raw_shop; create table raw_shop.baskets (at timestamptz)")
    await ledger.connection.execute("insert into raw_shop.baskets values ($1)", MONDAY)
    await ledger.load(MONDAY + MINUTE, rows=10)
    assert await shown(ledger, MONDAY + HOUR) == {"load": None, "event": None, "pipeline": None}, "nobody has looked"
    for minute in range(241):
        await ledger.late(MONDAY + minute * MINUTE)
    now = MONDAY + 240 * MINUTE
    found = await shown(ledger, now)
    assert found["event"] == pytest.approx(60 / 240, abs=0.01)
    assert found["pipeline"] == pytest.approx(121 / 239, abs=0.01)
    assert await ledger.connection.fetchval("select count(*) from ops.promise_states") == 4, "a row per change"

    # A day in which no watch ran counts neither way, and a promise that is kept from then on does.
    await ledger.connection.execute("update raw_shop.baskets set at = $1", MONDAY + 28 * HOUR)
    await ledger.load(MONDAY + 28 * HOUR, rows=10)
    for minute in range(61):
        await ledger.late(MONDAY + 28 * HOUR + minute * MINUTE)
    found = await shown(ledger, MONDAY + 29 * HOUR)
    assert found["event"] == pytest.approx(120 / 300, abs=0.01)


async def test_what_cannot_be_read_is_neither_kept_nor_broken(ledger: Ledger) -> None:
    ledger.declare(source(table(freshness=Freshness(event_within="1 h", event="nothing"))))
    await ledger.connection.execute("create schema raw_shop; create table raw_shop.baskets (at timestamptz)")
    await ledger.load(MONDAY)
    for minute in range(10):
        await ledger.late(MONDAY + minute * MINUTE)
    assert (await shown(ledger, MONDAY + HOUR))["event"] is None


async def test_two_watches_that_look_at_once_do_not_count_the_time_twice(ledger: Ledger) -> None:
    ledger.declare(source(table(freshness=Freshness(built_within="2 h"))))
    await ledger.load(MONDAY, rows=10)
    for minute in (0, 0, 1, 2, 2, 1, 3, 130, 130, 131):
        await ledger.late(MONDAY + minute * MINUTE)
    found = await ledger.connection.fetch("select kept, until - since as lasted from ops.promise_states order by 2")
    assert [tuple(row) for row in found] == [(False, MINUTE), (True, 3 * MINUTE)]


def test_time_within_the_limit_is_counted_from_end_to_end() -> None:
    ends = [MONDAY + hours * HOUR for hours in (-5, 2, 3, 8)]
    assert kept(ends, HOUR, MONDAY, MONDAY + 10 * HOUR) == pytest.approx(3 / 10)
    assert kept(ends, 6 * HOUR, MONDAY, MONDAY + 10 * HOUR) == pytest.approx(9 / 10)
    assert kept([], HOUR, MONDAY, MONDAY + 10 * HOUR) == pytest.approx(1 / 10)
    assert kept([MONDAY], 10 * HOUR, MONDAY, MONDAY + 10 * HOUR) == 1
    # No run is due before noon.
    assert kept([MONDAY], HOUR, MONDAY, MONDAY + 26 * HOUR, "0 12 * * *") == pytest.approx(13 / 26)
