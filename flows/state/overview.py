"""The state of operations, for `medallion status`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.state.active_runs import dead_runs
from flows.state.blockers import Blocker, blockers
from flows.state.circuits import all_circuits
from flows.state.runs import DIED

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Overview:
    """Rows as plain dictionaries, newest or largest first.

    `runs`: run_id, pipeline, scope, status, started_at, seconds, error_id, ended (how, if it was stopped), last_sign
        (its last write). A run that is `running` without its lock has the status `died`. The `seconds` of a dead run
        are those until its last write, None if there is none but its start: the time of death is not known, and the
        time of its detection is irrelevant.
    `tables`: source_system, table_name, status, cursor_value, freshness_seconds, raw_rows, reconciliation, quarantined,
        and the counts that its last load compared.
    `quarantine`: source_system, table_name, rule, rows, since.
    `changes`: changed_at, source_system, table_name, column_name, change, old_type, new_type, applied.
    `circuits`: source_system, state, failures, retry_at, what; sources that have failed since they last worked.
    `errors`: error_id, occurred_at, failure_class, location, what, fix, times, places; equal ones are one row,
        with the newest's id, time and location, how often they occurred, and in how many places.
    `blockers`: open transactions that lock tables of the warehouse.
    `watches`: host, version, seconds (since its last round), of each host that runs `medallion watch`.
    `followed`: source_system, commits, changes, lag_bytes, lag_seconds, failing, seconds (since it said so), of each
        source that a run follows now.
    """

    runs: Rows
    tables: Rows
    quarantine: Rows
    changes: Rows
    errors: Rows
    circuits: Rows = field(default_factory=list)
    blockers: list[Blocker] = field(default_factory=list)
    watches: Rows = field(default_factory=list)
    followed: Rows = field(default_factory=list)


_RUNS = """
select r.run_id, r.pipeline, r.scope, r.status, r.started_at, r.error_id, r.details ->> 'ended' as ended,
    extract(epoch from coalesce(r.finished_at, clock_timestamp()) - r.started_at)::float8 as seconds,
    greatest(r.started_at, l.last_sign) as last_sign
from ops.runs as r left join lateral (
    -- A load found dead is closed by another process: that is not a sign of life of its run.
    select greatest(
        max(loads.started_at), max(loads.finished_at) filter (where loads.error is distinct from $2),
        max((select max(committed_at) from ops.chunks where chunks.batch_id = loads.batch_id))
    ) as last_sign
    from ops.loads where loads.run_id = r.run_id
) as l on true
order by r.run_id desc limit $1
"""
_TABLES = """
with latest as (
    select distinct on (source_system, table_name)
        source_system, table_name, status, finished_at, source_rows, raw_rows, quarantine_rows, reconciliation,
        missing_rows, extra_rows, duplicate_rows, rows_deduplicated, skipped
    -- Repairs and replays are about single rows, a backfill about one partition: none shows raw's row count or
    -- freshness.
    from ops.loads where strategy not in ('repair', 'replay', 'backfill')
    order by source_system, table_name, batch_id desc
), open_rows as (
    select source_system, table_name, count(*) as rows
    from quarantine.rows where resolved_at is null group by 1, 2
)
select l.source_system, l.table_name, l.status, c.cursor_value, l.raw_rows, l.reconciliation,
    l.source_rows, l.quarantine_rows, l.missing_rows, l.extra_rows, l.duplicate_rows,
    coalesce(l.rows_deduplicated, 0) as rows_deduplicated, l.skipped,
    coalesce(q.rows, 0) as quarantined,
    extract(epoch from clock_timestamp() - p.published_at)::float8 as freshness_seconds
