"""Loads succeed, but the source has nothing new."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from flows.access.addresses import connect
from flows.declare import Epoch, Freshness, Merge, Timestamp
from flows.kinds.api import Api, Endpoint, Since
from flows.kinds.postgres import Table
from tests.conftest import TestDatabase
from tests.kinds.loading import at
from tests.operations.ledger import HOUR, MONDAY, Ledger, source, table

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


@pytest.fixture
async def ledger(warehouse: TestDatabase) -> AsyncIterator[Ledger]:
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        yield Ledger(connection)


@pytest.mark.parametrize(
    ("kind", "cursor", "value"),
    [
        ("timestamptz", Timestamp("at_time"), "'{} UTC'"),
        ("timestamp", Timestamp("at_time"), "'{}'"),
        ("timestamp", Timestamp("at_time", zone=BERLIN), "timestamptz '{} UTC' at time zone 'Europe/Berlin'"),
        ("bigint", Epoch("at_time", unit="ms"), "(extract(epoch from timestamptz '{} UTC') * 1000)::bigint"),
        ("numeric", Epoch("at_time"), "extract(epoch from timestamptz '{} UTC')"),
    ],
)
async def test_loads_go_on_but_the_source_has_nothing_new(
    ledger: Ledger, kind: str, cursor: Timestamp | Epoch, value: str
) -> None:
    declared = Table(
        "baskets", key="id", cursor=cursor, load=Merge(), freshness=Freshness(loaded_within="2 h", event_within="1 day")
    )
    ledger.declare(source(declared))
    await ledger.connection.execute(f"create schema raw_shop; create table raw_shop.baskets (id int, at_time {kind})")

    async def sell(when: datetime, batch_ended: datetime) -> None:
        await ledger.connection.execute(
            f"insert into raw_shop.baskets values (1, {value.format(when.strftime('%Y-%m-%d %H:%M:%S'))})"
        )
        await ledger.load(batch_ended, rows=1)

    await sell(MONDAY - 25 * HOUR, MONDAY - 10 * HOUR)
    await ledger.load(MONDAY - HOUR)
    (told,) = await ledger.late()
    assert told.what == "its newest event is of 2026-06-13 23:00 UTC, promised within 1 day"
    assert "ask its owner" in told.fix

    await sell(MONDAY - 2 * HOUR, MONDAY - HOUR / 2)
    assert await ledger.late() == []
    # Both clocks late: one alert.
    (told,) = await ledger.late(MONDAY + 30 * HOUR)
    assert told.what.count("promised within") == 2


async def test_an_event_of_the_future_keeps_no_table_fresh(ledger: Ledger) -> None:
    """Rows that are valid until 9999, or infinity, and orders for next month."""
    ledger.declare(source(table(freshness=Freshness(event_within="1 day", event="day"))))
    await ledger.connection.execute(
        "create schema raw_shop; create table raw_shop.baskets (id int, day date); "
        "insert into raw_shop.baskets values (1, '2026-06-12'), (2, '9999-12-31'), (3, 'infinity'), (4, null)"
    )
    await ledger.load(MONDAY, rows=4)
    (told,) = await ledger.late()
    assert "its newest event is of 2026-06-12 00:00 UTC" in told.what


async def test_raw_is_read_for_events_after_a_load_that_changed_rows_and_once_an_hour(ledger: Ledger) -> None:
    ledger.declare(source(table(freshness=Freshness(event_within="1 day", event="at_time"))))
    await ledger.connection.execute(
        "create schema raw_shop; create table raw_shop.baskets (id int, at_time timestamptz)"
    )
    await ledger.load(MONDAY, rows=1)
    assert await ledger.late() == []  # empty: its gate says what that means
    await ledger.connection.execute("insert into raw_shop.baskets values (1, '2026-06-01')")
    await ledger.load(MONDAY + HOUR / 60)
    assert await ledger.late(MONDAY + HOUR / 2) == []
    await ledger.load(MONDAY + HOUR / 30, rows=1)
    assert len(await ledger.late(MONDAY + HOUR / 2)) == 1
    await ledger.connection.execute("insert into raw_shop.baskets values (2, '2026-06-14 23:00 UTC')")
    assert len(await ledger.late(MONDAY + HOUR)) == 1
    assert await ledger.late(MONDAY + 2 * HOUR) == []


async def test_a_column_that_was_missing_is_looked_for_again(ledger: Ledger) -> None:
    ledger.declare(source(table(freshness=Freshness(event_within="1 day", event="at_time"))))
    await ledger.connection.execute("create schema raw_shop; create table raw_shop.baskets (id int)")
    await ledger.load(MONDAY, rows=1)
    assert [each[0] for each in await ledger.told()] == ["freshness unknown"]
    await ledger.connection.execute(
        "alter table raw_shop.baskets add at_time timestamptz default '2026-06-14 23:00 UTC'"
    )
    assert len(await ledger.told(MONDAY + HOUR / 60)) == 1
    assert await ledger.told(MONDAY + HOUR / 5) == []


async def test_an_event_that_cannot_be_read_is_told_with_its_fix(ledger: Ledger) -> None:
    promise = Freshness(event_within="1 day", event="sold_on")
    ledger.declare(source(table(freshness=promise), table("stores", freshness=promise)))
    await ledger.connection.execute(
        "create schema raw_shop; create table raw_shop.baskets (id int); create table raw_shop.stores (sold_on text)"
    )
    for name in ("baskets", "stores"):
        await ledger.load(MONDAY, name, rows=1)
    first, second = await ledger.late()
    assert (first.name, first.severity, first.what) == (
        "freshness unknown",
        "warning",
        "raw has no column sold_on",
    )
    assert second.what == "column sold_on is of type text, which is no time"
    assert "event=" in second.fix


@pytest.mark.parametrize(
    ("form", "kind", "value"),
    [
        ("iso", "timestamptz", "'2026-06-12 10:00 UTC'"),
        ("date", "date", "'2026-06-12'"),
        ("epoch_ms", "bigint", "extract(epoch from timestamptz '2026-06-12 10:00 UTC') * 1000"),
        ("epoch_decimal", "numeric", "extract(epoch from timestamptz '2026-06-12 10:00 UTC')"),
    ],
)
async def test_the_cursor_of_an_endpoint_is_its_event(ledger: Ledger, form: str, kind: str, value: str) -> None:
    cursor = Since("since", field="at.changed", form=form)
    endpoint = Endpoint("orders", path="/orders", cursor=cursor, freshness=Freshness(event_within="1 day"))
    ledger.declare(Api("crm", connection="crm", endpoints=[endpoint]))
    await ledger.connection.execute(
        f"create schema raw_crm; create table raw_crm.orders (id int, changed {kind}); "
        f"insert into raw_crm.orders values (1, {value})"
    )
    await ledger.load(MONDAY, "orders", source="crm", rows=1)
    (told,) = await ledger.late()
    assert told.subject == "crm.orders"
    assert f"its newest event is of 2026-06-12 {'00' if form == 'date' else '10'}:00 UTC" in told.what


async def test_a_value_that_takes_too_long_to_find_is_told_with_the_index_to_create(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.operations.events.PATIENCE", "1ms")
    ledger.declare(source(table(freshness=Freshness(loaded_within="2 h", event_within="1 day"))))
    await ledger.connection.execute(
        "create schema raw_shop; create table raw_shop.baskets as select "
        "now() - n * interval '1 second' as updated_at from generate_series(1, 300000) as n"
    )
    await ledger.load(MONDAY - 3 * HOUR, rows=300_000)
    told = {one.name: one for one in await ledger.late()}
    assert set(told) == {"late", "freshness unknown"}
    assert told["freshness unknown"].fix == 'create index on "raw_shop"."baskets" ("updated_at")'
    # The other checks of this connection have their own time.
    assert await ledger.connection.fetchval("show statement_timeout") != "1ms"
