"""Who is loading a table, by locks of `ops.locks`: the server frees them on any death, and readers can take none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.state.ledger import SCHEMA_VERSION, known_version

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def lock_table(connection: Connection[Record], source: str, table: str) -> bool:
    """Try for the table's lock, held by the session until it ends or unlocks. The server frees it on any death.

    It cannot be had while schema `ops` is being upgraded. Not for use within a transaction: others see the lock once
    it commits.

    Raises:
        WarehouseError: the schema was upgraded since this run began, by newer code than this.
    """
    got = await connection.fetchval("select ops.take_lock($1)", f"{source}.{table}")
    if got and await connection.fetchval("select max(version) from ops.schema_version") > SCHEMA_VERSION:
        await unlock_table(connection, source, table)
        await known_version(connection)
    return bool(got)


async def unlock_table(connection: Connection[Record], source: str, table: str) -> None:
    """Give the table's lock back."""
    await connection.execute("select ops.release_lock($1)", f"{source}.{table}")


async def workers_ended(connection: Connection[Record], source: str, table: str) -> bool:
    """Whether no worker of an earlier attempt is at work on the table: see `reads.join_read`."""
    # All of a published load's workers had ended. What a worker has locked is skipped, not waited for.
    of_table = (
        "from ops.reads as r inner join ops.loads as l using (batch_id) "
        "where l.source_system = $1 and l.table_name = $2 and l.status <> 'published'"
    )
    return bool(
        await connection.fetchval(
            f"select (select count(*) {of_table}) = "
            f"(select count(*) from (select {of_table} for update of r skip locked) as free)",
            source,
            table,
        )
    )


async def lock_holder(connection: Connection[Record], source: str, table: str) -> int | None:
    """The batch under way on the table, told by the lock itself: a row that says so may have died. Takes no lock."""
    batch_id: int | None = await connection.fetchval(
        "select (select max(l.batch_id) from ops.loads as l where l.source_system = $1 and l.table_name = $2) "
        "from ops.locks where name = $1 || '.' || $2 and ops.is_held(key, pid, account)",
        source,
        table,
    )
    return batch_id
