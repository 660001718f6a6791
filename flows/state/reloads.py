"""Why a table is read again in full: its last load found rows missing, or a person asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def request(connection: Connection[Record], source: str, table: str, by: str) -> None:
    """Have the table's next load read all of its rows."""
    await connection.execute(
        "insert into ops.reload_requests (source_system, table_name, requested_by) values ($1, $2, $3)",
        source,
        table,
        by,
    )


async def reason(connection: Connection[Record], source: str, table: str) -> str | None:
    """Why the table's next load reads all of its rows, or None if it does not.

    A request is answered by the first load that began after it and read everything.
    """
    row = await connection.fetchrow(
        """
        select
            last.reconciliation = 'missing' and last.strategy <> 'reload' as lacks_rows,
            exists (
                select from ops.reload_requests as r
                where r.source_system = $1 and r.table_name = $2 and r.requested_at > coalesce(
                    (
                        select max(l.started_at) from ops.loads as l
                        where l.source_system = $1 and l.table_name = $2 and l.status = 'published'
                            and l.strategy in ('initial', 'reload')
                    ), '-infinity'
                )
            ) as is_requested
        from (select) as one
        left join lateral (
            select reconciliation, strategy from ops.loads
            where source_system = $1 and table_name = $2 and status = 'published' and strategy <> 'backfill'
            order by batch_id desc limit 1
        ) as last on true
        """,
        source,
        table,
    )
    assert row is not None  # the left join always answers one row
    if row["is_requested"]:
        return "requested by `medallion reload`"
    return "the last load found rows missing in raw" if row["lacks_rows"] else None
