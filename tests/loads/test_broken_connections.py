"""Connections that break at the worst moment: around COMMIT, in the middle of a read, and locks that never come."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from flows.loads.database import load_table
from flows.recovery.failures import diagnose
from flows.sources.shop import shop as declared_shop
from flows.spec import Database, Merge, Table
from flows.spec.errors import FailureClass, LoadLocked, SourceUnavailable, WarehouseError
from tests.conftest import TestCluster, TestDatabase
from tests.load.two_ends import TwoEnds
from tests.loads.invariants import six_invariants
from tests.loads.loading import (
    CHANGES,
    at,
    change,
    cursor,
    landing_tables,
    load,
    loads,
    raw_content,
    raw_rows,
    rows,
    setting,
)
from tests.loads.proxy import proxy

LARGE = Database(
    "shop",
    connection="shop",
    tables=[
        Table("large", key="id", load=Merge(), deletes=True),
    ],
)


@pytest.fixture
def large(shop: TestDatabase) -> TestDatabase:
    """A shop with a table that is still under way when its first chunk has arrived: 24 MB."""
    change(
        shop,
        "create table large (id bigint primary key, filler text)",
        "insert into large select id, repeat(md5(id::text), 15) from generate_series(1, 50000) as id",
    )
    return shop


# -- COMMIT


@pytest.mark.parametrize("table", ["basket_items", "household_events", "products"])
async def test_a_commit_whose_answer_is_lost_is_settled_by_reading_the_ledger(
    warehouse: TestDatabase, shop: TestDatabase, table: str
) -> None:
    """The client sees a broken connection while the rows are durable: running again blindly would count them twice."""
    declared = declared_shop.table(table)
    async with proxy(at(warehouse, "loader"), "after") as loader:
        result = await load_table(loader, at(shop, "extractor"), declared_shop, declared)

    (entry,) = loads(warehouse)
    assert (entry["status"], entry["batch_id"]) == ("published", result.batch_id)
    assert result.counts.rows_inserted == len(rows(shop, f"select 1 from {table}"))
    assert result.counts.reconciled == "equal"
    assert rows(warehouse, "select * from ops.errors") == []


async def test_a_later_commit_whose_answer_is_lost_is_settled_too(warehouse: TestDatabase, shop: TestDatabase) -> None:
    await load(warehouse, shop, "basket_items")
    change(shop, *CHANGES)

    async with proxy(at(warehouse, "loader"), "after") as loader:
        result = await load_table(loader, at(shop, "extractor"), declared_shop, declared_shop.table("basket_items"))

    assert (result.counts.rows_inserted, result.counts.rows_updated, result.counts.rows_deleted) == (60, 150, 150)
    before = raw_rows(warehouse, "basket_items")
    assert (await load(warehouse, shop, "basket_items")).counts.changed == 0
    assert raw_rows(warehouse, "basket_items") == before


async def test_a_commit_that_never_arrived_is_a_transient_failure_and_nothing_was_published(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    async with proxy(at(warehouse, "loader"), "before") as loader:
        with pytest.raises(WarehouseError, match="lost while publishing") as caught:
            await load_table(loader, at(shop, "extractor"), declared_shop, declared_shop.table("baskets"))

    assert caught.value.retryable
    assert diagnose(caught.value, "").failure_class is FailureClass.TRANSIENT
    assert rows(warehouse, "select to_regclass('raw_shop.baskets') as raw") == [{"raw": None}]
    assert cursor(warehouse, "baskets") is None
    assert [entry["status"] for entry in loads(warehouse)] == ["failed"]
    assert (await load(warehouse, shop, "baskets")).counts.reconciled == "equal"
    assert landing_tables(warehouse) == []


# -- the source goes away


async def test_a_source_that_ends_our_session_in_the_middle_of_a_copy_is_transient_and_publishes_nothing(
    warehouse: TestDatabase, large: TestDatabase
) -> None:
    killed: list[int] = []

    def kill_reader(_: str, received: int) -> None:
        if not killed:
            killed.append(received)
            end_sessions(large, "medallion read shop.large")

    with pytest.raises(SourceUnavailable) as caught:
        await load(warehouse, large, "large", LARGE, on_progress=kill_reader)

    assert caught.value.retryable
    assert 0 < killed[0] < 20_000_000
    assert diagnose(caught.value, "").failure_class is FailureClass.TRANSIENT
    assert rows(warehouse, "select to_regclass('raw_shop.large') as raw") == [{"raw": None}]
    (error,) = rows(warehouse, "select * from ops.errors")
    assert (error["failure_class"], error["strategy"], error["location"]) == (
        "transient", "back off and retry", "shop.large",
    )  # fmt: skip
    assert loads(warehouse)[0]["error_id"] == error["error_id"]
    assert (await load(warehouse, large, "large", LARGE)).counts.rows_inserted == 50_000
    assert landing_tables(warehouse) == []


async def test_a_warehouse_that_ends_our_session_in_the_middle_of_a_copy_is_transient_and_publishes_nothing(
    warehouse: TestDatabase, large: TestDatabase
) -> None:
    def kill_loader(_: str, received: int) -> None:
        end_sessions(warehouse, "medallion load shop.large")

    with pytest.raises(WarehouseError) as caught:
        await load(warehouse, large, "large", LARGE, on_progress=kill_loader)

    assert caught.value.retryable
    assert [entry["status"] for entry in loads(warehouse)] == ["failed"]
    assert (await load(warehouse, large, "large", LARGE)).counts.rows_inserted == 50_000


async def test_a_warehouse_that_takes_no_more_bytes_and_then_breaks_the_connection_does_not_hang_the_load(
    warehouse: TestDatabase, large: TestDatabase
) -> None:
    async with proxy(at(warehouse, "loader"), "stalled") as loader, asyncio.timeout(20):
        with pytest.raises(WarehouseError) as caught:
            await load_table(loader, at(large, "extractor"), LARGE, LARGE.table("large"))

    assert caught.value.retryable
    assert [entry["status"] for entry in loads(warehouse)] == ["failed"]


async def test_a_cancelled_load_leaves_no_session_behind_and_says_how_it_ended(
    warehouse: TestDatabase, large: TestDatabase
) -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(load(warehouse, large, "large", LARGE, on_progress=lambda *_: begun.set()))
    await begun.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [entry["status"] for entry in loads(warehouse)] == ["failed"]
    assert (await load(warehouse, large, "large", LARGE)).counts.rows_inserted == 50_000


# -- locks


async def test_two_loads_of_one_table_at_once_follow_each_other(warehouse: TestDatabase, shop: TestDatabase) -> None:
    results = await asyncio.gather(*(load(warehouse, shop, "baskets") for _ in range(2)))

    assert sorted(result.counts.rows_inserted for result in results) == [0, 150]
    assert [entry["status"] for entry in loads(warehouse)] == ["published", "published"]
    assert len(raw_content(warehouse, "baskets")) == 150


async def test_a_load_that_waited_too_long_says_which_batch_holds_the_table_and_since_when(
    warehouse: TestDatabase, large: TestDatabase
) -> None:
    second: list[BaseException] = []
    begun = asyncio.Event()

    async def impatient() -> None:
        await begun.wait()
        with setting(lock_wait_seconds=0), pytest.raises(LoadLocked) as caught:
            await load(warehouse, large, "large", LARGE)
        second.append(caught.value)

    first, _ = await asyncio.gather(
        load(warehouse, large, "large", LARGE, on_progress=lambda *_: begun.set()), impatient()
    )

    (refused,) = second
    assert isinstance(refused, LoadLocked)
    assert refused.retryable
    (entry,) = loads(warehouse)
    assert f"batch {first.batch_id}, running since {entry['started_at']:%Y-%m-%d %H:%M:%S} UTC" in refused.what


async def test_a_lock_timeout_is_transient_and_takes_nothing_back(
    warehouse: TestDatabase, shop: TestDatabase, cluster: TestCluster
) -> None:
    await load(warehouse, shop, "baskets")
    change(shop, "update baskets set week = 52, updated_at = now() where basket_id = 31000001")
    cluster.connection.execute(f"alter database {warehouse.name} set lock_timeout = '150ms'".encode())
    with psycopg.connect(warehouse.url("admin")) as reader:
        reader.execute("lock table raw_shop.baskets in access exclusive mode")

        with pytest.raises(WarehouseError, match="55P03") as caught:
            await load(warehouse, shop, "baskets")

    assert caught.value.retryable
    assert diagnose(caught.value, "").failure_class is FailureClass.TRANSIENT
    assert (await load(warehouse, shop, "baskets")).counts.rows_updated == 1


async def test_a_deadlock_is_transient(warehouse: TestDatabase, shop: TestDatabase) -> None:
    """The other session holds a row the load wants, and wants the lock the load holds."""
    await load(warehouse, shop, "baskets")
    change(shop, "update baskets set week = 52, updated_at = now() where basket_id = 31000001")
    async with await psycopg.AsyncConnection.connect(warehouse.url("admin")) as other:
        await other.execute("set deadlock_timeout = '30s'")  # so that the load is the one that notices
        await other.execute("update raw_shop.baskets set week = 1 where basket_id = 31000001")
        loading = asyncio.create_task(load(warehouse, shop, "baskets"))
        while not rows(warehouse, "select 1 from ops.loads where status = 'running'"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        wanting = asyncio.create_task(
            other.execute("select pg_advisory_lock(classid::int, objid::int) from pg_locks where locktype = 'advisory' "
                          "and database = (select oid from pg_database where datname = current_database())")
        )  # fmt: skip

        with pytest.raises(WarehouseError, match="40P01") as caught:
            await loading

        await wanting
        await other.rollback()
    assert caught.value.retryable
    assert (await load(warehouse, shop, "baskets")).counts.rows_updated == 1


async def test_a_serialization_failure_is_transient(
    warehouse: TestDatabase, shop: TestDatabase, cluster: TestCluster
) -> None:
    """Publishing runs at the warehouse's own level, where nothing can collide; unless its owner has raised that."""
    await load(warehouse, shop, "baskets")
    change(shop, "update baskets set week = 52, updated_at = now() where basket_id = 31000001")
    level = "set default_transaction_isolation = 'repeatable read'"
    cluster.connection.execute(f"alter database {warehouse.name} {level}".encode())
    ends = TwoEnds(warehouse, shop)
    async with six_invariants(ends, declared_shop, "baskets"):
        async with await psycopg.AsyncConnection.connect(warehouse.url("admin")) as other:
            await other.execute("update raw_shop.baskets set week = 1 where basket_id = 31000001")
            loading = asyncio.create_task(load(warehouse, shop, "baskets"))
            waits = (
                "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database() "
                "and application_name = 'medallion load shop.baskets'"
            )
            while not rows(warehouse, waits):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await other.commit()

        with pytest.raises(WarehouseError, match="40001") as caught:
            await loading
        assert caught.value.retryable
        assert diagnose(caught.value, "").failure_class is FailureClass.TRANSIENT
    assert rows(warehouse, "select week from raw_shop.baskets where basket_id = 31000001") == [{"week": 52}]


