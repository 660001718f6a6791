"""What belongs to a table, a model or a run is its line, and the lines add up to the whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import pytest

from flows.access.addresses import connect
from flows.operations.checks.costs import cost_over_budget
from flows.operations.cost import Costs, Line, costs, costs_by_day
from flows.state.usage import Usage, record_usage
from flows.values.price import Price
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.kinds.loading import at
from tests.publish.two_ends import run_sql

TODAY = date(2026, 6, 10)
HOURLY = Price(per_hour=3600)  # a second costs 1
USED = """
insert into ops.usage_days (day, kind, scope, name, times, seconds, rows, bytes) values (%s, %s, %s, %s, 1, %s, 0, %s)
"""


def used(
    warehouse: TestDatabase, kind: str, scope: str, name: str, seconds: float, size: int = 0, ago: int = 1
) -> None:
    run_sql(warehouse.url("loader"), USED, [TODAY - timedelta(days=ago), kind, scope, name, seconds, size])


async def read(warehouse: TestDatabase, price: Price = HOURLY, days: int = 7) -> Costs:
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        return await costs(connection, TODAY, days, price)


def by_name(found: Costs) -> Mapping[str, Line]:
    return {line.name: line for line in found.lines}


async def test_loads_that_overlap_have_no_more_than_the_time_of_their_runs(warehouse: TestDatabase) -> None:
    used(warehouse, "run", "shop", "ingest", 100)
    used(warehouse, "load", "shop", "baskets", 150)
    used(warehouse, "load", "shop", "stores", 50)
    found = by_name(await read(warehouse))
    assert (found["shop.baskets"].cost, found["shop.stores"].cost, found["unattributed"].of_time) == (75, 25, 0)


async def test_requests_to_an_api_cost_what_a_thousand_of_them_do(warehouse: TestDatabase) -> None:
    used(warehouse, "load", "web", "visits", 0)
    run_sql(warehouse.url("loader"), "update ops.usage_days set requests = 4000")
    asked = await read(warehouse, Price(per_thousand_requests=2.5))
    assert (by_name(asked)["web.visits"].of_requests, asked.whole) == (10, 10)
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        days = await costs_by_day(connection, TODAY, 2, Price(per_thousand_requests=2.5))
    assert [cost for _, cost in days] == [0, 10]
    assert (await read(warehouse)).whole == 0, "the control: without a price"


async def test_an_api_with_a_price_of_its_own_costs_that_and_the_days_add_up(warehouse: TestDatabase) -> None:
    used(warehouse, "load", "web", "visits", 0)
    used(warehouse, "load", "crm", "people", 0)
    run_sql(warehouse.url("loader"), "update ops.usage_days set requests = 4000")
    prices = Price(per_thousand_requests=1, of_requests={"web": 2.5, "crm": 0})
    asked = await read(warehouse, prices)
    found = by_name(asked)
    assert (found["web.visits"].cost, found["crm.people"].cost, asked.whole) == (10, 0, 10)
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        assert [cost for _, cost in await costs_by_day(connection, TODAY, 2, prices)] == [0, 10]
    assert (await read(warehouse, Price(per_thousand_requests=1))).whole == 8, "the control: one price for all"


def test_prices_of_sources_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_PRICES_PER_THOUSAND_REQUESTS", '{"web": 2.5}')
    settings.cache_clear()
    try:
        price = Price.declared()
        assert price, "a price is declared"
        assert (price.cost(requests=2000, source="web"), price.cost(requests=2000, source="crm")) == (5, 0)
    finally:
        settings.cache_clear()


async def test_time_that_no_load_or_model_used_is_unattributed(warehouse: TestDatabase) -> None:
    used(warehouse, "run", "shop", "ingest", 100)
    used(warehouse, "load", "shop", "baskets", 30)
    used(warehouse, "run", "", "transform", 50)
    used(warehouse, "model", "", "dim_store", 20)
    used(warehouse, "run", "shop.baskets", "backfill", 7)
    found = await read(warehouse)
    costs_by_name = {name: line.of_time for name, line in by_name(found).items() if line.of_time}
    assert costs_by_name == {
        "shop.baskets": 30,
        "dim_store": 20,
        "backfill shop.baskets": 7,
        "unattributed": pytest.approx(100),
    }


@pytest.mark.parametrize("price", [HOURLY, Price(2, 0, 3, 5, 7), Price(per_gb_month=1000), Price(per_day=1)])
async def test_the_lines_add_up_to_what_runs_bytes_storage_and_days_cost(warehouse: TestDatabase, price: Price) -> None:
    """The whole is computed here from the ledger's sums and the size of the database, and not from lines."""
    run_sql(warehouse.url("admin"), "create schema raw_shop; create table raw_shop.baskets as "
            "select n, repeat('x', 100) as x from generate_series(1, 20000) as n")  # fmt: skip
    for kind, scope, name, seconds, size in (
        ("run", "shop", "ingest", 1000, 0), ("load", "shop", "baskets", 900, 4 * 10**9),
        ("load", "api", "coupons", 55, 10**8),  # of a run that was killed
        ("run", "", "transform", 300, 0), ("model", "", "dim_store", 700, 0), ("run", "", "predict", 12, 0),
    ):  # fmt: skip
        used(warehouse, kind, scope, name, seconds, size)
    size = run_sql(warehouse.url("loader"), "select pg_database_size(current_database())")[0][0]
    whole = (
        (1000 + 300 + 12) / 3600 * price.per_hour + 4.1 * price.per_gb
        + size / 1e9 * price.per_gb_month * 7 / 30 + 7 * price.per_day
    )  # fmt: skip
    found = await read(warehouse, price)
    assert sum(line.cost for line in found.lines) == pytest.approx(found.whole)
    assert found.whole == pytest.approx(whole, rel=0.02)  # the database grows while it is looked at
    assert all(line.cost >= 0 for line in found.lines)
    assert by_name(found)["shop.baskets"].stored > 2_000_000


