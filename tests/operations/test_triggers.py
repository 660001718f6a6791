"""Alerts are raised and resolved by what happens in the warehouse, in the same transaction."""

from __future__ import annotations

import pytest

from flows.access.addresses import connect
from flows.declare import Merge, Replace, Route, Rule, Timestamp
from flows.kinds.postgres import Table
from flows.quality.soda import CheckResult
from flows.state import circuits, ledger, reconciliations, runs
from flows.state.reconciliations import Reconciliation
from flows.values.errors import MedallionError
from tests.conftest import TestDatabase
from tests.kinds.loading import load_in_a_process
from tests.operations.alerting import desk
from tests.operations.receivers import webhook
from tests.publish.two_ends import TwoEnds, run_sql

STORES = Table("stores", key="store_id", load=Replace())
OPEN = "select name || ' ' || subject || ' ' || severity from ops.alerts where resolved_at is null order by 1"


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    return TwoEnds(warehouse, shop)


def alerts(ends: TwoEnds) -> list[str]:
    return [row[0] for row in ends.raw(OPEN)]


async def test_a_load_that_fails_is_an_alert_until_the_table_loads(ends: TwoEnds) -> None:
    await ends.load(STORES)
    assert alerts(ends) == []
    run_sql(ends.shop.url("app"), "alter table stores rename to stores_elsewhere")
    with pytest.raises(MedallionError):
        await ends.load(STORES)
    (alert,) = ends.raw("select name, subject, severity, what, fix, error_id, times from ops.alerts")
    assert alert[:2] == ("load failed", "shop.stores")
    ((what, fix),) = ends.raw("select what, fix from ops.errors where error_id = %s", [alert[5]])
    assert alert[3:5] == (what, fix)
    with pytest.raises(MedallionError):
        await ends.load(STORES)
    assert ends.raw("select times from ops.alerts") == [(2,)]

    run_sql(ends.shop.url("app"), "alter table stores_elsewhere rename to stores")
    await ends.load(STORES)

    assert alerts(ends) == []
    assert ends.raw("select status, resolution from ops.alerts") == [("resolved", "loaded")]


async def test_refused_rows_and_a_refused_load_are_alerts_of_their_own(ends: TwoEnds) -> None:
    def stores(share: float) -> Table:
        rule = Rule("is_small", "store_id < 1000000")
        return Table("stores", key="store_id", load=Merge(), rules=(rule,), max_quarantined=share, quarantine_floor=0)

    await ends.load(stores(1.0))
    ends.source("insert into stores (store_id, name) values (2000000, 'far away')")
    with pytest.raises(MedallionError):
        await ends.load(stores(0.0))
    assert alerts(ends) == ["load refused shop.stores error"]
    await ends.load(stores(1.0))
    assert alerts(ends) == ["rows quarantined shop.stores warning"]
    assert "1 of" in ends.raw("select what from ops.alerts where name = 'rows quarantined'")[0][0]

    ends.source("delete from stores where store_id = 2000000")
    await ends.load(Table("stores", key="store_id", load=Replace(), rules=(Rule("is_small", "store_id < 1000000"),)))

    assert alerts(ends) == []


async def test_a_result_that_differs_is_an_alert_until_the_ends_match(ends: TwoEnds) -> None:
    plain = Table("baskets", key="basket_id", cursor=Timestamp("updated_at"), load=Merge())
    await ends.load(plain)
    ends.source(
        "insert into baskets (basket_id, household_id, store_id, sold_at, updated_at) "
        "select 1, household_id, store_id, sold_at, '2001-01-01' from baskets limit 1"
    )
    await ends.load(plain)
    assert alerts(ends) == ["result differs shop.baskets error"]
    await ends.load(plain)  # reloads the table
    assert alerts(ends) == []


