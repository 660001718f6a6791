"""A run that lives is not closed as dead by the next one, also while it holds no table's lock."""

import asyncio
from collections.abc import Iterator
from io import StringIO

import pytest
from rich.console import Console

from flows.access import addresses
from flows.access.rotation import ensure_account
from flows.cli.stack_tables import status_tables
from flows.state import table_locks
from flows.state.active_runs import active_runs, dead_runs, hold_run
from flows.state.ledger import open_load
from flows.state.overview import Overview, read_overview
from flows.state.runs import close_dead_runs, open_run
from flows.values.connection import DatabaseConnection
from tests.conftest import TestDatabase
from tests.private_cluster import private_cluster
from tests.publish.two_ends import run_sql


def test_only_the_run_whose_session_is_gone_is_closed(warehouse: TestDatabase) -> None:
    address = DatabaseConnection("warehouse", warehouse.url("loader"))

    async def two_runs() -> tuple[int, int]:
        async with (
            addresses.connect(address, side="warehouse") as alive,
            addresses.connect(address, side="warehouse") as other,
        ):
            living = await open_run(alive, "ingest", "shop", None, None)
            await hold_run(alive, living)
            dead = await open_run(other, "ingest", "shop", None, None)
            await close_dead_runs(other, "ingest", "shop", ["stores"])
            return living, dead

    living, dead = asyncio.run(two_runs())
    found = {
        row[0]: row[1] for row in run_sql(warehouse.url("admin"), "select run_id, status from ops.runs order by run_id")
    }
    assert found == {living: "running", dead: "failed"}


def test_a_run_that_died_took_as_long_as_it_gave_signs_of_life(warehouse: TestDatabase) -> None:
    """It was counted until the next run of its pipeline found it, hours later."""
    address = DatabaseConnection("warehouse", warehouse.url("loader"))

    async def overview() -> Overview:
        async with addresses.connect(address, side="warehouse") as look:
            return await read_overview(look)

    async def died() -> None:
        async with addresses.connect(address, side="warehouse") as gone:
            silent, loading = [await open_run(gone, "ingest", "shop", None, None) for _ in range(2)]
            ended, dead = [await open_load(gone, loading, "shop", name, "merge") for name in ("a", "b")]
        admin = warehouse.url("admin")
        run_sql(admin, "update ops.runs set started_at = now() - interval '5 hours' returning 1")
        signs = "started_at = now() - interval '5 hours', finished_at = now() - interval '5 hours' + interval '40 s'"
        run_sql(admin, f"update ops.loads set status = 'refused', {signs} where batch_id = {ended} returning 1")
        run_sql(
            admin,
            f"update ops.loads set started_at = now() - interval '5 hours' where batch_id = {dead} returning 1",
        )
        # One time in SQL, so that the seconds are whole.
        run_sql(admin, "update ops.runs set started_at = (select min(started_at) from ops.loads) returning 1")
        assert silent < loading

    def shown() -> dict[int, tuple[str, float | None, str]]:
        found = asyncio.run(overview())
        console = Console(width=150, record=True, file=StringIO())
        console.print(status_tables(found)[0])
        lines = [line for line in console.export_text().splitlines() if "ingest shop" in line]
        cells = {int(line.split("│")[1]): line.split("│")[5].strip() for line in lines}
        return {run["run_id"]: (run["status"], run["seconds"], cells[run["run_id"]]) for run in found.runs}

    asyncio.run(died())
    silent, loading = sorted(shown())
    assert [shown()[run][::2] for run in (silent, loading)] == [("died", "—"), ("died", "at least 40 s")]

    async def next_ones() -> None:
        async with addresses.connect(address, side="warehouse") as after:
            await close_dead_runs(after, "ingest", "shop", [])
            await open_load(after, await open_run(after, "ingest", "shop", None, None), "shop", "b", "merge")

    asyncio.run(next_ones())  # they notice it, and close its rows
    assert [shown()[run][::2] for run in (silent, loading)] == [("failed", "—"), ("failed", "at least 40 s")]


@pytest.fixture
def without_statistics() -> Iterator[TestDatabase]:
    """A warehouse as on a managed server whose administrator may not give pg_read_all_stats away."""
    with private_cluster() as private:
        private.cluster.connection.execute("revoke pg_read_all_stats from medallion_loader")
        ensure_account(private.cluster.connection, "medallion_loader", "medallion_loader_clone", "second")
        yield private.warehouse("warehouse_without")


async def test_who_may_not_see_the_sessions_of_others_still_tells_the_living_from_the_dead(
    without_statistics: TestDatabase,
) -> None:
    """To such a session the state, the start and the query of all others are null, as if they were gone."""
    warehouse = without_statistics
    url = warehouse.url("loader")
    password = warehouse.cluster.passwords["medallion_loader"]
    second = DatabaseConnection(
        "warehouse", url.replace(f"medallion_loader:{password}", "medallion_loader_clone:second")
    )
    async with (
        # Under its second account, as a run that began while its password was rotated.
        addresses.connect(second, side="warehouse", application="medallion run") as life,
        addresses.connect(DatabaseConnection("warehouse", url), side="warehouse") as loader,
    ):
        living = await open_run(life, "ingest", "shop", None, None)
        await hold_run(life, living)
        assert await table_locks.lock_table(life, "shop", "stores")
        killed = await open_run(loader, "ingest", "shop", None, None)
        hidden = "select state is null and backend_start is null from pg_stat_activity where pid = $1"
        assert await loader.fetchval(hidden, life.get_server_pid()), "else there would be nothing to prove"
        assert await dead_runs(loader) == {killed}
        assert [run.what for run in await active_runs(loader)] == ["shop.stores"]
        assert not await table_locks.lock_table(loader, "shop", "stores")
        await close_dead_runs(loader, "ingest", "shop", ["stores"])
        # A table that is being loaded may be the killed one's, so that one is closed once no load is under way.
        await table_locks.unlock_table(life, "shop", "stores")
        assert await dead_runs(loader) == {killed}
        await close_dead_runs(loader, "ingest", "shop", ["stores"])
        found = await loader.fetch("select run_id, status from ops.runs order by run_id")
    assert {row["run_id"]: row["status"] for row in found} == {living: "running", killed: "failed"}
