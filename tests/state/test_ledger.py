"""The ledger: locks that the server frees, counts that add up, and a schema that two first runs may make at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import asyncpg
import psycopg
import pytest
from asyncpg import Connection, Record

from flows.access.addresses import connect
from flows.declare import Merge
from flows.kinds.postgres import Table
from flows.state import ledger, overview, reloads, runs, schema_changes, table_locks
from flows.values.connection import DatabaseConnection
from flows.values.errors import LoadLocked, WarehouseError
from flows.values.plan import CursorState, LoadCounts
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds, run_sql


@pytest.fixture
async def connection(warehouse: TestDatabase) -> AsyncIterator["Connection[Record]"]:
    async with connect(address(warehouse), side="warehouse") as opened:
        yield opened


def address(warehouse: TestDatabase) -> DatabaseConnection:
    return DatabaseConnection("warehouse", warehouse.url("loader"))


async def open_load(connection: "Connection[Record]", table: str = "prices") -> int:
    return await ledger.open_load(connection, None, "shop", table, "merge")


# -- locks


async def test_a_lock_is_held_by_one_session_only(warehouse: TestDatabase, connection: "Connection[Record]") -> None:
    async with connect(address(warehouse), side="warehouse") as other:
        assert await table_locks.lock_table(connection, "shop", "prices")
        assert not await table_locks.lock_table(other, "shop", "prices")
        assert await table_locks.lock_table(other, "shop", "baskets"), "another table's lock is another lock"
        await table_locks.unlock_table(connection, "shop", "prices")
        assert await table_locks.lock_table(other, "shop", "prices")


async def test_the_lock_of_a_killed_session_is_free(warehouse: TestDatabase, connection: "Connection[Record]") -> None:
    async with connect(address(warehouse), side="warehouse") as dying:
        assert await table_locks.lock_table(dying, "shop", "prices")
        assert not await table_locks.lock_table(connection, "shop", "prices")
        run_sql(warehouse.url("admin"), "select pg_terminate_backend(%s, 5000)", [dying.get_server_pid()])
        assert await table_locks.lock_table(connection, "shop", "prices")


async def test_the_holder_of_a_lock_is_known_by_its_batch(
    warehouse: TestDatabase, connection: "Connection[Record]"
) -> None:
    """A row that says "running" may be left over from a process that died; the lock cannot be."""
    batch = await open_load(connection)
    assert await table_locks.lock_holder(connection, "shop", "prices") is None
    async with connect(address(warehouse), side="warehouse") as other:
        for table in ("prices", "baskets", "households", "stores"):  # hashes of either sign among them
            batch = await open_load(connection, table)
            await table_locks.lock_table(other, "shop", table)
            assert await table_locks.lock_holder(connection, "shop", table) == batch
            await table_locks.unlock_table(other, "shop", table)


async def test_a_load_waits_for_the_lock_and_then_says_who_has_it(
    warehouse: TestDatabase, shop: TestDatabase, connection: "Connection[Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = TwoEnds(warehouse, shop)
    monkeypatch.setattr(settings(), "lock_wait_seconds", 0.4)
    await table_locks.lock_table(connection, "shop", "stores")
    batch = await open_load(connection, "stores")
    with pytest.raises(LoadLocked, match=rf"batch {batch}, running since \d{{4}}-") as locked:
        await ends.load(Table("stores", key="store_id", load=Merge()))
    assert locked.value.retryable
    await table_locks.unlock_table(connection, "shop", "stores")
    await ends.load(Table("stores", key="store_id", load=Merge()))


# -- the schema


async def test_two_first_runs_at_once_make_one_schema(warehouse: TestDatabase) -> None:
    run_sql(warehouse.url("loader"), "drop schema ops, quarantine, landing cascade")
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(connect(address(warehouse), side="warehouse")) for _ in range(4)]
        await asyncio.gather(*(ledger.ensure_schema(session) for session in sessions))
    assert run_sql(warehouse.url("loader"), "select max(version) from ops.schema_version") == [(ledger.SCHEMA_VERSION,)]


async def test_the_schema_may_be_applied_again(connection: "Connection[Record]") -> None:
    batch = await open_load(connection)
    await connection.execute(ledger.schema_sql())
    await ledger.ensure_schema(connection)
    assert await ledger.load_status(connection, batch) == "running"


async def test_a_warehouse_of_a_newer_version_is_left_alone(connection: "Connection[Record]") -> None:
    await connection.execute("insert into ops.schema_version (version) values ($1)", ledger.SCHEMA_VERSION + 1)
    with pytest.raises(WarehouseError, match="deploy the newer code") as refusal:
        await ledger.ensure_schema(connection)
    assert f"version {ledger.SCHEMA_VERSION + 1}" in refusal.value.what
    assert not refusal.value.retryable


# -- loads

GOOD = LoadCounts(
    rows_read=15, rows_inserted=1, rows_updated=2, rows_unchanged=3, rows_deduplicated=4, rows_quarantined=5
)


async def test_counts_come_back_as_they_were_published(connection: "Connection[Record]") -> None:
    counts = LoadCounts(
        rows_read=15,
        rows_inserted=1,
        rows_updated=2,
        rows_unchanged=3,
        rows_deduplicated=4,
        rows_quarantined=5,
        rows_deleted=6,
        bytes=7,
        source_rows=8,
        raw_rows=9,
        quarantine_rows=10,
        reconciliation="match",
    )
    batch = await open_load(connection)
    await ledger.publish_load(connection, batch, counts, ("a", "b"))
    assert await ledger.load_counts(connection, batch) == counts
    assert await ledger.load_status(connection, batch) == "published"
    assert await reloads.reason(connection, "shop", "prices") is None


@pytest.mark.parametrize(
    "wrong",
    [
        "rows_read = 16",
        "rows_inserted = 0",
        "rows_updated = 1",
        "rows_unchanged = 2",
        "rows_deduplicated = 3",
        "rows_quarantined = 4",
        "rows_quarantined = null",
        "rows_read = null",
    ],
)
async def test_counts_that_do_not_add_up_cannot_be_published(connection: "Connection[Record]", wrong: str) -> None:
    """A row that is read and unaccounted for takes the whole transaction with it, rows, cursor and all."""
    batch = await open_load(connection)
    await ledger.publish_load(connection, batch, GOOD, (None, None))
    with pytest.raises(asyncpg.CheckViolationError, match="every_row_is_accounted_for"):
        await connection.execute(f"update ops.loads set {wrong} where batch_id = $1", batch)


async def test_a_load_that_died_without_a_word_is_closed_by_the_next(connection: "Connection[Record]") -> None:
    dead, other = await open_load(connection), await open_load(connection, "baskets")
    assert (await ledger.running_load(connection, "shop", "prices") or (0,))[0] == dead
    alive = await open_load(connection)
    assert await ledger.load_status(connection, dead) == "failed"
    assert await ledger.load_status(connection, other) == "running", "another table's load may well be running"
    assert (await ledger.running_load(connection, "shop", "prices") or (0,))[0] == alive


async def test_a_published_load_cannot_fail_afterwards(connection: "Connection[Record]") -> None:
    """The commit went through and its answer was lost: whoever writes down the failure must not undo the fact."""
    batch = await open_load(connection)
    await ledger.publish_load(connection, batch, GOOD, (None, None))
    await ledger.fail_load(connection, batch, "failed", "E-1", "lost", 0)
    assert await ledger.load_status(connection, batch) == "published"


async def test_a_load_nobody_opened_has_no_status(connection: "Connection[Record]") -> None:
    assert await ledger.load_status(connection, 12345) is None
    assert await reloads.reason(connection, "shop", "prices") is None
    assert await ledger.read_cursor(connection, "shop", "prices") == CursorState()


async def test_a_cursor_comes_back_as_it_was_saved(connection: "Connection[Record]") -> None:
    for state in (
        CursorState("2024-01-01 00:00:00.000001+00"),
        CursorState("10", "20", datetime(2024, 1, 1, tzinfo=UTC)),
        CursorState(),
    ):
        await ledger.save_cursor(connection, "shop", "prices", state, 1)
        assert await ledger.read_cursor(connection, "shop", "prices") == state


# -- runs, errors, checks and what is shown of them


async def test_an_overview_tells_what_ran_what_failed_and_what_waits(connection: "Connection[Record]") -> None:
    run = await runs.open_run(connection, "ingest", "shop", None, "corr-1")
    await runs.close_run(connection, run, "refused", "E-1", {"tables": 2})
    batch = await ledger.open_load(connection, run, "shop", "prices", "merge")
    await ledger.publish_load(connection, batch, GOOD, (None, None))
    await ledger.save_cursor(connection, "shop", "prices", CursorState("10"), batch)
    await schema_changes.record(connection, "shop", "prices", batch, [("note", "added", None, "text")])
    facts = {
        "error_id": "E-1",
        "run_id": run,
        "batch_id": batch,
        "failure_class": "data",
        "severity": "error",
        "strategy": "ask",
        "location": "shop.prices",
        "what": "bad",
        "fix": "mend",
        "retryable": False,
    }
    for _ in range(2):
        await ledger.record_error(connection, facts)
    await ledger.record_checks(connection, run, "raw", [("prices", "row_count", None, "passed", "15", "")])
    await connection.execute(
        "insert into quarantine.rows (batch_id, source_system, table_name, rule, row_data, row_hash, resolved_at) "
        "values (1, 'shop', 'prices', 'a', '{}', '1', null), (1, 'shop', 'prices', 'a', '{}', '2', null), "
        "(1, 'shop', 'prices', 'b', '{}', '3', null), (1, 'shop', 'prices', 'b', '{}', '4', now())"
    )
    seen = await overview.read_overview(connection)
    assert [(row["pipeline"], row["status"], row["error_id"]) for row in seen.runs] == [("ingest", "refused", "E-1")]
    assert [(row["rule"], row["rows"]) for row in seen.quarantine] == [("a", 2), ("b", 1)]
    assert [(row["cursor_value"], row["quarantined"], row["status"]) for row in seen.tables] == [("10", 3, "published")]
    assert seen.tables[0]["freshness_seconds"] >= 0
    assert [row["what"] for row in seen.errors] == ["bad"]
    assert [row["column_name"] for row in seen.changes] == ["note"]
    assert [row["rows_read"] for row in await overview.loads_of(connection, "corr-1")] == [15]
    assert await overview.loads_of(connection, "corr-2") == []


async def test_a_column_that_is_gone_is_told_once_and_again_after_it_was_back(
    connection: "Connection[Record]",
) -> None:
    gone, back = ("note", "dropped", "text", None), ("note", "added", None, "text")
    for changes in ([gone], [gone], [back], [gone], [gone]):
        await schema_changes.record(connection, "shop", "prices", 1, changes)
    told = await connection.fetch("select change from ops.schema_changes order by change_id")
    assert [record["change"] for record in told] == ["dropped", "added", "dropped"]


def test_readers_of_gold_see_no_operations(warehouse: TestDatabase) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run_sql(warehouse.url("reader"), "select * from ops.loads")
