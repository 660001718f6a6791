"""The state of dlt resources between reads, in `ops.dlt_states`: cursors, and other state of their code.

One row per table, overwritten in the publishing transaction: it is never ahead of the rows, and does not grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def read_state(connection: Connection[Record], source: str, table: str) -> str | None:
    """The state of the last published load, as dlt's typed JSON; None if there is none."""
    state: str | None = await connection.fetchval(
        "select state::text from ops.dlt_states where source_system = $1 and table_name = $2", source, table
    )
    return state


async def save_state(connection: Connection[Record], source: str, table: str, state: str, batch_id: int) -> None:
    """Store the state. Runs in the publishing transaction."""
    await connection.execute(
        "insert into ops.dlt_states (source_system, table_name, state, batch_id) values ($1, $2, $3::text::json, $4) "
        "on conflict (source_system, table_name) do update set state = excluded.state, batch_id = excluded.batch_id, "
        "updated_at = clock_timestamp()",
        source,
        table,
        state,
        batch_id,
    )
