"""What the pages of operations read from `ops`: each query bounded by an index, a number of days or a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from flows.operations.alerts import COLUMNS, Alert

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Rows = list[dict[str, Any]]
_TABLE = "source_system || '.' || table_name as table"
_SECONDS = "extract(epoch from finished_at - started_at)::float8"
_DAY = "(started_at at time zone 'UTC')::date"
_SINCE = "started_at >= $1::timestamptz"
_DIFFERS = "reconciliation in ('missing', 'extra', 'duplicate')"
_CELLS = f"""
select {_TABLE}, {_DAY} as day, count(*) as loads,
    count(*) filter (where status = 'published') as published,
    count(*) filter (where status = 'failed') as failed,
    count(*) filter (where status = 'refused') as refused,
    count(*) filter (where {_DIFFERS}) as differs,
    max(batch_id) as last_id,
    max(batch_id) filter (where status = 'published') as last_published,
    max(batch_id) filter (where status in ('failed', 'refused')) as last_bad
from ops.loads where {_SINCE} group by source_system, table_name, 2
"""
_DAYS = f"""
select {_TABLE}, count(*) as loads,
    percentile_cont(array[0.5, 0.95]) within group (order by {_SECONDS}) as quantiles,
    max({_SECONDS}) as longest, max(finished_at) as last_at
from ops.loads where {_SINCE} and status = 'published' and strategy <> all($2) group by source_system, table_name
order by longest desc
"""
_DAILY = f"""
select {_DAY} as day, percentile_cont(array[0.5, 0.95]) within group (order by {_SECONDS}) as quantiles,
    max({_SECONDS}) as longest
from ops.loads where source_system = $2 and table_name = $3 and {_SINCE} and status = 'published' group by 1 order by 1
"""
_ROWS = f"""
select {_TABLE}, count(*) as loads, coalesce(sum(rows_read), 0)::bigint as read,
    coalesce(sum(rows_inserted), 0)::bigint as inserted, coalesce(sum(rows_updated), 0)::bigint as updated,
    coalesce(sum(rows_unchanged), 0)::bigint as unchanged, coalesce(sum(rows_quarantined), 0)::bigint as quarantined,
    coalesce(sum(rows_deduplicated), 0)::bigint as deduplicated, coalesce(sum(rows_deleted), 0)::bigint as deleted
from ops.loads where {_SINCE} and status = 'published' group by source_system, table_name order by 3 desc, 1
"""
_COST = f"""
select {_DAY} as day, sum(rows_read)::float8 as rows, sum(bytes)::float8 as bytes, sum({_SECONDS}) as seconds
from ops.loads where {_SINCE} and status = 'published' group by 1 order by 1
"""
_COST_TABLES = f"""
with loaded as (
    select {_TABLE}, sum(rows_read)::bigint as rows, sum(bytes)::bigint as bytes, sum({_SECONDS}) as seconds
    from ops.loads where {_SINCE} and status = 'published' group by source_system, table_name
    order by 4 desc nulls last limit 100
)
select l.*, u.cpu_seconds as cpu, u.memory_bytes as memory
from loaded as l left join ops.usage as u on u.kind = 'load' and u.scope || '.' || u.name = l."table"
order by l.seconds desc nulls last
"""
_COST_MODELS = """
select name, seconds, rows, status, ended_at from ops.usage where kind = 'model'
order by seconds desc nulls last, name limit 100
"""
_MEMORY = f"""
select (c.committed_at at time zone 'UTC')::date as day, max(c.memory_bytes)::float8 as memory,
    sum(c.bytes)::float8 / nullif(sum(c.seconds), 0) as speed
