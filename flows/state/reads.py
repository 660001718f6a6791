"""Reads in chunks: their grid, committed chunks, and which attempt may commit more."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.values.plan import CursorState, Window

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Read:
    """A read in chunks. `grid` are the fields of an `extract.slices.Grid`, `landing` the landing table's oid.

    `opened_at` is the start of its first attempt.
    """

    batch_id: int
    attempt: int
    strategy: str
    grid: dict[str, Any]
    window: Window
    landing: int
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class Chunk:
    """Steps from `lower` (inclusive) to `upper` (exclusive), and their cost; `memory` is the growth of peak memory."""

    lower: int
    upper: int
    rows: int
    bytes: int
    seconds: float
    memory: int
    size: int
    reason: str


async def open_read(
    connection: Connection[Record], batch_id: int, strategy: str, grid: dict[str, Any], window: Window, landing: str
) -> Read:
    """Record a read. Chunks staged by an earlier attempt at the batch are discarded."""
    await connection.execute("delete from ops.chunks where batch_id = $1", batch_id)
    row = await connection.fetchrow(
        "insert into ops.reads (batch_id, strategy, grid, read_window, landing) "
        "values ($1, $2, $3, $4, to_regclass($5)::oid) on conflict (batch_id) do update set "
        "strategy = excluded.strategy, grid = excluded.grid, read_window = excluded.read_window, "
        "landing = excluded.landing, "
        "opened_at = clock_timestamp() returning attempt, landing::bigint as landing, opened_at",
        batch_id,
        strategy,
        json.dumps(grid),
        json.dumps(asdict(window), default=datetime.isoformat),
        landing,
    )
    assert row is not None  # the statement always writes a row
    return Read(batch_id, row["attempt"], strategy, grid, window, row["landing"], row["opened_at"])


async def find_read(connection: Connection[Record], batch_id: int) -> Read | None:
    """The batch's read; None if it is not read in chunks."""
    row = await connection.fetchrow(
        "select attempt, strategy, grid, read_window, landing::bigint as landing, opened_at from ops.reads "
        "where batch_id = $1",
        batch_id,
    )
    if row is None:
        return None
    return Read(
        batch_id,
        row["attempt"],
        row["strategy"],
        json.loads(row["grid"]),
        _window(row["read_window"]),
        row["landing"],
        row["opened_at"],
    )


def _window(text: str) -> Window:
    facts = json.loads(text)
    pending_at = facts["next"]["pending_at"]
    facts["next"]["pending_at"] = datetime.fromisoformat(pending_at) if pending_at else None
    facts["next"] = CursorState(**facts["next"])
    return Window(**facts)


async def reopen(
    connection: Connection[Record], run_id: int | None, source: str, table: str, within_hours: float
) -> int | None:
    """Take over the table's newest load, if its read was interrupted with committed chunks. Returns its batch id.

    From here on, workers of the earlier attempt cannot commit; the caller must wait for commits in progress.
    A refused read starts over, because its rows were refused. One that stopped at a budget resumes whenever that was.
    """
    batch_id: int | None = await connection.fetchval(
        "update ops.loads set status = 'running', run_id = coalesce($3, run_id), error_id = null, error = null, "
        "finished_at = null where batch_id = ("
        "select max(batch_id) from ops.loads where source_system = $1 and table_name = $2 "
        "and strategy not in ('repair', 'replay', 'backfill')) "
        "and status in ('running', 'failed', 'stopped') and exists (select from ops.reads as r "
        "inner join ops.chunks as c using (batch_id) where r.batch_id = ops.loads.batch_id "
        "and (ops.loads.status = 'stopped' "
        "or c.committed_at > clock_timestamp() - make_interval(secs => $4 * 3600.0))) "
        "returning batch_id",
        source,
        table,
        run_id,
        within_hours,
    )
    if batch_id is not None:
        await connection.execute("update ops.reads set attempt = attempt + 1 where batch_id = $1", batch_id)
    return batch_id


