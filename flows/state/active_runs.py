"""Active runs in the warehouse, by their locks: a run whose row is `running` may have died."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flows.state.advisory_locks import LOAD_LOCK_CLASS, WORKER_LOCK_CLASS

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Prefix of the lock name of a run of ingest, reconcile or backfill, which it also holds between its tables.
RUN_LOCK = "run "
_POLL_SECONDS = 0.5
_QUERY = Path(__file__).with_name("active_runs.sql")
_QUERY_BEFORE_9 = Path(__file__).with_name("active_runs_before_9.sql")


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A session that holds a lock of a table or of the transform: `shop.baskets`, `transform`, its batch, since when.

    `session` is the server's process id. Workers of a load are recognised by the name of their session.
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
    """All other runs in this database, by name. Empty if there is no ledger yet. Takes no lock."""
    if not await connection.fetchval("select to_regclass('ops.loads') is not null"):
        return []
    rows = await connection.fetch(_QUERY_BEFORE_9.read_text(encoding="utf-8"), LOAD_LOCK_CLASS, WORKER_LOCK_CLASS)
    if await connection.fetchval("select to_regclass('ops.locks') is not null"):
        rows += await connection.fetch(_QUERY.read_text(encoding="utf-8"))
        rows.sort(key=lambda row: (row["what"], row["pid"]))
    return [ActiveRun(row["what"], row["batch_id"], row["started_at"], row["pid"]) for row in rows]


async def hold_run(connection: Connection[Record], run_id: int) -> None:
    """Hold the run's lock as long as the session lives: the server releases it on any death."""
    while not await connection.fetchval("select ops.take_lock($1)", f"{RUN_LOCK}{run_id}"):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)  # another session is upgrading schema ops
    await connection.execute(
        "delete from ops.locks where starts_with(name, $1) and not ops.is_held(key, pid, account)", RUN_LOCK
    )


async def other_runs(connection: Connection[Record], run_id: int) -> bool:
    """Whether another run of ingest, reconcile or backfill is active."""
    return bool(
        await connection.fetchval(
            "select exists (select from ops.locks where starts_with(name, $1) and name <> $1 || $2::text "
            "and ops.is_held(key, pid, account))",
            RUN_LOCK,
            str(run_id),
        )
    )


async def dead_runs(connection: Connection[Record]) -> frozenset[int]:
    """The runs that are `running` in ops.runs without holding their lock: the transform's, or their own."""
    return frozenset(row["run_id"] for row in await connection.fetch(_DEAD, RUN_LOCK))


_DEAD = """
with held as (
    select name from ops.locks where ops.is_held(key, pid, account)
), building as (
    -- One at a time holds the transform's lock, so of several rows only the newest can be alive.
    select max(run_id) as run_id from ops.runs where pipeline in ('transform', 'release', 'predict')
)
select r.run_id from ops.runs as r cross join building
where r.status = 'running' and case when r.pipeline in ('transform', 'release', 'predict')
    then r.run_id < building.run_id or not exists (select from held where name = 'transform')
    else not exists (select from held where name = $1 || r.run_id) end
"""
