"""Recoveries of tables in `ops.recoveries`: who, why, what was shown, and how both ends compared afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def take_turn(connection: Connection[Record], source: str, table: str) -> bool:
    """Try to be the only recovery of the table, until the session ends. Loads are not affected."""
    return bool(await connection.fetchval("select ops.take_lock($1)", f"recover {source}.{table}"))


async def end_turn(connection: Connection[Record], source: str, table: str) -> None:
    """Let another recovery of the table begin."""
    await connection.execute("select ops.release_lock($1)", f"recover {source}.{table}")


async def open_recovery(
    connection: Connection[Record], run_id: int, source: str, table: str, plan: str, by: str, reason: str
) -> int:
    """Record that it begins, with the plan that was agreed to. Returns its id."""
    return int(
        await connection.fetchval(
            "insert into ops.recoveries (run_id, source_system, table_name, plan, recovered_by, reason) "
            "values ($1, $2, $3, $4, $5, $6) returning recovery_id",
            run_id,
            source,
            table,
            plan,
            by,
            reason,
        )
    )


async def close_recovery(connection: Connection[Record], recovery_id: int, outcome: str) -> None:
    """Record how it ended; with it all earlier ones of the table end that were killed, since it did their work."""
    await connection.execute(
        "update ops.recoveries as r set outcome = case when r.recovery_id = $1 then $2 else 'resumed' end, "
        "finished_at = clock_timestamp() from ops.recoveries as this where this.recovery_id = $1 "
        "and (r.recovery_id = $1 or r.finished_at is null and r.recovery_id < $1 "
        "and r.source_system = this.source_system and r.table_name = this.table_name)",
        recovery_id,
        outcome,
    )


async def interrupted(connection: Connection[Record], source: str, table: str) -> str | None:
    """The plan of a recovery of the table that was killed; None if there is none."""
    plan: str | None = await connection.fetchval(
        "select plan from ops.recoveries where source_system = $1 and table_name = $2 and finished_at is null "
        "order by recovery_id desc limit 1",
        source,
        table,
    )
    return plan


async def batches(connection: Connection[Record], source: str, table: str) -> list[int]:
    """All loads of the table by its recoveries that have not ended, also by those that were killed."""
    records = await connection.fetch(
        "select batch_id from ops.loads where source_system = $1 and table_name = $2 and run_id in ("
        "select run_id from ops.recoveries where source_system = $1 and table_name = $2 and finished_at is null)",
        source,
        table,
    )
    return [record["batch_id"] for record in records]


async def usual_load(connection: Connection[Record], source: str, table: str) -> tuple[float, float] | None:
    """Bytes and seconds per row of the table's last load that read rows; None if there was none."""
    row = await connection.fetchrow(
        "select coalesce(bytes, 0)::float8 / rows_read as size, "
        "extract(epoch from finished_at - started_at)::float8 / rows_read as seconds "
        "from ops.loads where source_system = $1 and table_name = $2 and status = 'published' and rows_read > 0 "
        "order by batch_id desc limit 1",
        source,
        table,
    )
    return (row["size"], row["seconds"]) if row else None
