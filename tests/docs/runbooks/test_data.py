"""Runbooks of data that is unusual, late or expensive, of sources that are spared, and of channels."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from flows.access.addresses import connect
from flows.declare import Deadline, Freshness, Merge, Replace
from flows.kinds.postgres import Table
from flows.operations.alerts import Condition
from flows.operations.checks.anomalies import arrival_unusual, columns_unusual
from flows.operations.checks.check import Round
from flows.operations.checks.costs import cost_over_budget
from flows.operations.checks.freshness import late
from flows.operations.checks.volumes import volume_unusual
from flows.operations.compared_columns import roll_up
from flows.operations.freshness import Clocks
from flows.state import circuits
from flows.values.price import Price
from flows.values.settings import settings
from tests.docs.runbooks.night import Night, exercise
from tests.kinds.loading import setting
from tests.operations.profiles import profiled
from tests.operations.volumes import loaded

STORES = Table("stores", key="store_id", load=Replace())
NOW = datetime.now(UTC)
YESTERDAY = NOW.date() - timedelta(days=1)
WEEKS = [YESTERDAY - timedelta(days=n) for n in range(1, 80)]


@pytest.fixture(autouse=True)
def _one_ledger_each(night: Night) -> Iterator[None]:
    yield
    night.raw("delete from ops.loads where batch_id not in (select batch_id from ops.schema_changes)")


@exercise("volume unusual")
def test_a_day_with_half_of_its_rows(night: Night) -> None:
    night.declare(STORES)
    loaded(night.ends.warehouse, "stores", {**dict.fromkeys(WEEKS, 1000), YESTERDAY: 400})
    night.watch(lambda at: volume_unusual(at.connection, NOW, []))
    night.follow("volume unusual", "shop.stores")


@exercise("columns unusual")
def test_a_column_that_is_no_longer_filled(night: Night) -> None:
    night.declare(Table("columns", key="id", load=Replace()))
    profiled(night.ends.warehouse, "status", {**dict.fromkeys(WEEKS, 0.01), YESTERDAY: 0.3}, table="columns")

    async def look(at: Round) -> list[Condition]:
        await roll_up(at.connection, WEEKS[-1], YESTERDAY)
        return await columns_unusual(at.connection, NOW, [])

    night.watch(look)
    night.follow("columns unusual", "shop.columns", COLUMN="status")


@exercise("arrival unusual")
def test_rows_that_come_later_than_usual(night: Night) -> None:
    night.declare(Table("arriving", key="id", load=Replace()))
    loaded(night.ends.warehouse, "arriving", dict.fromkeys(WEEKS, 500), loads=1)
    night.raw("update ops.loads set finished_at = started_at + interval '6 hours'")
    loaded(night.ends.warehouse, "arriving", {YESTERDAY: 500}, loads=1)
    night.raw("update ops.loads set finished_at = started_at + interval '15 hours' where started_at = finished_at")
    night.watch(lambda at: arrival_unusual(at.connection, datetime(NOW.year, NOW.month, NOW.day, tzinfo=UTC), []))
    night.follow("arrival unusual", "shop.arriving")


def promising(night: Night, name: str, promise: Freshness, **options: object) -> None:
    """A table that was loaded a day ago, and what it promises, checked by the watch."""
    night.at_source(f"create table {name} (id int primary key, v int, at timestamptz default now())")
    night.at_source(f"insert into {name} select n, n from generate_series(1, 10) as n")
    night.declare(Table(name, **{"key": "id", "load": Merge(), "freshness": promise, **options}))  # type: ignore[arg-type]
    assert night.load(name) is None
    night.raw(
        "update ops.loads set started_at = started_at - interval '1 day', finished_at = finished_at - interval '1 day'"
    )
    night.watch(lambda at: late(at.connection, clocks=Clocks([night.source], [])))


@exercise("late")
def test_a_table_that_is_late(night: Night) -> None:
    promising(night, "is_late", Freshness(loaded_within="1 h"))
    night.follow("late", "shop.is_late")


@exercise("deadline missed")
def test_a_deadline_that_is_missed(night: Night) -> None:
    promising(night, "is_missed", Freshness(expected_by=Deadline(f"{NOW.minute} {NOW.hour} * * *")))
    night.follow("deadline missed", "shop.is_missed")


@exercise("freshness unknown")
def test_a_promise_about_a_column_that_is_none(night: Night) -> None:
    promising(night, "is_unknown", Freshness(event_within="2 days", event="vv"))
    correct = Table("is_unknown", key="id", load=Merge(), freshness=Freshness(event_within="2 days", event="at"))
    night.follow("freshness unknown", "shop.is_unknown", hands={2: lambda: night.declare(correct)})


@exercise("cost over budget")
def test_thirty_days_that_cost_too_much(night: Night) -> None:
    budget = [1.0]
    with setting(price_per_hour=3600.0):
        night.raw("insert into ops.usage_days (day, kind, scope, name, times, seconds, rows, bytes) "
                  "values (current_date - 1, 'run', 'shop', 'ingest', 1, 100, 0, 0)")  # fmt: skip
        night.watch(lambda at: cost_over_budget(at.connection, NOW, budget[0], "EUR", Price.declared()))
        night.follow("cost over budget", "cost", hands={2: lambda: budget.__setitem__(0, 1_000.0)})


@exercise("circuit open")
def test_a_source_that_is_spared(night: Night) -> None:
    night.declare(STORES)

    async def fail() -> None:
        async with connect(night.ends.warehouse_address, side="warehouse") as warehouse:
            for _ in range(2):
                await circuits.failed(warehouse, "shop", "it does not answer", 2, 600, 600)

    night.wait_for(fail())
    assert "is open" in str(night.load("stores")), "the control: no load reaches it"
    night.follow("circuit open", "source shop", SOURCE="shop")


@exercise("alerts not delivered")
def test_a_channel_that_refuses(night: Night) -> None:
    night.it.receiver.answers[:] = [500]
    found = [Condition("late", "shop.stores", "warning", "two hours old", "run it")]

    async def look(_: Round) -> list[Condition]:
        return [*found]

    night.watch(look)
    for _ in range(4):
        night.raw("update ops.alert_messages set due_at = now() - interval '1 s' where sent_at is null")
        night.round()

    def corrected() -> None:
        night.it.receiver.answers[:] = [200]
        night.raw("update ops.alert_messages set due_at = now() - interval '1 s' where sent_at is null")

    night.follow("alerts not delivered", "channel default", hands={2: corrected}, codes={1: 3}, CHANNEL="default")
    found.clear()
    night.round()


def test_each_exercise_ends_with_no_alert_open(night: Night) -> None:
    """What one leaves would be the next one's."""
    settings.cache_clear()
    assert night.open() == []
