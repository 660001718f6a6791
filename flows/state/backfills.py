"""Backfills and their completed partitions."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from flows.declare.partition import Partition

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def open_backfill(
    connection: Connection[Record],
    source: str,
    table: str,
    column: str,
    every: str,
    bounds: tuple[date, date],
    *,
    restart: bool,
) -> tuple[int, set[date]]:
    """The backfill to resume, and the lower bounds of its completed partitions.

    That is the last one of the same table, column and days, unless it is complete or `restart` is set.
    """
    if not restart:
        found = await connection.fetchval(
            "select backfill_id from ops.backfills where source_system = $1 and table_name = $2 and column_name = $3 "
            "and every = $4 and first_day = $5 and last_day = $6 and finished_at is null "
            "order by backfill_id desc limit 1",
            source,
            table,
            column,
            every,
            *bounds,
        )
        if found is not None:
            records = await connection.fetch(
                "select lower_bound from ops.backfill_partitions where backfill_id = $1", found
            )
            return int(found), {record["lower_bound"] for record in records}
    opened = await connection.fetchval(
        "insert into ops.backfills (source_system, table_name, column_name, every, first_day, last_day) "
        "values ($1, $2, $3, $4, $5, $6) returning backfill_id",
        source,
        table,
        column,
        every,
        *bounds,
    )
    return int(opened), set()


async def record_partition(
    connection: Connection[Record], backfill_id: int, partition: Partition, batch_id: int
) -> None:
    """Record the completed partition, in the transaction that publishes its rows."""
    await connection.execute(
        "insert into ops.backfill_partitions (backfill_id, lower_bound, upper_bound, batch_id) "
        "values ($1, $2, $3, $4) on conflict (backfill_id, lower_bound) do update set "
        "upper_bound = excluded.upper_bound, batch_id = excluded.batch_id, committed_at = clock_timestamp()",
        backfill_id,
        partition.lower,
        partition.upper,
        batch_id,
    )


async def close_backfill(connection: Connection[Record], backfill_id: int) -> None:
    """Record that all partitions are complete."""
    await connection.execute(
        "update ops.backfills set finished_at = clock_timestamp() where backfill_id = $1", backfill_id
    )


async def deleted_so_far(connection: Connection[Record], backfill_id: int) -> int:
    """Rows that the backfill's completed partitions have marked as deleted."""
    return int(
        await connection.fetchval(
            "select coalesce(sum(l.rows_deleted), 0) from ops.backfill_partitions as p "
            "inner join ops.loads as l using (batch_id) where p.backfill_id = $1",
            backfill_id,
        )
    )