# -- resources


@pytest.fixture
def small_disk(cluster: TestCluster) -> Iterator[str]:
    """The name of a tablespace of 8 MB."""
    folder = Path(tempfile.mkdtemp(prefix="mdt-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip("a disk of 8 MB cannot be mounted here: it takes root's rights")
    name = folder.name.replace("-", "_").lower()
    try:
        row = cluster.connection.execute("select pg_read_file('postmaster.pid', true) is not null").fetchone()
        assert row is not None
        data = cluster.connection.execute("show data_directory").fetchone()
        assert data is not None
        owner = Path(str(data[0])).stat()
        shutil.chown(folder, owner.st_uid, owner.st_gid)
        cluster.connection.execute(f"create tablespace {name} location '{folder}'".encode())
        yield name
        cluster.connection.execute(f"drop tablespace {name}".encode())
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


async def test_a_full_disk_is_a_matter_of_resources_and_leaves_nothing_partial(
    small_disk: str, warehouse: TestDatabase, large: TestDatabase, cluster: TestCluster
) -> None:
    cluster.connection.execute(f"grant create on tablespace {small_disk} to medallion_loader".encode())
    cluster.connection.execute(f"alter database {warehouse.name} set default_tablespace = {small_disk}".encode())

    with pytest.raises(WarehouseError, match="53100") as caught:
        await load(warehouse, large, "large", LARGE)

    assert not caught.value.retryable
    failure = diagnose(caught.value, "")
    assert failure.failure_class is FailureClass.RESOURCE
    assert failure.strategy.value == "wait until the resource is there; no hot retry"
    assert rows(warehouse, "select to_regclass('raw_shop.large') as raw") == [{"raw": None}]
    assert cursor(warehouse, "large") is None
    cluster.connection.execute(f"alter database {warehouse.name} reset default_tablespace".encode())
    assert (await load(warehouse, large, "large", LARGE)).counts.rows_inserted == 50_000
    assert landing_tables(warehouse) == []


def end_sessions(database: TestDatabase, application: str) -> None:
    """End the sessions of that name, as an administrator or a failover does."""
    with psycopg.connect(database.url("admin"), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and application_name = %s",
            [application],
        )