from latest as l
left join ops.cursors as c using (source_system, table_name)
left join open_rows as q using (source_system, table_name)
left join lateral (
    select max(finished_at) as published_at from ops.loads as o
    where o.source_system = l.source_system and o.table_name = l.table_name and o.status = 'published'
        and o.strategy not in ('repair', 'replay', 'backfill', 'limited')
        and o.reconciliation is distinct from 'incomplete'
) as p on true
order by 1, 2
"""
_QUARANTINE = """
select source_system, table_name, rule, count(*) as rows, min(quarantined_at) as since
from quarantine.rows where resolved_at is null group by 1, 2, 3 order by rows desc
"""
_CHANGES = """
select changed_at, source_system, table_name, column_name, change, old_type, new_type, applied
from ops.schema_changes order by change_id desc limit $1
"""
_ERRORS = """
with recent as (select * from ops.errors order by occurred_at desc limit 200)
select (array_agg(error_id order by occurred_at desc))[1] as error_id, max(occurred_at) as occurred_at, failure_class,
    (array_agg(location order by occurred_at desc))[1] as location,
    (array_agg(what order by occurred_at desc))[1] as what,
    fix, count(*) as times, count(distinct location) as places
-- An API that is down is one cause of the errors of all its endpoints.
from recent group by failure_class, regexp_replace(what, '\\m(GET|POST) /\\S*', ''), fix
order by max(occurred_at) desc limit $1
"""
_WATCHES = """
select host, version, extract(epoch from clock_timestamp() - last_round_at)::float8 as seconds
from ops.watches order by last_round_at desc
"""
_FOLLOWED = """
select scope as source_system, (details ->> 'commits')::bigint as commits, (details ->> 'changes')::bigint as changes,
    (details -> 'lag' ->> 'bytes')::bigint as lag_bytes, (details -> 'lag' ->> 'seconds')::float8 as lag_seconds,
    array(select jsonb_array_elements_text(details -> 'failing')) as failing,
    extract(epoch from clock_timestamp() - (details ->> 'noted_at')::timestamptz)::float8 as seconds
from ops.runs
where pipeline = 'follow' and status = 'running' and details is not null and run_id <> all($1) order by scope
"""
_LOADS = """
select l.source_system, l.table_name, l.strategy, l.status, l.rows_read, l.rows_inserted, l.rows_updated,
    l.rows_unchanged, l.rows_deduplicated, l.rows_quarantined, l.rows_deleted, l.source_rows, l.raw_rows,
    l.quarantine_rows, l.reconciliation, l.missing_rows, l.extra_rows, l.duplicate_rows, l.skipped, l.error,
    extract(epoch from l.finished_at - l.started_at)::float8 as seconds
from ops.loads as l
inner join ops.runs as r using (run_id)
where r.correlation_id = $1
order by l.source_system desc, l.batch_id
"""


async def read_overview(connection: Connection[Record], limit: int = 8) -> Overview:
    """The last `limit` runs, changes and errors; every table's latest load; quarantined rows."""

    async def rows(query: str, *arguments: int | str | list[int]) -> Rows:
        return [dict(record) for record in await connection.fetch(query, *arguments)]

    dead = await dead_runs(connection)
    return Overview(
        runs=[_as_known(run, run["run_id"] in dead) for run in await rows(_RUNS, limit, DIED)],
        tables=await rows(_TABLES),
        quarantine=await rows(_QUARANTINE),
        changes=await rows(_CHANGES, limit),
        errors=await rows(_ERRORS, limit),
        circuits=await all_circuits(connection),
        blockers=await blockers(connection),
        watches=await rows(_WATCHES),
        followed=await rows(_FOLLOWED, list(dead)),
    )


def _as_known(run: dict[str, Any], is_dead: bool) -> dict[str, Any]:
    if is_dead:
        run = run | {"status": "died"}
    elif run["ended"] != DIED:
        return run
    return run | {"seconds": (run["last_sign"] - run["started_at"]).total_seconds() or None}


async def loads_of(connection: Connection[Record], correlation_id: str) -> Rows:
    """The loads of one run and the runs it started, in the order of their start."""
    return [dict(record) for record in await connection.fetch(_LOADS, correlation_id)]