from ops.chunks as c
-- Not min(batch_id): it would be looked for from the oldest load on.
where c.batch_id >= (select l.batch_id from ops.loads as l where {_SINCE} order by l.started_at limit 1)
group by 1 order by 1
"""
_SERVER = """
select pg_database_size(current_database()) as size,
    (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections,
    current_setting('max_connections')::int as most
"""
_ERRORS = """
select (occurred_at at time zone 'UTC')::date as day, failure_class, count(*) as errors
from ops.errors where occurred_at >= $1 group by 1, 2
"""
_NEWEST_ERRORS = """
select error_id, occurred_at, failure_class, severity, location, what, fix, retryable, batch_id
from ops.errors where occurred_at >= $1 order by occurred_at desc limit $2
"""
_LOADS = f"""
select batch_id, {_TABLE}, strategy, status, started_at, finished_at, {_SECONDS} as seconds, rows_read, rows_inserted,
    rows_updated, rows_deleted, rows_quarantined, reconciliation, error, error_id
from ops.loads where source_system = $1 and table_name = $2
    and ($3::date is null or (started_at >= $3::date and started_at < $3::date + 1)) order by batch_id desc limit $4
"""
_SUMMARY = f"""
select count(*) as loads, count(*) filter (where status = 'published') as published,
    count(*) filter (where status = 'failed') as failed, count(*) filter (where status = 'refused') as refused,
    count(*) filter (where status = 'running') as running,
    coalesce(sum(rows_inserted + rows_updated) filter (where status = 'published'), 0)::bigint as changed
from ops.loads where {_SINCE}
"""
_QUARANTINE = """
select source_system || '.' || table_name as table, rule, count(*) as rows, min(quarantined_at) as first,
    max(quarantined_at) as last
from quarantine.rows where resolved_at is null group by source_system, table_name, rule order by 3 desc, 1, 2 limit 200
"""
_RANK = "array_position(array['critical', 'error', 'warning', 'info'], a.severity)"
_ALERTS = f"""
select {COLUMNS}, e.failure_class from (
    select * from ops.alerts as a where a.resolved_at is null and ($3::text is null or a.severity = $3)
    order by {_RANK}, a.fired_at, a.alert_id limit $1 offset $2
) as a left join ops.errors as e on e.error_id = a.error_id order by {_RANK}, a.fired_at, a.alert_id
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's loads on one day, as one word and one sign: readable without colours."""

    state: str
    sign: str
    words: str


_NO_LOAD = Cell("none", "·", "no load")


async def rows(connection: Connection[Record], query: str, *arguments: Any) -> Rows:
    """The rows of a query as dictionaries."""
    return [dict(record) for record in await connection.fetch(query, *arguments)]


async def grid(connection: Connection[Record], since: datetime) -> dict[str, dict[date, Cell]]:
    """By table and day (UTC), what became of its loads; sorted by table."""
    found: dict[str, dict[date, Cell]] = {}
    for row in await connection.fetch(_CELLS, since):
        found.setdefault(row["table"], {})[row["day"]] = _cell(row)
    return dict(sorted(found.items()))


def cell(days: dict[date, Cell], day: date) -> Cell:
    """The day's cell; days without a load have one, too."""
    return days.get(day, _NO_LOAD)


def _cell(row: Record) -> Cell:
    loads, bad = row["loads"], row["failed"] + row["refused"]
    counted = f"{loads} {'load' if loads == 1 else 'loads'}"
    if not bad:
        if row["differs"]:
            return Cell("differs", "≠", f"{counted}, {row['differs']} ended with a difference to the source")
        if not row["published"]:
            return Cell("open", "…", f"{counted}, none published yet")
        return Cell("good", "✓", f"{counted}, all published")
    what = f"{counted}, {row['failed']} failed, {row['refused']} refused"
    if (row["last_published"] or 0) > row["last_bad"]:
        return Cell("recovered", "◐", f"{what}; the last one was published")
    return Cell("failed", "✕", f"{what}; the last one was not published")


async def summary(connection: Connection[Record], since: datetime) -> dict[str, Any]:
    """Loads since then by status, and rows inserted and updated."""
    return dict(await connection.fetchrow(_SUMMARY, since) or {})


async def durations(connection: Connection[Record], since: datetime, partial: Sequence[str]) -> Rows:
    """Per table: loads, quantiles (median, p95) and the longest, in seconds; without loads of parts."""
    return await rows(connection, _DAYS, since, [*partial])


async def daily_durations(connection: Connection[Record], table: str, since: datetime) -> Rows:
    """Per day the same of one table."""
    return await rows(connection, _DAILY, since, *_parts(table))


async def row_counts(connection: Connection[Record], since: datetime) -> Rows:
    """Per table what became of the rows that its published loads read."""
    return await rows(connection, _ROWS, since)


async def costs(connection: Connection[Record], since: datetime) -> tuple[Rows, Rows, Rows, Rows, dict[str, Any]]:
    """Rows, bytes and seconds of loads by day and by table; of models; memory of chunks by day; the server's own."""
    server = await connection.fetchrow(_SERVER)
    return (
        await rows(connection, _COST, since),
        await rows(connection, _COST_TABLES, since),
        await rows(connection, _COST_MODELS),
        await rows(connection, _MEMORY, since),
        dict(server or {}),
    )


async def errors(connection: Connection[Record], since: datetime, limit: int) -> tuple[Rows, Rows]:
    """Errors counted by day and class, and the newest ones."""
    return await rows(connection, _ERRORS, since), await rows(connection, _NEWEST_ERRORS, since, limit)


async def loads_of(connection: Connection[Record], table: str, day: date | None, limit: int) -> Rows:
    """The newest loads of a table, or those of a day (UTC)."""
    return await rows(connection, _LOADS, *_parts(table), day, limit)


async def load(connection: Connection[Record], batch_id: int) -> dict[str, Any] | None:
    """One load, all that is known of it."""
    row = await connection.fetchrow(
        f"select l.*, {_TABLE}, {_SECONDS} as seconds from ops.loads as l where batch_id = $1", batch_id
    )
    return dict(row) if row else None


async def quarantine(connection: Connection[Record]) -> Rows:
    """Open rows by table and rule."""
    return await rows(connection, _QUARANTINE)


async def open_alerts(
    connection: Connection[Record], limit: int, offset: int = 0, severity: str | None = None
) -> list[Alert]:
    """A page of open alerts, the most severe first."""
    return [Alert(**dict(record)) for record in await connection.fetch(_ALERTS, limit, offset, severity)]


async def alert_counts(connection: Connection[Record]) -> dict[tuple[str, str], int]:
    """How many alerts are open, by severity and status."""
    records = await connection.fetch(
        "select severity, status, count(*) as alerts from ops.alerts where resolved_at is null group by 1, 2"
    )
    return {(record["severity"], record["status"]): record["alerts"] for record in records}


async def watches(connection: Connection[Record]) -> Rows:
    """The hosts that run `medallion watch`, the last to look first."""
    return await rows(
        connection, "select host, version, last_round_at, seconds from ops.watches order by last_round_at desc limit 10"
    )


async def open_decisions(connection: Connection[Record]) -> Rows:
    """The questions that wait for a person, the one that expires first in front."""
    return await rows(
        connection,
        "select decision_id, kind, subject, what, expires_at from ops.decisions "
        "where status = 'open' and expires_at > now() order by expires_at limit 50",
    )


def _parts(table: str) -> tuple[str, str]:
    source, _, name = table.partition(".")
    return source, name
