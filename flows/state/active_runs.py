"""Who is at work in the warehouse now, told by the locks they hold: a row that says `running` may have died."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flows.state.advisory_locks import LOAD_LOCK_CLASS, NO_TABLE, RUN_LOCK_CLASS, WORKER_LOCK_CLASS

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_QUERY = Path(__file__).with_name("active_runs.sql")


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A session that holds a lock of a table or of the transform: `shop.baskets`, `transform`, its batch, since when.

    `session` is the server's process id. A worker of a load is told by the name of its session.
    """

    what: str
    batch_id: int | None
    since: datetime | None
    session: int

    def __str__(self) -> str:
        batch = f" (batch {self.batch_id})" if self.batch_id is not None else ""
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since is not None else ""
        return f"{self.what}{batch}{since}"


async def active_runs(connection: Connection[Record]) -> list[ActiveRun]:
    """Everyone else's runs in this database, by name. Empty where no ledger stands yet. Takes no lock."""
    if not await connection.fetchval("select to_regclass('ops.loads') is not null"):
        return []
    rows = await connection.fetch(_QUERY.read_text(encoding="utf-8"), LOAD_LOCK_CLASS, WORKER_LOCK_CLASS)
    return [ActiveRun(row["what"], row["batch_id"], row["started_at"], row["pid"]) for row in rows]


async def hold_run(connection: Connection[Record], run_id: int) -> None:
    """Show that the run lives for as long as the session does: the server frees the lock on any death."""
    await connection.execute("select pg_advisory_lock($1, $2)", RUN_LOCK_CLASS, run_id)


async def dead_runs(connection: Connection[Record]) -> frozenset[int]:
    """The runs that are `running` in ops.runs while nobody holds their lock: the transform's, or one of their own."""
    rows = await connection.fetch(_DEAD, RUN_LOCK_CLASS, WORKER_LOCK_CLASS, NO_TABLE)
    return frozenset(row["run_id"] for row in rows)


_DEAD = """
with held as (
    select classid::bigint as class, objid::bigint as key from pg_locks
    where locktype = 'advisory' and objsubid = 2 and granted
        and database = (select oid from pg_database where datname = current_database())
), building as (
    -- One at a time holds the transform's lock, so of several rows only the newest can be alive.
    select max(run_id) as run_id from ops.runs where pipeline in ('transform', 'release', 'predict')
)
select r.run_id from ops.runs as r cross join building
where r.status = 'running' and case when r.pipeline in ('transform', 'release', 'predict')
    then r.run_id < building.run_id or not exists (select from held where class = $2 and key = $3)
    else not exists (select from held where class = $1 and key = r.run_id) end
"""
