"""Everything that `ops` has of one correlation id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Rows = list[dict[str, Any]]

# What people have at hand: the id itself, an error's id from a message, a run's number, the id of a Prefect flow run.
_ID = """
select r.correlation_id from ops.runs as r
left join ops.errors as e on e.run_id = r.run_id
where r.correlation_id = $1 or e.error_id = $1 or r.run_id::text = $1 or r.flow_run_id = $1
order by r.run_id desc limit 1
"""
_LAST = """
select correlation_id, min(started_at) as started_at,
    string_agg(trim(pipeline || ' ' || scope), ', ' order by run_id) as runs,
    count(*) filter (where status not in ('done', 'running')) as failed,
    extract(epoch from max(coalesce(finished_at, clock_timestamp())) - min(started_at))::float8 as seconds
from ops.runs where correlation_id is not null group by correlation_id order by min(started_at) desc limit $1
"""
_OF_RUNS = {
    "runs": """
select run_id, pipeline, scope, status, started_at, error_id, flow_run_id, details ->> 'ended' as ended,
    extract(epoch from coalesce(finished_at, clock_timestamp()) - started_at)::float8 as seconds
from ops.runs where correlation_id = $1 order by run_id
""",
    "loads": """
select l.batch_id, l.run_id, l.source_system, l.table_name, l.strategy, l.status, l.rows_read, l.rows_quarantined,
    l.reconciliation, l.error_id, extract(epoch from coalesce(l.finished_at, clock_timestamp()) - l.started_at)::float8
    as seconds
from ops.loads as l inner join ops.runs as r using (run_id) where r.correlation_id = $1 order by l.batch_id
""",
    "errors": """
select e.error_id, e.run_id, e.severity, e.location, e.what, e.fix, e.occurred_at
from ops.errors as e inner join ops.runs as r using (run_id) where r.correlation_id = $1 order by e.occurred_at
""",
    "checks": """
select c.run_id, c.gate, c.dataset, c.check_name, c.column_name, c.outcome, c.message
from ops.check_results as c inner join ops.runs as r using (run_id)
where r.correlation_id = $1 and c.outcome <> 'passed' order by c.run_id, c.dataset, c.check_name
""",
    "comparisons": """
select c.run_id, c.source_system, c.table_name, c.result
from ops.reconciliations as c inner join ops.runs as r using (run_id) where r.correlation_id = $1
order by c.reconciliation_id
""",
    "alerts": """
select a.alert_id, a.severity, a.status, a.name, a.subject, a.what
from ops.alerts as a inner join ops.runs as r using (run_id) where r.correlation_id = $1 order by a.alert_id
""",
    # The loader sees the sessions of other roles by name, not what they run.
    "sessions": """
select pid, usename as role, application_name as application, state, xact_start
from pg_catalog.pg_stat_activity
where datname = current_database() and application_name like '% ' || $1 and pid <> pg_backend_pid() order by pid
""",
}


async def find_id(connection: Connection[Record], asked: str) -> str | None:
    """The correlation id behind an id that somebody has: it, an error's, a run's number, a Prefect flow run's."""
    found: str | None = await connection.fetchval(_ID, asked)
    return found


async def last_ids(connection: Connection[Record], limit: int) -> Rows:
    """The last correlation ids, the newest first, with what ran under each."""
    return [dict(record) for record in await connection.fetch(_LAST, limit)]


async def everything_of(connection: Connection[Record], identifier: str) -> dict[str, Rows]:
    """Rows of `ops`, and open sessions of the warehouse, of one correlation id."""
    escaped = identifier.replace("_", "\\_")
    found = {}
    for name, query in _OF_RUNS.items():
        argument = escaped if name == "sessions" else identifier
        found[name] = [dict(record) for record in await connection.fetch(query, argument)]
    return found