async def test_a_process_that_dies_is_told_by_the_next_load_and_over_with_it(ends: TwoEnds) -> None:
    died = load_in_a_process(ends.warehouse, ends.shop, "stores", MEDALLION_FAILPOINT="after_load_opened")
    assert died.returncode != 0
    assert alerts(ends) == []
    await ends.load(STORES)
    history = ends.raw("select a.name, t.transition from ops.alert_transitions as t inner join ops.alerts as a "
                       "using (alert_id) order by transition_id")  # fmt: skip
    assert history == [("load failed", "fired"), ("load failed", "resolved")]


async def test_a_run_is_an_alert_only_where_its_loads_and_checks_say_nothing(ends: TwoEnds) -> None:
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        number = await runs.open_run(warehouse, "ingest", "shop", None, None)
        await runs.close_run(warehouse, number, "failed")
        assert alerts(ends) == ["run failed ingest shop error"]
        number = await runs.open_run(warehouse, "ingest", "shop", None, None)
        await runs.close_run(warehouse, number, "done")
        assert alerts(ends) == []
        number = await runs.open_run(warehouse, "transform", "", None, None)
        failed = CheckResult("raw_shop.stores", "row count", None, "failed", 1.0, "message with a value 4711")
        facts = [(failed.dataset, failed.check, failed.column, failed.outcome, "1", failed.message)]
        await ledger.record_checks(warehouse, number, "raw", facts)
        await runs.close_run(warehouse, number, "refused")
        assert alerts(ends) == ["check failed raw_shop.stores error"]
        ((what,),) = ends.raw("select what from ops.alerts where resolved_at is null")
        assert "row count" in what
        assert "4711" not in what
        await ledger.record_checks(warehouse, number, "raw", [(*facts[0][:3], "warned", "1", "")])
        assert alerts(ends) == ["check warns raw_shop.stores warning"]
        await ledger.record_checks(warehouse, number, "raw", [(*facts[0][:3], "passed", "1", "")])
        assert alerts(ends) == []
        number = await runs.open_run(warehouse, "transform", "", None, None)
        await runs.close_stopped_run(warehouse, number, runs.CANCELLED)
        assert alerts(ends) == ["run ended early transform warning"]


async def test_a_circuit_is_an_alert_while_it_is_open(ends: TwoEnds) -> None:
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        await circuits.failed(warehouse, "web", "the API does not answer", 2, 60, 600)
        assert alerts(ends) == []
        await circuits.failed(warehouse, "web", "the API does not answer", 2, 60, 600)
        assert alerts(ends) == ["circuit open source web error"]
        await circuits.worked(warehouse, "web")
        assert alerts(ends) == []


async def test_a_comparison_that_differs_is_an_alert_until_one_matches(ends: TwoEnds) -> None:
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        for result, expected in (
            ("different", ["content differs shop.stores error"]),
            ("not_compared", ["content differs shop.stores error"]),
            ("match", []),
        ):
            missing = int(result == "different")
            await reconciliations.record(
                warehouse, None, Reconciliation("shop", "stores", "content", result, missing=missing)
            )
            assert alerts(ends) == expected


async def test_a_changed_schema_is_told_once_and_is_no_state(ends: TwoEnds) -> None:
    await ends.load(STORES)
    ends.source("alter table stores add column opened_on date")
    with webhook() as receiver:
        async with desk(ends.warehouse, [Route(["default"], severity="info")], {"default": receiver.url}) as it:
            await ends.load(STORES)
            assert alerts(ends) == ["schema changed shop.stores info"]
            await it.pass_by()
            await it.pass_by()
            assert alerts(ends) == []

    assert receiver.events == ["opened"]
    assert "opened_on added" in receiver.accepted[0]["body"]


async def test_a_load_that_was_rolled_back_raises_nothing(ends: TwoEnds) -> None:
    """What the alert says commits with what it is about: a kill between the two leaves neither."""
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        batch = await ledger.open_load(warehouse, None, "shop", "stores", "merge")
        turn = warehouse.transaction()
        await turn.start()
        await ledger.fail_load(warehouse, batch, "failed", "E-1", "it failed", None)
        await turn.rollback()
    assert alerts(ends) == []
