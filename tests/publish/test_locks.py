"""Somebody else has the lock: of the table, of a row, or of what a load holds in turn."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from flows.failures.diagnose import diagnose
from flows.sources.shop import shop as declared_shop
from flows.values.errors import FailureClass, LoadLocked, SourceUnavailable, WarehouseError
from tests.conftest import TestCluster, TestDatabase
from tests.kinds.loading import (
    CHANGES,
    change,
    cursor,
    load,
    loads,
    open_quarantine,
    raw_rows,
    rows,
    setting,
    until_it_waits_for_a_lock,
)
from tests.kinds.postgres.invariants import six_invariants
from tests.kinds.postgres.large_table import LARGE, large
from tests.publish.two_ends import TwoEnds, run_sql

__all__ = ["large"]  # a fixture


async def test_two_loads_of_one_table_at_once_follow_each_other(warehouse: TestDatabase, shop: TestDatabase) -> None:
    async with six_invariants(TwoEnds(warehouse, shop), declared_shop, "baskets"):
        results = await asyncio.gather(*(load(warehouse, shop, "baskets") for _ in range(2)))

        assert sorted(result.counts.rows_inserted for result in results) == [0, 150]
        assert [entry["status"] for entry in loads(warehouse)] == ["published", "published"]


async def test_a_load_that_waited_too_long_says_which_batch_holds_the_table_and_since_when(
    warehouse: TestDatabase, large: TestDatabase
) -> None:
    second: list[BaseException] = []
    begun = asyncio.Event()

    async def hasty() -> None:
        await begun.wait()
        with setting(lock_wait_seconds=0), pytest.raises(LoadLocked) as caught:
            await load(warehouse, large, "large", LARGE)
        second.append(caught.value)

    async with six_invariants(TwoEnds(warehouse, large), LARGE):
        first, _ = await asyncio.gather(
            load(warehouse, large, "large", LARGE, on_progress=lambda *_: begun.set()), hasty()
        )

        (refused,) = second
        assert isinstance(refused, LoadLocked)
        assert refused.retryable
        (entry,) = loads(warehouse)
        assert f"batch {first.batch_id}, running since {entry['started_at']:%Y-%m-%d %H:%M:%S} UTC" in refused.what


@pytest.fixture
def impatient() -> Iterator[None]:
    """Loads wait 150 ms for a lock instead of a minute."""
    with setting(table_lock_wait_seconds=0.15):
        yield


@pytest.mark.usefixtures("impatient")
async def test_a_lock_timeout_is_transient_and_takes_nothing_back(warehouse: TestDatabase, shop: TestDatabase) -> None:
    await load(warehouse, shop, "baskets")
    change(shop, "update baskets set week = 52, updated_at = now() where basket_id = 31000001")
    before = raw_rows(warehouse, "baskets")
    async with six_invariants(TwoEnds(warehouse, shop), declared_shop, "baskets"):
        with psycopg.connect(warehouse.url("admin")) as reader:
            reader.execute("lock table raw_shop.baskets in access exclusive mode")

            with pytest.raises(WarehouseError, match="55P03") as caught:
                await load(warehouse, shop, "baskets")

        assert caught.value.retryable
        assert diagnose(caught.value, "").failure_class is FailureClass.TRANSIENT
        assert raw_rows(warehouse, "baskets") == before
    assert rows(warehouse, "select week from raw_shop.baskets where basket_id = 31000001") == [{"week": 52}]


@pytest.mark.usefixtures("impatient")
async def test_a_lock_timeout_in_the_middle_of_publishing_takes_everything_back(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    """Some rows are written by then, and somebody holds one of the next."""
    await load(warehouse, shop, "basket_items")
    change(shop, *CHANGES)
    before, since = raw_rows(warehouse, "basket_items"), cursor(warehouse, "basket_items")
    async with six_invariants(TwoEnds(warehouse, shop), declared_shop, "basket_items"):
        with psycopg.connect(warehouse.url("admin")) as other:
            other.execute("update raw_shop.basket_items set quantity = 7 where basket_item_id = 441")

            with pytest.raises(WarehouseError, match="55P03") as caught:
                await load(warehouse, shop, "basket_items")
            other.rollback()

        assert caught.value.retryable
        assert (raw_rows(warehouse, "basket_items"), cursor(warehouse, "basket_items")) == (before, since)
        assert open_quarantine(warehouse) == []


@pytest.mark.parametrize("end", ["source", "warehouse"])
async def test_a_load_waits_for_a_declared_time_and_names_the_session_that_locks_the_table(
    warehouse: TestDatabase, shop: TestDatabase, end: str
) -> None:
    """Whatever the role allows. Without the setting, the load would wait for an hour, and say nothing."""
    for database, role in ((warehouse, "medallion_loader"), (shop, "medallion_extractor")):
        run_sql(database.url("admin"), f"alter role {role} in database {database.name} set lock_timeout = 0")
    with setting(table_lock_wait_seconds=0.15):
        await load(warehouse, shop, "baskets")
    change(shop, "update baskets set week = 52, updated_at = now() where basket_id = 31000001")
    database, table = (shop, "public.baskets") if end == "source" else (warehouse, "raw_shop.baskets")
    with psycopg.connect(database.url("admin"), application_name="a migration") as blocker:
        blocker.execute(f"lock table {table} in access exclusive mode".encode())
        with (
            setting(table_lock_wait_seconds=0.15),
            pytest.raises(SourceUnavailable if end == "source" else WarehouseError, match="55P03") as caught,
        ):
            await load(warehouse, shop, "baskets")

        error = caught.value
        named = f"session {blocker.info.backend_pid} of medallion_admin (a migration) with {table} since 20"
        assert (error.failure_class, error.retryable) == (FailureClass.TRANSIENT, True)
        assert named in error.what
        assert "idle in transaction" in error.what
        assert f"select pg_terminate_backend({blocker.info.backend_pid});" in error.fix
        assert run_sql(warehouse.url("loader"), "select what from ops.errors") == [(error.what,)]
    assert (await load(warehouse, shop, "baskets")).counts.rows_updated == 1, "the control: nobody locks it"


async def test_a_load_that_may_wait_outlasts_the_session_that_locks_the_table(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    """The control: with the default, the same lock delays the load and nothing more."""
    await load(warehouse, shop, "baskets")
    change(shop, "update baskets set week = 52, updated_at = now() where basket_id = 31000001")
    with psycopg.connect(warehouse.url("admin")) as blocker:
        blocker.execute("lock table raw_shop.baskets in access exclusive mode")
        loading = asyncio.create_task(load(warehouse, shop, "baskets"))
        await until_it_waits_for_a_lock(warehouse, "baskets")
    assert (await loading).counts.rows_updated == 1


async def test_a_deadlock_is_transient(warehouse: TestDatabase, shop: TestDatabase) -> None:
    """The other session holds a row the load wants, and wants the lock the load holds."""
    await load(warehouse, shop, "baskets")
    change(shop, "update baskets set week = 52, updated_at = now() where basket_id = 31000001")
    before = raw_rows(warehouse, "baskets")
    async with six_invariants(TwoEnds(warehouse, shop), declared_shop, "baskets"):
        async with await psycopg.AsyncConnection.connect(warehouse.url("admin")) as other:
            await other.execute("set deadlock_timeout = '30s'")  # so that the load is the one that notices
            await other.execute("update raw_shop.baskets set week = 1 where basket_id = 31000001")
            loading = asyncio.create_task(load(warehouse, shop, "baskets"))
            while not rows(warehouse, "select 1 from ops.loads where status = 'running'"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            wanting = asyncio.create_task(
                other.execute("select pg_advisory_lock(classid::bigint << 32 | objid::bigint) from pg_locks "
                              "where locktype = 'advisory' and database = "
                              "(select oid from pg_database where datname = current_database())")
            )  # fmt: skip

            with pytest.raises(WarehouseError, match="40P01") as caught:
                await loading

            await wanting
            await other.rollback()
        assert caught.value.retryable
        assert diagnose(caught.value, "").failure_class is FailureClass.TRANSIENT
        assert raw_rows(warehouse, "baskets") == before
    assert rows(warehouse, "select week from raw_shop.baskets where basket_id = 31000001") == [{"week": 52}]


async def test_a_serialization_failure_is_transient(
    warehouse: TestDatabase, shop: TestDatabase, cluster: TestCluster
) -> None:
    """Publishing runs at the warehouse's own level, where nothing can collide; unless its owner has raised that."""
    level = "set default_transaction_isolation = 'repeatable read'"
    cluster.connection.execute(f"alter database {warehouse.name} {level}".encode())
    await load(warehouse, shop, "baskets")
    change(shop, "update baskets set week = 52, updated_at = now() where basket_id = 31000001")
    ends = TwoEnds(warehouse, shop)
    async with six_invariants(ends, declared_shop, "baskets"):
        async with await psycopg.AsyncConnection.connect(warehouse.url("admin")) as other:
            await other.execute("update raw_shop.baskets set week = 1 where basket_id = 31000001")
            loading = asyncio.create_task(load(warehouse, shop, "baskets"))
            await until_it_waits_for_a_lock(warehouse, "baskets")
            await other.commit()

        with pytest.raises(WarehouseError, match="40001") as caught:
            await loading
        assert caught.value.retryable
        assert diagnose(caught.value, "").failure_class is FailureClass.TRANSIENT
    assert rows(warehouse, "select week from raw_shop.baskets where basket_id = 31000001") == [{"week": 52}]