async def test_what_is_not_in_the_period_is_what_it_is_compared_with(warehouse: TestDatabase) -> None:
    for ago, seconds in ((0, 1000), (1, 30), (7, 10), (8, 15), (14, 5), (15, 1000)):
        used(warehouse, "run", "shop", "reconcile", seconds, ago=ago)
    found = await read(warehouse)
    assert (found.since, found.until) == (date(2026, 6, 3), TODAY)
    line = by_name(found)["reconcile shop"]
    assert (line.cost, line.before, found.whole, found.before) == (40, 20, 40, 20)


async def test_each_day_has_its_cost_and_days_without_runs_their_fixed_price(warehouse: TestDatabase) -> None:
    used(warehouse, "run", "shop", "ingest", 30, ago=1)
    used(warehouse, "load", "shop", "baskets", 20, 5 * 10**9, ago=1)
    used(warehouse, "run", "shop", "ingest", 10, ago=3)
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        found = await costs_by_day(connection, TODAY, 3, Price(per_gb=2, per_hour=3600, per_day=1))
    assert [cost for _, cost in found] == [11, 1, 41]


async def test_each_end_of_a_load_is_added_to_its_day(warehouse: TestDatabase) -> None:
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        for seconds in (2.5, 4):
            await record_usage(connection, [Usage("load", "shop", "stores", "published", seconds, rows=7, bytes=100)])
    kept = run_sql(warehouse.url("loader"), "select name, times, seconds, rows, bytes from ops.usage_days")
    assert kept == [("stores", 2, 6.5, 14, 200)]


@pytest.mark.parametrize(("budget", "told"), [(99.0, True), (101.0, False), (None, False)])
async def test_a_cost_above_the_budget_is_an_alert_that_names_what_cost_most(
    warehouse: TestDatabase, budget: float | None, told: bool
) -> None:
    used(warehouse, "run", "shop", "reconcile", 100)
    noon = datetime.fromisoformat("2026-06-10T12:00:00+00:00")
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        found = await cost_over_budget(connection, noon, budget, "EUR", HOURLY)
    assert all("0.00" not in each.what.replace("100.00", "") for each in found), "what costs nothing is not named"
    assert [("cost 100.00 EUR" in each.what, "reconcile shop 100.00" in each.what) for each in found] == [
        (True, True)
    ] * told
