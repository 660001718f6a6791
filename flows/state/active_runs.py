"""Who is at work in the warehouse now, told by the locks they hold: a row that says `running` may have died."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flows.state.advisory_locks import LOAD_LOCK_CLASS, WORKER_LOCK_CLASS

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_QUERY = Path(__file__).with_name("active_runs.sql")
_QUERY_BEFORE_9 = Path(__file__).with_name("active_runs_before_9.sql")


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
    rows = await connection.fetch(_QUERY_BEFORE_9.read_text(encoding="utf-8"), LOAD_LOCK_CLASS, WORKER_LOCK_CLASS)
    if await connection.fetchval("select to_regclass('ops.locks') is not null"):
        rows += await connection.fetch(_QUERY.read_text(encoding="utf-8"))
        rows.sort(key=lambda row: (row["what"], row["pid"]))
    return [ActiveRun(row["what"], row["batch_id"], row["started_at"], row["pid"]) for row in rows]
