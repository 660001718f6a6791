"""Why a table is read again in full: its last load found rows missing, or a person asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


#: Of the source $1's table $2, see `reason`.
REASON = """
select
    last.reconciliation = 'missing' and last.strategy <> 'reload' as lacks_rows,
    -- Beyond the keys that only one end has: copies came or went since quarantine counted them.
    last.strategy <> 'reload' and last.extra_rows is not null and last.reconciliation in ('duplicate', 'extra')
    and last.source_rows - last.raw_rows - last.quarantine_rows + last.extra_rows <> 0
    or last.strategy <> 'reload' and last.extra_rows is null and last.reconciliation = 'extra' and exists (
        select from quarantine.rows as q
        where q.source_system = $1 and q.table_name = $2 and q.withheld
            and q.rule = 'key_not_unique'
    ) as has_other_copies,
    last.missing_rows,
    (
        select max(l.finished_at) from ops.loads as l
        where l.source_system = $1 and l.table_name = $2 and l.status = 'published'
            and l.strategy = 'reload' and l.reconciliation = 'missing' and l.batch_id = (
                select max(r.batch_id) from ops.loads as r
                where r.source_system = $1 and r.table_name = $2 and r.status = 'published'
                    and r.strategy = 'reload'
            )
    ) as in_vain,
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
    select reconciliation, strategy, source_rows, raw_rows, quarantine_rows, missing_rows, extra_rows
    from ops.loads
    where source_system = $1 and table_name = $2 and status = 'published'
        and strategy not in ('backfill', 'limited', 'replay')
    order by batch_id desc limit 1
) as last on true
"""


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
    row = await connection.fetchrow(REASON, source, table)
    assert row is not None  # the left join always answers one row
    return said(row, source, table)


def said(row: Record, source: str, table: str) -> str | None:
    """The reason in a row of `REASON`."""
    if row["is_requested"]:
        return "requested by `medallion reload`"
    if row["has_other_copies"]:
        return "the copies of keys that are not unique at the source have changed"
    if not row["lacks_rows"]:
        return None
    found = f"{row['missing_rows']:,} keys" if row["missing_rows"] else "rows"
    why = f"the last load found {found} missing in raw"
    if row["in_vain"] is not None:
        why += (
            f"; the reload of {row['in_vain']:%Y-%m-%d %H:%M} UTC did not help: `medallion reconcile {source}.{table}` "
            "shows which"
        )
    return why