async def chunks_of(connection: Connection[Record], batch_id: int) -> list[Chunk]:
    """The committed chunks, in order."""
    records = await connection.fetch(
        "select lower_step, upper_step, rows, bytes, seconds, memory_bytes, size_bytes, size_reason "
        "from ops.chunks where batch_id = $1 order by lower_step",
        batch_id,
    )
    return [Chunk(*record.values()) for record in records]


async def discard_short(connection: Connection[Record], batch_id: int, landing: str) -> bool:
    """Discard the chunks of which the landing table has not all rows, with what it has of them; False if there is none.

    A chunk's rows have the transaction that wrote them as their xmin. If the landing table has rows of another one, or
    a chunk was written by code that did not note its transaction and rows are missing, every chunk is discarded.
    """
    counted = f"(select xmin::text as written_by, count(*) as rows from {landing} group by 1)"
    records = await connection.fetch(
        "select c.lower_step, coalesce(c.written_by, l.written_by) as written_by, "
        "c.batch_id is null or c.written_by is null as is_alien "
        f"from (select * from ops.chunks where batch_id = $1) as c full join {counted} as l using (written_by) "
        "where coalesce(l.rows, 0) <> coalesce(c.rows, 0)",
        batch_id,
    )
    if any(record["is_alien"] for record in records):
        total = await connection.fetchval(f"select count(*) from {landing}")
        unknown = await connection.fetchval(
            "select count(*) filter (where written_by is null) as n from ops.chunks where batch_id = $1", batch_id
        )
        expected = await connection.fetchval("select sum(rows) from ops.chunks where batch_id = $1", batch_id)
        if unknown and total == (expected or 0):
            return False
        async with connection.transaction():
            await connection.execute(f"truncate {landing}")
            await connection.execute("delete from ops.chunks where batch_id = $1", batch_id)
        return True
    if not records:
        return False
    async with connection.transaction():
        written_by = [record["written_by"] for record in records]
        await connection.execute(f"delete from {landing} where xmin::text = any($1::text[])", written_by)
        await connection.execute(
            "delete from ops.chunks where batch_id = $1 and lower_step = any($2::bigint[])",
            batch_id,
            [record["lower_step"] for record in records],
        )
    return True


async def join_read(connection: Connection[Record], batch_id: int, attempt: int) -> bool:
    """Whether a worker may commit a chunk of this attempt. Runs first in the chunk's transaction.

    The read's row is locked until that transaction ends, so that a newer attempt can wait for it; that attempt may
    register meanwhile.
    """
    await connection.execute("select from ops.reads where batch_id = $1 for key share", batch_id)
    return bool(
        await connection.fetchval(
            "select exists (select from ops.reads as r inner join ops.loads as l using (batch_id) "
            "where r.batch_id = $1 and r.attempt = $2 and l.status = 'running')",
            batch_id,
            attempt,
        )
    )


async def record_chunk(connection: Connection[Record], batch_id: int, attempt: int, chunk: Chunk) -> None:
    """Record the committed chunk, in its transaction."""
    await connection.execute(
        "insert into ops.chunks (batch_id, attempt, lower_step, upper_step, rows, bytes, seconds, memory_bytes, "
        "size_bytes, size_reason, worker, written_by) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, "
        # As xmin has it: without the epoch.
        "(pg_current_xact_id()::text::numeric % 4294967296)::text)",
        batch_id,
        attempt,
        chunk.lower,
        chunk.upper,
        chunk.rows,
        chunk.bytes,
        chunk.seconds,
        chunk.memory,
        chunk.size,
        chunk.reason,
        f"{platform.node()}:{os.getpid()}",
    )


async def landing_stands(connection: Connection[Record], read: Read, landing: str) -> bool:
    """Whether the landing table is the one with the committed chunks, and has rows.

    After a crash of the warehouse an unlogged table exists but is empty.
    """
    return bool(
        await connection.fetchval("select to_regclass($1)::oid::bigint is not distinct from $2", landing, read.landing)
    ) and bool(await connection.fetchval(f"select exists (select from {landing})"))
