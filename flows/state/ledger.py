"""The ledger of runs and loads, in schema `ops`. The rows of a load and its facts commit together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.state.runs import DIED
from flows.state.upgrading import upgrade
from flows.values.errors import ConfigurationError, WarehouseError
from flows.values.plan import CursorState, LoadCounts
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# The version of schema.sql. Every change needs a new version: two warehouses of one version must be equal.
SCHEMA_VERSION = 14


@cache
def schema_sql() -> str:
    """The text of schema.sql."""
    return Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")


async def ensure_schema(connection: Connection[Record]) -> None:
    """Create the operations schema, or upgrade an earlier version, when no run is active.

    Raises:
        ConfigurationError: automatic upgrades are disabled: MEDALLION_UPGRADE_AT_FIRST_USE.
        LoadLocked: runs were active during the full wait.
        WarehouseError: the warehouse was written by a newer version of this platform.
    """
    version = await known_version(connection)
    if version == SCHEMA_VERSION:
        return
    if version is not None and not settings().upgrade_at_first_use:
        raise ConfigurationError(
            f"schema ops is at version {version}, this code needs {SCHEMA_VERSION}, and runs do not upgrade it",
            where="warehouse",
            fix="run `medallion migrate --plan`, then `medallion migrate`",
        )
    await migrate(connection, wait_seconds=settings().lock_wait_seconds)


async def migrate(connection: Connection[Record], *, wait_seconds: float) -> bool:
    """Like `ensure_schema`, whatever the setting; False if it was up to date.

    Raises:
        LoadLocked: runs were active during the full wait.
        WarehouseError: the warehouse was written by a newer version of this platform.
    """
    if await known_version(connection) == SCHEMA_VERSION:
        return False
    return await upgrade(connection, known_version, SCHEMA_VERSION, wait_seconds=wait_seconds)


async def known_version(connection: Connection[Record]) -> int | None:
    """The operations schema's version; None if there is none yet.

    Raises:
        WarehouseError: it is newer than this code.
    """
    version: int | None = None
    if await connection.fetchval("select to_regclass('ops.schema_version') is not null"):
        version = await connection.fetchval("select max(version) from ops.schema_version")
    if version is not None and version > SCHEMA_VERSION:
        raise WarehouseError(
            f"schema ops is at version {version}, which is newer than this code's {SCHEMA_VERSION}",
            where="warehouse",
            fix="deploy the newer code, or restore a warehouse of this code's version",
        )
    return version


async def running_load(connection: Connection[Record], source: str, table: str) -> tuple[int, datetime] | None:
    """The batch that locks the table now, and since when."""
    row = await connection.fetchrow(
        "select batch_id, started_at from ops.loads where source_system = $1 and table_name = $2 "
        "and status = 'running' order by batch_id desc limit 1",
        source,
        table,
    )
    return (row["batch_id"], row["started_at"]) if row else None


async def published_tables(connection: Connection[Record]) -> set[tuple[str, str]]:
    """(source, table) of every table that was ever published."""
    records = await connection.fetch(
        "select distinct source_system, table_name from ops.loads where status = 'published'"
    )
    return {(record["source_system"], record["table_name"]) for record in records}


async def open_load(connection: Connection[Record], run_id: int | None, source: str, table: str, strategy: str) -> int:
    """A new row of ops.loads; returns its batch id. Dead loads of the table are closed.

    The caller holds the table's lock, so other rows that are `running` belong to dead loads.
    """
    return int(await connection.fetchval(_open("true"), run_id, source, table, strategy, DIED))


async def open_unless_unpublished(
    connection: Connection[Record], run_id: int | None, source: str, table: str, strategy: str
) -> int | None:
    """Like `open_load`; None, and nothing is done, if a read in chunks of the table was not published: it may be
    resumed, and its workers may be active. Under the table's lock no other read begins."""
    batch_id: int | None = await connection.fetchval(_open(_ALL_PUBLISHED), run_id, source, table, strategy, DIED)
    return batch_id


_ALL_PUBLISHED = (
    "not exists (select from ops.reads as r inner join ops.loads as l using (batch_id) "
    "where l.source_system = $2 and l.table_name = $3 and l.status <> 'published')"
)


def _open(condition: str) -> str:
    return (
        "with dead as (update ops.loads set status = 'failed', error = $5, finished_at = clock_timestamp() "
        f"where source_system = $2 and table_name = $3 and status = 'running' and {condition}) "
        "insert into ops.loads (run_id, source_system, table_name, strategy) "
        f"select $1::bigint, $2::text, $3::text, $4::text where {condition} returning batch_id"
    )


async def note_strategy(
    connection: Connection[Record], batch_id: int, strategy: str, volume: str | None = None
) -> None:
    """Record how the plan reads rows, and the volume."""
    await connection.execute(
        "update ops.loads set strategy = $2, volume = $3 where batch_id = $1", batch_id, strategy, volume
    )


