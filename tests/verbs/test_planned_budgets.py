"""What a plan would use of budgets: of a table, a source and a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.source_tables import budget_words
from flows.declare import Budget, Merge, Sequence
from flows.kinds.postgres import Database, Table
from flows.values.settings import settings
from flows.verbs.plan import plan_sources
from flows.verbs.planned_budgets import BudgetUse, planned_budgets
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.publish.two_ends import TwoEnds

ITEMS = Table("items", key="id", cursor=Sequence("id"), load=Merge(), budget=Budget(rows=50))
PARTS = Table("parts", key="id", cursor=Sequence("id"), load=Merge())
SHOP = Database("shop", connection="shop", tables=[ITEMS, PARTS], budget=Budget(rows=1000, bytes="1 MB"))


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEnds]:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", shop.url("extractor"))
    monkeypatch.setattr("flows.verbs.find.SOURCES", (SHOP,))
    settings.cache_clear()
    two = TwoEnds(warehouse, shop)
    for name, rows in (("items", 200), ("parts", 300)):
        two.source(f"create table {name} (id int primary key)")
        two.source(f"insert into {name} select generate_series(1, {rows})")
    yield two
    settings.cache_clear()


async def uses(of_run: Budget | None = None) -> dict[tuple[str, str], BudgetUse]:
    lines = await plan_sources({"shop": None})
    return {(use.scope, use.unit): use for use in await planned_budgets(lines, of_run)}


async def test_rows_are_those_of_the_plan_and_bytes_what_a_row_took(ends: TwoEnds) -> None:
    found = await uses(Budget(rows=100, minutes=10))
    assert (found["shop.items", "rows"].used, found["shop.items", "rows"].limit) == (200, 50)
    assert found["source shop", "rows"].share == 0.5
    assert found["the run", "rows"].share == 5
    assert found["source shop", "bytes"] == BudgetUse("source shop", "bytes", 1e6, 0, ("shop.items", "shop.parts"))

    ends.raw("insert into ops.usage_days (day, kind, scope, name, times, seconds, rows, bytes, requests) "
             "values (current_date, 'load', 'shop', 'items', 1, 60, 100, 1000, 50)")  # fmt: skip
    with setting(price_per_thousand_requests=10.0):
        found = await uses(Budget(minutes=4, money=1))
    assert (found["source shop", "bytes"].used, found["source shop", "bytes"].unknown) == (2000, ("shop.parts",))
    assert (found["the run", "minutes"].used, found["the run", "money"].used) == (2, 1)


async def test_what_is_up_to_date_uses_nothing_and_without_a_budget_nothing_is_shown(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = replace(ITEMS, budget=None)
    await ends.load(free)
    await ends.load(PARTS)
    assert {use.used for use in (await uses()).values()} == {0}
    monkeypatch.setattr("flows.verbs.find.SOURCES", (replace(SHOP, tables=[free, PARTS], budget=None),))
    assert await uses() == {}


def test_the_plan_says_it_below_its_table(ends: TwoEnds) -> None:
    done = CliRunner().invoke(app, ["plan", "shop", "--max-rows", "1000"])
    assert done.exit_code == 0, done.output
    assert "Budget of the run: 500 rows of 1,000 rows (50%)" in done.output
    assert "Budget of shop.items: 200 rows of 50 rows (400%); the run would stop at it" in done.output
    assert "not known of shop.items, shop.parts" in done.output


def test_each_unit_is_written_as_people_do() -> None:
    written = [words for words, _ in budget_words(
        [BudgetUse("the run", unit, 10e6, 5e6) for unit in ("rows", "bytes", "minutes", "money")]
    )]  # fmt: skip
    assert written == [
        "Budget of the run: 5,000,000 rows of 10,000,000 rows (50%)",
        "Budget of the run: about 5.0 MB of 10.0 MB (50%)",
        "Budget of the run: about 5,000,000.0 min of 10,000,000.0 min (50%)",
        "Budget of the run: about 5,000,000.00 EUR of 10,000,000.00 EUR (50%)",
    ]
