"""Alerts about tables and sources that are no longer declared: no load will ever resolve them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from flows.declare.source import Source
from flows.operations.alerts import Condition
from flows.sources import SOURCES

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A watch may run other code than the workers: what they still load is declared there.
_OF_LOADS = """
with open_alerts as (
    select name, subject, last_at,
        case when name like 'check %' then split_part(substr(subject, 5), '.', 1) else source_system end as source,
        case when name like 'check %' then split_part(subject, '.', 2) else table_name end as table_name
    from ops.alerts
    where resolved_at is null and reported_by is null and (
        table_name is not null or name = 'circuit open' or (name like 'run %' and subject like 'ingest %')
        or (name like 'check %' and subject like 'raw\\_%.%')
    )
)

select name, subject, source, table_name from open_alerts as a
where last_at < clock_timestamp() - $1::interval and not exists (
    select from ops.loads as l
    where l.source_system = a.source and (a.table_name is null or l.table_name = a.table_name)
        and l.started_at > clock_timestamp() - $1::interval
)
"""


async def resolve_withdrawn(
    connection: Connection[Record], sources: Sequence[Source] = SOURCES, quiet: timedelta = timedelta(days=1)
) -> list[Condition]:
    """Resolve alerts about what is not declared here, and was not loaded for so long; returns nothing that is wrong."""
    declared = {source.name: {table.name for table in source.tables} for source in sources}
    for row in await connection.fetch(_OF_LOADS, quiet):
        tables = declared.get(row["source"])
        if tables is None or (row["table_name"] is not None and row["table_name"] not in tables):
            await connection.execute(
                "select ops.resolve_alerts(array[$1::text], $2, 'no longer declared')", row["name"], row["subject"]
            )
    return []