async def publish_load(
    connection: Connection[Record], batch_id: int, counts: LoadCounts, window: tuple[str | None, str | None]
) -> None:
    """Record the load's counts and its success. Runs in the publishing transaction.

    A check constraint refuses counts that do not add up, and with them the whole transaction.
    """
    facts = asdict(counts)
    columns = ", ".join(f"{name} = ${place}" for place, name in enumerate(facts, start=4))
    await connection.execute(
        f"update ops.loads set status = 'published', window_lower = $2, window_upper = $3, {columns}, "
        "finished_at = clock_timestamp() where batch_id = $1",
        batch_id,
        *window,
        *facts.values(),
    )


async def fail_load(
    connection: Connection[Record], batch_id: int, status: str, error_id: str, error: str, rows_read: int | None
) -> None:
    """Record the load's failure or refusal, unless it was published."""
    await connection.execute(
        "update ops.loads set status = $2, error_id = $3, error = $4, rows_read = $5, finished_at = clock_timestamp() "
        "where batch_id = $1 and status = 'running'",
        batch_id,
        status,
        error_id,
        error,
        rows_read,
    )


async def load_status(connection: Connection[Record], batch_id: int) -> str | None:
    """The load's status in the warehouse: the answer to "did that commit succeed?"."""
    status = await connection.fetchval("select status from ops.loads where batch_id = $1", batch_id)
    return str(status) if status is not None else None


async def load_counts(connection: Connection[Record], batch_id: int) -> LoadCounts:
    """The published counts of a load."""
    names = ", ".join(LoadCounts.__dataclass_fields__)
    row = await connection.fetchrow(f"select {names} from ops.loads where batch_id = $1", batch_id)
    assert row is not None  # only called for a batch whose status was read
    return LoadCounts(**dict(row))


async def was_read_whole(connection: Connection[Record], source: str, table: str) -> bool:
    """Whether a read of the table was ever published completely."""
    return bool(
        await connection.fetchval(
            "select exists (select from ops.loads where source_system = $1 and table_name = $2 "
            "and status = 'published' and strategy <> 'replay' "
            "and coalesce(reconciliation not in ('incomplete', 'limited'), true))",
            source,
            table,
        )
    )


async def last_full_load(connection: Connection[Record], source: str, table: str) -> datetime | None:
    """When the table's last published load began, leaving out those of single rows or partitions, and limited ones."""
    began: datetime | None = await connection.fetchval(
        "select max(started_at) from ops.loads where source_system = $1 and table_name = $2 "
        "and status = 'published' and strategy not in ('repair', 'replay', 'backfill', 'limited')",
        source,
        table,
    )
    return began


#: The cursor of the source $1's table $2.
CURSOR = (
    "select cursor_value, pending_value, pending_at, cursor_key, identity from ops.cursors "
    "where source_system = $1 and table_name = $2"
)


async def read_cursor(connection: Connection[Record], source: str, table: str) -> CursorState:
    """The table's cursor. Empty for a table never loaded."""
    row = await connection.fetchrow(CURSOR, source, table)
    return CursorState() if row is None else cursor_state(row)


def cursor_state(row: Record) -> CursorState:
    """The cursor in a row with the columns of `CURSOR`."""
    identity = json.loads(row["identity"]) if row["identity"] is not None else {}
    return CursorState(row["cursor_value"], row["pending_value"], row["pending_at"], row["cursor_key"], identity)


async def cursor_values(connection: Connection[Record], source: str) -> dict[str, str]:
    """The cursor of each table of the source that has one, as text."""
    rows = await connection.fetch(
        "select table_name, cursor_value from ops.cursors where source_system = $1 and cursor_value is not null", source
    )
    return {row["table_name"]: row["cursor_value"] for row in rows}


async def save_cursor(
    connection: Connection[Record], source: str, table: str, state: CursorState, batch_id: int
) -> None:
    """Store the table's cursor, in the publishing transaction."""
    await connection.execute(
        "insert into ops.cursors (source_system, table_name, cursor_value, pending_value, pending_at, cursor_key, "
        "batch_id, identity) values ($1, $2, $3, $4, $5, $6, $7, $8) "
        "on conflict (source_system, table_name) do update set "
        "cursor_value = excluded.cursor_value, pending_value = excluded.pending_value, "
        "pending_at = excluded.pending_at, cursor_key = excluded.cursor_key, batch_id = excluded.batch_id, "
        "identity = excluded.identity, updated_at = clock_timestamp()",
        source,
        table,
        state.value,
        state.pending_value,
        state.pending_at,
        state.key,
        batch_id,
        json.dumps(dict(state.identity)) if state.identity else None,
    )


async def record_error(connection: Connection[Record], facts: Mapping[str, Any]) -> None:
    """A row of ops.errors. Keys are its columns."""
    columns = ", ".join(facts)
    places = ", ".join(f"${place}" for place in range(1, len(facts) + 1))
    await connection.execute(
        f"insert into ops.errors ({columns}) values ({places}) on conflict (error_id) do nothing",
        *facts.values(),
    )


async def record_checks(
    connection: Connection[Record],
    run_id: int,
    gate: str,
    results: Sequence[tuple[str, str, str | None, str, str, str]],
) -> None:
    """A gate's results as (dataset, check, column, outcome, measured, message)."""
    await connection.executemany(
        "insert into ops.check_results (run_id, gate, dataset, check_name, column_name, outcome, measured, message) "
        "values ($1, $2, $3, $4, $5, $6, $7, $8)",
        [(run_id, gate, *result) for result in results],
    )
