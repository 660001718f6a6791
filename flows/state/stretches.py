"""Rows of `ops.loads` for tables that follow a log: one for the commits of a stretch of time, about a minute.

Such a row is published with its first commit, and each later one adds its counts in its own transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.values.plan import LoadCounts

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The strategy of these rows.
FOLLOW = "follow"


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison of both ends' keys found at the end of a stretch, in rows."""

    result: str
    source_rows: int | None
    raw_rows: int
    quarantine_rows: int


async def close(connection: Connection[Record], batch_id: int, found: Compared | None = None) -> None:
    """The end of a stretch. Alerts about its counts and its result are raised and resolved now."""
    async with connection.transaction():
        # The trigger of alerts looks at rows whose status changes.
        await connection.execute(
            "update ops.loads set status = 'running' where batch_id = $1 and status = 'published'", batch_id
        )
        await connection.execute(
            "update ops.loads set status = 'published', reconciliation = coalesce($2, reconciliation), "
            "source_rows = coalesce($3, source_rows), raw_rows = coalesce($4, raw_rows), "
            "quarantine_rows = coalesce($5, quarantine_rows) where batch_id = $1 and status = 'running'",
            batch_id,
            found and found.result,
            found and found.source_rows,
            found and found.raw_rows,
            found and found.quarantine_rows,
        )


_LAST = """
select reconciliation, source_rows, raw_rows, quarantine_rows from ops.loads
where source_system = $1 and table_name = $2 and status = 'published'
    and strategy not in ('repair', 'replay', 'backfill')
order by batch_id desc limit 1
"""


async def last_counts(connection: Connection[Record], source: str, table: str) -> LoadCounts:
    """No rows, and what the table's last load compared: nothing has changed since."""
    row = await connection.fetchrow(_LAST, source, table)
    return LoadCounts(reconciliation="incomplete") if row is None else LoadCounts(**dict(row))


async def discard(connection: Connection[Record], batch_id: int) -> None:
    """Remove the row of a stretch that has committed nothing."""
    await connection.execute("delete from ops.loads where batch_id = $1 and status = 'running'", batch_id)


_MOVE = """
with moved as (
    update ops.cursors set cursor_value = $4, batch_id = coalesce($5, batch_id), updated_at = clock_timestamp()
    where source_system = $1 and table_name = $2 and cursor_value = $3
    returning 1
), told as (
    update ops.loads set window_upper = $4, finished_at = clock_timestamp()
    where batch_id = $5 and status = 'published' and exists (select from moved)
)
select exists (select from moved)
"""


async def move(
    connection: Connection[Record], source: str, table: str, positions: tuple[str, str], batch_id: int | None
) -> bool:
    """A table without changes between two positions has reached the second; whether its position was the first.

    `batch_id`: the row that says until when the table was followed. The caller holds the table's lock.
    """
    return bool(await connection.fetchval(_MOVE, source, table, *positions, batch_id))
