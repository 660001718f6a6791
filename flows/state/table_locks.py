"""Locks of tables being loaded, in `ops.locks`: the server releases them on any death, and readers cannot take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.state.ledger import SCHEMA_VERSION, known_version

if TYPE_CHECKING:
    from asyncpg import Connection, Record


#: The name under which a source is locked while it is followed, beside those of its tables.
FOLLOWED = "(follow)"


async def lock_table(connection: Connection[Record], source: str, table: str) -> bool:
    """Try to take the table's lock, held until the session ends or unlocks. The server releases it on any death.

    It cannot be taken during an upgrade of schema `ops`. Must not be used in a transaction: others see the lock only
    after its commit.

    Raises:
        WarehouseError: the schema was upgraded since this run began, by newer code than this.
    """
    got = await connection.fetchval("select ops.take_lock($1)", f"{source}.{table}")
    if got and await connection.fetchval("select max(version) from ops.schema_version") > SCHEMA_VERSION:
        await unlock_table(connection, source, table)
        await known_version(connection)
    return bool(got)


async def unlock_table(connection: Connection[Record], source: str, table: str) -> None:
    """Release the table's lock."""
    await connection.execute("select ops.release_lock($1)", f"{source}.{table}")


async def is_locked(connection: Connection[Record], source: str, table: str) -> bool:
    """Whether a session holds the table's lock. Takes no lock."""
    return bool(
        await connection.fetchval(
            "select exists (select from ops.locks where name = $1 and ops.is_held(key, pid, account))",
            f"{source}.{table}",
        )
    )


async def workers_ended(connection: Connection[Record], source: str, table: str) -> bool:
    """Whether no worker of an earlier attempt is active on the table: see `reads.join_read`."""
    # All workers of a published load have ended. Rows locked by a worker are skipped without waiting.
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
    """The active batch of the table, by its lock: a row that is `running` may have died. Takes no lock."""
    batch_id: int | None = await connection.fetchval(
        "select (select max(l.batch_id) from ops.loads as l where l.source_system = $1 and l.table_name = $2) "
        "from ops.locks where name = $1 || '.' || $2 and ops.is_held(key, pid, account)",
        source,
        table,
    )
    return batch_id
