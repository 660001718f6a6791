"""Locks of loads and of the transform live where a reader can neither take nor delay them."""

import asyncio
import time

import psycopg
import pytest

from flows.access.addresses import connect
from flows.declare import Merge
from flows.kinds.postgres import Table
from flows.state import table_locks
from flows.state.active_runs import active_runs
from flows.state.transform_lock import transform_lock
from flows.values.connection import DatabaseConnection
from flows.values.errors import LoadLocked
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds, run_sql

STORES = Table("stores", key="store_id", load=Merge())
KEYS = (
    "select k.classid::bigint << 32 | k.objid::bigint as key from pg_locks as k "
    "where k.locktype = 'advisory' and k.objsubid = 1 and k.pid <> pg_backend_pid() "
    "and k.database = (select oid from pg_database where datname = current_database())"
)


@pytest.fixture(autouse=True)
def as_on_a_managed_server(warehouse: TestDatabase) -> None:
    """Where no superuser ran roles_warehouse.sql, every role may take advisory locks."""
    run_sql(
        warehouse.url("admin"),
        "do $$ declare called regprocedure; begin for called in select oid from pg_proc where proname ~ '_advisory_' "
        "loop execute format('grant execute on function %s to public', called); end loop; end $$",
    )


def address(warehouse: TestDatabase) -> DatabaseConnection:
    return DatabaseConnection("warehouse", warehouse.url("loader"))


async def test_a_load_and_a_transform_begin_though_a_reader_has_taken_every_key_that_is_known(
    warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "lock_wait_seconds", 0)
    with psycopg.connect(warehouse.url("reader"), autocommit=True) as reader:
        for key in (
            "20170101, hashtext('shop.stores')",
            "20170102, hashtext('shop.stores')",
            "20170101, 0",
            "20170102, 0",
        ):
            reader.execute(f"select pg_advisory_lock({key})".encode())
        reader.execute("select pg_advisory_lock(hashtextextended('types raw_shop', 0))")
        async with asyncio.timeout(20):
            assert (await TwoEnds(warehouse, shop).load(STORES)).counts.rows_inserted
        with transform_lock(address(warehouse), wait_seconds=0):
            pass


async def test_a_reader_that_waits_for_a_lock_s_key_gets_nothing_by_it(warehouse: TestDatabase) -> None:
    """Everybody sees keys in pg_locks. Who waits for one has it the moment its holder dies, or gives it back."""
    async with connect(address(warehouse), side="warehouse") as loader:
        for ends in ("dies", "gives it back"):
            async with connect(address(warehouse), side="warehouse") as holder:
                assert await table_locks.lock_table(holder, "shop", "stores")
                assert not await table_locks.lock_table(loader, "shop", "stores")
                with psycopg.connect(warehouse.url("reader"), autocommit=True) as reader:
                    (key,) = reader.execute(KEYS.encode()).fetchone() or (None,)
                    waiting = asyncio.create_task(
                        asyncio.to_thread(reader.execute, "select pg_advisory_lock(%s)", [key])
                    )
                    await until_waiting(warehouse)
                    if ends == "dies":
                        run_sql(
                            warehouse.url("admin"), "select pg_terminate_backend(%s, 5000)", [holder.get_server_pid()]
                        )
                    else:
                        await table_locks.unlock_table(holder, "shop", "stores")
                    async with asyncio.timeout(20):
                        await waiting
                    assert reader.execute("select count(*) from pg_locks where locktype = 'advisory' and granted "
                                          "and pid = pg_backend_pid()").fetchone() == (1,)  # fmt: skip
                    assert await table_locks.lock_table(loader, "shop", "stores"), ends
                    assert not await active_runs(loader)
                    await table_locks.unlock_table(loader, "shop", "stores")


async def until_waiting(warehouse: TestDatabase) -> None:
    until = time.monotonic() + 20
    waiting = (
        "select count(*) from pg_locks where locktype = 'advisory' and not granted "
        "and database = (select oid from pg_database where datname = current_database())"
    )
    while run_sql(warehouse.url("admin"), waiting) == [(0,)]:
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("statement", [
    "lock table ops.locks in access share mode",
    "insert into ops.locks (name, key, pid, account) values ('shop.stores', 1, 1, 1)",
    "delete from ops.locks",
    "select ops.take_lock('shop.stores')",
    "select ops.release_lock('shop.stores')",
])  # fmt: skip
@pytest.mark.parametrize("role", ["reader", "transformer"])
def test_only_the_loader_takes_locks(warehouse: TestDatabase, role: str, statement: str) -> None:
    if (role, statement[:4]) == ("transformer", "lock"):
        pytest.skip("who may read a table may lock it against being dropped, which stops no load")
    with psycopg.connect(warehouse.url(role)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


async def test_a_held_lock_keeps_no_transaction_open_and_holds_vacuum_back_from_nothing(
    warehouse: TestDatabase,
) -> None:
    async with connect(address(warehouse), side="warehouse") as holder:
        assert await table_locks.lock_table(holder, "shop", "stores")
        found = run_sql(
            warehouse.url("admin"),
            "select xact_start, backend_xid::text, backend_xmin::text from pg_stat_activity where pid = %s",
            [holder.get_server_pid()],
        )
    assert found == [(None, None, None)]


async def test_of_many_sessions_that_want_a_lock_at_once_one_gets_it(warehouse: TestDatabase) -> None:
    async def attempt() -> bool:
        async with connect(address(warehouse), side="warehouse") as connection:
            got = await table_locks.lock_table(connection, "shop", "stores")
            everyone_tried.append(got)
            async with asyncio.timeout(30):
                while len(everyone_tried) < 12:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            return got

    everyone_tried: list[bool] = []
    assert sum(await asyncio.gather(*(attempt() for _ in range(12)))) == 1


async def test_a_transform_that_waited_too_long_is_told_since_when_the_other_runs(warehouse: TestDatabase) -> None:
    with (
        transform_lock(address(warehouse), wait_seconds=0),
        pytest.raises(LoadLocked, match=r"another transform is running since \d{4}-\d\d-\d\d .* UTC \(session \d+\)"),
        transform_lock(address(warehouse), wait_seconds=0),
    ):
        pass
