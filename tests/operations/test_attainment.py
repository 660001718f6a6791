"""How often promises were kept, from the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from flows.access.addresses import connect
from flows.declare import Deadline, Freshness
from flows.operations.attainment import Attainment, attainments, kept
from tests.conftest import TestDatabase
from tests.kinds.loading import at
from tests.operations.ledger import HOUR, MONDAY, Ledger, source, table


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


def test_time_within_the_limit_is_counted_from_end_to_end() -> None:
    ends = [MONDAY + hours * HOUR for hours in (-5, 2, 3, 8)]
    assert kept(ends, HOUR, MONDAY, MONDAY + 10 * HOUR) == pytest.approx(3 / 10)
    assert kept(ends, 6 * HOUR, MONDAY, MONDAY + 10 * HOUR) == pytest.approx(9 / 10)
    assert kept([], HOUR, MONDAY, MONDAY + 10 * HOUR) == pytest.approx(1 / 10)
    assert kept([MONDAY], 10 * HOUR, MONDAY, MONDAY + 10 * HOUR) == 1
    # No run is due before noon.
    assert kept([MONDAY], HOUR, MONDAY, MONDAY + 26 * HOUR, "0 12 * * *") == pytest.approx(13 / 26)
