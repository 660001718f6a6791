"""`medallion runs`: from whatever id is at hand to everything that happened under it."""

import asyncio
import json

from flows.access.addresses import connect
from flows.state import ledger, runs
from flows.values.connection import DatabaseConnection
from flows.values.correlation import correlated
from tests.conftest import TestDatabase
from tests.flows.front_door import medallion
from tests.kinds.loading import load


def ran(warehouse: TestDatabase, shop: TestDatabase) -> int:
    """A run of the id `run-7` with one load, one error and the alert that it raised."""

    address = DatabaseConnection("warehouse", warehouse.url("loader"))

    async def opened() -> int:
        async with connect(address, side="warehouse") as session:
            return await runs.open_run(session, "ingest", "shop", "0192-flow-run", "run-7")

    async def failed(number: int) -> None:
        async with connect(address, side="warehouse") as session:
            facts = {
                "error_id": "E-1", "run_id": number, "batch_id": None, "failure_class": "permanent",
                "severity": "error", "strategy": "ask a person", "location": "shop", "what": "it is broken",
                "fix": "mend it", "retryable": False,
            }  # fmt: skip
            await ledger.record_error(session, facts)
            await runs.close_run(session, number, "failed", "E-1")

    number = asyncio.run(opened())
    with correlated("run-7"):
        asyncio.run(load(warehouse, shop, "stores", run_id=number))
    asyncio.run(failed(number))
    return number


def test_everything_of_a_run_is_found_from_any_of_its_ids(warehouse: TestDatabase, shop: TestDatabase) -> None:
    number = ran(warehouse, shop)
    variables = {"MEDALLION_WAREHOUSE_URL": warehouse.url("loader")}
    listed = medallion("runs", "list", variables=variables)
    assert (listed.code, "run-7" in listed.out, "ingest shop" in listed.out) == (0, True, True)
    by_id = {
        asked: medallion("runs", "show", asked, "--json", variables=variables)
        for asked in ("run-7", "E-1", str(number), "0192-flow-run")
    }
    assert {ended.out for ended in by_id.values()} == {by_id["run-7"].out}
    found = json.loads(by_id["E-1"].out)
    assert found["correlation_id"] == "run-7"
    assert [run["pipeline"] for run in found["runs"]] == ["ingest"]
    assert [load["table_name"] for load in found["loads"]] == ["stores"]
    assert [error["what"] for error in found["errors"]] == ["it is broken"]
    assert "run failed" in [alert["name"] for alert in found["alerts"]]
    shown = medallion("runs", "show", "run-7", variables=variables)
    for expected in ("shop.stores", "it is broken", "run failed", "correlation:run-7"):
        assert expected in shown.out
    (alert,) = [alert for alert in found["alerts"] if alert["name"] == "run failed"]
    in_full = medallion("alerts", "show", str(alert["alert_id"]), variables=variables)
    assert "medallion runs show run-7" in in_full.out


def test_an_unknown_id_is_a_mistake_of_the_caller(warehouse: TestDatabase) -> None:
    ended = medallion("runs", "show", "nothing", variables={"MEDALLION_WAREHOUSE_URL": warehouse.url("loader")})
    assert (ended.code, "medallion runs list" in ended.panel) == (2, True)
