"""An upgrade of schema ops beside everything else that may be at work in the warehouse."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import psycopg
import pytest

from flows.access.addresses import connect
from flows.cli.migrate import look
from flows.state import ledger, reads, table_locks
from flows.state.transform_lock import transform_lock
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError, LoadLocked, WarehouseError
from flows.values.settings import settings
from tests.conftest import ROOT, TestDatabase
from tests.flows.front_door import medallion
from tests.publish.two_ends import run_sql

EARLIER = (Path(__file__).parent / "schemas/1a.sql").read_text(encoding="utf-8")
#: Databases made from one template share their tables' oids: a lock counts in its own database only.
HERE = "database = (select oid from pg_database where datname = current_database())"
VERSION = "select max(version) from ops.schema_version"
#: What code before version 9 holds while it loads a table and while it transforms, and how it tries to begin.
OLDER_LOAD = "select pg_advisory_lock(20170101, hashtext('shop.baskets'))"
OLDER_TRANSFORM = "select pg_advisory_lock(20170102, 0)"
OLDER_TRY = "select pg_try_advisory_lock_shared(20170101, 0)"


@pytest.fixture
def earlier(warehouse: TestDatabase) -> TestDatabase:
    """A warehouse of version 1."""
    run_sql(warehouse.url("loader"), "drop schema ops, quarantine, landing cascade")
    run_sql(warehouse.url("loader"), EARLIER)
    return warehouse


def address(database: TestDatabase) -> DatabaseConnection:
    return DatabaseConnection("warehouse", database.url("loader"))


def version(database: TestDatabase) -> int:
    ((found,),) = run_sql(database.url("loader"), VERSION)
    return int(found)


async def migrate(database: TestDatabase, wait_seconds: float) -> bool:
    async with connect(address(database), side="warehouse") as warehouse:
        return await ledger.migrate(warehouse, wait_seconds=wait_seconds)


async def until_upgrade_has_its_turn(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    turn = (
        "select exists (select from pg_locks where relation = 'ops.locks'::regclass and granted "
        f"and mode = 'ShareRowExclusiveLock' and {HERE})"
    )
    async with asyncio.timeout(30):
        while not await connection.fetchval(turn):  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.02)


async def test_an_upgrade_waits_for_a_load_under_way(earlier: TestDatabase) -> None:
    async with connect(address(earlier), side="warehouse") as loading:
        await loading.execute(OLDER_LOAD)
        upgrading = asyncio.create_task(migrate(earlier, 20))
        await asyncio.sleep(0.6)
        assert not upgrading.done()
        assert version(earlier) == 1
    assert await upgrading
    assert version(earlier) == ledger.SCHEMA_VERSION


async def test_an_upgrade_that_waited_in_vain_names_the_runs_and_has_changed_nothing(earlier: TestDatabase) -> None:
    run_sql(
        earlier.url("loader"),
        "insert into ops.loads (source_system, table_name, mode, path) values ('shop', 'baskets', 'merge', 'merge')",
    )
    async with (
        connect(address(earlier), side="warehouse") as loading,
        connect(DatabaseConnection("warehouse", earlier.url("transformer")), side="warehouse") as transforming,
    ):
        await loading.execute(OLDER_LOAD)
        await transforming.execute(OLDER_TRANSFORM)
        with pytest.raises(LoadLocked, match=r"shop\.baskets \(batch 1\) since .* UTC, transform") as refused:
            await migrate(earlier, 0.4)
    assert "from version 1 to" in refused.value.what
    assert refused.value.retryable
    assert version(earlier) == 1


async def test_no_run_begins_while_an_upgrade_waits_or_works(warehouse: TestDatabase) -> None:
    """Else it would write with statements of one version into tables of another."""
    run_sql(warehouse.url("loader"), f"update ops.schema_version set version = {ledger.SCHEMA_VERSION - 1}")
    async with AsyncExitStack() as stack:
        loading, other = [
            await stack.enter_async_context(connect(address(warehouse), side="warehouse")) for _ in range(2)
        ]
        assert await table_locks.lock_table(loading, "shop", "baskets")
        upgrading = asyncio.create_task(migrate(warehouse, 20))
        await until_upgrade_has_its_turn(other)
        assert not await table_locks.lock_table(other, "shop", "stores")
        with pytest.raises(LoadLocked, match="being upgraded"), transform_lock(address(warehouse), wait_seconds=0):
            pass
        assert not await other.fetchval(OLDER_TRY), "nor does a run of older code"
        await table_locks.unlock_table(loading, "shop", "baskets")
        assert await upgrading
        assert await table_locks.lock_table(other, "shop", "stores")


async def test_an_upgrade_names_the_runs_of_this_code_and_workers_of_a_load(warehouse: TestDatabase) -> None:
    run_sql(warehouse.url("loader"), f"update ops.schema_version set version = {ledger.SCHEMA_VERSION - 1}")
    run_sql(
        warehouse.url("loader"),
        "insert into ops.loads (source_system, table_name, strategy) values ('shop', 'baskets', 'merge');"
        "insert into ops.reads (batch_id, strategy, grid, read_window, landing) values (1, 'merge', '{}', '{}', 0)",
    )
    async with (
        connect(address(warehouse), side="warehouse", application="medallion load shop.baskets") as worker,
        connect(address(warehouse), side="warehouse") as loading,
    ):
        assert await table_locks.lock_table(loading, "shop", "stores")
        async with worker.transaction():
            await reads.join_read(worker, 1, 1)
            with pytest.raises(LoadLocked, match=r"medallion load shop\.baskets, shop\.stores since .* UTC"):
                await migrate(warehouse, 0.4)


async def test_a_reader_with_the_locks_of_older_code_does_not_hold_an_upgrade_up(earlier: TestDatabase) -> None:
    run_sql(earlier.url("admin"), "grant execute on function pg_advisory_lock(int, int) to public")
    with psycopg.connect(earlier.url("reader"), autocommit=True) as reader:
        for lock in (OLDER_LOAD, OLDER_TRANSFORM, "select pg_advisory_lock(20170101, 0)"):
            assert reader.execute(lock.encode()).fetchone() is not None
        assert await migrate(earlier, 5)
    assert version(earlier) == ledger.SCHEMA_VERSION


async def test_of_two_upgrades_at_once_one_does_it_and_the_other_goes_on(earlier: TestDatabase) -> None:
    done = await asyncio.gather(*(migrate(earlier, 20) for _ in range(4)))
    assert sorted(done) == [False, False, False, True]
    assert version(earlier) == ledger.SCHEMA_VERSION


async def test_a_run_that_began_before_newer_code_upgraded_loads_no_further_table(warehouse: TestDatabase) -> None:
    run_sql(warehouse.url("loader"), f"insert into ops.schema_version (version) values ({ledger.SCHEMA_VERSION + 1})")
    async with connect(address(warehouse), side="warehouse") as loading:
        with pytest.raises(WarehouseError, match="deploy the newer code"):
            await table_locks.lock_table(loading, "shop", "stores")
        ours = "locktype = 'advisory' and pid = pg_backend_pid()"
        assert await loading.fetchval(f"select count(*) from pg_locks where {ours}") == 0


def test_an_upgrade_killed_in_its_middle_leaves_the_version_that_was(earlier: TestDatabase) -> None:
    """It stands still half-way, at a table that somebody else holds."""
    before = run_sql(
        earlier.url("loader"), "select table_name, column_name from information_schema.columns order by 1, 2"
    )
    with psycopg.connect(earlier.url("loader")) as holding:
        holding.execute("lock table ops.schema_changes in access share mode")
        upgrading = subprocess.Popen(
            [sys.executable, "-m", "tests.state.one_upgrade"],
            cwd=ROOT,
            env={**os.environ, "MEDALLION_WAREHOUSE_URL": earlier.url("loader")},
        )
        stuck = (
            f"select count(*) from pg_locks where not granted and relation = 'ops.schema_changes'::regclass and {HERE} "
            "and pid in (select pid from pg_locks where relation = 'ops.loads'::regclass "
            "and mode = 'AccessExclusiveLock')"
        )
        until = time.monotonic() + 90
        while run_sql(earlier.url("admin"), stuck) == [(0,)] and time.monotonic() < until:
            time.sleep(0.1)
        assert upgrading.poll() is None
        upgrading.send_signal(signal.SIGKILL)
        upgrading.wait()
    assert version(earlier) == 1
    after = run_sql(
        earlier.url("loader"), "select table_name, column_name from information_schema.columns order by 1, 2"
    )
    assert after == before
    assert asyncio.run(migrate(earlier, 20))


async def test_where_upgrades_are_made_on_purpose_a_run_refuses_and_says_how(
    earlier: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "upgrade_at_first_use", False)
    async with connect(address(earlier), side="warehouse") as warehouse:
        with pytest.raises(ConfigurationError, match="version 1") as refused:
            await ledger.ensure_schema(warehouse)
    assert "medallion migrate" in refused.value.fix
    assert version(earlier) == 1
    await migrate(earlier, 20)
    async with connect(address(earlier), side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)


def test_a_plan_tells_what_comes_and_goes_and_who_is_at_work_and_changes_nothing(
    earlier: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", earlier.url("loader"))
    settings.cache_clear()
    run_sql(earlier.url("loader"), "alter table ops.loads add column rows_tombstones bigint not null default 0")

    found = asyncio.run(look())

    assert (found.version, found.active) == (1, ())
    assert "comes  table ops.releases" in found.changes
    assert "goes   column ops.loads.mode text" in found.changes
    assert not any("ops.releases." in line for line in found.changes), "a table that comes is one line"
    assert version(earlier) == 1
    variables = {"MEDALLION_WAREHOUSE_URL": earlier.url("loader"), "MEDALLION_LOCK_WAIT_SECONDS": "0"}
    with psycopg.connect(earlier.url("transformer"), autocommit=True) as transforming:
        transforming.execute(OLDER_TRANSFORM.encode())
        shown = medallion("migrate", "--plan", variables=variables)
        assert shown.code == 0, shown.text
        assert "active  transform" in shown.out
        assert medallion("migrate", variables=variables).code == 3
        assert version(earlier) == 1
    # A session that was closed may take a moment to let its locks go.
    done = medallion("migrate", variables={"MEDALLION_WAREHOUSE_URL": earlier.url("loader")})
    assert f"schema ops is now at version {ledger.SCHEMA_VERSION}" in done.out, done.text
    settings.cache_clear()


async def test_tables_whose_names_have_one_hash_of_32_bits_are_loaded_side_by_side(warehouse: TestDatabase) -> None:
    """Code before version 9 locked by that hash, and each of the two waited for the other's load."""
    names = ("ticket_messages", "webhook_brands")
    query = "select count(distinct hashtext('erp.' || name)) from unnest(%s::text[]) as name"
    assert run_sql(warehouse.url("loader"), query, [list(names)]) == [(1,)]
    async with AsyncExitStack() as stack:
        for name in names:
            loading = await stack.enter_async_context(connect(address(warehouse), side="warehouse"))
            assert await table_locks.lock_table(loading, "erp", name)
        other = await stack.enter_async_context(connect(address(warehouse), side="warehouse"))
        for name in names:
            assert not await table_locks.lock_table(other, "erp", name), "and still each once at a time"
