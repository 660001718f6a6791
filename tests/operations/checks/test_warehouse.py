"""Checks of the warehouse: each says what is wrong, and nothing while nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest
from psycopg import sql

from flows.access.addresses import connect
from flows.operations.checks.connections import connections_used, transactions_open
from flows.operations.checks.disk import disk_declared, disk_of_folder, prefect_database, sizes, slots, transaction_ids
from flows.operations.checks.expiry import passwords
from flows.operations.checks.outbox import outbox_moves
from tests.conftest import ROOT, TestCluster, TestDatabase
from tests.kinds.loading import at
from tests.private_cluster import private_cluster

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_GB = 1024**3


@asynccontextmanager
async def session(warehouse: TestDatabase) -> AsyncIterator[Connection[Record]]:
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        yield connection


async def test_connections_are_counted_against_those_that_may_be_opened(warehouse: TestDatabase) -> None:
    async with session(warehouse) as connection:
        assert await connections_used(connection, 95) == []
        (found,) = await connections_used(connection, 0.01)
    assert "medallion" in found.what
    assert found.severity == "error"


async def test_a_transaction_that_stays_open_is_named_with_its_session(warehouse: TestDatabase) -> None:
    with psycopg.connect(warehouse.url("transformer"), application_name="a notebook") as other:
        other.execute("select 'a secret'")
        async with session(warehouse) as connection:
            assert await transactions_open(connection, timedelta(hours=1)) == []
            (found,) = await transactions_open(connection, timedelta())
    assert found.severity == "warning"
    assert "secret" not in found.what
    assert "open since" in found.what


async def test_a_prepared_transaction_that_nobody_ends_is_found(cluster: TestCluster) -> None:
    with private_cluster({"max_prepared_transactions": "2"}) as private:
        warehouse = private.warehouse("warehouse_prepared")
        with psycopg.connect(warehouse.url("loader")) as other:
            other.execute("create table ops.kept (id int)")
            other.execute("prepare transaction 'forgotten'")
        async with session(warehouse) as connection:
            (found,) = await transactions_open(connection, timedelta())
    assert "prepared forgotten" in found.what


async def test_the_disk_is_this_machines_or_declared(warehouse: TestDatabase) -> None:
    assert await disk_of_folder(ROOT, 100.1) == []
    (found,) = await disk_of_folder(ROOT, 0.0001)
    assert found.severity == "error"
    async with session(warehouse) as connection:
        assert await disk_declared(connection, 10_000 * _GB, 85) == []
        (full,) = await disk_declared(connection, 1, 85)
        assert full.severity == "critical"


async def test_a_database_that_is_dropped_while_sizes_are_asked_is_no_failure(warehouse: TestDatabase) -> None:
    name = f"{warehouse.name}_dropped"
    # A lock on a relation is what makes a session look at what others did.
    slow = f"""
        with names as materialized (
            select oid, pg_sleep(0.3), pg_relation_size('pg_class') from pg_database where datname = '{name}'
        )
        select coalesce(sum(pg_database_size(oid)), 0)::bigint as size from names
    """
    with psycopg.connect(warehouse.url("admin"), autocommit=True) as admin:
        async with session(warehouse) as connection:

            async def asked(ask: Callable[[str], Awaitable[Any]]) -> Any:
                admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
                asking = asyncio.ensure_future(ask(slow))
                await asyncio.sleep(0.1)
                await asyncio.to_thread(admin.execute, sql.SQL("drop database {}").format(sql.Identifier(name)))
                return await asking

            with pytest.raises(asyncpg.UndefinedObjectError):
                await asked(connection.fetchrow)
            assert (await asked(partial(sizes, connection)))["size"] == 0


async def test_a_slot_that_nobody_reads_is_told_and_one_that_is_read_is_not() -> None:
    with private_cluster({"max_wal_size": "32MB", "min_wal_size": "32MB", "max_slot_wal_keep_size": "32MB"}) as private:
        warehouse = private.warehouse("warehouse_slots")
        admin = psycopg.connect(warehouse.url("admin"), autocommit=True)
        admin.execute("select pg_create_physical_replication_slot('forgotten', true)")
        admin.execute("create table public.some as select n from generate_series(1, 100000) as n")
        async with session(warehouse) as connection:
            assert await slots(connection, 10 * _GB) == []
            (found,) = await slots(connection, 1024**2)
        assert (found.subject, found.severity) == ("slot forgotten", "error")
        assert "nobody reads it" in found.what
        # One that has lost its WAL is past saving by starting its reader.
        for _ in range(4):
            admin.execute("insert into public.some select n from generate_series(1, 400000) as n")
            admin.execute("select pg_switch_wal()")
            admin.execute("checkpoint")
        async with session(warehouse) as connection:
            (found,) = await slots(connection, 100 * _GB)
        assert found.severity == "critical"
        admin.close()


async def test_prefects_database_is_measured_if_it_is_in_this_cluster(
    warehouse: TestDatabase, cluster: TestCluster
) -> None:
    async with session(warehouse) as connection:
        assert await prefect_database(connection, 1000 * _GB) == []


async def test_transaction_ids_that_run_out_are_told_in_time(warehouse: TestDatabase) -> None:
    async with session(warehouse) as connection:
        assert await transaction_ids(connection) == []
        (found,) = await transaction_ids(connection, warning=0)
        assert found.severity == "error"
        (found,) = await transaction_ids(connection, warning=0, critical=0)
        assert found.severity == "critical"


async def test_a_password_that_ends_is_told_in_time() -> None:
    with private_cluster() as private:
        warehouse = private.warehouse("warehouse_passwords")
        for left, severity in ((40, None), (20, "warning"), (5, "error"), (1, "critical"), (-1, "critical")):
            until = datetime.now(UTC) + timedelta(days=left)
            with psycopg.connect(warehouse.url("admin"), autocommit=True) as admin:
                admin.execute(f"alter role medallion_reader valid until '{until.isoformat()}'".encode())
            async with session(warehouse) as connection:
                found = await passwords(connection, datetime.now(UTC), timedelta(days=21))
            assert [each.severity for each in found] == ([severity] if severity else [])
            assert all(each.subject == "role medallion_reader" for each in found)


async def test_messages_that_nobody_works_on_are_told(warehouse: TestDatabase) -> None:
    async with session(warehouse) as connection:
        await connection.execute(
            "insert into ops.alert_messages (channel, about, severity, subject, body, facts, due_at) values "
            "('team', 'opened', 'error', 's', 'b', '{}', now() - '10 minutes'::interval), "
            "('team', 'opened', 'error', 's', 'b', '{}', now() + '8 hours'::interval)"
        )
        (found,) = await outbox_moves(connection)
        assert found.what.startswith("1 messages wait")
        await connection.execute("update ops.alert_messages set sent_at = now()")
        assert await outbox_moves(connection) == []
