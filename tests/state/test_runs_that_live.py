"""A run that lives is not closed as dead by the next one, also while it holds no table's lock."""

import asyncio

from flows import connections
from flows.spec import DatabaseConnection
from flows.state.active_runs import hold_run
from flows.state.runs import close_dead_runs, open_run
from tests.conftest import TestDatabase
from tests.load.two_ends import run_sql


def test_only_the_run_whose_session_is_gone_is_closed(warehouse: TestDatabase) -> None:
    address = DatabaseConnection("warehouse", warehouse.url("loader"))

    async def two_runs() -> tuple[int, int]:
        async with (
            connections.connect(address, side="warehouse") as alive,
            connections.connect(address, side="warehouse") as other,
        ):
            living = await open_run(alive, "ingest", "shop", None, None)
            await hold_run(alive, living)
            dead = await open_run(other, "ingest", "shop", None, None)
            await close_dead_runs(other, "ingest", "shop", ["shop.stores"])
            return living, dead

    living, dead = asyncio.run(two_runs())
    found = {
        row[0]: row[1] for row in run_sql(warehouse.url("admin"), "select run_id, status from ops.runs order by run_id")
    }
    assert found == {living: "running", dead: "failed"}
