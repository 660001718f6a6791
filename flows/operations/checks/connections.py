"""Sessions of the warehouse: how many there are, and transactions that never end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from flows.operations.alerts import Condition

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Where everybody is refused soon.
_CRITICAL_PERCENT = 95

_CONNECTIONS = """
select
    count(*) as used,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    -- Kept for loads and models, who may use them too (PostgreSQL 16 and later).
    - coalesce(current_setting('reserved_connections', true)::int, 0) as most,
    (
        select format('%s of role %s', count(*), usename) from pg_stat_activity
        where backend_type = 'client backend' group by usename order by count(*) desc limit 1
    ) as most_of
from pg_stat_activity where backend_type = 'client backend'
"""
_TRANSACTIONS = """
select pid::text as session, usename as role, application_name as application, xact_start as since, state
from pg_stat_activity
where backend_type = 'client backend' and clock_timestamp() - xact_start > $1::interval
union all
select 'prepared ' || gid, owner, '', prepared, 'prepared'
from pg_prepared_xacts where database = current_database() and clock_timestamp() - prepared > $1::interval
order by since limit 1
"""


async def connections_used(connection: Connection[Record], percent: float) -> list[Condition]:
    """The server's sessions, as a share of those that ordinary roles may open."""
    row = await connection.fetchrow(_CONNECTIONS)
    assert row is not None
    used = 100 * row["used"] / max(row["most"], 1)
    if used < percent:
        return []
    return [
        Condition(
            "connections used up",
            "warehouse",
            "critical" if used >= max(_CRITICAL_PERCENT, percent) else "error",
            f"{row['used']} of {row['most']} connections are in use, {row['most_of']}",
            "end sessions that are not needed (`select pg_terminate_backend(pid)`), or raise max_connections",
            cause="warehouse: connections",
        )
    ]


async def transactions_open(connection: Connection[Record], longest: timedelta) -> list[Condition]:
    """The oldest open transaction: rows it may still see are not vacuumed, and loads wait below it."""
    row = await connection.fetchrow(_TRANSACTIONS, longest)
    if row is None:
        return []
    application = f" ({row['application']})" if row["application"] else ""
    return [
        Condition(
            "transaction open",
            "warehouse",
            "warning",
            f"a transaction of {row['role']}{application} is open since {row['since']:%Y-%m-%d %H:%M} UTC, "
            f"session {row['session']}, {row['state']}",
            "ask its owner; `select pg_terminate_backend(pid)` ends it, `rollback prepared` a prepared one",
        )
    ]
