"""The story of reconciling, on a real Prefect server and from the command line."""

import signal
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows.failures.diagnose import diagnose
from flows.reconcile import reconcile
from flows.values.errors import DataRefused, DeclarationError
from tests.conftest import TestDatabase
from tests.flows.conftest import Ends
from tests.flows.front_door import medallion
from tests.flows.prefect_facts import artifacts, flow_run, task_runs
from tests.flows.scripted_api import ScriptedApi
from tests.kinds.loading import addresses, change, load, loads, raw_rows, rows

DATABASE_TABLES = ("households", "household_events", "stores", "products", "baskets", "basket_items")


async def run(sources: list[str], repair: bool = False) -> State[Any]:
    state: State[Any] = await reconcile(sources, repair, return_state=True)
    return state


async def load_all(ends: Ends) -> None:
    for table in DATABASE_TABLES:
        await load(ends.warehouse, ends.shop, table)


def lose_rows(warehouse: TestDatabase) -> None:
    change(warehouse, "delete from raw_shop.basket_items where basket_item_id < 100", role="loader")


async def test_equal_ends_are_told_table_by_table(ends: Ends) -> None:
    await load_all(ends)

    state = await run(["shop"])

    results = await state.aresult()
    assert {result["table"]: result["result"] for result in results} == dict.fromkeys(DATABASE_TABLES, "match")
    assert {run.name for run in task_runs(state, 6)} == {f"reconcile shop.{name}" for name in DATABASE_TABLES}
    assert "6 tables, 0 different, 0 not compared" in str(artifacts(state)["reconciliation"])
    (ran,) = rows(ends.warehouse, "select pipeline, scope, status, details, flow_run_id from ops.runs")
    assert (ran["pipeline"], ran["scope"], ran["status"]) == ("reconcile", "shop", "done")
    assert ran["flow_run_id"] == str(flow_run(state).id)
    assert ran["details"] == {"tables": 6, "different": [], "failed": []}
    assert len(rows(ends.warehouse, "select from ops.reconciliations where result = 'match' and run_id = 1")) == 6


async def test_a_run_that_finds_differences_fails_with_exit_code_1_and_the_next_move(ends: Ends) -> None:
    await load_all(ends)
    lose_rows(ends.warehouse)

    state = await run(["shop.baskets", "shop.basket_items"])

    error = await error_of(state)
    assert isinstance(error, DataRefused)
    assert error.exit_code == 1
    assert error.what == "raw differs from its source in shop.basket_items"
    assert "medallion recover shop.basket_items" in error.fix
    assert len(loads(ends.warehouse)) == 6, "nothing was repaired"
    (ran,) = rows(ends.warehouse, "select status from ops.runs")
    assert ran["status"] == "refused"


async def test_a_repair_belongs_to_the_run_and_ends_well(ends: Ends) -> None:
    await load_all(ends)
    lose_rows(ends.warehouse)

    (result,) = await (await run(["shop.basket_items"], repair=True)).aresult()

    assert (result["result"], result["repaired"]) == ("match", 27)
    repair = loads(ends.warehouse)[-1]
    assert (repair["strategy"], repair["run_id"], repair["rows_inserted"]) == ("repair", 1, 27)


async def test_a_table_that_cannot_be_compared_does_not_keep_others_from_it(ends: Ends) -> None:
    await load_all(ends)
    lose_rows(ends.warehouse)
    change(ends.shop, "revoke select on stores from medallion_extractor")

    error = await error_of(await run(["shop"]))

    assert error.exit_code == 3
    assert "1 tables were not compared (shop.stores: " in error.what
    assert "shop.basket_items differ from their source" in error.what
    assert len(rows(ends.warehouse, "select from ops.reconciliations")) == 5


async def test_an_api_is_compared_by_its_count_and_says_so(ends: Ends, marketing_api: ScriptedApi) -> None:
    from flows.ingest import ingest

    await ingest("marketing")
    results = await (await run(["marketing"])).aresult()
    assert {(result["result"], result["method"]) for result in results} == {("match", "count")}
    assert all("only counts" in result["note"] for result in results)

    change(ends.warehouse, "delete from raw_marketing.campaigns", role="loader")
    (waits,) = await (await run(["marketing.campaigns"])).aresult()
    assert (waits["result"], waits["pending"]) == ("match", 1), "the next load asks for it again"

    marketing_api.records["redemptions"] = []
    assert "marketing.redemptions" in (await error_of(await run(["marketing.redemptions"]))).what


async def test_an_undeclared_table_is_refused_before_anything_is_touched(ends: Ends) -> None:
    assert isinstance(await error_of(await run(["shop.basket"])), DeclarationError)
    assert rows(ends.warehouse, "select from ops.runs") == []


async def test_a_warehouse_of_an_earlier_version_gets_the_table(ends: Ends) -> None:
    await load_all(ends)
    version_1 = "drop table ops.reconciliations; update ops.schema_version set version = 1"
    change(ends.warehouse, version_1, role="loader")
    await (await run(["shop.stores"])).aresult()
    assert len(rows(ends.warehouse, "select from ops.reconciliations")) == 1


@pytest.mark.usefixtures("prefect_server")
async def test_the_command_shows_both_ends_and_repairs(warehouse: TestDatabase, shop: TestDatabase) -> None:
    variables = dict(addresses(warehouse, shop))
    await load(warehouse, shop, "basket_items")
    lose_rows(warehouse)

    found = medallion("reconcile", "shop.basket_items", variables=variables)
    assert (found.code, "different" in found.out) == (1, True)
    assert "--repair" in found.panel

    mended = medallion("reconcile", "shop.basket_items", "--repair", variables=variables)
    assert mended.code == 0, mended.text
    assert "match" in mended.out

    wrong = medallion("reconcile", "shop.basket", variables=variables)
    assert wrong.code == 2


@pytest.mark.usefixtures("prefect_server")
async def test_a_repair_that_is_killed_leaves_nothing_half_done(warehouse: TestDatabase, shop: TestDatabase) -> None:
    variables = dict(addresses(warehouse, shop))
    await load(warehouse, shop, "basket_items")
    lose_rows(warehouse)
    before = raw_rows(warehouse, "basket_items")

    killed = medallion(
        "reconcile", "shop.basket_items", "--repair",
        variables=variables | {"MEDALLION_FAILPOINT": "in_publish_before_commit"},
    )  # fmt: skip

    assert killed.code == -signal.SIGKILL
    assert raw_rows(warehouse, "basket_items") == before
    assert medallion("reconcile", "shop.basket_items", "--repair", variables=variables).code == 0
    assert [entry["status"] for entry in loads(warehouse)] == ["published", "failed", "published"]


async def error_of(state: State[Any]) -> Any:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await state.aresult()
    return diagnose(caught.value, "").error
