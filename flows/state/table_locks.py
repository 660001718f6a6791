"""Who is at work on a table, by advisory locks: the server frees them on any death."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.state.advisory_locks import LOAD_LOCK_CLASS, NO_TABLE, WORKER_LOCK_CLASS
from flows.state.ledger import SCHEMA_VERSION, known_version

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def lock_table(connection: Connection[Record], source: str, table: str) -> bool:
    """Try for the table's lock, held by the session until it ends or unlocks. The server frees it on any death.

    It cannot be had while schema `ops` is being upgraded.

    Raises:
        WarehouseError: the schema was upgraded since this run began, by newer code than this.
    """
    # Shared for this statement: an upgrade either sees the table's lock, or we see the upgrade.
    got = await connection.fetchval(
        "select case when pg_try_advisory_xact_lock_shared($1, $2) "
        "then pg_try_advisory_lock($1, hashtext($3)) else false end",
        LOAD_LOCK_CLASS,
        NO_TABLE,
        f"{source}.{table}",
    )
    if got and await connection.fetchval("select max(version) from ops.schema_version") > SCHEMA_VERSION:
        await unlock_table(connection, source, table)
        await known_version(connection)
    return bool(got)


async def unlock_table(connection: Connection[Record], source: str, table: str) -> None:
    """Give the table's lock back."""
    await connection.execute("select pg_advisory_unlock($1, hashtext($2))", LOAD_LOCK_CLASS, f"{source}.{table}")


async def workers_ended(connection: Connection[Record], source: str, table: str) -> bool:
    """Whether no worker of an earlier attempt is at work on the table."""
    return bool(
        await connection.fetchval(
            "select pg_try_advisory_xact_lock($1, hashtext($2))", WORKER_LOCK_CLASS, f"{source}.{table}"
        )
    )


async def lock_holder(connection: Connection[Record], source: str, table: str) -> int | None:
    """The batch under way on the table, told by the lock itself: a row that says so may have died. Takes no lock."""
    batch_id: int | None = await connection.fetchval(
        "select (select max(l.batch_id) from ops.loads as l where l.source_system = $2 and l.table_name = $3) "
        "from pg_locks where locktype = 'advisory' and database = (select oid from pg_database "
        "where datname = current_database()) and classid = $1::int::oid "
        "and objid = ((hashtext($2 || '.' || $3)::bigint + 4294967296) % 4294967296)::oid and granted limit 1",
        LOAD_LOCK_CLASS,
        source,
        table,
    )
    return batch_id
