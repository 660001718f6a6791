"""Loads that stopped at a budget, in `ops.loads`: status `stopped`, and how often a batch did."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def stop_load(connection: Connection[Record], batch_id: int, why: str, rows_read: int) -> None:
    """Record that the load stopped at a budget. A read in chunks resumes under the same batch, so stops are counted."""
    await connection.execute(
        "update ops.loads set status = 'stopped', error = $2, rows_read = $3, stops = stops + 1, "
        "finished_at = clock_timestamp() where batch_id = $1 and status = 'running'",
        batch_id,
        why,
        rows_read,
    )


async def stopped(connection: Connection[Record], source: str, table: str) -> str | None:
    """Why the table's last load stopped at a budget; None if it did not, or a later load has read the rest."""
    why: str | None = await connection.fetchval(
        "select l.error from ops.loads as l where l.source_system = $1 and l.table_name = $2 "
        "and l.status = 'stopped' and not exists (select from ops.loads as p where p.source_system = $1 "
        "and p.table_name = $2 and p.batch_id > l.batch_id and p.status = 'published' "
        "and p.strategy not in ('repair', 'replay', 'backfill', 'limited') "
        "and p.reconciliation is distinct from 'incomplete') order by l.batch_id desc limit 1",
        source,
        table,
    )
    return why


#: Whether the last load of the source $1's table $2 stopped at a budget with committed chunks; also while it is being
#: resumed.
HAS_CHUNKS = (
    "select exists (select from ops.loads as l inner join ops.chunks using (batch_id) where l.batch_id = "
    "(select max(batch_id) from ops.loads where source_system = $1 and table_name = $2 "
    "and strategy not in ('repair', 'replay', 'backfill')) "
    "and l.stops > 0 and l.status in ('stopped', 'running', 'failed'))"
)


async def longest_unread_first(connection: Connection[Record], source: str) -> dict[str, float]:
    """Seconds since each table of the source was last read completely, by its name; without those that never were."""
    records = await connection.fetch(
        "select table_name, extract(epoch from clock_timestamp() - max(finished_at))::float8 as seconds from ops.loads "
        "where source_system = $1 and status = 'published' and strategy not in ('repair', 'replay', 'backfill') "
        "and reconciliation is distinct from 'incomplete' group by 1",
        source,
    )
    return {record["table_name"]: record["seconds"] for record in records}
